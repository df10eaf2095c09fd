//! What it costs to leave a guest, and how long an interrupt takes to it.
//!
//! - *Exits*: from one return of KVM to the next, the guest's instruction and the way back included.
//! - *Ioeventfd* and *hypercall*, which do not come back to this process: counted by the guest, two readings of the time
//!   stamp counter included.
//! - *Deliveries*: from the moment before this process asks for the interrupt until the handler's first instruction, a write
//!   to a port, is back here; a port exit is part of it. Once to a guest that spins and once to one that halted.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::guest::{self, Between, Controller, Counted, Guest, Program};
use super::samples::Spread;
use crate::sys::kvm::{Exit, Vcpu};
use crate::sys::signal::install_kick_handler;
use crate::vmm::bus::Bus;
use crate::vmm::config::InterruptMode;
use crate::vmm::interrupt::irqchip::Irqchip;
use crate::vmm::interrupt::userspace::Chips;
use crate::vmm::interrupt::{InterruptLine, LineController, MsiMessage, MsiSink, ports};
use crate::vmm::kvm::{KvmError, Vm};
use crate::vmm::mapper::{AddressSpace, Mapper};
use crate::vmm::vcpu::offer_interrupt;

/// Least and most samples of each probe.
pub const SAMPLES: std::ops::RangeInclusive<u32> = 100..=guest::MOST_COUNTS;
/// What is measured before the first sample counts.
const WARM_UP: u32 = 32;
/// How long one interrupt may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a guest is given to come to its wait.
const SETTLE: Duration = Duration::from_micros(50);

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

fn machine(interrupts: InterruptMode) -> io::Result<Arc<Vm>> {
    Vm::new(interrupts).map_err(io::Error::other)
}

fn unexpected(exit: &Exit<'_>) -> io::Error {
    io::Error::other(format!("the guest ended with {exit:?}"))
}

/// Runs the guest until `take` has what it wants of an exit; a guest that does not come back in time is given up.
fn until<T>(guest: &mut Guest, mut take: impl FnMut(&Exit<'_>) -> Option<io::Result<T>>) -> io::Result<T> {
    let kicker = guest.vcpu.kicker()?;
    kicker.attach();
    let (done, waiting) = mpsc::channel::<()>();
    let late = AtomicBool::new(false);
    thread::scope(|scope| {
        let late = &late;
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::SeqCst);
                kicker.kick();
            }
        });
        let found = loop {
            let exit = match guest.vcpu.run() {
                Ok(exit) => exit,
                Err(error) => break Err(error),
            };
            match exit {
                Exit::Interrupted if late.load(Ordering::SeqCst) => {
                    let text = format!("the guest did not come to an end within {} s", PATIENCE.as_secs());
                    break Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Exit::Interrupted => {}
                other => {
                    if let Some(found) = take(&other) {
                        break found;
                    }
                }
            }
        };
        drop(done);
        found
    })
}

/// From one exit to the next.
fn exits(interrupts: InterruptMode, program: Program, samples: u32) -> io::Result<Vec<Duration>> {
    let mut guest = Guest::new(&machine(interrupts)?, program)?;
    let mut moments = Vec::new();
    until(&mut guest, |exit| match exit {
        Exit::PortWrite { .. } | Exit::MmioWrite { .. } => {
            moments.push(Instant::now());
            (moments.len() > (samples + WARM_UP) as usize).then_some(Ok(()))
        }
        other => Some(Err(unexpected(other))),
    })?;
    let times = moments.windows(2).skip(WARM_UP as usize);
    Ok(times.filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?))).collect())
}

