//! Guest RAM: what stands behind it, and the one way in which devices touch it.
//!
//! Every address that a guest hands to a device goes through [`GuestMemory`]: RAM only, never MMIO, bounds and overflow
//! checked, copied once (a device's DMA must not reach another device's registers).

mod backing;
mod clear;
pub mod config;
pub mod dma;
mod error;
mod file;
mod host;
mod prefault;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion,
};

use crate::spec::units::ByteSize;
use crate::vmm::config::ShortForm;
use config::MemoryConfig;
use file::NamedFile;
use host::Host;

pub use backing::Wanted;
pub use error::MemoryError;
pub use prefault::Watch;

/// The mapped RAM; what `virtio-queue` and the loaders work on.
pub type Ram = GuestMemoryMmap<()>;

/// Guest RAM as one region or a few, placed by [`layout::ram_ranges`].
#[derive(Debug, Clone)]
pub struct GuestMemory {
    ram: Arc<Ram>,
    size_bytes: u64,
    page_bytes: u64,
    /// Whether its file tells what of it was touched; this process's page tables do otherwise.
    has_holes: bool,
    is_locked: bool,
    /// Goes when the last handle does.
    _file: Option<Arc<NamedFile>>,
}

/// One contiguous piece of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRegion {
    /// Guest-physical address of the first byte.
    pub guest_address: u64,
    /// Address of the first byte in this process.
    pub host_address: u64,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// An address range from the guest that does not lie in RAM.
#[derive(Debug, thiserror::Error)]
#[error("{length} bytes at guest address {address:#x} are not RAM")]
pub struct AccessError {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub length: usize,
    /// What the memory map said.
    #[source]
    pub source: GuestMemoryError,
}

/// Why a file did not get into guest RAM.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The destination is not RAM.
    #[error("{length} bytes at guest address {address:#x} are not RAM")]
    Access {
        /// Guest-physical address.
        address: u64,
        /// Length in bytes.
        length: u64,
    },
    /// More than this process can address.
    #[error("{0} bytes are more than can be loaded")]
    TooLarge(u64),
    /// The file could not be read, or ended early.
    #[error("cannot read the file")]
    File(#[source] io::Error),
}

impl GuestMemory {
    /// RAM of `size_bytes` (a multiple of the page size), not yet populated: a page costs memory when it is touched.
    ///
    /// # Errors
    /// [`MemoryError`] where the kernel refuses the file or the mapping.
    pub fn new(size_bytes: u64) -> Result<Self, MemoryError> {
        Self::map(&MemoryConfig::from_value(ByteSize::from_bytes(size_bytes)), &[], &Host::live())
    }

    /// How much of it counts as locked already, in bytes.
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        if self.is_locked { self.size_bytes } else { 0 }
    }

    /// Guest-physical addresses of RAM, ascending.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.regions().map(|region| region.guest_address..region.guest_address + region.size_bytes).collect()
    }

    /// The mapped RAM.
    #[must_use]
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// All RAM together, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// First guest-physical address above all RAM.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.regions().map(|region| region.guest_address + region.size_bytes).max().unwrap_or(0)
    }

    /// The contiguous pieces of RAM in ascending order: what becomes a KVM memory slot and a DMA mapping each.
    pub fn regions(&self) -> impl Iterator<Item = RamRegion> + '_ {
        self.ram.iter().map(|region| RamRegion {
            guest_address: region.start_addr().0,
            host_address: region.as_ptr() as u64,
            size_bytes: region.len(),
        })
    }

    /// Copies `data.len()` bytes at guest-physical `address` into `data`.
    ///
    /// # Errors
    /// [`AccessError`] unless the whole range is RAM; `data` may be partly written then.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let length = data.len();
        self.ram.read_slice(data, GuestAddress(address)).map_err(|source| AccessError {
            address,
            length,
            source,
        })
    }

    /// Reads `length` bytes of `file` from byte `offset` straight into RAM at guest-physical `address`.
    ///
    /// # Errors
    /// [`LoadError::Access`] unless the whole range is RAM, [`LoadError::File`] where the file ends early or cannot be
    /// read; part of the range may be written then.
    pub fn load(&self, address: u64, file: &File, offset: u64, length: u64) -> Result<(), LoadError> {
        let count = usize::try_from(length).map_err(|_| LoadError::TooLarge(length))?;
        if !self.ram.check_range(GuestAddress(address), count) {
            return Err(LoadError::Access { address, length });
        }
        let mut file = file;
        file.seek(SeekFrom::Start(offset)).map_err(LoadError::File)?;
        self.ram.read_exact_volatile_from(GuestAddress(address), &mut file, count).map_err(
            |error| match error {
                GuestMemoryError::IOError(error) => LoadError::File(error),
                GuestMemoryError::PartialBuffer { .. } => {
                    LoadError::File(io::ErrorKind::UnexpectedEof.into())
                }
                _ => LoadError::Access { address, length },
            },
        )
    }

    /// Copies `data` to guest-physical `address`.
    ///
    /// # Errors
    /// [`AccessError`] unless the whole range is RAM; part of it may be written then.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), AccessError> {
        self.ram.write_slice(data, GuestAddress(address)).map_err(|source| AccessError {
            address,
            length: data.len(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
