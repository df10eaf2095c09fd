//! What on this host uses a function: disks below it, network interfaces of it, processes that hold it or its device
//! files.
//!
//! A controller is judged by its children: whatever stands below a function in the device tree counts, a USB disk below
//! its host controller too. Everything is read in one pass over the host and then handed to the functions.

mod disks;
mod interfaces;
mod nodes;
mod processes;
pub(super) mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::pci::Pci;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

pub use disks::{BlockUse, Disk, FstabEntry};
pub use interfaces::Interface;
pub use nodes::OpenNode;
pub use processes::Process;
pub(crate) use processes::is_device_of_interest;
pub use remote::{RemoteMount, SYSTEM_PLACES};

/// What uses one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Disks below the function.
    pub disks: Fact<Vec<Disk>>,
    /// Network interfaces of the function.
    pub interfaces: Fact<Vec<Interface>>,
    /// Processes that hold the function through VFIO: by its group, or by its own device file. Unknown if there are
    /// processes that we may not look into and none of the others does.
    pub vfio_users: Fact<Vec<Process>>,
    /// Device files of the function that processes hold open: displays and sound. Unknown as with `vfio_users`.
    pub open_nodes: Fact<Vec<OpenNode>>,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            disks: Fact::Known(Vec::new()),
            interfaces: Fact::Known(Vec::new()),
            vfio_users: Fact::Known(Vec::new()),
            open_nodes: Fact::Known(Vec::new()),
        }
    }
}

/// Fills in the usage of every function of `pci`.
pub(super) fn collect(source: &dyn Source, pci: &mut Pci) {
    let Fact::Known(devices) = &mut pci.devices else { return };
    let open_files = processes::collect(source);
    let mut disks = disks::collect(source, &open_files);
    let mut interfaces = interfaces::collect(source);
    let nodes = nodes::collect(source);
    for device in devices {
        device.usage = Usage {
            disks: take(&mut disks, device.address),
            interfaces: take(&mut interfaces, device.address),
            vfio_users: open_files.holders_of(device),
            open_nodes: nodes::users(nodes.get(&device.address), &open_files),
        };
    }
}

/// Takes what belongs to `address` out of what was found.
fn take<T: Clone>(found: &mut Fact<BTreeMap<PciAddress, Vec<T>>>, address: PciAddress) -> Fact<Vec<T>> {
    match found {
        Fact::Known(found) => Fact::Known(found.get(&address).cloned().unwrap_or_default()),
        unread => unread.as_ref().map(|_| Vec::new()),
    }
}

/// The function nearest to the end of a path in the device tree: the one that what stands there belongs to.
pub(super) fn owner(path: &str) -> Option<PciAddress> {
    path.rsplit('/').find_map(|part| part.parse().ok().filter(|_| part.contains(':')))
}
