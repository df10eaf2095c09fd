//! What it costs to leave a guest, and how long an interrupt takes to it.
//!
//! - *Exits*: from one return of KVM to the next, the guest's instruction and the way back included.
//! - *Ioeventfd* and *hypercall*, which do not come back to this process: counted by the guest, two readings of the time
//!   stamp counter included.
//! - *Deliveries*: from the moment before this process asks for the interrupt until the handler's first instruction, a write
//!   to a port, is back here; a port exit is part of it. Once to a guest that spins and once to one that halted.

use std::io;

use serde::Serialize;

use super::delivery::deliveries;
use super::exits::{counted, exits};
use super::guest::{self, Between, Counted, Program};
use super::samples::Spread;
use crate::sys::signal::install_kick_handler;
use crate::vmm::config::InterruptMode;
use crate::vmm::kvm::{KvmError, Vm};

/// Least and most samples of each probe.
pub const SAMPLES: std::ops::RangeInclusive<u32> = 100..=guest::MOST_COUNTS;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// KVM is not there, or cannot be used.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A guest that does not come back could not be stopped.
    #[error("cannot install a signal handler")]
    Signal(#[source] io::Error),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A write to a port that this process answers.
    PortExit,
    /// A write to memory that this process answers.
    MmioExit,
    /// A write that KVM turns into an eventfd.
    Ioeventfd,
    /// A call that KVM answers by itself.
    Hypercall,
    /// An interrupt by an input of the 8259 PIC.
    Pic,
    /// An interrupt by an input of the I/O APIC.
    IoApic,
    /// A message that this process sends.
    Msi,
    /// A message that an eventfd sends, as for devices in the kernel.
    Irqfd,
}

/// What a guest does that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupted {
    /// It runs.
    Running,
    /// It halted.
    Halted,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measurement {
    /// Where the interrupt controllers are.
    pub interrupts: InterruptMode,
    /// What was measured.
    pub probe: Probe,
    /// What the guest did meanwhile, of interrupts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Interrupted>,
    /// How long it took.
    #[serde(flatten)]
    pub spread: Option<Spread>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interrupts {
    /// In the order of [`InterruptMode`], then of [`Probe`].
    pub measurements: Vec<Measurement>,
}

/// Measures, with so many samples of each probe. `tell` is called before each.
///
/// # Errors
/// [`BenchError`]. What one probe cannot measure is in its own line.
pub fn measure(samples: u32, tell: &dyn Fn(InterruptMode, Probe)) -> Result<Interrupts, BenchError> {
    let samples = samples.clamp(*SAMPLES.start(), *SAMPLES.end());
    // Whether there is a KVM at all is not told in each line.
    drop(Vm::new(InterruptMode::Kernel)?);
    install_kick_handler().map_err(BenchError::Signal)?;
    let mut measurements = Vec::new();
    for interrupts in [InterruptMode::Kernel, InterruptMode::Split, InterruptMode::Userspace] {
        for (probe, guest) in lines(interrupts) {
            tell(interrupts, probe);
            let times = match probe {
                Probe::PortExit => exits(interrupts, Program::PortExits, samples),
                Probe::MmioExit => exits(interrupts, Program::MmioExits, samples),
                Probe::Ioeventfd => counted(interrupts, Counted::Ioeventfd, samples),
                Probe::Hypercall => counted(interrupts, Counted::Hypercall, samples),
                Probe::Pic | Probe::IoApic | Probe::Msi | Probe::Irqfd => {
                    let between =
                        if guest == Some(Interrupted::Halted) { Between::Halts } else { Between::Spins };
                    deliveries(interrupts, probe, between, samples)
                }
            };
            let not_measured = times.as_ref().err().map(ToString::to_string);
            let spread = times.ok().and_then(Spread::of);
            measurements.push(Measurement { interrupts, probe, guest, spread, not_measured });
        }
    }
    Ok(Interrupts { measurements })
}

/// What there is to measure with the controllers in that place: in user space there is the PIC alone.
fn lines(interrupts: InterruptMode) -> Vec<(Probe, Option<Interrupted>)> {
    let exits = [Probe::PortExit, Probe::MmioExit, Probe::Ioeventfd, Probe::Hypercall];
    let deliveries: &[Probe] = match interrupts {
        InterruptMode::Kernel | InterruptMode::Split => {
            &[Probe::Pic, Probe::IoApic, Probe::Msi, Probe::Irqfd]
        }
        InterruptMode::Userspace => &[Probe::Pic],
    };
    let of_both = |probe: &Probe| [(*probe, Some(Interrupted::Running)), (*probe, Some(Interrupted::Halted))];
    exits.into_iter().map(|probe| (probe, None)).chain(deliveries.iter().flat_map(of_both)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_has_a_time_or_a_reason_on_whatever_kvm_there_is() {
        let told = std::cell::RefCell::new(Vec::new());
        let found = match measure(100, &|mode, probe| told.borrow_mut().push((mode, probe))) {
            Ok(found) => found,
            Err(error) => return eprintln!("SKIP: {error}"),
        };
        assert_eq!((told.borrow().len(), found.measurements.len()), (12 + 12 + 6, 12 + 12 + 6));
        for line in &found.measurements {
            assert_eq!(line.spread.is_some(), line.not_measured.is_none(), "{line:?}");
            assert!(
                line.spread.is_none_or(|spread| spread.samples == 100 && spread.median_ns > 0),
                "{line:?}"
            );
        }
    }
}
