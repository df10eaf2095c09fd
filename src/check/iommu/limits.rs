//! What the units cannot do: addresses that they do not reach, devices that they do not keep coherent.

use super::{UNITS, units};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::Unit;

/// `iommu-address-width`: the narrowest unit against the end of memory.
pub(super) fn address_width(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how far the IOMMU reaches";
    let units = match units(facts, SUBJECT) {
        Ok(units) => units,
        Err(outcome) => return outcome,
    };
    let end = match &facts.iommu.end_of_memory {
        Fact::Known(end) => *end,
        unread => return Outcome::unread(unread, "where memory ends"),
    };
    if let Some(unread) = units.iter().find_map(unread_words) {
        return unread;
    }
    let narrowest = units
        .iter()
        .filter_map(|unit| Some((unit.address_width_bits()?, unit)))
        .min_by_key(|(bits, _)| *bits);
    let Some((bits, unit)) = narrowest else {
        return Outcome::not_applicable("the units do not say how far they reach");
    };
    let reach = 1_u128 << bits;
    let evidence = |outcome: Outcome| {
        outcome
            .evidence(format!("{UNITS}/{}", unit.name), format!("{bits}-bit addresses"))
            .evidence("/proc/zoneinfo", format!("memory ends at {end:#x}"))
    };
    if u128::from(end) <= reach {
        return evidence(Outcome::pass(format!("{bits}-bit addresses reach all of memory")));
    }
    evidence(Outcome::fail(format!("{} reaches {bits} bits of address, and memory goes further", unit.name)))
        .cause("memory above that cannot be mapped for a device, so a guest with a device cannot have it")
        .remedy(Remedy::hardware("a processor whose IOMMU has wider addresses, or less memory"))
}

/// The answer for a unit whose words could not be read.
fn unread_words(unit: &Unit) -> Option<Outcome> {
    const SUBJECT: &str = "what the IOMMU can do";
    if unit.vtd.is_unread() {
        return Some(Outcome::unread(&unit.vtd, SUBJECT));
    }
    unit.amdvi.is_unread().then(|| Outcome::unread(&unit.amdvi, SUBJECT))
}

/// `iommu-snoop-control`: Intel's ECAP.SC. AMD's units always can.
pub(super) fn snoop_control(facts: &HostFacts) -> Outcome {
    let units = match units(facts, "whether the IOMMU controls snooping") {
        Ok(units) => units,
        Err(outcome) => return outcome,
    };
    if let Some(unread) = units.iter().find_map(unread_words) {
        return unread;
    }
    let mut outcome = Outcome::pass("the IOMMU keeps devices coherent with the caches");
    for unit in units {
        let path = format!("{UNITS}/{}", unit.name);
        let Some(vtd) = unit.vtd.known() else {
            outcome = outcome.evidence(path, "always coherent");
            continue;
        };
        let word = format!("{:x}", vtd.extended_capability);
        if !vtd.snoop_control {
            return Outcome::warn("devices of guests may bypass the caches")
                .evidence(format!("{path}/intel-iommu/ecap"), word)
                .cause(format!(
                    "{} has no snoop control (ECAP bit 7): KVM lets guests with its devices flush caches",
                    unit.name
                ))
                .remedy(Remedy::hardware(
                    "a function behind a unit with snoop control; on client processors that of the graphics has none",
                ));
        }
        outcome = outcome.evidence(format!("{path}/intel-iommu/ecap"), word);
    }
    outcome
}
