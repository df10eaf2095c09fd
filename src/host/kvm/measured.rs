//! What stands behind KVM, measured: a software KVM runs a guest at a hundredth of the processor's speed or less.

use std::time::Duration;

use serde::Serialize;

use super::{Backing, DEVICE};
use crate::host::fact::Fact;
use crate::sys::kvm_measure::{self, Counted, MeasureError, Speeds};

/// How long each guest runs.
const SPAN: Duration = Duration::from_millis(150);
/// A guest that is slower than the host by more than this is interpreted. Hardware runs a loop as fast in a guest as
/// outside, also where the hardware is itself emulated; interpreters need hundreds of instructions for one.
const SLOWER: u64 = 10;

/// Speeds of small guests on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// How often a guest came back to its process.
    pub exits_per_second: u64,
    /// Instructions of a loop that a guest carried out.
    pub guest_instructions_per_second: u64,
    /// Instructions of the same loop outside of a guest.
    pub host_instructions_per_second: u64,
    /// What carries out a guest's instructions, by these speeds.
    pub backing: Backing,
}

/// Runs the guests. On the live host only: no capture holds how fast a host is.
pub(super) fn measure() -> Fact<Measured> {
    match kvm_measure::measure(SPAN) {
        Ok(speeds) => Fact::Known(judge(speeds)),
        Err(MeasureError::Open(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Fact::Denied { source: DEVICE.to_owned() }
        }
        Err(error) => Fact::Unreadable { source: DEVICE.to_owned(), reason: with_causes(&error) },
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn judge(speeds: Speeds) -> Measured {
    let guest = per_second(speeds.guest_instructions);
    let host = per_second(speeds.host_instructions);
    Measured {
        exits_per_second: per_second(speeds.exits),
        guest_instructions_per_second: guest,
        host_instructions_per_second: host,
        backing: if guest.saturating_mul(SLOWER) < host { Backing::Software } else { Backing::Hardware },
    }
}

fn per_second(counted: Counted) -> u64 {
    let nanoseconds = counted.time.as_nanos().max(1);
    u64::try_from(u128::from(counted.count) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(guest: u64, host: u64) -> Measured {
        let counted = |count| Counted { count, time: Duration::from_millis(500) };
        judge(Speeds {
            exits: counted(50_000),
            guest_instructions: counted(guest),
            host_instructions: counted(host),
        })
    }

    #[test]
    fn counts_become_rates() {
        let measured = judged(1_000, 2_000);
        assert_eq!(measured.exits_per_second, 100_000);
        assert_eq!(
            (measured.guest_instructions_per_second, measured.host_instructions_per_second),
            (2_000, 4_000)
        );
        let no_time = Counted { count: u64::MAX, time: Duration::ZERO };
        assert_eq!(per_second(no_time), u64::MAX);
    }

    #[test]
    fn a_guest_at_a_fraction_of_the_hosts_speed_is_interpreted() {
        // Rates of a KVM in software, of an emulated processor with SVM, of a processor.
        assert_eq!(judged(1_500_000, 4_800_000_000).backing, Backing::Software);
        assert_eq!(judged(250_000_000, 260_000_000).backing, Backing::Hardware);
        assert_eq!(judged(4_700_000_000, 4_800_000_000).backing, Backing::Hardware);
    }
}
