//! A program of the system, run to its end within a time, with its output.
//!
//! It gets no input, a fixed `PATH`, an environment of its own and a process group that is ended as a whole when the time
//! is over. What it prints is kept up to a limit; a program that prints more is not stopped for it.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Where programs of the system are.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of each stream is kept.
const KEPT_BYTES: u64 = 4 << 20;

/// Why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] io::Error),
    /// It ended with a failure.
    #[error("it ended with {status}{}", clause(output))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// It did not end in time and was ended.
    #[error("it did not end within {} s and was ended", limit.as_secs())]
    Late {
        /// The limit that ran out.
        limit: Duration,
    },
}

fn clause(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

/// Runs `program` with `arguments`; its standard output.
///
/// # Errors
/// [`ToolError`].
pub fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, ToolError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("LC_ALL", "C.UTF-8"), ("HOME", "/")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let Some(status) = status else {
        let _ = killpg(group, Signal::SIGKILL);
        child.wait()?;
        return Err(ToolError::Late { limit });
    };
    // Something that it left behind may keep the streams open; nobody waits for that longer than for the program.
    let text = |stream: Option<mpsc::Receiver<Vec<u8>>>| {
        let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let bytes = stream.and_then(|stream| stream.recv_timeout(rest).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (output, errors) = (text(output), text(errors));
    if status.success() {
        return Ok(output);
    }
    let said = if errors.trim().is_empty() { output } else { errors };
    let lines: Vec<_> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
    let output = lines.into_iter().rev().map(str::trim).collect::<Vec<_>>().join("; ");
    Err(ToolError::Failed { status, output })
}

fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = stream.by_ref().take(KEPT_BYTES).read_to_end(&mut kept);
        // Read on, so that the program is not stopped by a full pipe.
        let _ = io::copy(&mut stream, &mut io::sink());
        let _ = sender.send(kept);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn output_status_and_environment_are_the_programs_own() {
        let printed = run("sh", &["-c", "echo out; echo \"$PATH\"; echo err >&2"], LIMIT).unwrap();
        let failed =
            run("sh", &["-c", "echo out; echo first >&2; echo last >&2; exit 3"], LIMIT).unwrap_err();
        let absent = run("thruway-no-such-program", &[], LIMIT).unwrap_err();

        assert_eq!(printed, format!("out\n{PATH}\n"));
        assert_eq!(failed.to_string(), "it ended with exit status: 3: first; last");
        assert!(matches!(absent, ToolError::Start(_)), "{absent}");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_with_its_children() {
        let late = run("sh", &["-c", "sleep 1000 & wait"], Duration::from_millis(50)).unwrap_err();

        assert!(matches!(late, ToolError::Late { .. }), "{late}");
    }

    #[test]
    fn a_flood_is_kept_in_part() {
        let printed = run("sh", &["-c", "head -c 6000000 /dev/zero"], LIMIT).unwrap();

        assert_eq!(u64::try_from(printed.len()).unwrap(), KEPT_BYTES);
    }
}
