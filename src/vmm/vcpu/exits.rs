//! How often a vCPU came back from the guest, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::kvm::Exit;

/// Reasons, in the order in which they are told.
const REASONS: [&str; 11] = [
    "port_read",
    "port_write",
    "mmio_read",
    "mmio_write",
    "halt",
    "interrupted",
    "shutdown",
    "system_event",
    "fail_entry",
    "internal_error",
    "other",
];

/// Counters of one vCPU: its thread counts, any other reads.
#[derive(Debug, Default)]
pub struct ExitCounts([AtomicU64; REASONS.len()]);

impl ExitCounts {
    /// Counts `exit`.
    pub(super) fn count(&self, exit: &Exit<'_>) {
        if let Some(counter) = self.0.get(reason(exit)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// The place of its reason in [`REASONS`].
fn reason(exit: &Exit<'_>) -> usize {
    match exit {
        Exit::PortRead { .. } => 0,
        Exit::PortWrite { .. } => 1,
        Exit::MmioRead { .. } => 2,
        Exit::MmioWrite { .. } => 3,
        Exit::Halt => 4,
        Exit::Interrupted => 5,
        Exit::Shutdown => 6,
        Exit::SystemEvent(_) => 7,
        Exit::FailEntry { .. } => 8,
        Exit::InternalError { .. } => 9,
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_their_reason() {
        let counts = ExitCounts::default();
        counts.count(&Exit::PortRead { port: 0x60, size: 1, data: &mut [0] });
        counts.count(&Exit::MmioWrite { address: 0, data: &[0] });
        counts.count(&Exit::MmioWrite { address: 8, data: &[0] });
        counts.count(&Exit::InternalError { suberror: 1, data: Vec::new() });
        counts.count(&Exit::Other(99));
        let seen: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [("port_read", 1), ("mmio_write", 2), ("internal_error", 1), ("other", 1)]);
    }
}
