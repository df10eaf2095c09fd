//! What the kernel can be told of memory that is mapped already: have it now, keep it, merge it, take it from a node.
//!
//! All functions take ranges of this process's addresses; none changes what stands in the memory, and a range that is not
//! mapped is an error.
#![expect(unsafe_code, reason = "madvise(2), mlock(2), mbind(2)")]

use std::ffi::c_void;
use std::io;

/// Policy of mbind(2): from these nodes or not at all (Linux: include/uapi/linux/mempolicy.h).
const MPOL_BIND: usize = 2;
/// Bits of a node mask that is handed over.
const NODES: usize = 1024;

fn pointer(address: u64) -> io::Result<*mut c_void> {
    let address = usize::try_from(address).map_err(io::Error::other)?;
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

fn answered(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn advise(address: u64, bytes: u64, advice: i32) -> io::Result<()> {
    let (address, length) = (pointer(address)?, length(bytes)?);
    // SAFETY: the callers' advices change no content and unmap nothing; what is not mapped is answered with ENOMEM.
    answered(unsafe { libc::madvise(address, length, advice) })
}

/// Gets all pages of the range from the host, writable.
///
/// # Errors
/// `ENOMEM` or `EFAULT` where the host has no more, `EINVAL` where the kernel (before 5.14) cannot do this.
pub fn populate(address: u64, bytes: u64) -> io::Result<()> {
    loop {
        match advise(address, bytes, libc::MADV_POPULATE_WRITE) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Lets the kernel merge pages of the range with equal ones (KSM).
///
/// # Errors
/// `EINVAL` where the kernel has no KSM.
pub fn merge(address: u64, bytes: u64) -> io::Result<()> {
    advise(address, bytes, libc::MADV_MERGEABLE)
}

/// Asks for transparent huge pages behind the range, where the host leaves that to its programs
/// (Linux: Documentation/admin-guide/mm/transhuge.rst).
///
/// # Errors
/// `EINVAL` where the kernel has none.
pub fn prefer_huge_pages(address: u64, bytes: u64) -> io::Result<()> {
    advise(address, bytes, libc::MADV_HUGEPAGE)
}

/// Keeps the range in memory until it is unmapped.
///
/// # Errors
/// `ENOMEM` or `EPERM` where `RLIMIT_MEMLOCK` is too low.
pub fn lock(address: u64, bytes: u64) -> io::Result<()> {
    let (address, length) = (pointer(address)?, length(bytes)?);
    // SAFETY: locking changes no content; what is not mapped is answered with ENOMEM.
    answered(unsafe { libc::mlock(address, length) })
}

/// Takes pages of the range from `node` only, as far as they are not there yet.
///
/// # Errors
/// `EINVAL` where there is no such node with memory, or it is not allowed to this process.
pub fn bind(address: u64, bytes: u64, node: u32) -> io::Result<()> {
    let (address, length) = (pointer(address)?, length(bytes)?);
    let node = usize::try_from(node).map_err(io::Error::other)?;
    const WORD: usize = u64::BITS as usize;
    let mut mask = [0u64; NODES / WORD];
    let word = mask.get_mut(node / WORD).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    *word |= 1 << (node % WORD);
    // The kernel looks at one bit less than it is told.
    let (bits, flags) = (NODES + 1, 0usize);
    // SAFETY: the mask is valid during the call and has as many bits as the kernel looks at; a policy changes no content.
    let result =
        unsafe { libc::syscall(libc::SYS_mbind, address, length, MPOL_BIND, mask.as_ptr(), bits, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(bytes: usize) -> (tempfile::NamedTempFile, crate::sys::mmap::Mapping) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes as u64).unwrap();
        let mapping = crate::sys::mmap::Mapping::new(file.as_file(), 0, bytes, true).unwrap();
        (file, mapping)
    }

    #[test]
    fn mapped_memory_is_populated_and_unmapped_memory_is_an_error() {
        let (_file, mapping) = mapped(1 << 20);
        populate(mapping.address(), 1 << 20).unwrap();
        assert!(populate(0x1000, 0x1000).is_err());
        assert!(lock(0x1000, 0x1000).is_err());
    }

    #[test]
    fn a_node_that_is_not_there_is_refused() {
        let (_file, mapping) = mapped(1 << 20);
        assert!(bind(mapping.address(), 1 << 20, 1000).is_err());
        assert!(bind(mapping.address(), 1 << 20, 5000).is_err());
    }
}
