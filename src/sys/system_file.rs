//! Files of the system's configuration, read and replaced so that nobody can make root write elsewhere.
//!
//! Every directory on the way is opened by its descriptor without following links and must belong to root or to this user
//! and be closed to others; a file must be a regular one with one name, or a symbolic link that is itself what is meant.
//! A file is replaced as a whole: written beside its place, made durable, renamed over it, and the directory made
//! durable (rename(2), fsync(2)). After a crash there is the old file or the new one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};
use serde::{Deserialize, Serialize};

/// No file of a system's configuration that is edited comes near this size.
pub const MOST_BYTES: u64 = 1 << 20;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SystemFile {
    /// A regular file.
    Text {
        /// All of it.
        text: String,
        /// Permission bits.
        mode: u32,
        /// User ID of its owner.
        uid: u32,
        /// Group ID.
        gid: u32,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
    },
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SystemFileError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Writing there could be turned against root.
    #[error("{path} {reason}; put that right and try again")]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn unsafe_path(path: &Path, reason: &'static str) -> SystemFileError {
    SystemFileError::Unsafe { path: path.to_owned(), reason }
}

fn failed(error: Errno) -> SystemFileError {
    SystemFileError::Io(error.into())
}

/// The directory tree in which the system's files are: `/`, or another one in tests.
#[derive(Debug, Clone)]
pub struct SystemTree {
    root: PathBuf,
}

impl SystemTree {
    /// The tree at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What is at the absolute `path`; none if there is nothing.
    ///
    /// # Errors
    /// [`SystemFileError`].
    pub fn read(&self, path: &str) -> Result<Option<SystemFile>, SystemFileError> {
        let Some((directory, name)) = self.parent(path, false)? else { return Ok(None) };
        let Some(stat) = look(&directory, name)? else { return Ok(None) };
        let whole = Path::new(path);
        match kind(&stat) {
            SFlag::S_IFLNK => {
                let target = readlinkat(&directory, name).map_err(failed)?;
                let target =
                    target.into_string().map_err(|_| unsafe_path(whole, "is a link that is not text"))?;
                Ok(Some(SystemFile::Link { target }))
            }
            SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = File::from(openat(&directory, name, flags, Mode::empty()).map_err(failed)?);
                let stat = fstat(&file).map_err(failed)?;
                check_regular(&stat, whole)?;
                let mut bytes = Vec::new();
                file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
                if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
                    return Err(unsafe_path(whole, "is larger than any file of a configuration"));
                }
                let text = String::from_utf8(bytes).map_err(|_| unsafe_path(whole, "is not text"))?;
                let mode = stat.st_mode & 0o7777;
                Ok(Some(SystemFile::Text { text, mode, uid: stat.st_uid, gid: stat.st_gid }))
            }
            _ => Err(unsafe_path(whole, "is not a file")),
        }
    }

    /// Puts `content` at the absolute `path`, in place of a file or link that is there. Makes directories that lack.
    ///
    /// # Errors
    /// [`SystemFileError`]; then what was there is still there.
    pub fn replace(&self, path: &str, content: &SystemFile) -> Result<(), SystemFileError> {
        let whole = Path::new(path);
        let parent = self.parent(path, true)?;
        let (directory, name) = parent.ok_or_else(|| failed(Errno::ENOENT))?;
        if let Some(stat) = look(&directory, name)? {
            match kind(&stat) {
                SFlag::S_IFLNK => {}
                SFlag::S_IFREG => check_regular(&stat, whole)?,
                _ => return Err(unsafe_path(whole, "is not a file")),
            }
        }
        // Hidden, and without the suffix by which those that read these directories know their files.
        let beside = format!(".{name}.thruway-new");
        remove(&directory, &beside)?;
        let made = match content {
            SystemFile::Link { target } => {
                symlinkat(target.as_str(), &directory, beside.as_str()).map_err(failed)
            }
            SystemFile::Text { text, mode, uid, gid } => {
                write_new(&directory, &beside, text, (*mode, *uid, *gid))
            }
        };
        let moved =
            made.and_then(|()| renameat(&directory, beside.as_str(), &directory, name).map_err(failed));
        if moved.is_err() {
            let _ = remove(&directory, &beside);
        }
        moved?;
        fsync(&directory).map_err(failed)
    }

    /// Removes the file or link at the absolute `path`; one that is gone is fine.
    ///
    /// # Errors
    /// [`SystemFileError`].
    pub fn remove(&self, path: &str) -> Result<(), SystemFileError> {
        let Some((directory, name)) = self.parent(path, false)? else { return Ok(()) };
        remove(&directory, name)?;
        fsync(&directory).map_err(failed)
    }

    /// Removes the directory at the absolute `path`; one that is gone, or is not empty, is left.
    ///
    /// # Errors
    /// [`SystemFileError`].
    pub fn remove_directory(&self, path: &str) -> Result<(), SystemFileError> {
        let Some((directory, name)) = self.parent(path, false)? else { return Ok(()) };
        match unlinkat(&directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => fsync(&directory).map_err(failed),
            Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The directories on the way to the absolute `path` that do not exist, outermost first.
    ///
    /// # Errors
    /// [`SystemFileError`].
    pub fn missing_directories(&self, path: &str) -> Result<Vec<String>, SystemFileError> {
        let mut missing = Vec::new();
        for (at, _) in path.match_indices('/').skip(1) {
            let (directory, _) = path.split_at(at);
            let there = match self.parent(directory, false)? {
                Some((parent, name)) => look(&parent, name)?.is_some(),
                None => false,
            };
            if !there {
                missing.push(directory.to_owned());
            }
        }
        Ok(missing)
    }

    /// The directory of `path`, open, and the name in it; none if a directory lacks and is not to be made.
    fn parent<'p>(&self, path: &'p str, make: bool) -> Result<Option<(OwnedFd, &'p str)>, SystemFileError> {
        let relative = path.strip_prefix('/').ok_or_else(|| failed(Errno::EINVAL))?;
        let (directories, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut directory = open(&self.root, flags, Mode::empty()).map_err(failed)?;
        let mut so_far = PathBuf::from("/");
        for part in directories.split('/').filter(|part| !part.is_empty()) {
            so_far.push(part);
            if part == ".." || part == "." {
                return Err(unsafe_path(&so_far, "is not a plain path"));
            }
            let next = match openat(&directory, part, flags, Mode::empty()) {
                Err(Errno::ENOENT) if make => {
                    let mode = Mode::from_bits_truncate(0o755);
                    match mkdirat(&directory, part, mode) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(error) => return Err(failed(error)),
                    }
                    // Whatever the umask is.
                    fchmodat(&directory, part, mode, FchmodatFlags::NoFollowSymlink)
                        .or_else(|error| if error == Errno::EOPNOTSUPP { Ok(()) } else { Err(error) })
                        .map_err(failed)?;
                    fsync(&directory).map_err(failed)?;
                    openat(&directory, part, flags, Mode::empty())
                }
                other => other,
            };
            directory = match next {
                Ok(next) => next,
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(unsafe_path(&so_far, "is not a directory")),
                Err(error) => return Err(failed(error)),
            };
            let stat = fstat(&directory).map_err(failed)?;
            if !is_trusted(stat.st_uid) {
                return Err(unsafe_path(&so_far, "belongs to another user"));
            }
            if stat.st_mode & 0o022 != 0 {
                return Err(unsafe_path(&so_far, "can be written by others"));
            }
        }
        Ok(Some((directory, name)))
    }
}

