//! Running this program's own sub-commands in the emulated host, as a user would type them.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// How often [`Tool::watch`] calls back when nothing is written.
const TICK: Duration = Duration::from_millis(200);

/// This program.
#[derive(Debug)]
pub(super) struct Tool {
    program: PathBuf,
    /// Where what the sub-commands wrote is kept, for people who look into a failed rehearsal.
    transcript: Option<PathBuf>,
}

/// What a sub-command did.
#[derive(Debug)]
pub(super) struct Call {
    /// Its exit code; `None` when a signal ended it or its time was up.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) timed_out: bool,
}

impl Call {
    /// Why it did not succeed; `None` if it did.
    pub(super) fn problem(&self) -> Option<String> {
        let said = self.stderr.trim();
        let said = if said.is_empty() { self.stdout.trim() } else { said };
        match self.code {
            Some(0) => None,
            _ if self.timed_out => Some(format!("it did not end in time; {}", last_lines(said))),
            Some(code) => Some(format!("exit code {code}: {}", last_lines(said))),
            None => Some(format!("a signal ended it; {}", last_lines(said))),
        }
    }

    /// The `data` of the document that it printed.
    pub(super) fn data(&self) -> Result<serde_json::Value, String> {
        if let Some(problem) = self.problem() {
            return Err(problem);
        }
        let document: serde_json::Value = serde_json::from_str(&self.stdout)
            .map_err(|error| format!("its output is no JSON document: {error}"))?;
        document.get("data").cloned().ok_or_else(|| "its document has no `data`".to_owned())
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

impl Tool {
    /// The running program.
    pub(super) fn this() -> io::Result<Self> {
        let transcript = std::env::var_os("LAB_OUT").map(|out| PathBuf::from(out).join("steps"));
        if let Some(transcript) = &transcript {
            fs::create_dir_all(transcript)?;
        }
        Ok(Self { program: std::env::current_exe()?, transcript })
    }

    /// Runs a sub-command to its end, at most `limit`.
    pub(super) fn call(&self, step: &str, arguments: &[&str], limit: Duration) -> io::Result<Call> {
        self.watch(step, arguments, limit, |_| {})
    }

    /// Like [`Self::call`]; `each` gets every line of standard output as it comes, and `None` now and then.
    pub(super) fn watch(
        &self,
        step: &str,
        arguments: &[&str],
        limit: Duration,
        mut each: impl FnMut(Option<&str>),
    ) -> io::Result<Call> {
        let deadline = Instant::now() + limit;
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            });
        } else {
            drop(sender);
        }
        let mut stdout = String::new();
        let mut timed_out = false;
        loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => {
                    each(Some(&line));
                    stdout.push_str(&line);
                }
                Err(RecvTimeoutError::Timeout) => each(None),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !timed_out && Instant::now() > deadline {
                timed_out = true;
                child.kill()?;
            }
        }
        let status = child.wait()?;
        let stderr = stderr.and_then(|stderr| stderr.join().ok()).unwrap_or_default();
        if let Some(transcript) = &self.transcript {
            let head = format!("$ thruway {}\n", arguments.join(" "));
            fs::write(transcript.join(format!("{step}.stdout")), head + &stdout)?;
            fs::write(transcript.join(format!("{step}.stderr")), &stderr)?;
        }
        Ok(Call { code: status.code().filter(|_| !timed_out), stdout, stderr, timed_out })
    }
}
