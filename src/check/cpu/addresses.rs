//! How far addresses reach, and how large pages are.

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

/// `cpu-gigabyte-pages`
pub(super) fn gigabyte_pages(facts: &HostFacts) -> Outcome {
    const SOURCE: &str = "CPUID 0x80000001";
    match &facts.cpu.gigabyte_pages {
        Fact::Known(true) => {
            Outcome::pass("the processor has pages of 1 GiB").evidence(SOURCE, "EDX bit 26 is 1")
        }
        Fact::Known(false) => Outcome::warn("the processor has no pages of 1 GiB")
            .evidence(SOURCE, "EDX bit 26 is 0")
            .cause("the processor is from before they came, or the hypervisor below does not show them")
            .remedy(Remedy::advice("use huge pages of 2 MiB; in a virtual machine, show it `pdpe1gb`")),
        unread => Outcome::unread(unread, "whether the processor has pages of 1 GiB"),
    }
}
