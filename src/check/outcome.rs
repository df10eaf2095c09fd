//! The answer to a check: status, evidence, cause and remedy.

use std::fmt::Display;

use serde::Serialize;

use super::remedy::Remedy;
use crate::host::fact::Fact;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is as it should be.
    Pass,
    /// It works, and not as well or as safely as it could.
    Warn,
    /// What the host is asked to do will not work.
    Fail,
    /// The evidence could not be read, or does not decide.
    Unknown,
    /// The question does not arise on this host.
    NotApplicable,
}

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Path, CPUID leaf or register.
    pub source: String,
    /// What it holds, as it was read.
    pub value: String,
}

/// The answer to a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The answer in one sentence.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// Why it is so; absent where nothing is wrong.
    pub cause: Option<String>,
    /// What to do, the likeliest first; each is one way, not a list of steps to take together.
    pub remedy: Vec<Remedy>,
}

impl Outcome {
    /// It is as it should be.
    #[must_use]
    pub fn pass(summary: impl Into<String>) -> Self {
        Self::new(Status::Pass, summary)
    }

    /// It works, and not as it could.
    #[must_use]
    pub fn warn(summary: impl Into<String>) -> Self {
        Self::new(Status::Warn, summary)
    }

    /// It will not work.
    #[must_use]
    pub fn fail(summary: impl Into<String>) -> Self {
        Self::new(Status::Fail, summary)
    }

    /// The evidence does not decide.
    #[must_use]
    pub fn unknown(summary: impl Into<String>) -> Self {
        Self::new(Status::Unknown, summary)
    }

    /// The question does not arise.
    #[must_use]
    pub fn not_applicable(summary: impl Into<String>) -> Self {
        Self::new(Status::NotApplicable, summary)
    }

    /// What a fact that is not known answers: unknown, with the reason and its source as the evidence. `subject` is the
    /// thing that cannot be told: `whether interrupts are remapped`. A fact that is absent is unknown here, too: ask
    /// before where absence is an answer.
    #[must_use]
    pub fn unread<T>(fact: &Fact<T>, subject: &str) -> Self {
        let (source, reason) = match fact {
            Fact::Denied { source } => (source.as_str(), "permission denied"),
            Fact::Unreadable { source, reason } => (source.as_str(), reason.as_str()),
            Fact::Known(_) | Fact::NotPresent => return Self::unknown(format!("{subject} is not known")),
        };
        let outcome =
            Self::unknown(format!("{subject} could not be read: {reason}")).evidence(source, reason);
        if matches!(fact, Fact::Denied { .. }) {
            outcome.remedy(Remedy::command("sudo thruway doctor", "root may read it"))
        } else {
            outcome
        }
    }

    fn new(status: Status, summary: impl Into<String>) -> Self {
        Self { status, summary: summary.into(), evidence: Vec::new(), cause: None, remedy: Vec::new() }
    }

    /// Adds evidence: where it was read, and what was there.
    #[must_use]
    pub fn evidence(mut self, source: impl Into<String>, value: impl Display) -> Self {
        self.evidence.push(Evidence { source: source.into(), value: value.to_string() });
        self
    }

    /// Says why it is so.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy.push(remedy);
        self
    }

    /// Adds several.
    #[must_use]
    pub fn remedies(mut self, remedies: impl IntoIterator<Item = Remedy>) -> Self {
        self.remedy.extend(remedies);
        self
    }
}
