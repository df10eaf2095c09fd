//! A new image: there as a whole or not at all, and never in the place of something that was there before.
//!
//! Where the file system can, the image has no name until it is whole (`O_TMPFILE`, open(2)): however this process ends,
//! nothing is left behind. Elsewhere it is removed again when something fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::linkat;

use crate::spec::units::ByteSize;
use crate::spec::virtio::block::SECTOR;
use crate::vmm::virtio::devices::block::ImageFormat;

/// What a guest writes is for nobody but the owner of the image.
const MODE: u32 = 0o600;
/// Unit of `st_blocks` (stat(3type)).
const STAT_BLOCK_BYTES: u64 = 512;
/// Where the open files of this process have names (proc(5)).
const DESCRIPTORS: &str = "/proc/self/fd";

/// When an image takes space on its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// As it is written to: a write may find the file system full.
    AsWritten,
    /// All of it from the beginning.
    Reserved,
}

/// An image that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// What it takes on its file system now.
    pub allocated_bytes: u64,
    /// What its file system had free for this user before; unknown where it does not say.
    pub free_bytes: Option<u64>,
}

/// Why there is no new image. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The size is zero.
    #[error("disk image {path} would have no bytes; a disk has at least one sector of {SECTOR}")]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// The size is no multiple of a sector.
    #[error(
        "disk image {path} would have {size_bytes} bytes, which are no whole sectors of {SECTOR}; {} are",
        next_whole(*.size_bytes)
    )]
    NotWholeSectors {
        /// The image.
        path: PathBuf,
        /// The size that was asked for.
        size_bytes: u64,
    },
    /// The path ends as a directory's does.
    #[error("{path} is the name of a directory; name a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Something is there.
    #[error("{path} exists; name another file, or remove that one first")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The directory is missing, or something else has its name.
    #[error("cannot create disk image {path}: {directory} is no directory; make it first, or name another")]
    NoDirectory {
        /// The image.
        path: PathBuf,
        /// Where it should be.
        directory: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// No file may be made in the directory.
    #[error(
        "cannot create disk image {path}: nothing may be written to {directory}; name a directory where you may write"
    )]
    Denied {
        /// The image.
        path: PathBuf,
        /// Where it should be.
        directory: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// No file of the file system can have this size.
    #[error("cannot create disk image {path}: its file system has no files of {size}; ask for less")]
    TooLarge {
        /// The image.
        path: PathBuf,
        /// The size that was asked for.
        size: ByteSize,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// This process may not make a file of this size.
    #[error(
        "cannot create disk image {path}: this process may have files of {limit_bytes} bytes at most; `ulimit -f` raises that"
    )]
    Limited {
        /// The image.
        path: PathBuf,
        /// The limit (setrlimit(2), `RLIMIT_FSIZE`).
        limit_bytes: u64,
    },
    /// The file system has less room than the image is to take.
    #[error(
        "cannot create disk image {path}: no room for {size}{}; make room, ask for less, or do not reserve the space",
        free_text(*.free_bytes)
    )]
    NoRoom {
        /// The image.
        path: PathBuf,
        /// The size that was asked for.
        size: ByteSize,
        /// What the file system had free for this user, if it says so.
        free_bytes: Option<u64>,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The file system cannot reserve space.
    #[error("cannot create disk image {path}: its file system cannot reserve space; do without that")]
    CannotReserve {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Anything else that the host refused.
    #[error("cannot create disk image {path}")]
    Host {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

fn next_whole(size_bytes: u64) -> u64 {
    size_bytes.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX - u64::MAX % SECTOR)
}

fn free_text(free_bytes: Option<u64>) -> String {
    free_bytes.map(|bytes| format!(", its file system has {} free", rounded(bytes))).unwrap_or_default()
}

/// `bytes` in the largest unit of which there are ten or more, rounded down: what is said to be free is free.
#[must_use]
pub fn rounded(bytes: u64) -> ByteSize {
    let shift = [40, 30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    ByteSize::from_bytes(bytes >> shift << shift)
}

/// Makes the image at `path`, which reads as zeros and is readable for its owner only.
///
/// # Errors
/// [`CreateError`], which names the file, the cause and the remedy. Nothing is left behind then.
pub fn create(
    path: &Path,
    format: ImageFormat,
    size: ByteSize,
    space: Space,
) -> Result<Created, CreateError> {
    match format {
        ImageFormat::Raw => {}
    }
    let owned = || path.to_owned();
    let size_bytes = size.bytes();
    if size_bytes == 0 {
        return Err(CreateError::Empty { path: owned() });
    }
    if !size_bytes.is_multiple_of(SECTOR) {
        return Err(CreateError::NotWholeSectors { path: owned(), size_bytes });
    }
    if path.symlink_metadata().is_ok() {
        return Err(CreateError::Exists { path: owned() });
    }
    if path.file_name().is_none() || path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(CreateError::NotAFile { path: owned() });
    }
    let image = NewFile::start(path).map_err(|error| cannot_start(path, error))?;
    let free_bytes = free_bytes(&image.file);
    let wanted = Wanted { path, size, free_bytes };
    let created = wanted.fill(&image.file, space)?;
    image.finish(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CreateError::Exists { path: owned() },
        _ => CreateError::Host { path: owned(), source: error },
    })?;
    Ok(created)
}

fn cannot_start(path: &Path, source: io::Error) -> CreateError {
    let (path, directory) = (path.to_owned(), directory(path).to_owned());
    match source.kind() {
        ErrorKind::AlreadyExists => CreateError::Exists { path },
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            CreateError::NoDirectory { path, directory, source }
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            CreateError::Denied { path, directory, source }
        }
        _ => CreateError::Host { path, source },
    }
}

