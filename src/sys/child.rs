//! Work that may block for ever, done in a child process that can be given up.
//!
//! A write to sysfs runs driver code: it may sleep until a device answers or a guest lets go of it, and then not even
//! `SIGKILL` ends it (Linux: Documentation/ABI/testing/sysfs-bus-pci, `sriov_numvfs`). So each one runs in a forked child;
//! the parent waits for a limited time and tells "refused", "given up, nothing will happen" and "stuck in the kernel,
//! which may still carry it out" apart. Used by `setup`; [`super::netlink`] uses it for link changes.
//!
//! The child is a fork without exec. It inherits every descriptor, the lock on the journal among them: while a stuck
//! write lives, the lock stays taken. It closes standard input, output and error, so that it keeps nobody's pipe open.
#![expect(unsafe_code, reason = "fork(2), and plain system calls between fork and _exit")]

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

/// Why work in a child did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The kernel refused, or the child could not be started.
    #[error(transparent)]
    Refused(#[from] io::Error),
    /// Only a part was written.
    #[error("only {written} of {wanted} bytes were written")]
    Short {
        /// Bytes written.
        written: usize,
        /// Bytes that should have been.
        wanted: usize,
    },
    /// It took too long; the child was killed and is gone, so nothing of it will happen later.
    #[error("no answer after {} s; given up", limit.as_secs())]
    GivenUp {
        /// The limit that ran out.
        limit: Duration,
    },
    /// It took too long and the child cannot be killed: the kernel may still carry the work out.
    #[error("no answer after {} s, and process {pid} is stuck in the kernel", limit.as_secs())]
    Stuck {
        /// The limit that ran out.
        limit: Duration,
        /// The child.
        pid: i32,
    },
}

/// What a child can be asked to do.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    /// Open `path` for writing and write `bytes` in one call.
    Write { path: &'a CStr, bytes: &'a [u8] },
    /// Send `request` over `socket`, a connected one, and receive one message.
    Exchange { socket: BorrowedFd<'a>, request: &'a [u8] },
    /// Send `request` over `socket`, a connected one; the answer stays in the socket.
    Send { socket: BorrowedFd<'a>, request: &'a [u8] },
    /// Give the file `node` to a user and a group.
    SetOwner { node: BorrowedFd<'a>, uid: u32, gid: u32 },
    /// Set the permission bits of the file at `path`, links followed.
    SetMode { path: &'a CStr, mode: u32 },
    /// Make the directory `path`, for everybody to read.
    MakeDirectory { path: &'a CStr },
    /// Remove the directory `path`, which holds nothing.
    RemoveDirectory { path: &'a CStr },
    /// Unload the kernel module `name` if nobody uses it.
    Unload { name: &'a CStr },
}

/// Most bytes of an answer; with its head it fits into one atomic write to a pipe (`PIPE_BUF`, pipe(7)).
const ANSWER_BYTES: usize = 2048;
const HEAD_BYTES: usize = 8;

/// Writes `bytes` to the existing file at `path` with one write(2), in a child, within `limit`.
///
/// # Errors
/// [`ChildError`]; what open(2) or write(2) answered is [`ChildError::Refused`].
pub fn write_file(path: &Path, bytes: &[u8], limit: Duration) -> Result<(), ChildError> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    let (written, _) = run(Job::Write { path: &path, bytes }, limit)?;
    if written == bytes.len() { Ok(()) } else { Err(ChildError::Short { written, wanted: bytes.len() }) }
}

/// Makes the directory `path`, in a child, within `limit`.
///
/// # Errors
/// [`ChildError`]; what mkdir(2) answered is [`ChildError::Refused`].
pub fn make_directory(path: &Path, limit: Duration) -> Result<(), ChildError> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    run(Job::MakeDirectory { path: &path }, limit).map(drop)
}

/// Removes the empty directory `path`, in a child, within `limit`.
///
/// # Errors
/// [`ChildError`]; what rmdir(2) answered is [`ChildError::Refused`].
pub fn remove_directory(path: &Path, limit: Duration) -> Result<(), ChildError> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
    run(Job::RemoveDirectory { path: &path }, limit).map(drop)
}

/// Runs `job` in a child and returns the length and the bytes of its answer.
pub(super) fn run(job: Job<'_>, limit: Duration) -> Result<(usize, Vec<u8>), ChildError> {
    let deadline = Instant::now() + limit;
    let (answer, reply) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)?;
    // SAFETY: until `_exit` the child makes plain system calls on memory that exists already: it does not allocate, take a
    // lock, panic or return from this function (signal-safety(7)).
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Child => child(job, &reply),
        ForkResult::Parent { child } => {
            drop(reply);
            wait(child, answer, deadline, limit)
        }
    }
}

