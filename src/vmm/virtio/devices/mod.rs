//! The virtio devices, one file each: settings, device, queue handler, tests.

pub mod block;
pub mod console;
pub mod net;
pub mod rng;

use std::sync::Arc;

use crate::sys::tap::TapError;
use crate::vmm::backend::disk::DiskError;
use crate::vmm::pci::{FunctionContext, PciFunction};
use crate::vmm::virtio::VirtioDevice;
use crate::vmm::virtio::pci::{VirtioPci, VirtioPciError};

/// One of the virtio devices, as the machine's configuration has it.
#[derive(Debug, Clone, Copy)]
pub enum VirtioConfig<'a> {
    /// Disk.
    Block(&'a block::BlockConfig),
    /// Network card.
    Net(&'a net::NetConfig),
    /// Console.
    Console(&'a Arc<console::Console>),
    /// Entropy source.
    Rng(&'a rng::RngConfig),
}

/// Why a virtio device cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum VirtioError {
    /// The disk image.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The serial number of a disk.
    #[error("disk serial number `{serial}` is longer than 20 bytes or not printable ASCII")]
    Serial {
        /// What was asked for.
        serial: String,
    },
    /// The tap interface.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The MAC address of a network card.
    #[error("`{mac}` is not the MAC address of a network card; write for example 52:54:00:12:34:56")]
    Mac {
        /// What was asked for.
        mac: String,
    },
    /// The host's entropy source.
    #[error("cannot open {path}")]
    Entropy {
        /// Where it should be.
        path: &'static str,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
    /// The device cannot be put on the PCI bus.
    #[error("cannot make a PCI function of {label}")]
    Function {
        /// The device.
        label: String,
        /// What is missing.
        #[source]
        source: VirtioPciError,
    },
}

/// Opens what stands behind the device on the host and makes a PCI function of it.
///
/// # Errors
/// [`VirtioError`], which names what the host refused.
pub fn build(
    config: VirtioConfig<'_>,
    context: FunctionContext,
) -> Result<Arc<dyn PciFunction>, VirtioError> {
    let device: Arc<dyn VirtioDevice> = match config {
        VirtioConfig::Block(config) => Arc::new(block::Block::open(config)?),
        VirtioConfig::Net(config) => Arc::new(net::Net::open(config)?),
        VirtioConfig::Console(config) => Arc::clone(config) as _,
        VirtioConfig::Rng(_) => Arc::new(rng::Rng::open()?),
    };
    let label = device.label().to_owned();
    let function =
        VirtioPci::new(device, context).map_err(|source| VirtioError::Function { label, source })?;
    Ok(Arc::new(function))
}

/// Fills `data` with the part of `registers` that begins at byte `offset`; what lies behind their end stays as it is.
fn read_registers(registers: &[u8], offset: usize, data: &mut [u8]) {
    let source = registers.get(offset..).unwrap_or_default();
    for (byte, register) in data.iter_mut().zip(source) {
        *byte = *register;
    }
}
