//! A directory that only its owner can change, and files in it that nobody else can swap.
//!
//! The journal is written as root below a directory that other programs know the name of. So the directory is opened once,
//! checked, and every file is opened relative to that descriptor without following links, created with `O_EXCL`, and
//! checked to be a regular file with one name (openat(2)). A swapped directory, symbolic link, hard link or FIFO is an
//! error and never written to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, FallocateFlags, OFlag, fallocate, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Why a private directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// A system call failed.
    #[error("{path}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else could have put things there.
    #[error("{path} {reason}; remove it and try again")]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl PrivateDirError {
    /// The kernel's answer, if a system call failed.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::Unsafe { .. } => None,
        }
    }
}

/// An open directory of mode 0700 that belongs to this user.
#[derive(Debug)]
pub struct PrivateDir {
    fd: OwnedFd,
    path: PathBuf,
}

const FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

impl PrivateDir {
    /// Opens the directory at `path`, and makes it if there is none (its parent must exist).
    ///
    /// # Errors
    /// [`PrivateDirError`].
    pub fn open_or_create(path: &Path) -> Result<Self, PrivateDirError> {
        match mkdirat(AT_FDCWD, path, Mode::S_IRWXU) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Self::open(path),
            Err(error) => Err(io_error(path, error)),
        }
    }

    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`PrivateDirError`]; its kind is `NotFound` if there is none.
    pub fn open(path: &Path) -> Result<Self, PrivateDirError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|error| match error {
            nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR => unsafe_path(path, "is not a directory"),
            other => io_error(path, other),
        })?;
        let stat = fstat(&fd).map_err(|error| io_error(path, error))?;
        if stat.st_uid != nix::unistd::geteuid().as_raw() {
            return Err(unsafe_path(path, "belongs to another user"));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(unsafe_path(path, "can be written by others"));
        }
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// [`PrivateDirError::Io`].
    pub fn names(&self) -> Result<Vec<String>, PrivateDirError> {
        let failed = |error| io_error(&self.path, error);
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?.iter() {
            names.extend(entry.map_err(failed)?.file_name().to_str().ok().map(str::to_owned));
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// Makes the file `name`, which must not exist, for appending, and reserves `reserve_bytes` on its file system.
    ///
    /// # Errors
    /// [`PrivateDirError::Io`]; `AlreadyExists`, `StorageFull`.
    pub fn create(&self, name: &str, reserve_bytes: u32) -> Result<File, PrivateDirError> {
        let path = self.path.join(name);
        let flags = OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_NOFOLLOW
            | OFlag::O_WRONLY
            | OFlag::O_APPEND
            | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name, flags, FILE_MODE).map_err(|error| io_error(&path, error))?;
        match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, i64::from(reserve_bytes)) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => {}
            Err(error) => {
                let _ = self.remove(name);
                return Err(io_error(&path, error));
            }
        }
        File::from(file).sync_all().map_err(|source| PrivateDirError::Io { path: path.clone(), source })?;
        self.sync()?;
        self.append(name)
    }

    /// Removes the file `name`; one that is gone is fine.
    ///
    /// # Errors
    /// [`PrivateDirError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), PrivateDirError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
            Err(error) => Err(io_error(&self.path.join(name), error)),
        }
    }

    /// Opens the existing file `name` for reading and appending.
    ///
    /// # Errors
    /// [`PrivateDirError`].
    pub fn append(&self, name: &str) -> Result<File, PrivateDirError> {
        self.regular(name, OFlag::O_RDWR | OFlag::O_APPEND)
    }

    /// Opens the existing file `name` for reading.
    ///
    /// # Errors
    /// [`PrivateDirError`].
    pub fn read(&self, name: &str) -> Result<File, PrivateDirError> {
        self.regular(name, OFlag::O_RDONLY)
    }

    /// Opens the file `name` for reading and writing, and makes it if there is none.
    ///
    /// # Errors
    /// [`PrivateDirError`].
    pub fn open_file(&self, name: &str) -> Result<File, PrivateDirError> {
        self.regular(name, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    /// O_NONBLOCK: opening a FIFO must not block.
    fn regular(&self, name: &str, flags: OFlag) -> Result<File, PrivateDirError> {
        let path = self.path.join(name);
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, FILE_MODE).map_err(|error| match error {
            nix::errno::Errno::ELOOP => unsafe_path(&path, "is a symbolic link"),
            nix::errno::Errno::ENXIO | nix::errno::Errno::EISDIR => unsafe_path(&path, "is not a file"),
            other => io_error(&path, other),
        })?;
        let stat = fstat(&fd).map_err(|error| io_error(&path, error))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(unsafe_path(&path, "is not a file"));
        }
        if stat.st_nlink != 1 {
            return Err(unsafe_path(&path, "has a second name (a hard link)"));
        }
        if stat.st_uid != nix::unistd::geteuid().as_raw() {
            return Err(unsafe_path(&path, "belongs to another user"));
        }
        Ok(File::from(fd))
    }

    /// Makes names that were made in it durable.
    fn sync(&self) -> Result<(), PrivateDirError> {
        nix::unistd::fsync(self.fd.as_fd()).map_err(|error| io_error(&self.path, error))
    }

    /// Whether the directory at its path is still this one.
    ///
    /// # Errors
    /// [`PrivateDirError`].
    pub fn check_still_there(&self) -> Result<(), PrivateDirError> {
        let ours = fstat(&self.fd).map_err(|error| io_error(&self.path, error))?;
        let there = std::fs::symlink_metadata(&self.path)
            .map_err(|source| PrivateDirError::Io { path: self.path.clone(), source })?;
        if (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino) {
            Ok(())
        } else {
            Err(unsafe_path(&self.path, "was replaced while it was in use"))
        }
    }
}

