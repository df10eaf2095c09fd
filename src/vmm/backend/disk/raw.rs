//! Raw images: byte n of the disk is byte n of a file or block device.
//!
//! The image is locked as a whole while it is open, so that two machines (or QEMU and we) cannot write it at the same time.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};
use vm_memory::VolatileSlice;

use crate::spec::virtio::block::SECTOR;
use crate::sys::lock::{LockKind, holder, try_lock};
use crate::sys::scatter;
use crate::vmm::backend::disk::{Access, Disk, DiskError, ZeroedSpace};

/// Zeros that are written where the host cannot zero by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// An open raw image.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    access: Access,
    capacity_bytes: u64,
    /// A flush failed: the host may have dropped data, so no later flush may succeed.
    lost_writes: AtomicBool,
}

impl RawDisk {
    /// Opens and locks `path`.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        let owned = || path.to_owned();
        let open_error = |source| DiskError::Open { path: owned(), source };
        let kind = std::fs::metadata(path).map_err(open_error)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::NotADisk { path: owned() });
        }
        let mut options = OpenOptions::new();
        // O_EXCL on a block device: not while it is mounted or part of a volume (open(2))
        let exclusive = if kind.is_block_device() { libc::O_EXCL } else { 0 };
        options.read(true).write(access == Access::ReadWrite).custom_flags(libc::O_NONBLOCK | exclusive);
        let mut file = options.open(path).map_err(|source| match source.kind() {
            ErrorKind::ResourceBusy => DiskError::InUse { path: owned(), holder: None },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                if access == Access::ReadWrite && File::open(path).is_ok() =>
            {
                DiskError::ReadOnly { path: owned(), source }
            }
            _ => open_error(source),
        })?;
        let opened = file.metadata().map_err(open_error)?.file_type();
        if !opened.is_file() && !opened.is_block_device() {
            return Err(DiskError::NotADisk { path: owned() });
        }
        let lock = if access == Access::ReadWrite { LockKind::Exclusive } else { LockKind::Shared };
        match try_lock(&file, lock) {
            Ok(true) => {}
            Ok(false) => return Err(DiskError::InUse { path: owned(), holder: holder(&file) }),
            Err(source) => return Err(DiskError::Lock { path: owned(), source }),
        }
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(open_error)?;
        if size_bytes < SECTOR {
            return Err(DiskError::TooSmall { path: owned(), size_bytes });
        }
        let capacity_bytes = size_bytes - size_bytes % SECTOR;
        if capacity_bytes != size_bytes {
            tracing::warn!(
                path = %path.display(),
                size_bytes,
                "the image is no multiple of 512 bytes; the guest does not see what is behind the last whole sector"
            );
        }
        Ok(Self { file, access, capacity_bytes, lost_writes: AtomicBool::new(false) })
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        let narrow = |value: u64| i64::try_from(value).map_err(|_| io::Error::from(ErrorKind::InvalidInput));
        fallocate(&self.file, flags, narrow(offset)?, narrow(length)?)?;
        Ok(())
    }

    fn write_zero_bytes(&self, mut offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length);
        while offset < end {
            let part = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_all_at(ZEROS.get(..part).unwrap_or(&ZEROS), offset)?;
            offset += part as u64;
        }
        Ok(())
    }
}

/// Whether the host said that it has no such operation, rather than that it failed.
fn not_offered(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::ENOSYS))
}

