//! Eventfds as borrowed descriptors: `vmm-sys-util` predates `AsFd`.
#![expect(unsafe_code, reason = "borrowing a raw descriptor")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vmm_sys_util::eventfd::EventFd;

/// The descriptor of `event`, for poll(2), epoll(7) and ioctls.
#[must_use]
pub fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `event` lives, and the result borrows `event`.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Whether `event` was signalled and not read since. Does not read it.
#[must_use]
pub fn is_signalled(event: &EventFd) -> bool {
    let mut fds = [PollFd::new(borrow(event), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Waits until `event` is signalled, or `stop` is: true for the first, false as soon as it is the second. Reads neither.
///
/// # Errors
/// What poll(2) answered.
pub fn wait_unless(event: &EventFd, stop: &EventFd) -> io::Result<bool> {
    loop {
        let mut fds =
            [PollFd::new(borrow(event), PollFlags::POLLIN), PollFd::new(borrow(stop), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(!fds.last().is_some_and(|stop| stop.any().unwrap_or(true))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
