//! Owner and mode of a device node.
//!
//! The node is opened without its driver (`O_PATH`) and looked at before, so that what is changed is a character device
//! and nothing that a link in its place leads to. Spec: open(2), chown(2), chmod(2). Used by `setup`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::child::{self, ChildError, Job};

/// Gives the character device at `path` to user `uid` and group `gid`, in a child, within `limit`.
///
/// # Errors
/// [`ChildError`]; `ENODEV` of what is no character device, `ELOOP` or `ENODEV` of a link.
pub fn set_owner(path: &Path, uid: u32, gid: u32, limit: Duration) -> Result<(), ChildError> {
    let node = opened(path)?;
    child::run(Job::SetOwner { node: node.as_fd(), uid, gid }, limit).map(drop)
}

/// Sets the permission bits of the character device at `path`, in a child, within `limit`.
///
/// # Errors
/// As [`set_owner`].
pub fn set_mode(path: &Path, mode: u32, limit: Duration) -> Result<(), ChildError> {
    let node = opened(path)?;
    // fchmod(2) takes no O_PATH descriptor, and fchmodat2(2) is younger than the kernels that this runs on.
    let path = CString::new(format!("/proc/self/fd/{}", node.as_raw_fd())).map_err(io::Error::from)?;
    child::run(Job::SetMode { path: &path, mode }, limit).map(drop)
}

fn opened(path: &Path) -> io::Result<OwnedFd> {
    let node = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&node)?.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFCHR { Ok(node) } else { Err(nix::errno::Errno::ENODEV.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const LIMIT: Duration = Duration::from_secs(10);

    fn errno(result: Result<(), ChildError>) -> Option<i32> {
        match result.unwrap_err() {
            ChildError::Refused(error) => error.raw_os_error(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_character_devices_are_touched_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "").unwrap();
        symlink("/dev/null", &link).unwrap();

        for path in [&file, &link, &directory.path().to_owned()] {
            assert_eq!(errno(set_owner(path, 0, 0, LIMIT)), Some(libc::ENODEV), "{}", path.display());
            assert_eq!(errno(set_mode(path, 0o600, LIMIT)), Some(libc::ENODEV), "{}", path.display());
        }
        assert_eq!(errno(set_mode(&directory.path().join("absent"), 0o600, LIMIT)), Some(libc::ENOENT));
    }

    #[test]
    fn a_node_gets_owner_and_mode_where_this_user_may_make_one() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("node");
        let device = nix::sys::stat::makedev(1, 3);
        if nix::sys::stat::mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, device).is_err() {
            return; // not root
        }

        set_owner(&node, 1234, 567, LIMIT).unwrap();
        set_mode(&node, 0o660, LIMIT).unwrap();

        let found = std::fs::metadata(&node).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 567, 0o660));
    }
}