/// By the guest's own counter.
fn counted(interrupts: InterruptMode, what: Counted, samples: u32) -> io::Result<Vec<Duration>> {
    let vm = machine(interrupts)?;
    let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    let _mapped = vm.notify(AddressSpace::Port, guest::EVENT_PORT.into(), &event)?;
    let mut guest = Guest::new(&vm, Program::Count(what, samples))?;
    let begin = Instant::now();
    until(&mut guest, |exit| match exit {
        Exit::PortWrite { port, .. } if *port == u16::from(guest::COUNTED) => Some(Ok(())),
        other => Some(Err(unexpected(other))),
    })?;
    let elapsed = begin.elapsed();
    if what == Counted::Ioeventfd && event.read().ok() != Some(samples.into()) {
        return Err(io::Error::other("KVM did not signal the eventfd at each write"));
    }
    let per_millisecond = guest.vcpu.fd().get_tsc_khz()?;
    in_time(&guest.counts(samples)?, per_millisecond, elapsed)
        .ok_or_else(|| io::Error::other("the guest's time stamp counter does not tell the time here"))
}

/// Counts of a counter that counts `per_millisecond`; none if they cannot be of a span of `elapsed`.
fn in_time(counts: &[u32], per_millisecond: u32, elapsed: Duration) -> Option<Vec<Duration>> {
    let nanoseconds = |count: &u32| u64::from(*count) * 1_000_000 / u64::from(per_millisecond.max(1));
    let times: Vec<_> = counts.iter().map(|count| Duration::from_nanos(nanoseconds(count))).collect();
    let sum: Duration = times.iter().sum();
    (!sum.is_zero() && sum <= elapsed + elapsed / 10).then_some(times)
}