/// The child's whole life.
fn child(job: Job<'_>, reply: &OwnedFd) -> ! {
    let mut buffer = [0u8; HEAD_BYTES + ANSWER_BYTES];
    let (head, body) = buffer.split_at_mut(HEAD_BYTES);
    // SAFETY: takes numbers only. Out of the terminal's process group: Ctrl-C is for the parent.
    unsafe { libc::setpgid(0, 0) };
    for standard in 0..=2 {
        // SAFETY: takes a number; the child uses none of the three. A reply pipe in these numbers would have been opened by
        // a process without standard descriptors, which Rust's runtime prevents.
        unsafe { libc::close(standard) };
    }
    let result = match job {
        Job::Write { path, bytes } => write_once(path, bytes),
        Job::Exchange { socket, request } => exchange(socket, request, body),
        Job::Send { socket, request } => send(socket, request),
        Job::SetOwner { node, uid, gid } => set_owner(node, uid, gid),
        Job::SetMode { path, mode } => set_mode(path, mode),
        // SAFETY: `path` ends with NUL.
        Job::MakeDirectory { path } => usize::try_from(unsafe { libc::mkdir(path.as_ptr(), 0o755) }).ok(),
        // SAFETY: `path` ends with NUL.
        Job::RemoveDirectory { path } => usize::try_from(unsafe { libc::rmdir(path.as_ptr()) }).ok(),
        Job::Unload { name } => unload(name),
    };
    let (errno, count) = match result {
        Some(count) => (0, count),
        None => (nix::errno::Errno::last_raw(), 0),
    };
    let used = if matches!(job, Job::Exchange { .. }) { count.min(ANSWER_BYTES) } else { 0 };
    let (first, second) = head.split_at_mut(4);
    first.copy_from_slice(&errno.to_ne_bytes());
    second.copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes());
    // SAFETY: the buffer is at least as long as `HEAD_BYTES + used`, the descriptor is open.
    unsafe { libc::write(reply.as_raw_fd(), buffer.as_ptr().cast(), HEAD_BYTES + used) };
    // SAFETY: ends the child without running destructors or exit handlers that belong to the parent.
    unsafe { libc::_exit(0) }
}

fn write_once(path: &CStr, bytes: &[u8]) -> Option<usize> {
    // SAFETY: `path` ends with NUL. O_NOFOLLOW: no attribute is a link; a link in its place is not what was meant.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW) };
    if file < 0 {
        return None;
    }
    // SAFETY: the pointer and the length are those of one slice.
    usize::try_from(unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) }).ok()
}

fn set_owner(node: BorrowedFd<'_>, uid: u32, gid: u32) -> Option<usize> {
    // SAFETY: the path is empty and ends with NUL, so the descriptor alone says which file is meant (AT_EMPTY_PATH); the rest
    // are numbers.
    let result = unsafe { libc::fchownat(node.as_raw_fd(), c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) };
    usize::try_from(result).ok()
}

fn set_mode(path: &CStr, mode: u32) -> Option<usize> {
    // SAFETY: `path` ends with NUL.
    usize::try_from(unsafe { libc::chmod(path.as_ptr(), mode) }).ok()
}

fn unload(name: &CStr) -> Option<usize> {
    // SAFETY: `name` ends with NUL; the kernel copies it. With O_NONBLOCK it does not wait for users to let go (delete_module(2)).
    usize::try_from(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) }).ok()
}

fn send(socket: BorrowedFd<'_>, request: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of one slice.
    usize::try_from(unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) }).ok()
}

