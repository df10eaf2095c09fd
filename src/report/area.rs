//! The areas of a host that `probe` can be asked for one by one, and what of the document belongs to each.

use serde_json::{Map, Value};

/// An area of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Area {
    /// The processor and what it runs under
    Cpu,
    /// Firmware, its tables and settings
    Firmware,
    /// The running kernel
    Kernel,
    /// KVM
    Kvm,
    /// CPUs, cores and NUMA nodes
    Topology,
    /// Memory and huge pages
    Memory,
    /// Isolation, frequency, idle states and the clock of CPUs
    Scheduling,
    /// IOMMUs and their groups
    Iommu,
    /// PCI functions, all that is known of each
    Pci,
    /// Physical and virtual functions
    Sriov,
    /// What uses each function
    Usage,
    /// VFIO
    Vfio,
    /// USB devices
    Usb,
    /// SCSI devices
    Scsi,
    /// Ways for interrupts to reach a guest
    Interrupts,
}

impl Area {
    /// Its title in a table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cpu => "Processor",
            Self::Firmware => "Firmware",
            Self::Kernel => "Kernel",
            Self::Kvm => "KVM",
            Self::Topology => "CPUs and NUMA nodes",
            Self::Memory => "Memory",
            Self::Scheduling => "Scheduling and power",
            Self::Iommu => "IOMMU",
            Self::Pci => "PCI functions",
            Self::Sriov => "SR-IOV",
            Self::Usage => "In use",
            Self::Vfio => "VFIO",
            Self::Usb => "USB",
            Self::Scsi => "SCSI",
            Self::Interrupts => "Interrupts",
        }
    }

    /// The key of the document that it is part of.
    const fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Firmware => "firmware",
            Self::Kernel => "kernel",
            Self::Kvm => "kvm",
            Self::Topology => "topology",
            Self::Memory => "memory",
            Self::Scheduling => "scheduling",
            Self::Iommu => "iommu",
            Self::Pci | Self::Sriov | Self::Usage => "pci",
            Self::Vfio => "vfio",
            Self::Usb => "usb",
            Self::Scsi => "scsi",
            Self::Interrupts => "interrupts",
        }
    }

    /// Which keys of a function it is; `None` where that is all of them.
    const fn keys_of_a_function(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Sriov => Some(&["sriov", "physical_function"]),
            Self::Usage => Some(&["driver", "usage"]),
            _ => None,
        }
    }
}

/// Takes out of the document `facts` what belongs to none of `areas`; the verdicts stay.
pub fn keep(facts: &mut Value, areas: &[Area]) {
    let Value::Object(facts) = facts else { return };
    facts.retain(|key, _| key == "verdicts" || areas.iter().any(|area| area.key() == key));
    let of_pci = || areas.iter().filter(|area| area.key() == Area::Pci.key());
    if of_pci().any(|area| area.keys_of_a_function().is_none()) {
        return;
    }
    let kept: Vec<_> = of_pci().filter_map(|area| area.keys_of_a_function()).flatten().collect();
    let devices = facts.get_mut("pci").and_then(|pci| pci.get_mut("devices")).and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten().filter_map(Value::as_object_mut) {
        Map::retain(device, |key, _| key == "address" || kept.iter().any(|kept| *kept == key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Value {
        json!({
            "verdicts": {},
            "cpu": {},
            "pci": {"devices": [{"address": "a", "driver": "d", "usage": {}, "sriov": null, "x": 1}]},
        })
    }

    #[test]
    fn only_the_keys_of_the_named_areas_stay() {
        let mut document = facts();
        keep(&mut document, &[Area::Cpu]);
        assert_eq!(document, json!({"verdicts": {}, "cpu": {}}));
    }

    #[test]
    fn an_area_within_the_functions_keeps_their_addresses_and_its_own_keys() {
        let mut document = facts();
        keep(&mut document, &[Area::Usage]);
        assert_eq!(
            document,
            json!({"verdicts": {}, "pci": {"devices": [{"address": "a", "driver": "d", "usage": {}}]}})
        );
    }

    #[test]
    fn all_of_the_functions_wins_over_a_part_of_them() {
        let mut document = facts();
        keep(&mut document, &[Area::Usage, Area::Pci]);
        assert_eq!(document["pci"], facts()["pci"]);
    }
}