/// What the vCPU's thread tells.
#[derive(Debug, Default)]
struct Told {
    handled: Option<Instant>,
    ready: bool,
    failed: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Board {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Board {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for what `take` takes.
    fn wait<T>(&self, what: &str, take: impl Fn(&mut Told) -> Option<T>) -> io::Result<T> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(taken) = take(&mut told) {
                return Ok(taken);
            }
            if let Some(error) = told.failed.take() {
                return Err(error);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{what} within {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A way to ask for one interrupt, and to end asking.
type Trigger = (Box<dyn Fn() -> io::Result<()>>, Box<dyn Fn()>);

fn trigger(vm: &Arc<Vm>, probe: Probe) -> io::Result<Trigger> {
    let message = MsiMessage { address: 0xFEE0_0000, data: guest::MSI_VECTOR.into() };
    Ok(match probe {
        Probe::Msi => {
            let vm = Arc::clone(vm);
            (Box::new(move || vm.irqchip().signal(message)), Box::new(|| {}))
        }
        Probe::Irqfd => {
            let unsupported = |_| io::Error::other("there are no routes from eventfds here");
            let route = vm.irqchip().route().map_err(unsupported)?;
            route.unmask(message)?;
            (Box::new(move || route.event().write(1)), Box::new(|| {}))
        }
        _ => {
            let controller: Arc<dyn LineController> = Arc::new(vm.irqchip().clone());
            let line = Arc::new(InterruptLine::new(guest::GSI, controller));
            let other = Arc::clone(&line);
            let high = move || {
                line.set_level(true);
                Ok(())
            };
            (Box::new(high), Box::new(move || other.set_level(false)))
        }
    })
}

/// From asking for an interrupt until the handler tells of it.
fn deliveries(
    interrupts: InterruptMode,
    probe: Probe,
    between: Between,
    samples: u32,
) -> io::Result<Vec<Duration>> {
    let controller = match probe {
        Probe::Pic => Controller::Pic,
        Probe::IoApic => Controller::IoApic,
        _ => Controller::LocalApic,
    };
    let vm = machine(interrupts)?;
    let guest = Guest::new(&vm, Program::Wait(controller, between))?;
    let (ask, end) = trigger(&vm, probe)?;
    let kicker = guest.vcpu.kicker()?;
    let (board, stop) = (Board::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (board, stop) = (&board, &stop);
        let mut processor = Processor::new(guest.vcpu, vm.irqchip())?;
        let kick = kicker.clone();
        let running = scope.spawn(move || {
            kick.attach();
            while !stop.load(Ordering::SeqCst) {
                // Cleared before the chips are looked at: a kick for what they ask later stays.
                kick.clear();
                if let Err(error) = processor.step(board) {
                    board.tell(|told| told.failed = Some(error));
                    return;
                }
            }
        });
        if let Some(chips) = vm.irqchip().chips() {
            let (kick, thread) = (kicker.clone(), running.thread().clone());
            chips.on_asking(move || {
                kick.kick();
                thread.unpark();
            });
        }
        let one = || {
            board
                .wait("the guest did not come back", |told| std::mem::take(&mut told.ready).then_some(()))?;
            thread::sleep(SETTLE);
            let asked = Instant::now();
            ask()?;
            let handled = board.wait("the guest took no interrupt", |told| told.handled.take());
            end();
            handled.map(|handled| handled.saturating_duration_since(asked))
        };
        let times: io::Result<Vec<_>> = (0..samples + WARM_UP).map(|_| one()).collect();
        stop.store(true, Ordering::SeqCst);
        kicker.kick();
        running.thread().unpark();
        times.map(|times| times.into_iter().skip(WARM_UP as usize).collect())
    })
}

/// A vCPU with the controllers that this process has for it.
struct Processor {
    vcpu: Vcpu,
    chips: Option<Arc<Chips>>,
    pio: Bus,
    mmio: Bus,
    /// It halted, and only this process can wake it up.
    halted: bool,
}

impl Processor {
    fn new(vcpu: Vcpu, irqchip: &Irqchip) -> io::Result<Self> {
        let (chips, pio, mmio) = (irqchip.chips().cloned(), Bus::default(), Bus::default());
        if let Some(chips) = &chips {
            ports::insert(chips, &pio, &mmio).map_err(io::Error::other)?;
        }
        Ok(Self { vcpu, chips, pio, mmio, halted: false })
    }

    /// Runs the guest until it comes back, and tells why.
    fn step(&mut self, board: &Board) -> io::Result<()> {
        if let Some(chips) = &self.chips {
            self.halted &= !offer_interrupt(&mut self.vcpu, chips)?;
            if self.halted && !chips.is_asking() {
                // Ended by whoever asks for an interrupt, and by the end of the probe.
                thread::park_timeout(PATIENCE);
                return Ok(());
            }
        }
        self.halted = false;
        match self.vcpu.run()? {
            Exit::PortWrite { port, .. } if port == u16::from(guest::HANDLED) => {
                let now = Instant::now();
                board.tell(|told| told.handled = Some(now));
            }
            Exit::PortWrite { port, .. } if port == u16::from(guest::READY) => {
                board.tell(|told| told.ready = true);
            }
            Exit::PortWrite { port, data, .. } if self.chips.is_some() => {
                // PIC and I/O APIC ask for nothing.
                let _ = self.pio.write(port.into(), data);
            }
            Exit::MmioWrite { address, data } if self.chips.is_some() => {
                let _ = self.mmio.write(address, data);
            }
            Exit::EndOfInterrupt { vector } => {
                if let Some(chips) = &self.chips {
                    chips.end_of_interrupt(vector);
                }
            }
            Exit::Halt => self.halted = true,
            Exit::Interrupted | Exit::InterruptWindow => {}
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_times_only_if_they_can_be() {
        let ms = Duration::from_millis;
        assert_eq!(in_time(&[2_000_000, 4_000_000], 2_000_000, ms(4)), Some(vec![ms(1), ms(2)]));
        assert_eq!(in_time(&[2_000_000, 4_000_000], 2_000_000, ms(2)), None, "longer than it took");
        assert_eq!(in_time(&[0, 0], 2_000_000, ms(2)), None, "it stands still");
        assert_eq!(in_time(&[1], 0, ms(2)), Some(vec![ms(1)]));
    }

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
