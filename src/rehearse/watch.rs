//! Watches one emulated host from its start to its end, within limits.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::RehearseError;
use super::channel::{Event, Stream, Truncated};
use super::hardware::Accelerator;
use super::host::Options;
use super::outcome::{Ending, console_tail};
use crate::sys::process::TiedChild;

/// The file with what the emulated host's kernel says.
pub(super) const CONSOLE: &str = "console";
/// How often the console is looked at for a stop of its processors.
const STALL_CHECK: Duration = Duration::from_secs(5);

/// What is seen of an emulated host while it runs.
pub(super) struct Watch {
    accelerator: Accelerator,
    /// When QEMU was started.
    pub(super) started: Instant,
    /// From then until user space ran.
    pub(super) boot: Option<Duration>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) truncated: Truncated,
}

impl Watch {
    /// Begins now.
    pub(super) fn new(accelerator: Accelerator) -> Self {
        Self {
            accelerator,
            started: Instant::now(),
            boot: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: Truncated::No,
        }
    }

    /// Follows `events` until the command, the host or its time ends, then ends QEMU.
    pub(super) fn until_the_end(
        &mut self,
        events: &Receiver<Event>,
        qemu: &TiedChild,
        options: &Options,
        directory: &Path,
    ) -> Result<Ending, RehearseError> {
        let mut status = None;
        let mut open_streams = 2;
        let mut deadline = Some(self.started + options.boot_limit);
        let ending = loop {
            if let (Some(status), 0) = (status, open_streams) {
                break Ending::Status(status);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // The readers end when QEMU does, so an end without a status arrives as an event, too.
            let event = events.recv_timeout(left.map_or(STALL_CHECK, |left| left.min(STALL_CHECK)));
            match event {
                Ok(Event::Up(_)) => {
                    self.boot = Some(self.started.elapsed());
                    deadline = options.limit.map(|limit| Instant::now() + limit);
                }
                Ok(Event::End(end)) => status = Some(end),
                Ok(Event::Closed(stream, bytes, truncated)) => {
                    open_streams -= 1;
                    if truncated == Truncated::Yes {
                        self.truncated = Truncated::Yes;
                    }
                    match stream {
                        Stream::Stdout => self.stdout = bytes,
                        Stream::Stderr => self.stderr = bytes,
                    }
                }
                Err(RecvTimeoutError::Timeout)
                    if self.accelerator == Accelerator::Tcg && stalled(directory) =>
                {
                    break Ending::Stalled;
                }
                Err(RecvTimeoutError::Timeout) if left.is_none_or(|left| left > STALL_CHECK) => {}
                Err(RecvTimeoutError::Timeout) => {
                    break match (self.boot, options.limit) {
                        (Some(_), Some(limit)) => Ending::TimedOut(limit),
                        _ => Ending::BootTimedOut(options.boot_limit),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => break Ending::Died(String::new()),
            }
        };
        self.stop(qemu, events, ending, directory)
    }

    /// Ends QEMU; collects what the streams carried so far.
    fn stop(
        &mut self,
        qemu: &TiedChild,
        events: &Receiver<Event>,
        ending: Ending,
        directory: &Path,
    ) -> Result<Ending, RehearseError> {
        const GRACE: Duration = Duration::from_secs(10);
        qemu.terminate();
        let ended = match qemu.wait_for(GRACE).map_err(RehearseError::Start)? {
            Some(status) => Some(status),
            None => {
                qemu.kill();
                qemu.wait_for(GRACE).map_err(RehearseError::Start)?
            }
        };
        while let Ok(event) = events.recv_timeout(Duration::from_secs(1)) {
            match event {
                Event::Closed(Stream::Stdout, bytes, _) => self.stdout = bytes,
                Event::Closed(Stream::Stderr, bytes, _) => self.stderr = bytes,
                Event::Up(_) | Event::End(_) => {}
            }
        }
        Ok(match ending {
            Ending::Died(_) => {
                let said = fs::read(directory.join("qemu.log")).unwrap_or_default();
                let status = ended.map_or_else(|| "still running".to_owned(), |status| status.to_string());
                Ending::Died(format!(
                    "QEMU: {status}; {}",
                    console_tail(&String::from_utf8_lossy(&said)).trim()
                ))
            }
            other => other,
        })
    }
}

/// Whether the emulated host's kernel says that one of its processors stopped (Linux: Documentation/RCU/stallwarn.rst).
fn stalled(directory: &Path) -> bool {
    let console = fs::read(directory.join(CONSOLE)).unwrap_or_default();
    String::from_utf8_lossy(&console).contains("rcu_preempt detected stalls on CPUs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_what_the_kernel_reports_as_one() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!stalled(directory.path()), "no console yet");
        let say = |text: &str| fs::write(directory.path().join(CONSOLE), text).unwrap();
        say("[    4.1] rcu: Hierarchical RCU implementation.\n");
        assert!(!stalled(directory.path()));
        say("[   35.9] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n");
        assert!(stalled(directory.path()));
    }
}
