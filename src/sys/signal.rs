//! Signals: the one that kicks vCPU threads, those that end the machine as a descriptor, and fatal ones.
#![expect(unsafe_code, reason = "sigaction(2), tgkill(2)")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Identifies the calling thread for [`kick_thread`].
#[must_use]
pub fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

fn kick_signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn ignore(_: i32) {}

/// Makes the kick signal interrupt blocking calls and do nothing else. Process-wide and idempotent; call it before
/// the first [`kick_thread`].
///
/// # Errors
/// What sigaction(2) answered.
pub fn install_kick_handler() -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // No SA_RESTART: KVM_RUN has to return EINTR.
    action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
    // SAFETY: the handler does nothing, so it is async-signal-safe; the old action is not asked for.
    let result = unsafe { libc::sigaction(kick_signal(), &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the kick signal to a thread of this process. A thread that has ended is not reached, which is no error.
pub fn kick_thread(thread: i32) {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: tgkill takes numbers only; the signal's handler does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, kick_signal()) };
}

/// The signals that ask the machine to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT), as a descriptor to poll.
///
/// They are blocked in the thread that makes this value and in all threads that it starts afterwards, and let through
/// again when it is dropped.
#[derive(Debug)]
pub struct TerminationSignals {
    fd: SignalFd,
    before: SigSet,
}

impl TerminationSignals {
    /// Blocks the signals and opens the descriptor.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        let before = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, before })
    }

    /// Takes one signal that arrived; its number, or none.
    #[must_use]
    pub fn take(&self) -> Option<u32> {
        self.fd.read_signal().ok().flatten().map(|info| info.ssi_signo)
    }
}

/// What a signal asks of a machine that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSignal {
    /// SIGUSR1: what it did so far.
    Report,
    /// SIGUSR2: press its power button.
    PowerButton,
}

/// The signals that ask something of a machine (SIGUSR1, SIGUSR2), as a descriptor to poll. Blocked and let through again as
/// those of [`TerminationSignals`] are; the one that is made first has to be dropped last.
#[derive(Debug)]
pub struct UserSignals {
    fd: SignalFd,
    before: SigSet,
}

impl UserSignals {
    /// Blocks the signals and opens the descriptor.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::from(Signal::SIGUSR1);
        set.add(Signal::SIGUSR2);
        let before = set.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, before })
    }

    /// Takes one that came.
    #[must_use]
    pub fn take(&self) -> Option<UserSignal> {
        let number = self.fd.read_signal().ok().flatten()?.ssi_signo;
        let is = |signal: Signal| i32::try_from(number) == Ok(signal as i32);
        Some(if is(Signal::SIGUSR2) { UserSignal::PowerButton } else { UserSignal::Report })
    }
}

impl AsFd for UserSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for UserSignals {
    fn drop(&mut self) {
        if let Err(error) = self.before.thread_set_mask() {
            tracing::error!(%error, "signal mask");
        }
    }
}

impl AsFd for TerminationSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for TerminationSignals {
    fn drop(&mut self) {
        if let Err(error) = self.before.thread_set_mask() {
            tracing::error!(%error, "signal mask");
        }
    }
}

/// Calls `handler` when the process dies by a fault of its own (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS), then
/// lets it die as it would have.
///
/// `handler` may only do what signal-safety(7) allows, and must be sound in a process whose memory may be damaged.
///
/// # Errors
/// What sigaction(2) answered.
pub(super) fn on_fatal(handler: extern "C" fn(i32)) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, sigaction};
    // SA_RESETHAND: once the handler returned, the faulting instruction runs again and the default action applies.
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER,
        SigSet::empty(),
    );
    for signal in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGSYS]
    {
        // SAFETY: the caller's handler keeps to async-signal-safe calls, as the documentation of this function asks.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}
