//! Eventfds as borrowed descriptors: `vmm-sys-util` predates `AsFd`.
#![expect(unsafe_code, reason = "borrowing a raw descriptor")]

use std::os::fd::{AsRawFd, BorrowedFd};

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
