//! Shared memory mappings, and the mappings of this program itself.
#![expect(unsafe_code, reason = "mmap(2), munmap(2) and madvise(2)")]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// A shared mapping of a file or device region, unmapped when dropped.
///
/// The memory may change at any time (a device or a guest writes it), so it is handed out as an address for KVM and
/// VFIO only, never as a slice.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping is a range of addresses; it has no thread affinity.
unsafe impl Send for Mapping {}
// SAFETY: no method gives access to the memory behind the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file` from byte `offset`, readable and, if `writable`, writable. Both must be
    /// page-aligned.
    ///
    /// # Errors
    /// What mmap(2) answered; `EINVAL` for a zero length.
    pub fn new(file: impl AsFd, offset: u64, length: usize, writable: bool) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let size = NonZeroUsize::new(length).ok_or_else(invalid)?;
        let offset = i64::try_from(offset).map_err(|_| invalid())?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        // SAFETY: no fixed address is asked for, so no existing mapping is replaced.
        let address = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, file, offset) }?;
        Ok(Self { address, length })
    }

    /// Host virtual address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address.as_ptr() as u64
    }

    /// The first byte, for the rest of this room.
    pub(super) fn pointer(&self) -> NonNull<c_void> {
        self.address
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the mapping is empty; it never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and nobody holds a reference into it.
        if let Err(error) = unsafe { munmap(self.address, self.length) } {
            tracing::error!(%error, "munmap");
        }
    }
}

/// Gives back what start-up touched of this program's code and constants, and of its libraries', and what it freed. What is
/// needed again comes from the page cache; what a machine monitor needs while a guest runs is a small part of it. The bytes of
/// code and constants considered.
///
/// # Errors
/// /proc is not readable. Nothing depends on the success of this function.
pub fn release_startup_memory() -> io::Result<u64> {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives back only pages that the allocator holds and nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for range in maps.lines().filter_map(code_or_constants) {
        let length = range.end - range.start;
        let address = NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(range.start));
        if let Some(address) = address {
            // SAFETY: the pages are file-backed, and no segment of this kind was ever writable, so that none of them differs
            // from its file: dropping them changes nothing that the program can see.
            unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) }?;
            bytes += length as u64;
        }
    }
    Ok(bytes)
}

/// The addresses of a line of /proc/self/maps, if it is a file's code, or the constants in front of it: segments that are
/// never writable, not even for relocation (System V ABI, chapter 5: those lie in a segment of their own).
fn code_or_constants(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset, _, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_first = offset.bytes().all(|digit| digit == b'0');
    let wanted = permissions == "r-xp" || (permissions == "r--p" && is_first);
    let number = |text| usize::from_str_radix(text, 16).ok();
    (wanted && inode != "0").then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_the_first_constants_of_files_are_given_back() {
        let range = |line| code_or_constants(line).map(|range| (range.start, range.end));
        assert_eq!(range("1000-2000 r--p 00000000 08:01 42 /bin/x"), Some((0x1000, 0x2000)));
        assert_eq!(range("2000-3000 r-xp 00001000 08:01 42 /bin/x y (deleted)"), Some((0x2000, 0x3000)));
        for line in [
            "3000-4000 r--p 00002000 08:01 42 /bin/x",
            "4000-5000 rw-p 00003000 08:01 42 /bin/x",
            "5000-6000 r-xp 00000000 00:00 0 [vdso]",
            "6000-7000 rw-s 00000000 00:01 7 /memfd:guest-ram (deleted)",
            "garbage",
            "",
        ] {
            assert_eq!(range(line), None, "{line}");
        }
    }

    #[test]
    fn a_program_goes_on_after_its_pages_were_given_back() {
        assert!(release_startup_memory().unwrap() > 0);
        assert_eq!(["4", "2"].concat(), "42");
    }
}
