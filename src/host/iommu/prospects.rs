//! What another slot would give: whether an endpoint there would be alone in its group, by the rules that
//! [`super::isolation`] replays.

use serde::Serialize;

use super::isolation::{Isolation, Rules};
use crate::host::HostFacts;
use crate::host::pci::PciDevice;
use crate::host::pci::hierarchy::Hierarchy;
use crate::host::pci::ports::Slot;
use crate::spec::pci::PciAddress;

/// What an endpoint would find below a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prospect {
    /// The port.
    pub port: PciAddress,
    /// Its slot; absent where nothing can be plugged in.
    pub slot: Option<Slot>,
    /// What is below it now.
    pub occupied_by: Vec<PciAddress>,
    /// Whether no other endpoint would be in the group, bridges not counted; absent where registers could not be read.
    pub alone: Option<bool>,
    /// Endpoints that would be in the group, too.
    pub neighbours: Vec<PciAddress>,
}

/// What the ports of a host would give an endpoint with functions of its own that keep apart; `moved` is the one that
/// would be moved, and does not count as its own neighbour.
#[must_use]
pub fn prospects(facts: &HostFacts, moved: PciAddress) -> Vec<Prospect> {
    let hierarchy = Hierarchy::of(facts.pci.functions());
    let rules = Rules::of(&facts.kernel, &facts.kernel_log, &facts.iommu.acpi_tables);
    let leads_down =
        |port: &&PciDevice| port.ports.express.known().is_some_and(|express| express.port_type.leads_down());
    facts
        .pci
        .functions()
        .iter()
        .filter(leads_down)
        .map(|port| prospect(facts, &hierarchy, &rules, port, moved))
        .collect()
}

fn prospect(
    facts: &HostFacts,
    hierarchy: &Hierarchy<'_>,
    rules: &Rules<'_>,
    port: &PciDevice,
    moved: PciAddress,
) -> Prospect {
    let behind = hierarchy.behind(port.address);
    let mut path = hierarchy.above(port.address);
    path.insert(0, port);
    let isolations: Vec<_> =
        path.iter().map(|port| rules.isolation(port, hierarchy.parent(port.address).is_none())).collect();
    let is_open = isolations.iter().any(|isolation| matches!(isolation, Isolation::Open(_)));
    let is_unknown = isolations.iter().any(|isolation| matches!(isolation, Isolation::Unknown { .. }));
    let group = port.iommu_group.known().and_then(|id| facts.group(*id));
    let moves_along =
        |function: PciAddress| PciAddress { function: 0, ..function } == PciAddress { function: 0, ..moved };
    let neighbours: Vec<_> = group
        .filter(|_| is_open)
        .into_iter()
        .flat_map(|group| group.functions())
        .filter(|function| !moves_along(*function))
        .filter(|function| behind.iter().all(|device| device.address != *function))
        .filter(|function| facts.device(*function).is_none_or(|device| !device.is_bridge()))
        .collect();
    let alone = match (is_open, is_unknown) {
        (true, _) => group.map(|_| neighbours.is_empty()),
        (false, true) => None,
        (false, false) => Some(true),
    };
    Prospect {
        port: port.address,
        slot: port.ports.express.known().and_then(|express| express.slot.clone()),
        occupied_by: behind
            .iter()
            .filter(|device| !device.is_bridge() && device.physical_function.known().is_none())
            .map(|device| device.address)
            .collect(),
        alone,
        neighbours,
    }
}
