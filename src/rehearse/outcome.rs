//! What came of a run in an emulated host: how it ended, what it said, what it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::RehearseError;
use super::assets::RunDirectory;
use super::channel::Truncated;
use super::hardware::Accelerator;

/// How the command's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ended by itself; 128 and the signal's number when a signal ended it.
    Status(i32),
    /// It did not within this limit.
    TimedOut(Duration),
    /// The emulated host was not up within this limit.
    BootTimedOut(Duration),
    /// The emulated host's kernel reported that a processor stopped (an RCU stall).
    Stalled,
    /// The emulated host ended first. How QEMU ended, and what it said.
    Died(String),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What the command wrote to standard output, as far as it was kept.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, as far as it was kept.
    pub stderr: Vec<u8>,
    /// Whether one of them was longer than what is kept.
    pub truncated: Truncated,
    /// The emulated host's serial console: its kernel's messages.
    pub console: String,
    /// From the start of QEMU until user space ran.
    pub boot: Option<Duration>,
    /// From the start of QEMU to its end.
    pub elapsed: Duration,
    /// What executed it.
    pub accelerator: Accelerator,
    /// Scratch images by file name, with what the emulated host and its guests wrote.
    pub images: BTreeMap<String, PathBuf>,
    pub(super) directory: Arc<RunDirectory>,
}

impl Outcome {
    /// The command's status.
    ///
    /// # Errors
    /// When the command has none: a time-out, or the emulated host died.
    pub fn status(&self) -> Result<i32, RehearseError> {
        let console = console_tail(&self.console);
        match &self.ending {
            Ending::Status(status) => Ok(*status),
            Ending::TimedOut(limit) => Err(RehearseError::TimedOut { after_s: limit.as_secs(), console }),
            Ending::BootTimedOut(limit) => {
                Err(RehearseError::BootTimeout { after_s: limit.as_secs(), console })
            }
            Ending::Stalled => Err(RehearseError::Stalled { console }),
            Ending::Died(qemu) => Err(RehearseError::Died { qemu: qemu.clone(), console }),
        }
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// What the command wrote below `/run/lab/out` (`$LAB_OUT`). It goes with this value.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Copies the run's files to `target`, which is made: console, QEMU's command line, images (sparse as they are), files
    /// in and out.
    ///
    /// # Errors
    /// When `target` cannot be written.
    pub fn keep(&self, target: &Path) -> Result<(), RehearseError> {
        copy_tree(self.directory.path(), target)
            .map_err(|source| RehearseError::Io { path: target.to_owned(), source })
    }

    /// The run's whole directory: console, QEMU's command line, images, files. It goes with this value.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Copies regular files and directories; sockets and links of the run are of no use later.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The last lines of a console, without carriage returns and control sequences.
pub(super) fn console_tail(console: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<String> = console
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_of_a_console_is_short_and_plain() {
        let console: String = (0..50).map(|line| format!("\x1b[0mline {line}\r\n\r\n")).collect();

        let tail = console_tail(&console);

        assert_eq!(tail.lines().count(), 20);
        assert!(tail.ends_with("line 49") && !tail.contains('\x1b'), "{tail}");
    }
}
