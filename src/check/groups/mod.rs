//! IOMMU groups: who shares one with whom, why, and what would change it.

mod explain;
mod function;
mod host;
mod remedies;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Outcome, Purpose, Question};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::Group;
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

pub use explain::{Branch, Explanation, Pair, State, explain, pair};

const VFIO: &[Purpose] = &[Purpose::Vfio];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "group-ports-isolate",
        title: "ports keep unrelated devices apart",
        purposes: VFIO,
        why: "A root port or a switch without Access Control Services (ACS) may let devices reach each other past the \
              IOMMU. The kernel then puts what is behind such ports into one group, and a group goes to a guest whole.",
        refs: &["PCIe 6.0, 6.12", "Linux: drivers/iommu/iommu.c, pci_device_group"],
        run: Question::Host(host::ports),
    },
    Check {
        id: "group-conventional-bridge",
        title: "no conventional PCI bus holds several devices together",
        purposes: VFIO,
        why: "Behind a bridge to conventional PCI all devices share a bus and one requester ID. The IOMMU cannot tell \
              them apart, so they go to one guest, or none does.",
        refs: &["Linux: drivers/pci/search.c, pci_for_each_dma_alias", "PCI Express to PCI Bridge 1.0, 2.3"],
        run: Question::Host(host::bridges),
    },
    Check {
        id: "group-acs-override",
        title: "no override pretends that devices are kept apart",
        purposes: VFIO,
        why: "`pcie_acs_override=` makes a patched kernel believe that ports without ACS keep devices apart. Groups look \
              better and nothing is protected: a guest's device can still reach the devices beside it and read or change \
              what they hold.",
        refs: &["https://lkml.org/lkml/2013/5/30/513 (the patch, which was not accepted)"],
        run: Question::Host(host::acs_override),
    },
    Check {
        id: "group-function-alone",
        title: "the function's group holds no other device",
        purposes: VFIO,
        why: "A group goes to a guest whole, or with the rest of it left without drivers: the host loses every device \
              that is in it. Bridges do not count.",
        refs: &["Linux: Documentation/driver-api/vfio.rst, Groups, Devices, and IOMMUs"],
        run: Question::Function(function::alone),
    },
    Check {
        id: "group-function-viable",
        title: "no other driver keeps the function's group from VFIO",
        purposes: VFIO,
        why: "The kernel opens a group for VFIO only when every member has no driver, a VFIO driver or pci-stub, or is \
              a bridge. One other driver and it answers `group is not viable`.",
        refs: &["Linux: Documentation/driver-api/vfio.rst", "Linux: drivers/vfio/vfio_main.c"],
        run: Question::Function(function::viable),
    },
];

/// The groups that the kernel made, or the answer where there is none or nobody can say.
fn groups<'a>(facts: &'a HostFacts, subject: &str) -> Result<&'a [Group], Outcome> {
    match &facts.iommu.groups {
        Fact::Known(groups) if groups.is_empty() => Err(Outcome::not_applicable("there are no IOMMU groups")),
        Fact::Known(groups) => Ok(groups),
        unread => Err(Outcome::unread(unread, subject)),
    }
}

/// The members of `group` that are no bridges, by address.
fn endpoints<'a>(facts: &'a HostFacts, group: &'a Group) -> impl Iterator<Item = PciAddress> + 'a {
    group.functions().filter(|function| facts.device(*function).is_none_or(|device| !device.is_bridge()))
}

/// Whether two functions are in one slot, or one is a virtual function of the other's card.
fn on_one_card(facts: &HostFacts, a: PciAddress, b: PciAddress) -> bool {
    let card = |function: PciAddress| {
        let physical = facts.device(function).and_then(|device| device.physical_function.known().copied());
        PciAddress { function: 0, ..physical.unwrap_or(function) }
    };
    card(a) == card(b)
}

/// Addresses in a row.
fn listed(functions: impl IntoIterator<Item = PciAddress>) -> String {
    functions.into_iter().map(|function| function.to_string()).collect::<Vec<_>>().join(", ")
}

/// Adds evidence, if it is not there yet: causes of one group rest on the same registers.
fn seen(outcome: Outcome, source: &str, value: &str) -> Outcome {
    if outcome.evidence.iter().any(|evidence| evidence.source == source && evidence.value == value) {
        return outcome;
    }
    outcome.evidence(source, value)
}

/// Where the members of a group are listed.
fn members_file(group: &Group) -> String {
    format!("/sys/kernel/iommu_groups/{}/devices", group.id)
}

/// The group of `function`, or the answer where it has none or nobody can say.
fn group_of<'a>(facts: &'a HostFacts, function: &PciDevice) -> Result<&'a Group, Outcome> {
    let id = match &function.iommu_group {
        Fact::Known(id) => *id,
        Fact::NotPresent => return Err(Outcome::not_applicable("the function is in no group")),
        unread => return Err(Outcome::unread(unread, "the function's group")),
    };
    let group =
        facts.group(id).ok_or_else(|| Outcome::unread(&facts.iommu.groups, "the function's group"))?;
    match &group.devices {
        Fact::Known(_) => Ok(group),
        unread => Err(Outcome::unread(unread, "who shares the function's group")),
    }
}
