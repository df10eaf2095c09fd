//! Host PCI functions passed through to the guest with VFIO.

mod bars;
mod config;
mod container;
mod device;
mod error;
mod function;
mod interrupts;
mod preflight;
mod quirks;
mod rom;
#[cfg(test)]
mod testing;

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::spec::pci::PciAddress;
use crate::vmm::pci::{FunctionContext, PciFunction};

pub use container::Container;
pub use error::{Member, VfioError};

/// A host function, bound to vfio-pci, that the guest owns while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VfioConfig {
    /// Its address on the host.
    pub address: PciAddress,
}

/// Where guest RAM must not lie because of `functions`: what their IOMMU reserves, and what firmware lets them use behind the
/// kernel's back (the stolen memory of a graphics device, for example), which would be the guest's memory there.
#[must_use]
pub fn unreachable(functions: impl Iterator<Item = PciAddress>) -> Vec<Range<u64>> {
    let host = preflight::Host::live();
    // What is wrong with a function is told when it is opened.
    functions
        .filter_map(|address| host.candidate(address).ok())
        .flat_map(|one| host.reserved(one.group))
        .collect()
}

/// Opens the host function of `config`, resets it, gives it access to the machine's RAM and makes it a function of the
/// machine. Dropping the result gives everything back. All functions of a machine share `container`.
///
/// # Errors
/// [`VfioError`] names the cause and the remedy; nothing is left behind.
pub fn open(
    config: &VfioConfig,
    container: &Arc<Container>,
    context: FunctionContext,
) -> Result<Arc<dyn PciFunction>, VfioError> {
    let (dma, device) = container.open(config.address)?;
    let host = device::GroupDevice::new(config.address, dma, device)?;
    let function = function::VfioFunction::new(config.address, Arc::new(host), context)?;
    Ok(function)
}
