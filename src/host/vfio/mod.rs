//! VFIO: what its modules are told, which functions they are to take, and its device nodes.
//!
//! Linux: Documentation/driver-api/vfio.rst; drivers/vfio/pci/vfio_pci.c (parameters). Whether it may do without
//! protection is told with the IOMMU ([`crate::host::iommu::UnsafeInterrupts`]).

mod early;
mod ids;
mod nodes;
mod overrides;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::kernel::Kernel;
use super::pci::Pci;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

pub use early::EarlyModule;
pub use ids::{DeviceId, RequestedIds};
pub use nodes::{NodeKind, VfioNode};
pub use overrides::Override;

/// Where vfio-pci shows its parameters.
pub const PARAMETERS: &str = "/sys/module/vfio_pci/parameters";
/// Parameters of vfio-pci that are switches. `ids` is not shown by the kernel.
const SWITCHES: [&str; 5] =
    ["disable_denylist", "disable_idle_d3", "disable_vga", "enable_sriov", "nointxmask"];

/// VFIO of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Vfio {
    /// Switches of vfio-pci, by name; those that this kernel does not have, or all where the module is not loaded, are
    /// absent.
    pub parameters: BTreeMap<&'static str, Fact<bool>>,
    /// Functions that vfio-pci was told to take by their IDs, on the command line or in modprobe.d, as it is read.
    pub requested: Fact<Vec<RequestedIds>>,
    /// Device nodes.
    pub nodes: Fact<Vec<VfioNode>>,
    /// Drivers that driverctl(8) gives to functions at boot.
    pub overrides: Fact<Vec<Override>>,
    /// Modules of VFIO that are named for the start of the system or its initial RAM file system.
    pub early_modules: Fact<Vec<EarlyModule>>,
}

pub(super) fn collect(source: &dyn Source, kernel: &Kernel, pci: &Pci) -> Vfio {
    let switch = |name| (name, parse::flag(source, &format!("{PARAMETERS}/{name}")));
    Vfio {
        parameters: SWITCHES.into_iter().map(switch).collect(),
        requested: ids::collect(kernel, pci),
        nodes: nodes::collect(source),
        overrides: overrides::collect(source),
        early_modules: early::collect(source),
    }
}

impl Vfio {
    /// The IDs that are in effect: the last that were given win, to vfio-pci as to all modules.
    pub fn ids_in_effect(&self) -> impl Iterator<Item = (&RequestedIds, &DeviceId)> {
        let requested = self.requested.known().into_iter().flatten().filter(|requested| requested.in_effect);
        requested.flat_map(|requested| requested.ids.iter().map(move |id| (requested, id)))
    }
}
