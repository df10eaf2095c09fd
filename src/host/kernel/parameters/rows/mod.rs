//! The parameters that are known, by what they are about.
//!
//! Linux: Documentation/admin-guide/kernel-parameters.txt; where that is silent, the code that each file names.

mod guests;
mod iommu;
mod machine;
mod pci;

use super::known::Known;

pub(super) use machine::FRAMEBUFFERS;

/// Every row but [`FRAMEBUFFERS`].
pub(super) fn all() -> impl Iterator<Item = &'static Known> {
    [
        iommu::ROWS,
        guests::OF_VFIO,
        guests::OF_KVM,
        pci::ROWS,
        machine::OF_DISPLAY,
        machine::OF_MEMORY,
        machine::OF_CPU,
        machine::OF_MODULES,
    ]
    .into_iter()
    .flatten()
}

/// What people write, and what they mean: too far away for a search by spelling.
pub(super) const MISTAKES: [(&str, &str); 6] = [
    ("vfio.ids", "vfio-pci.ids"),
    ("vfio_ids", "vfio-pci.ids"),
    ("vfio_pci_ids", "vfio-pci.ids"),
    ("iommu_pt", "iommu=pt"),
    ("kvm.nested", "kvm_intel.nested` or `kvm_amd.nested"),
    ("acs_override", "pcie_acs_override"),
];
