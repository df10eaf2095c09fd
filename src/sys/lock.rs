//! Locks on whole files that end with the last descriptor of the open file: open file description locks (fcntl_locking(2)).

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Who else may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Other shared locks.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock on every byte that the file has or will have.
fn whole_file(kind: libc::c_int) -> io::Result<libc::flock> {
    let narrow = |value: libc::c_int| libc::c_short::try_from(value).map_err(|_| Errno::EINVAL);
    Ok(libc::flock {
        l_type: narrow(kind)?,
        l_whence: narrow(libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

/// Locks `file` without waiting; false if another open file holds a lock that does not go with it. An exclusive lock needs
/// a file that is open for writing, a shared one a file that is open for reading.
///
/// # Errors
/// What fcntl(2) answered otherwise: `ENOLCK`, or `EINVAL` from a file system without locks.
pub fn try_lock(file: impl AsFd, kind: LockKind) -> io::Result<bool> {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(kind)?)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A process that holds a lock on `file`, as far as /proc tells: descriptors of other users' processes are not seen
/// without privilege. The caller itself counts as well.
#[must_use]
pub fn holder(file: &File) -> Option<u32> {
    let wanted = identity(&file.metadata().ok()?);
    let entries = fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), wanted).then_some(process)
    })
}

/// What two descriptors of one file have in common. Locks are listed under the numbers of the file system below where file
/// systems are stacked, so these are compared with those of other descriptors only.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Whether the process with this directory in /proc has the file open by a descriptor that carries a lock (proc_pid_fdinfo(5)).
fn holds(process: &Path, wanted: (u64, u64)) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        // The entry is a link to the open file itself, whatever became of its name
        let same = fs::metadata(descriptor.path()).is_ok_and(|metadata| identity(&metadata) == wanted);
        let info =
            || fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())).unwrap_or_default();
        same && info().lines().any(|line| line.starts_with("lock:"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn open_three_times() -> [File; 3] {
        let image = tempfile::NamedTempFile::new().unwrap();
        [(); 3].map(|()| OpenOptions::new().read(true).write(true).open(image.path()).unwrap())
    }

    #[test]
    fn a_writer_is_alone_and_found() {
        let [writer, other, _] = open_three_times();
        assert!(try_lock(&writer, LockKind::Exclusive).unwrap());
        assert!(!try_lock(&other, LockKind::Shared).unwrap());
        assert_eq!(holder(&other), Some(std::process::id()));
    }

    #[test]
    fn readers_are_many_and_keep_writers_out() {
        let [first, second, third] = open_three_times();
        assert!(try_lock(&first, LockKind::Shared).unwrap());
        assert!(try_lock(&second, LockKind::Shared).unwrap());
        assert!(!try_lock(&third, LockKind::Exclusive).unwrap());
    }
}
