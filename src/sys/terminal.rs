//! The terminal on standard input: raw while a guest's serial port is on it, and given back on every way out.
//!
//! A guard restores it when it is dropped (so also when a panic unwinds), and a handler restores it when the process
//! dies by a fatal signal. SIGKILL cannot be caught: `stty sane` is the user's remedy then.
#![expect(unsafe_code, reason = "tcsetattr(3) in a signal handler, fcntl(2)")]

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys::signal;

/// Settings of standard input before it became raw; what the fatal-signal handler restores.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();
/// Whether they have to be restored.
static RAW: AtomicBool = AtomicBool::new(false);
/// At most one guard at a time.
static GUARD: Mutex<()> = Mutex::new(());

/// Standard input as a raw terminal, until this value is dropped.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

extern "C" fn restore_after_fault(_: i32) {
    if RAW.swap(false, Ordering::SeqCst)
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: `before` is a complete termios in static memory; tcsetattr is async-signal-safe (signal-safety(7)).
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, std::ptr::from_ref(before)) };
    }
}

impl RawTerminal {
    /// Makes standard input raw; none if it is no terminal, or belongs to another process group (background job).
    ///
    /// # Errors
    /// What tcgetattr(3), tcsetattr(3) or sigaction(2) answered.
    pub fn new() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || nix::unistd::tcgetpgrp(&stdin).ok() != Some(nix::unistd::getpgrp()) {
            return Ok(None);
        }
        let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        let before = tcgetattr(&stdin)?;
        if BEFORE.set(before.clone().into()).is_ok() {
            signal::on_fatal(restore_after_fault)?;
        }
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        RAW.store(true, Ordering::SeqCst);
        let result = tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        drop(guard);
        // The guard exists before the result is looked at: a half-done change is undone too.
        let terminal = Self { before };
        result?;
        Ok(Some(terminal))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        RAW.store(false, Ordering::SeqCst);
        // Not TCSADRAIN: a stopped output would block the way out.
        if let Err(error) = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before) {
            tracing::error!(%error, "the terminal could not be restored; `stty sane` does");
        }
    }
}

/// A second, independent descriptor of standard input or output that does not block, where the kernel can give one.
///
/// `O_NONBLOCK` belongs to the open file, which the shell shares; so the file is opened anew through /proc where
/// possible, and otherwise the shared descriptor is returned as it is. The second value says which of the two it is.
///
/// # Errors
/// What dup(2) answered.
pub fn nonblocking_copy(fd: BorrowedFd<'_>, access: OFlag) -> io::Result<(std::os::fd::OwnedFd, bool)> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    let append = flags & OFlag::O_APPEND;
    // A regular file opened anew would begin at offset 0; it never blocks in the first place.
    let kind = nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFREG {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | append | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        if let Ok(own) = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()) {
            return Ok((own, true));
        }
    }
    Ok((fd.try_clone_to_owned()?, false))
}

/// Whether a write to `fd` would be taken at once (or fail at once).
#[must_use]
pub fn is_writable(fd: impl AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
