//! What virtualization costs on this host, measured with guests of a few instructions.
//!
//! [`interrupts`]: what it costs to leave a guest, and how long an interrupt takes to it. No kernel of a guest and no device
//! stands in between, so that what is seen is KVM, the processor and the way through this program. Times are of the host's
//! monotonic clock, or where the guest does not come back in between, of its time stamp counter.

mod delivery;
mod exits;
mod guest;
pub mod interrupts;
mod samples;

pub use interrupts::{BenchError, Interrupts, Measurement, Probe, measure};
pub use samples::Spread;
