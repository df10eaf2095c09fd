//! How far addresses reach.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;

/// Room above memory with which even a large BAR finds a place.
const ROOM_BYTES: u64 = 32 << 30;

/// `cpu-address-width`
pub(super) fn width(facts: &HostFacts) -> Outcome {
    let bits = match &facts.cpu.physical_address_bits {
        Fact::Known(bits) => *bits,
        unread => return Outcome::unread(unread, "how wide physical addresses are"),
    };
    let end = match &facts.iommu.end_of_memory {
        Fact::Known(end) => *end,
        unread => return Outcome::unread(unread, "where memory ends"),
    };
    let reach = 1_u128 << bits.min(64);
    let evidence = |outcome: Outcome| {
        outcome
            .evidence("CPUID 0x80000008", format!("{bits}-bit physical addresses"))
            .evidence("/proc/zoneinfo", format!("memory ends at {end:#x}"))
    };
    if u128::from(end) + u128::from(ROOM_BYTES) <= reach {
        return evidence(Outcome::pass(format!("{bits}-bit addresses leave room above memory")));
    }
    evidence(Outcome::warn(format!("{bits}-bit addresses leave less than 32 GiB above memory")))
        .cause("BARs of passed-through devices lie above a guest's memory, and a guest sees this width")
        .remedy(Remedy::advice(
            "give guests with such devices less memory; in a virtual machine, let it see the width of its host (QEMU: \
             `-cpu host,host-phys-bits=on`)",
        ))
}
