//! A child process that cannot outlive us.
//!
//! [`TiedChild`] starts a program with `PR_SET_PDEATHSIG`, so that it is killed when this process ends in whatever
//! way, `SIGKILL` included, and in a process group of its own, so that a Ctrl-C meant for us does not race with our
//! own clean-up. Used by `rehearse` for QEMU.
//!
//! The parent of that signal is the *thread* that forked (`PR_SET_PDEATHSIG(2const)`): a child started from a
//! short-lived thread would die with it. So a keeper thread starts the child, waits for it and reaps it.
//!
//! Spec: Linux man-pages, `PR_SET_PDEATHSIG(2const)`, `waitid(2)`.

#![expect(unsafe_code, reason = "Command::pre_exec runs code between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};

/// A child that is killed when this process, or the value, goes away.
#[derive(Debug)]
pub struct TiedChild {
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: Mutex<Option<Result<ExitStatus, io::ErrorKind>>>,
    changed: Condvar,
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, Option<Result<ExitStatus, io::ErrorKind>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TiedChild {
    /// Starts `command`.
    ///
    /// # Errors
    /// What `fork` or `exec` answered; `ErrorKind::Other` when no thread could be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (started, answer) = mpsc::channel();
        let parent = Pid::this();
        command.process_group(0);
        // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are
        // allowed: prctl and getppid are plain system calls, and nothing here allocates or takes a lock.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above; then no signal will come.
                if getppid() != parent {
                    return Err(io::Error::from(nix::errno::Errno::ESRCH));
                }
                Ok(())
            });
        }
        let keeper = Arc::clone(&shared);
        thread::Builder::new().name("keeper".to_owned()).spawn(move || match command.spawn() {
            Ok(child) => {
                drop(command);
                let _ = started.send(Ok(child.id()));
                keep(child, &keeper);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        let pid = answer.recv().map_err(io::Error::other)??;
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self { pid: Pid::from_raw(pid), shared })
    }

    /// The child's process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Asks the child to end (`SIGTERM`). Does nothing when it has ended.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the child (`SIGKILL`). Does nothing when it has ended.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        // The keeper reaps under this lock, so the number is still this child's.
        let ended = self.shared.ended();
        if ended.is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the child's end, at most `limit`; `None` when it still runs.
    ///
    /// # Errors
    /// When waiting itself failed.
    pub fn wait_for(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        let mut ended = self.shared.ended();
        loop {
            if let Some(end) = *ended {
                return end.map(Some).map_err(io::Error::from);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            ended = self.shared.changed.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for TiedChild {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait_for(Duration::from_secs(5));
    }
}

fn keep(mut child: Child, shared: &Shared) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Wait without reaping: until the lock below is taken the number stays this child's.
        while let Err(nix::errno::Errno::EINTR) =
            waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        {}
    }
    let mut ended = shared.ended();
    *ended = Some(child.wait().map_err(|error| error.kind()));
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn status_of_the_child_is_handed_back() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);

        let child = TiedChild::spawn(command).unwrap();

        let status = child.wait_for(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn waiting_for_a_running_child_ends_at_the_limit() {
        let child = TiedChild::spawn(sleeper()).unwrap();

        let status = child.wait_for(Duration::from_millis(20)).unwrap();

        assert_eq!(status, None);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = TiedChild::spawn(sleeper()).unwrap();
        let pid = child.id();

        drop(child);

        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let child = thread::spawn(|| TiedChild::spawn(sleeper()).unwrap()).join().unwrap();

        let status = child.wait_for(Duration::from_millis(100)).unwrap();

        assert_eq!(status, None);
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let error = TiedChild::spawn(Command::new("/nonexistent/program")).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
