//! The files that guest RAM lies in: nameless ones, of ordinary or of huge pages, or one that the user names.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use super::MemoryError;
use super::config::HugePages;
use crate::spec::units::ByteSize;

/// A nameless file of `size_bytes`, in pages of this size.
pub(super) fn nameless(size_bytes: u64, pages: HugePages) -> Result<File, MemoryError> {
    let kind = match pages {
        HugePages::None => MFdFlags::empty(),
        HugePages::Size2MiB => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB,
        HugePages::Size1GiB => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_1GB,
    };
    let error = |source| MemoryError::File { size_bytes, source };
    let fd = memfd_create("guest-ram", MFdFlags::MFD_CLOEXEC | kind).map_err(|errno| match pages {
        HugePages::None => error(errno.into()),
        // EINVAL without hugetlbfs, ENODEV or ENOENT without pages of this size.
        _ => MemoryError::NoHugePages { page: ByteSize::from_bytes(pages.bytes()), source: errno.into() },
    })?;
    let file = File::from(fd);
    file.set_len(size_bytes).map_err(error)?;
    Ok(file)
}

/// A file with a name, made.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) guard: NamedFile,
    pub(super) file: File,
    /// Bytes of its pages.
    pub(super) page_bytes: u64,
}

/// A file with a name, which goes when this value does.
#[derive(Debug)]
pub(super) struct NamedFile {
    path: PathBuf,
    /// Whether it was made here, or found empty.
    is_ours: bool,
}

impl NamedFile {
    /// Makes the file at `path` with `size_bytes`, or takes an empty one. Its file system must have room: a page that is missing
    /// later would end the process.
    pub(super) fn make(path: &Path, size_bytes: u64) -> Result<Named, MemoryError> {
        let error = |source| MemoryError::NamedFile { path: path.to_owned(), source };
        let open = |is_new: bool| OpenOptions::new().read(true).write(true).create_new(is_new).open(path);
        let (file, is_ours) = match open(true) {
            Ok(file) => (file, true),
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => {
                (open(false).map_err(error)?, false)
            }
            Err(other) => return Err(error(other)),
        };
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() || metadata.len() > 0 {
            return Err(MemoryError::FileInUse { path: path.to_owned() });
        }
        let named = Self { path: path.to_owned(), is_ours };
        let system = fstatfs(&file).map_err(|errno| error(errno.into()))?;
        let block_bytes = u64::try_from(system.block_size()).unwrap_or(4096);
        let is_huge = system.filesystem_type() == HUGETLBFS_MAGIC;
        let size = ByteSize::from_bytes(size_bytes);
        if is_huge && !size_bytes.is_multiple_of(block_bytes) {
            let page = ByteSize::from_bytes(block_bytes);
            return Err(MemoryError::FileGrain { path: path.to_owned(), page, size });
        }
        let room_bytes = system.blocks_available().saturating_mul(block_bytes);
        if !is_huge && room_bytes < size_bytes {
            let available = ByteSize::from_bytes(room_bytes >> 20 << 20);
            return Err(MemoryError::FileRoom { path: path.to_owned(), needed: size, available });
        }
        file.set_len(size_bytes).map_err(error)?;
        Ok(Named {
            guard: named,
            file,
            page_bytes: if is_huge { block_bytes } else { HugePages::None.bytes() },
        })
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        let outcome = if self.is_ours {
            fs::remove_file(&self.path)
        } else {
            OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(0))
        };
        if let Err(error) = outcome {
            tracing::warn!(path = %self.path.display(), %error, "the file of guest RAM stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_comes_and_goes_and_one_with_content_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ram");
        let named = NamedFile::make(&path, 1 << 20).unwrap();
        assert_eq!((named.file.metadata().unwrap().len(), named.page_bytes), (1 << 20, 4096));
        let second = NamedFile::make(&path, 1 << 20);
        assert!(matches!(second, Err(MemoryError::FileInUse { .. })));
        drop(named);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        drop(NamedFile::make(&path, 4096).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "it was there before");
        assert!(matches!(NamedFile::make(directory.path(), 4096), Err(MemoryError::NamedFile { .. })));
        let error = NamedFile::make(&path, 1 << 60).unwrap_err();
        assert!(matches!(error, MemoryError::FileRoom { .. }), "{error}");
        assert!(error.to_string().contains("is on a file system with "), "{error}");
    }
}
