//! Reads and writes between a descriptor and scattered guest memory, without a copy in between.
#![expect(unsafe_code, reason = "readv(2), writev(2), preadv(2) and pwritev(2) on memory that is not Rust's")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Most pieces that the kernel takes in one call (UIO_MAXIOV, Linux: include/uapi/linux/uio.h).
pub const MAX_PIECES: usize = 1024;

/// Which way the bytes go, and from which offset where the file has positions.
#[derive(Debug, Clone, Copy)]
enum Transfer {
    Read(Option<libc::off_t>),
    Write(Option<libc::off_t>),
}

fn transfer(fd: BorrowedFd<'_>, pieces: &[VolatileSlice<'_>], how: Transfer) -> io::Result<usize> {
    let guards: Vec<_> = pieces.iter().take(MAX_PIECES).map(VolatileSlice::ptr_guard_mut).collect();
    let vectors: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count =
        libc::c_int::try_from(vectors.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (fd, vectors) = (fd.as_raw_fd(), vectors.as_ptr());
    loop {
        let moved = match how {
            // SAFETY: the vectors describe memory that the slices keep mapped during the call; the guest may write it at
            // the same time, which the kernel and VolatileSlice allow for.
            Transfer::Read(None) => unsafe { libc::readv(fd, vectors, count) },
            // SAFETY: as above.
            Transfer::Read(Some(offset)) => unsafe { libc::preadv(fd, vectors, count, offset) },
            // SAFETY: as above; the kernel only reads the memory.
            Transfer::Write(None) => unsafe { libc::writev(fd, vectors, count) },
            // SAFETY: as above; the kernel only reads the memory.
            Transfer::Write(Some(offset)) => unsafe { libc::pwritev(fd, vectors, count, offset) },
        };
        match usize::try_from(moved) {
            Ok(moved) => return Ok(moved),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn position(offset: u64) -> io::Result<Option<libc::off_t>> {
    libc::off_t::try_from(offset).map(Some).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Reads once into the first [`MAX_PIECES`] of `pieces` and returns the number of bytes.
///
/// # Errors
/// What readv(2) answered; interrupted calls are repeated.
pub fn read(fd: impl AsFd, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    transfer(fd.as_fd(), pieces, Transfer::Read(None))
}

/// Writes the first [`MAX_PIECES`] of `pieces` once and returns the number of bytes.
///
/// # Errors
/// What writev(2) answered; interrupted calls are repeated.
pub fn write(fd: impl AsFd, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    transfer(fd.as_fd(), pieces, Transfer::Write(None))
}

/// Reads once from byte `offset` of the file.
///
/// # Errors
/// What preadv(2) answered; interrupted calls are repeated.
pub fn read_at(fd: impl AsFd, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    transfer(fd.as_fd(), pieces, Transfer::Read(position(offset)?))
}

/// Writes once to byte `offset` of the file.
///
/// # Errors
/// What pwritev(2) answered; interrupted calls are repeated.
pub fn write_at(fd: impl AsFd, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    transfer(fd.as_fd(), pieces, Transfer::Write(position(offset)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_bytes_round_trip_through_a_file() {
        let file = tempfile::tempfile().unwrap();
        let (mut first, mut second) = (*b"abc", *b"defgh");
        let pieces = [VolatileSlice::from(&mut first[..]), VolatileSlice::from(&mut second[..])];
        assert_eq!(write_at(&file, &pieces, 4).unwrap(), 8);
        let (mut one, mut rest) = ([0; 1], [0; 9]);
        let pieces = [VolatileSlice::from(&mut one[..]), VolatileSlice::from(&mut rest[..])];
        assert_eq!(read_at(&file, &pieces, 5).unwrap(), 7);
        assert_eq!((&one, &rest), (b"b", b"cdefgh\0\0\0"));
    }

    #[test]
    fn offsets_beyond_the_file_type_are_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(read_at(&file, &[], u64::MAX).is_err());
    }
}
