//! The inner half of the road: runs in the emulated host, takes the steps in order and tells of each.
//!
//! Once something may have been changed, the steps that give it back are taken whatever failed before them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::state::State;
use super::tool::Tool;
use super::{Event, Step, StepOutcome, milliseconds, steps};

/// What the inner half is told.
#[derive(Debug, Clone)]
pub struct Drive {
    /// The profile, by name or path.
    pub profile: String,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The guest's initial RAM file system.
    pub initrd: PathBuf,
}

/// What a step showed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) evidence: Vec<String>,
    pub(super) facts: Value,
    /// Why it failed.
    pub(super) problem: Option<String>,
    /// How long it took, where that is not the time between its begin and its end.
    pub(super) duration: Option<Duration>,
}

/// What steps hand on to later ones.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) state: State,
    pub(super) probe: Value,
    pub(super) guest: super::guest::GuestLog,
}

type Action = fn(&Context<'_>, &mut Memory) -> Result<Shown, String>;

/// What every step has at hand.
pub(super) struct Context<'a> {
    pub(super) drive: &'a Drive,
    pub(super) tool: &'a Tool,
    /// Tells of something that happens in the step.
    pub(super) detail: &'a dyn Fn(&str),
}

/// When a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// As long as everything before it passed.
    Sound,
    /// Whenever something may have been changed.
    Changed,
}

struct Planned {
    name: &'static str,
    title: &'static str,
    when: When,
    changes: bool,
    action: Action,
}

const STEPS: [Planned; 7] = [
    Planned {
        name: "probe",
        title: "look at the host",
        when: When::Sound,
        changes: false,
        action: steps::probe,
    },
    Planned {
        name: "plan",
        title: "plan what the profile asks for",
        when: When::Sound,
        changes: false,
        action: steps::plan,
    },
    Planned {
        name: "apply",
        title: "carry out the plan",
        when: When::Sound,
        changes: true,
        action: steps::apply,
    },
    Planned {
        name: "run",
        title: "run a guest with the function",
        when: When::Sound,
        changes: false,
        action: steps::run,
    },
    Planned {
        name: "guest",
        title: "move data through it in the guest",
        when: When::Sound,
        changes: false,
        action: steps::guest,
    },
    Planned {
        name: "undo",
        title: "undo everything",
        when: When::Changed,
        changes: false,
        action: steps::undo,
    },
    Planned {
        name: "verify",
        title: "compare with the first look",
        when: When::Changed,
        changes: false,
        action: steps::verify,
    },
];

/// Takes the road; `emit` gets every event. Whether all steps passed.
pub fn drive(drive: &Drive, emit: &dyn Fn(&Event)) -> bool {
    let mut memory = Memory::default();
    let mut sound = true;
    let mut changed = false;
    let tool = Tool::this();
    for planned in &STEPS {
        let take = match planned.when {
            When::Sound => sound,
            When::Changed => changed,
        };
        if !take {
            let reason = Some("an earlier step failed".to_owned());
            emit(&Event::End(step(planned, StepOutcome::Skipped, reason, 0, Shown::default())));
            continue;
        }
        emit(&Event::Begin { name: planned.name.to_owned(), title: planned.title.to_owned() });
        changed |= planned.changes;
        let started = Instant::now();
        let detail = |line: &str| emit(&Event::Detail(line.to_owned()));
        let result = match &tool {
            Ok(tool) => (planned.action)(&Context { drive, tool, detail: &detail }, &mut memory),
            Err(error) => Err(format!("cannot run the program in the emulated host: {error}")),
        };
        let shown = result.unwrap_or_else(|problem| Shown { problem: Some(problem), ..Shown::default() });
        let outcome = if shown.problem.is_some() { StepOutcome::Failed } else { StepOutcome::Passed };
        sound &= outcome == StepOutcome::Passed;
        let reason = shown.problem.clone();
        let duration = shown.duration.unwrap_or_else(|| started.elapsed());
        emit(&Event::End(step(planned, outcome, reason, milliseconds(duration), shown)));
    }
    sound
}

fn step(
    planned: &Planned,
    outcome: StepOutcome,
    reason: Option<String>,
    duration_ms: u64,
    shown: Shown,
) -> Step {
    Step {
        name: planned.name.to_owned(),
        title: planned.title.to_owned(),
        outcome,
        reason,
        duration_ms,
        evidence: shown.evidence,
        facts: shown.facts,
    }
}
