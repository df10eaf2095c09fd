//! VFIO's two ways to do without protection, as its modules' parameters say.
//!
//! Linux: drivers/vfio/container.c and group.c (`enable_unsafe_noiommu_mode`), drivers/vfio/vfio_iommu_type1.c and
//! drivers/iommu/iommufd/device.c (`allow_unsafe_interrupts`).

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

/// `allow_unsafe_interrupts` of each module that has it; absent where the module is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnsafeInterrupts {
    /// Of vfio_iommu_type1, for groups.
    pub vfio_iommu_type1: Fact<bool>,
    /// Of iommufd, for device files.
    pub iommufd: Fact<bool>,
}

impl UnsafeInterrupts {
    /// The parameters with their paths.
    pub fn parameters(&self) -> [(&'static str, &Fact<bool>); 2] {
        [(TYPE1, &self.vfio_iommu_type1), (IOMMUFD, &self.iommufd)]
    }
}

/// Path of the parameter that allows no-IOMMU mode.
pub const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
const TYPE1: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
const IOMMUFD: &str = "/sys/module/iommufd/parameters/allow_unsafe_interrupts";

/// Whether no-IOMMU mode is allowed.
pub(super) fn no_iommu(source: &dyn Source) -> Fact<bool> {
    parse::flag(source, NO_IOMMU)
}

/// Whether interrupts that are not remapped are allowed.
pub(super) fn unsafe_interrupts(source: &dyn Source) -> UnsafeInterrupts {
    UnsafeInterrupts { vfio_iommu_type1: parse::flag(source, TYPE1), iommufd: parse::flag(source, IOMMUFD) }
}