/// Repeats `step`, which moves some bytes at an offset and returns how many, until all of `pieces` moved.
fn all(
    pieces: &[VolatileSlice<'_>],
    mut offset: u64,
    at_end: ErrorKind,
    step: impl Fn(&[VolatileSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut rest = pieces.to_vec();
    rest.retain(|piece| !piece.is_empty());
    while !rest.is_empty() {
        let mut moved = step(&rest, offset)?;
        if moved == 0 {
            return Err(io::Error::from(at_end));
        }
        offset += moved as u64;
        let whole = rest.iter().take_while(|piece| {
            let inside = piece.len() <= moved;
            if inside {
                moved -= piece.len();
            }
            inside
        });
        let whole = whole.count();
        rest.drain(..whole);
        if let Some(first) = rest.first_mut()
            && moved > 0
        {
            *first = first.offset(moved).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

impl Disk for RawDisk {
    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn read(&self, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        all(pieces, offset, ErrorKind::UnexpectedEof, |rest, at| scatter::read_at(&self.file, rest, at))
    }

    fn write(&self, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        all(pieces, offset, ErrorKind::WriteZero, |rest, at| scatter::write_at(&self.file, rest, at))
    }

    fn flush(&self) -> io::Result<()> {
        if self.lost_writes.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier flush of this image failed"));
        }
        self.file.sync_data().inspect_err(|_| self.lost_writes.store(true, Ordering::Release))
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match self.fallocate(flags, offset, length) {
            Err(error) if not_offered(&error) => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64, space: ZeroedSpace) -> io::Result<()> {
        let how = match space {
            ZeroedSpace::MayFree => FallocateFlags::FALLOC_FL_PUNCH_HOLE,
            ZeroedSpace::Keep => FallocateFlags::FALLOC_FL_ZERO_RANGE,
        };
        match self.fallocate(how | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length) {
            Err(error) if not_offered(&error) => self.write_zero_bytes(offset, length),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image(bytes: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0x5A; bytes]).unwrap();
        file
    }

    fn read(disk: &RawDisk, offset: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        disk.read(&[VolatileSlice::from(&mut data[..])], offset).unwrap();
        data
    }

    #[test]
    fn scattered_writes_come_back() {
        let image = image(2048);
        let disk = RawDisk::open(image.path(), Access::ReadWrite).unwrap();
        let (mut first, mut empty, mut second) = ([1; 100], [0; 0], [2; 412]);
        let pieces = [&mut first[..], &mut empty[..], &mut second[..]].map(VolatileSlice::from);
        disk.write(&pieces, 512).unwrap();
        disk.flush().unwrap();
        assert_eq!(read(&disk, 611, 2), [1, 2]);
        assert_eq!(read(&disk, 1023, 2), [2, 0x5A]);
    }

    #[test]
    fn partial_transfers_are_continued_where_they_stopped() {
        let mut data = *b"0123456789";
        let (front, back) = data.split_at_mut(4);
        let pieces = [VolatileSlice::from(front), VolatileSlice::from(back)];
        let seen = std::sync::Mutex::new(Vec::new());
        all(&pieces, 100, ErrorKind::WriteZero, |rest, at| {
            let bytes: Vec<u8> =
                rest.iter().flat_map(|piece| (0..piece.len()).map(|i| piece_byte(piece, i))).collect();
            let moved = bytes.len().min(3);
            seen.lock().unwrap().push((at, bytes[..moved].to_vec()));
            Ok(moved)
        })
        .unwrap();
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [100, 103, 106, 109]);
        assert_eq!(seen.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), b"0123456789");
    }

    fn piece_byte(piece: &VolatileSlice<'_>, index: usize) -> u8 {
        let mut byte = [0];
        piece.offset(index).unwrap().copy_to(&mut byte);
        byte[0]
    }

    #[test]
    fn zeroing_and_discarding_leave_the_neighbours_alone() {
        let image = image(8192);
        let disk = RawDisk::open(image.path(), Access::ReadWrite).unwrap();
        disk.write_zeroes(512, 512, ZeroedSpace::Keep).unwrap();
        disk.write_zeroes(2048, 512, ZeroedSpace::MayFree).unwrap();
        disk.discard(4096, 4096).unwrap();
        disk.write_zero_bytes(3000, 100).unwrap();
        let all = read(&disk, 0, 4096);
        assert!(all[512..1024].iter().chain(&all[2048..2560]).chain(&all[3000..3100]).all(|b| *b == 0));
        assert!([511, 1024, 2047, 2560, 2999, 3100].iter().all(|i| all[*i] == 0x5A));
        assert_eq!(image.as_file().metadata().unwrap().len(), 8192);
    }

    #[test]
    fn a_truncated_image_is_an_error_not_zeros() {
        let image = image(2048);
        let disk = RawDisk::open(image.path(), Access::ReadWrite).unwrap();
        image.as_file().set_len(512).unwrap();
        let mut data = [0; 1024];
        let error = disk.read(&[VolatileSlice::from(&mut data[..])], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn sizes_that_are_no_sectors() {
        let short = image(511);
        let error = RawDisk::open(short.path(), Access::ReadOnly).unwrap_err();
        assert!(
            error.to_string().contains("has 511 bytes; a disk has at least one sector of 512"),
            "{error}"
        );
        let odd = image(1025);
        assert_eq!(RawDisk::open(odd.path(), Access::ReadOnly).unwrap().capacity_bytes(), 1024);
    }

    #[test]
    fn an_image_in_use_names_file_and_holder() {
        let image = image(512);
        let writer = RawDisk::open(image.path(), Access::ReadWrite).unwrap();
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let error = RawDisk::open(image.path(), access).unwrap_err().to_string();
            let process = format!("in use by process {}", std::process::id());
            assert!(error.contains(&process) && error.contains(image.path().to_str().unwrap()), "{error}");
        }
        drop(writer);
    }

    #[test]
    fn an_image_has_many_readers_and_no_writer_beside_them() {
        let image = image(512);
        let reader = RawDisk::open(image.path(), Access::ReadOnly).unwrap();
        assert!(RawDisk::open(image.path(), Access::ReadOnly).is_ok());
        assert!(RawDisk::open(image.path(), Access::ReadWrite).is_err());
        assert!(reader.is_read_only());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(RawDisk::open(directory.path(), Access::ReadOnly), Err(DiskError::NotADisk { .. })));
        let null = Path::new("/dev/null");
        assert!(matches!(RawDisk::open(null, Access::ReadWrite), Err(DiskError::NotADisk { .. })));
        let missing = directory.path().join("none");
        assert!(matches!(RawDisk::open(&missing, Access::ReadOnly), Err(DiskError::Open { .. })));
    }

    #[test]
    fn a_failed_flush_fails_for_ever() {
        let image = image(512);
        let disk = RawDisk::open(image.path(), Access::ReadWrite).unwrap();
        disk.lost_writes.store(true, Ordering::Release);
        assert!(disk.flush().is_err());
        assert!(disk.flush().is_err());
    }
}
