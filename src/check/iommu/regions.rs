//! Memory that firmware wants mapped one to one: RMRR, IVMD.

use super::{group_file, units};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{Group, ReservedRegion};
use crate::host::pci::PciDevice;

/// The kernel's word for a mapping that must stay; `direct-relaxable` may go.
const DIRECT: &str = "direct";

fn direct(regions: &[ReservedRegion]) -> Option<&ReservedRegion> {
    regions.iter().find(|region| region.kind == DIRECT)
}

fn show(region: &ReservedRegion) -> String {
    format!("{:#018x} {:#018x} {}", region.start, region.end, region.kind)
}

/// The likeliest cures, for either maker's firmware.
fn remedies() -> [Remedy; 2] {
    [
        Remedy::advice(
            "switch off what makes firmware reach the device while the system runs: USB legacy support, remote \
             management's shared memory (HPE: `HP Shared Memory features` per slot), or update the firmware",
        ),
        Remedy::hardware("another slot, or another function: the kernel refuses these"),
    ]
}

/// `iommu-direct-regions`
pub(super) fn host(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which groups have memory that firmware holds";
    if let Err(outcome) = units(facts, SUBJECT) {
        return outcome;
    }
    let groups = match &facts.iommu.groups {
        Fact::Known(groups) => groups,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let held: Vec<(&Group, &ReservedRegion)> =
        groups.iter().filter_map(|group| Some((group, direct(group.reserved_regions.known()?)?))).collect();
    if held.is_empty() {
        if let Some(group) = groups.iter().find(|group| group.reserved_regions.is_unread()) {
            return Outcome::unread(&group.reserved_regions, SUBJECT);
        }
        return Outcome::pass("firmware holds no memory of devices")
            .evidence("/sys/kernel/iommu_groups/*/reserved_regions", "no region of type direct");
    }
    let members: Vec<_> =
        held.iter().flat_map(|(group, _)| group.functions()).map(|address| address.to_string()).collect();
    let warn = Outcome::warn(format!("firmware holds memory of {}", members.join(", ")))
        .cause("its table (RMRR, IVMD) demands a mapping one to one, so VFIO refuses these groups")
        .remedies(remedies());
    held.iter().fold(warn, |outcome, (group, region)| {
        outcome.evidence(group_file(group.id, "reserved_regions"), show(region))
    })
}

/// `iommu-function-direct-region`
pub(super) fn function(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let group = match &function.iommu_group {
        Fact::Known(id) => facts.group(*id),
        Fact::NotPresent => return Outcome::not_applicable("the function is in no group"),
        unread => return Outcome::unread(unread, "the function's group"),
    };
    let Some(group) = group else {
        return Outcome::unread(&facts.iommu.groups, "the function's group");
    };
    let place = group_file(group.id, "reserved_regions");
    let regions = match &group.reserved_regions {
        Fact::Known(regions) => regions,
        unread => return Outcome::unread(unread, "which memory firmware holds"),
    };
    match direct(regions) {
        None => Outcome::pass("firmware holds no memory of this function's group")
            .evidence(place, "no region of type direct"),
        Some(region) => Outcome::fail("firmware holds memory of this function's group: VFIO refuses it")
            .evidence(place, show(region))
            .cause("firmware's table (RMRR, IVMD) demands a mapping one to one for a member of the group")
            .remedies(remedies()),
    }
}
