//! The road in an emulated host: probe, plan, apply, run a guest, undo, probe again; each step with its time and its
//! evidence.
//!
//! Two halves of the same program meet here. Outside, [`rehearse`] boots the emulated host and starts the inner half in
//! it; inside, [`drive`] runs the program's own sub-commands one after the other, as a user would, and writes a JSON
//! line for each [`Event`]. Neither half takes the sub-commands' word for the end: the inner half reads the state of
//! every PCI function from sysfs before and after ([`state`]), byte for byte.

mod drive;
mod guest;
mod state;
mod steps;
mod tool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use drive::{Drive, drive};

use super::hardware::Accelerator;
use super::{
    Assets, EmulatedHost, Hardware, Options, Outcome, RehearseError, Stream, guest_initrd, inside,
    shell_words,
};

/// What the guest on the road runs.
const GUEST_SCRIPT: &str = include_str!("../init/road.sh");

/// Where the emulated host keeps a profile that is a file.
const COPIED_PROFILE: &str = "/run/lab/profile.yaml";

/// One step of the road, when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// For programs: `probe`, `plan`, `apply`, `run`, `guest`, `undo`, `verify`.
    pub name: String,
    /// For people: what was done.
    pub title: String,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why it failed or was left out.
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What was seen, for people: one fact a line.
    pub evidence: Vec<String>,
    /// What was seen, for programs.
    pub facts: Value,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// What it should show was shown.
    Passed,
    /// It was not.
    Failed,
    /// An earlier step failed.
    Skipped,
}

/// What the inner half tells while it works: one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step begins.
    Begin {
        /// See [`Step::name`].
        name: String,
        /// See [`Step::title`].
        title: String,
    },
    /// Something happens in it.
    Detail(String),
    /// It is over.
    End(Step),
}

/// What came of the whole road.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name or path of the hardware.
    pub hardware: String,
    /// What the hardware is.
    pub hardware_description: String,
    /// Name or path of the profile.
    pub profile: String,
    /// Whether every step passed.
    pub passed: bool,
    /// What executed the emulated host: `tcg` or `kvm`.
    pub accelerator: &'static str,
    /// The kernel of the emulated host and its guest.
    pub kernel: String,
    /// Until the emulated host's user space ran, in milliseconds.
    pub boot_ms: Option<u64>,
    /// From the start of the emulated host to its end, in milliseconds.
    pub duration_ms: u64,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// What the road is taken with.
#[derive(Debug, Clone)]
pub struct Road {
    /// Name or path of the hardware, for the report.
    pub hardware_name: String,
    /// The hardware.
    pub hardware: Hardware,
    /// Name or path of the profile, for the report.
    pub profile_name: String,
    /// The profile's text, where it is a file; `None` for one that is built in.
    pub profile_text: Option<String>,
}

/// Takes the road. `listener` hears of every step as it happens.
///
/// # Errors
/// When the emulated host cannot be held, or ends before the steps do. A step that failed is in the report.
pub fn rehearse(
    road: &Road,
    assets: &Assets,
    mut options: Options,
    listener: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<(Report, Outcome), RehearseError> {
    let steps = Arc::new(Mutex::new(Steps { pending: Vec::new(), done: Vec::new() }));
    let hearing = Arc::clone(&steps);
    options.listener = Some(Arc::new(move |stream, bytes| {
        if stream == Stream::Stdout {
            hearing.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, &listener);
        }
    }));
    if let Some(text) = &road.profile_text {
        options.files.push(("profile.yaml".to_owned(), text.clone().into_bytes()));
    }
    let host = EmulatedHost::prepare(&road.hardware, assets, options)?;
    let initrd = guest_initrd(assets, &host.directory().join("in"), "guest", GUEST_SCRIPT)?;
    // Root acts only on a profile that nobody else could have written: a copy of its own.
    let (copy, profile) = match road.profile_text {
        Some(_) => {
            ("umask 077; cat \"$LAB_IN/profile.yaml\" >/run/lab/profile.yaml || exit\n", COPIED_PROFILE)
        }
        None => ("", road.profile_name.as_str()),
    };
    let kernel = inside(&assets.kernel.vmlinux);
    let initrd = inside(&initrd);
    let words = ["thruway", "rehearse", "--drive-kernel", &kernel, "--drive-initrd", &initrd, profile];
    let outcome = host.run(&format!("{copy}exec {}", shell_words(&words)))?;
    let status = outcome.status()?;
    let steps = std::mem::take(&mut steps.lock().unwrap_or_else(PoisonError::into_inner).done);
    if steps.is_empty() {
        return Err(RehearseError::NoSteps { status, stderr: outcome.stderr_text() });
    }
    let report = Report {
        hardware: road.hardware_name.clone(),
        hardware_description: road.hardware.description.clone(),
        profile: road.profile_name.clone(),
        passed: status == 0 && steps.iter().all(|step| step.outcome == StepOutcome::Passed),
        accelerator: match outcome.accelerator {
            Accelerator::Tcg => "tcg",
            Accelerator::Kvm => "kvm",
        },
        kernel: assets.kernel.release.clone(),
        boot_ms: outcome.boot.map(milliseconds),
        duration_ms: milliseconds(outcome.elapsed),
        steps,
    };
    Ok((report, outcome))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Lines on their way to steps.
struct Steps {
    pending: Vec<u8>,
    done: Vec<Step>,
}

impl Steps {
    fn take(&mut self, bytes: &[u8], listener: &dyn Fn(&Event)) {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            // The inner half writes nothing else; a line that is cut off was written by a host that died.
            if let Ok(event) = serde_json::from_slice::<Event>(&line) {
                listener(&event);
                if let Event::End(step) = event {
                    self.done.push(step);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step {
            name: "probe".to_owned(),
            title: "look".to_owned(),
            outcome: StepOutcome::Passed,
            reason: None,
            duration_ms: 12,
            evidence: vec!["one".to_owned()],
            facts: serde_json::json!({"units": 1}),
        }
    }

    #[test]
    fn events_survive_the_channel_in_pieces() {
        let events = [
            Event::Begin { name: "probe".to_owned(), title: "look".to_owned() },
            Event::Detail("line".to_owned()),
            Event::End(step()),
        ];
        let text: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
        let heard = Mutex::new(Vec::new());
        let mut steps = Steps { pending: Vec::new(), done: Vec::new() };

        for piece in text.as_bytes().chunks(7) {
            steps.take(piece, &|event| heard.lock().unwrap().push(event.clone()));
        }

        assert_eq!(*heard.lock().unwrap(), events);
        assert_eq!(steps.done, [step()]);
    }

    #[test]
    fn lines_that_are_no_events_are_not_steps() {
        let mut steps = Steps { pending: Vec::new(), done: Vec::new() };

        steps.take(b"noise\n{\"end\":{}}\n", &|_| {});

        assert_eq!(steps.done, []);
    }
}
