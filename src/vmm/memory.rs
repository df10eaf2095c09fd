//! Guest RAM: memfd-backed regions, and the one way in which devices touch them.
//!
//! Every address that a guest hands to a device goes through [`GuestMemory`]: RAM only, never MMIO, bounds and overflow
//! checked, copied once (a device's DMA must not reach another device's registers).

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek};
use vm_memory::mmap::FromRangesError;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion,
};

use crate::vmm::layout;

/// The mapped RAM; what `virtio-queue` and the loaders work on.
pub type Ram = GuestMemoryMmap<()>;

/// Guest RAM as one or two memfd-backed regions, placed by [`layout::ram_ranges`].
#[derive(Debug, Clone)]
pub struct GuestMemory {
    ram: Arc<Ram>,
    size_bytes: u64,
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

/// Why guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel gave no memory file of this size.
    #[error("cannot make a memory file of {size_bytes} bytes for guest RAM")]
    File {
        /// Size asked for.
        size_bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The memory file could not be mapped.
    #[error("cannot map {size_bytes} bytes of guest RAM")]
    Map {
        /// Size asked for.
        size_bytes: u64,
        /// What went wrong.
        #[source]
        source: FromRangesError,
    },
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
        let file_error = |source| MemoryError::File { size_bytes, source };
        let fd = memfd_create("guest-ram", MFdFlags::MFD_CLOEXEC).map_err(|e| file_error(e.into()))?;
        let file = Arc::new(File::from(fd));
        file.set_len(size_bytes).map_err(file_error)?;
        let mut offset = 0;
        let mut ranges = Vec::new();
        for range in layout::ram_ranges(size_bytes) {
            let length = range.end - range.start;
            let length_usize = usize::try_from(length)
                .map_err(|_| file_error(io::Error::from(io::ErrorKind::OutOfMemory)))?;
            let file = FileOffset::from_arc(Arc::clone(&file), offset);
            ranges.push((GuestAddress(range.start), length_usize, Some(file)));
            offset += length;
        }
        let ram =
            Ram::from_ranges_with_files(ranges).map_err(|source| MemoryError::Map { size_bytes, source })?;
        Ok(Self { ram: Arc::new(ram), size_bytes })
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

    /// Fills all RAM with zeros; what was never touched stays untouched. Mappings and DMA pins of the RAM stay valid.
    ///
    /// # Errors
    /// What the kernel answered when asked which parts are in use.
    pub fn clear(&self) -> io::Result<()> {
        let zeros = vec![0; 1 << 16];
        for region in self.ram.iter() {
            let Some(backing) = region.file_offset() else { continue };
            let begin = i64::try_from(backing.start()).map_err(io::Error::other)?;
            let end = begin.saturating_add(i64::try_from(region.len()).map_err(io::Error::other)?);
            let mut position = begin;
            while position < end {
                let data = match lseek(backing.file(), position, Whence::SeekData) {
                    Ok(data) if data < end => data,
                    // ENXIO: nothing but holes from here on.
                    Ok(_) | Err(Errno::ENXIO) => break,
                    Err(error) => return Err(error.into()),
                };
                let hole = lseek(backing.file(), data, Whence::SeekHole)?.min(end);
                let mut address = region.start_addr().0.wrapping_add((data - begin).unsigned_abs());
                let mut left = usize::try_from(hole - data).map_err(io::Error::other)?;
                while left > 0 {
                    let chunk = zeros.get(..left).unwrap_or(&zeros);
                    self.write(address, chunk).map_err(io::Error::other)?;
                    address += chunk.len() as u64;
                    left -= chunk.len();
                }
                position = hole;
            }
        }
        Ok(())
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
mod tests {
    use super::*;

    #[test]
    fn ram_round_trips_and_the_hole_below_four_gib_is_no_ram() {
        let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x2000).unwrap();
        let mut data = [0; 4];
        memory.write(layout::HIGH_RAM, b"high").unwrap();
        memory.read(layout::HIGH_RAM, &mut data).unwrap();
        assert_eq!(&data, b"high");
        for address in
            [layout::LOW_RAM_LIMIT - 2, layout::ECAM.start, layout::HIGH_RAM + 0x1FFD, u64::MAX - 1]
        {
            assert!(memory.read(address, &mut data).is_err(), "{address:#x}");
            assert!(memory.write(address, &data).is_err(), "{address:#x}");
        }
        assert_eq!(memory.regions().map(|r| r.size_bytes).sum::<u64>(), memory.size_bytes());
        assert_eq!(memory.end(), layout::HIGH_RAM + 0x2000);
    }

    #[test]
    fn cleared_ram_reads_as_zeros_on_both_sides_of_the_hole() {
        let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x2000).unwrap();
        for address in [0x5000, layout::LOW_RAM_LIMIT - 8, layout::HIGH_RAM + 0x1FF8] {
            memory.write(address, &[0xA5; 8]).unwrap();
        }
        memory.clear().unwrap();
        let mut data = [1; 8];
        for address in [0x5000, layout::LOW_RAM_LIMIT - 8, layout::HIGH_RAM + 0x1FF8] {
            memory.read(address, &mut data).unwrap();
            assert_eq!(data, [0; 8], "{address:#x}");
        }
    }

    #[test]
    fn files_load_exactly_or_not_at_all() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"0123456789", 0).unwrap();
        memory.load(0x1000, &file, 2, 8).unwrap();
        let mut data = [0; 8];
        memory.read(0x1000, &mut data).unwrap();
        assert_eq!(&data, b"23456789");
        assert!(matches!(memory.load(0x1000, &file, 2, 9), Err(LoadError::File(_))));
        assert!(matches!(memory.load((1 << 20) - 4, &file, 0, 8), Err(LoadError::Access { .. })));
        assert!(matches!(memory.load(u64::MAX, &file, 0, 8), Err(LoadError::Access { .. })));
    }
}