/// Whether everybody who could change the file at `path` is root or this user: the file, and each directory on the way. Links
/// are followed, each to a place that is judged like it.
///
/// # Errors
/// [`SystemFileError::Unsafe`] with what others can change; what stat(2) answered.
pub fn check_trusted(path: &Path) -> Result<PathBuf, SystemFileError> {
    let real = std::fs::canonicalize(path)?;
    for place in real.ancestors() {
        let stat = fstatat(AT_FDCWD, place, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        if !is_trusted(stat.st_uid) {
            return Err(unsafe_path(place, "belongs to another user"));
        }
        let sticky_directory = kind(&stat) == SFlag::S_IFDIR && stat.st_mode & libc::S_ISVTX != 0;
        if stat.st_mode & 0o022 != 0 && !sticky_directory {
            return Err(unsafe_path(place, "can be written by others"));
        }
    }
    Ok(real)
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn check_regular(stat: &FileStat, path: &Path) -> Result<(), SystemFileError> {
    if kind(stat) != SFlag::S_IFREG {
        Err(unsafe_path(path, "is not a file"))
    } else if stat.st_nlink != 1 {
        Err(unsafe_path(path, "has a second name (a hard link)"))
    } else if !is_trusted(stat.st_uid) {
        Err(unsafe_path(path, "belongs to another user"))
    } else {
        Ok(())
    }
}

fn look(directory: &OwnedFd, name: &str) -> Result<Option<FileStat>, SystemFileError> {
    match fstatat(directory, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn remove(directory: &OwnedFd, name: &str) -> Result<(), SystemFileError> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn write_new(
    directory: &OwnedFd,
    name: &str,
    text: &str,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<(), SystemFileError> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(openat(directory, name, flags, private).map_err(failed)?);
    file.write_all(text.as_bytes())?;
    let stat = fstat(&file).map_err(failed)?;
    // A file system without owners (FAT) refuses to be asked for what is so already.
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
    }
    if stat.st_mode & 0o7777 != mode {
        fchmod(&file, Mode::from_bits_truncate(mode)).or_else(|error| match error {
            Errno::EPERM if Uid::effective().as_raw() == stat.st_uid => Ok(()),
            error => Err(failed(error)),
        })?;
    }
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests;