fn exchange(socket: BorrowedFd<'_>, request: &[u8], answer: &mut [u8]) -> Option<usize> {
    send(socket, request)?;
    // SAFETY: the pointer and the length are those of one slice, which nobody else uses.
    usize::try_from(unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) })
        .ok()
}

fn wait(
    child: Pid,
    answer: OwnedFd,
    deadline: Instant,
    limit: Duration,
) -> Result<(usize, Vec<u8>), ChildError> {
    let late = !readable(answer.as_fd(), deadline)?;
    if late {
        let _ = kill(child, Signal::SIGKILL);
        if !reaped(child, Duration::from_millis(500)) {
            return Err(ChildError::Stuck { limit, pid: child.as_raw() });
        }
        // It may have answered between the limit and the signal.
        if !readable(answer.as_fd(), Instant::now())? {
            return Err(ChildError::GivenUp { limit });
        }
    }
    // One read: the answer was written at once, and other children may hold the pipe's other end open.
    let mut bytes = vec![0; HEAD_BYTES + ANSWER_BYTES];
    let length = std::fs::File::from(answer).read(&mut bytes)?;
    bytes.truncate(length);
    reaped(child, Duration::from_secs(1));
    let Some((head, body)) = bytes.split_at_checked(HEAD_BYTES) else {
        // Killed by us or by somebody else. It is gone, so its work will not be done later.
        return Err(if late {
            ChildError::GivenUp { limit }
        } else {
            ChildError::Refused(io::ErrorKind::Interrupted.into())
        });
    };
    let number = |range: std::ops::Range<usize>| {
        head.get(range).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
    };
    match i32::try_from(number(0..4)) {
        Ok(0) => Ok((usize::try_from(number(4..8)).unwrap_or(usize::MAX), body.to_vec())),
        Ok(errno) => Err(ChildError::Refused(io::Error::from_raw_os_error(errno))),
        Err(_) => Err(ChildError::Refused(io::ErrorKind::InvalidData.into())),
    }
}

/// Waits until `fd` has something to read or its other end is closed.
fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Collects a child that is at its end; false if it is still there after `limit`.
fn reaped(child: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while matches!(waitpid(child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn bytes_arrive_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("attribute");
        std::fs::write(&path, "").unwrap();

        write_file(&path, b"vfio-pci", LIMIT).unwrap();

        assert_eq!(std::fs::read(&path).unwrap(), b"vfio-pci");
    }

    #[test]
    fn what_open_and_write_answer_comes_back_as_the_cause() {
        let missing = write_file(Path::new("/nonexistent/attribute"), b"1", LIMIT).unwrap_err();
        let full = write_file(Path::new("/dev/full"), b"1", LIMIT).unwrap_err();

        assert!(matches!(missing, ChildError::Refused(error) if error.kind() == io::ErrorKind::NotFound));
        assert!(matches!(full, ChildError::Refused(error) if error.raw_os_error() == Some(libc::ENOSPC)));
    }

    #[test]
    fn a_file_is_neither_created_nor_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();

        write_file(&link, b"new", LIMIT).unwrap_err();
        write_file(&directory.path().join("absent"), b"new", LIMIT).unwrap_err();

        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert!(!directory.path().join("absent").exists());
    }

    #[test]
    fn directories_are_made_and_removed_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group");

        make_directory(&path, LIMIT).unwrap();
        let twice = make_directory(&path, LIMIT).unwrap_err();
        remove_directory(&path, LIMIT).unwrap();
        let gone = remove_directory(&path, LIMIT).unwrap_err();

        assert!(matches!(twice, ChildError::Refused(error) if error.kind() == io::ErrorKind::AlreadyExists));
        assert!(matches!(gone, ChildError::Refused(error) if error.kind() == io::ErrorKind::NotFound));
        assert!(!path.exists());
    }

    #[test]
    fn a_write_that_blocks_is_given_up_at_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let begun = Instant::now();

        // Nobody reads: open(2) for writing blocks.
        let error = write_file(&fifo, b"1", Duration::from_millis(100)).unwrap_err();

        assert!(matches!(error, ChildError::GivenUp { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