/// The directory in which `path` is.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What the file system of `file` has for this user; none where it does not know.
fn free_bytes(file: &File) -> Option<u64> {
    let system = fstatvfs(file).ok().filter(|system| system.blocks() > 0)?;
    let blocks =
        if nix::unistd::geteuid().is_root() { system.blocks_free() } else { system.blocks_available() };
    blocks.checked_mul(system.fragment_size())
}

/// What an empty file is to become.
struct Wanted<'a> {
    path: &'a Path,
    size: ByteSize,
    free_bytes: Option<u64>,
}

impl Wanted<'_> {
    fn fill(&self, file: &File, space: Space) -> Result<Created, CreateError> {
        let size_bytes = self.size.bytes();
        // Beyond this limit the kernel does not only refuse, it sends SIGXFSZ, which ends the process.
        let limit_bytes = getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft);
        if size_bytes > limit_bytes {
            return Err(CreateError::Limited { path: self.path.to_owned(), limit_bytes });
        }
        let length = i64::try_from(size_bytes).map_err(|_| self.refused(Errno::EFBIG.into()))?;
        file.set_len(size_bytes).map_err(|error| self.refused(error))?;
        if space == Space::Reserved {
            // Not even tried where it must fail: until it did, others would find the file system full.
            if self.free_bytes.is_some_and(|free| free < size_bytes) {
                return Err(self.refused(Errno::ENOSPC.into()));
            }
            reserve(file, length).map_err(|error| self.refused(error))?;
        }
        file.sync_all().map_err(|error| self.refused(error))?;
        let metadata = file.metadata().map_err(|error| self.refused(error))?;
        let allocated_bytes = metadata.blocks().saturating_mul(STAT_BLOCK_BYTES);
        Ok(Created { allocated_bytes, free_bytes: self.free_bytes })
    }

    fn refused(&self, source: io::Error) -> CreateError {
        let (path, size) = (self.path.to_owned(), self.size);
        match source.kind() {
            ErrorKind::FileTooLarge => CreateError::TooLarge { path, size, source },
            ErrorKind::StorageFull => CreateError::NoRoom { path, size, free_bytes: self.free_bytes, source },
            ErrorKind::Unsupported => CreateError::CannotReserve { path, source },
            _ => CreateError::Host { path, source },
        }
    }
}

/// Reserves the first `length_bytes` of `file` (fallocate(2), mode 0).
fn reserve(file: &File, length_bytes: i64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, length_bytes) {
            Err(Errno::EINTR) => {}
            Err(Errno::ENOSYS) => return Err(ErrorKind::Unsupported.into()),
            result => return Ok(result?),
        }
    }
}

/// A file that is not there yet for anybody else, or is removed again unless it is finished.
#[derive(Debug)]
struct NewFile {
    file: File,
    /// Where it is, if it has a name already.
    named: Option<PathBuf>,
}

impl NewFile {
    fn start(path: &Path) -> io::Result<Self> {
        // What gives a file without a name one; a process can be without /proc.
        if !Path::new(DESCRIPTORS).is_dir() {
            return Self::named(path);
        }
        match Self::unnamed(directory(path)) {
            // Of the file system, or of one of its layers; EISDIR is from kernels that do not know the flag (open(2)).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                Self::named(path)
            }
            result => result,
        }
    }

    fn unnamed(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).mode(MODE).custom_flags(libc::O_TMPFILE).open(directory)?;
        Ok(Self { file, named: None })
    }

    fn named(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        Ok(Self { file, named: Some(path.to_owned()) })
    }

    /// Lets it be at `path`.
    fn finish(mut self, path: &Path) -> io::Result<()> {
        if self.named.take().is_none() {
            // As linkat(2) has it for a file without a name; what is at `path` is never replaced.
            let file = format!("{DESCRIPTORS}/{}", self.file.as_raw_fd());
            linkat(AT_FDCWD, file.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.named {
            drop(fs::remove_file(path)); // the failure that led here is told
        }
    }
}

#[cfg(test)]
mod tests;
