//! Guest RAM as it is after power-on: zeros where the guest left something, and nothing taken from the host for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use vm_memory::{FileOffset, GuestMemoryBackend, GuestMemoryRegion};

use super::GuestMemory;

impl GuestMemory {
    /// Fills all RAM with zeros; what was never touched stays untouched. Mappings and DMA pins of the RAM stay valid.
    ///
    /// # Errors
    /// What the kernel answered when asked which parts are in use.
    pub fn clear(&self) -> io::Result<()> {
        for region in self.ram.iter() {
            match region.file_offset().filter(|_| self.has_holes) {
                Some(backing) => self.clear_file(region.start_addr().0, region.len(), backing)?,
                None => self.clear_pages(region.start_addr().0, region.len(), region.as_ptr() as u64)?,
            }
        }
        Ok(())
    }

    /// Zeros where the file of a region has no holes.
    fn clear_file(&self, start: u64, length: u64, backing: &FileOffset) -> io::Result<()> {
        let begin = i64::try_from(backing.start()).map_err(io::Error::other)?;
        let end = begin.saturating_add(i64::try_from(length).map_err(io::Error::other)?);
        let mut position = begin;
        while position < end {
            let data = match lseek(backing.file(), position, Whence::SeekData) {
                Ok(data) if data < end => data,
                // ENXIO: nothing but holes from here on.
                Ok(_) | Err(Errno::ENXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = lseek(backing.file(), data, Whence::SeekHole)?.min(end);
            let length = (hole - data).unsigned_abs();
            self.zero(start.wrapping_add((data - begin).unsigned_abs()), length)?;
            position = hole;
        }
        Ok(())
    }

    /// Zeros in the pages of a region that are there, in memory or in swap (Linux: Documentation/admin-guide/mm/pagemap.rst).
    fn clear_pages(&self, start: u64, length: u64, host_address: u64) -> io::Result<()> {
        const PAGE: u64 = 4096;
        const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
        const BATCH: usize = 512;
        let pagemap = File::open("/proc/self/pagemap")?;
        let mut entries = [0; BATCH * 8];
        let mut page = 0;
        let pages = length / PAGE;
        while page < pages {
            let count = usize::try_from(pages - page).unwrap_or(BATCH).min(BATCH);
            let batch = entries.split_at_mut(count * 8).0;
            pagemap.read_exact_at(batch, (host_address / PAGE + page) * 8)?;
            for (number, entry) in (page..).zip(batch.chunks_exact(8)) {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
                if entry & PRESENT_OR_SWAPPED != 0 {
                    self.zero(start + number * PAGE, PAGE)?;
                }
            }
            page += count as u64;
        }
        Ok(())
    }

    fn zero(&self, mut address: u64, mut length: u64) -> io::Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while length > 0 {
            let chunk = usize::try_from(length).ok().and_then(|length| ZEROS.get(..length)).unwrap_or(&ZEROS);
            self.write(address, chunk).map_err(io::Error::other)?;
            address += chunk.len() as u64;
            length -= chunk.len() as u64;
        }
        Ok(())
    }
}