fn io_error(path: &Path, error: nix::errno::Errno) -> PrivateDirError {
    PrivateDirError::Io { path: path.to_owned(), source: error.into() }
}

fn unsafe_path(path: &Path, reason: &'static str) -> PrivateDirError {
    PrivateDirError::Unsafe { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn directory() -> (tempfile::TempDir, PrivateDir) {
        let parent = tempfile::tempdir().unwrap();
        let directory = PrivateDir::open_or_create(&parent.path().join("run")).unwrap();
        (parent, directory)
    }

    #[test]
    fn directory_is_made_for_the_owner_alone() {
        let (_parent, directory) = directory();

        assert_eq!(std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn linked_foreign_and_shared_directories_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link, shared) =
            (parent.path().join("real"), parent.path().join("link"), parent.path().join("shared"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();

        for path in [&link, &shared] {
            let error = PrivateDir::open_or_create(path).unwrap_err();
            assert!(matches!(error, PrivateDirError::Unsafe { .. }), "{error}");
        }
    }

    #[test]
    fn links_fifos_and_directories_in_place_of_files_are_refused() {
        let (parent, directory) = directory();
        let victim = parent.path().join("victim");
        std::fs::write(&victim, "old").unwrap();
        symlink(&victim, directory.path().join("symbolic")).unwrap();
        std::fs::hard_link(&victim, directory.path().join("hard")).unwrap();
        nix::unistd::mkfifo(&directory.path().join("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();

        for name in ["symbolic", "hard", "fifo", "directory"] {
            let open = directory.open_file(name).unwrap_err();
            let append = directory.append(name).unwrap_err();
            let create = directory.create(name, 16).unwrap_err();
            assert!(matches!(open, PrivateDirError::Unsafe { .. }), "{name}: {open:?}");
            assert!(matches!(append, PrivateDirError::Unsafe { .. }), "{name}: {append:?}");
            assert_eq!(create.io_kind(), Some(io::ErrorKind::AlreadyExists), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "old");
    }

    #[test]
    fn appended_bytes_are_read_back_and_names_are_listed() {
        let (_parent, directory) = directory();
        directory.create("b", 4096).unwrap().write_all(b"one").unwrap();
        directory.append("b").unwrap().write_all(b"two").unwrap();
        let mut text = String::new();

        directory.read("b").unwrap().read_to_string(&mut text).unwrap();

        assert_eq!(text, "onetwo");
        assert_eq!(directory.names().unwrap(), ["b"]);
    }

    #[test]
    fn replaced_directory_is_noticed() {
        let (parent, directory) = directory();
        directory.check_still_there().unwrap();
        std::fs::rename(directory.path(), parent.path().join("away")).unwrap();
        std::fs::create_dir(directory.path()).unwrap();

        let error = directory.check_still_there().unwrap_err();

        assert!(matches!(error, PrivateDirError::Unsafe { .. }), "{error}");
    }
}
