//! A transaction as its lines say it: a header, then what was intended and what became of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{JournalError, Lifetime, SCHEMA, SCHEMA_VERSION};
use crate::setup::action::{Change, Object};
use crate::spec::pci::PciAddress;

/// First line of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub(super) schema: String,
    pub(super) schema_version: u32,
    /// Number of the transaction.
    pub id: u32,
    /// Boot that it belongs to: content of `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Version of this tool.
    pub tool_version: String,
    /// Command line.
    pub argv: Vec<String>,
    /// When it began, in seconds since 1970.
    pub begun_unix_s: u64,
    /// The file that another, lasting, transaction wrote, because of which the boot made this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
}

/// One line after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The host is about to be changed; with the state before.
    Intent {
        /// Number of the step, from 0.
        step: u32,
        /// The change.
        change: Box<Change>,
        /// The device that it concerns, if it is one that was known before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<KnownDevice>,
    },
    /// The step was carried out and read back.
    Done {
        /// Number of the step.
        step: u32,
    },
    /// The step failed; part of it may have been done.
    Failed {
        /// Number of the step.
        step: u32,
        /// Why.
        reason: String,
    },
    /// A write did not return: the kernel may still carry it out.
    Pending {
        /// Number of the step.
        step: u32,
        /// Which write.
        reason: String,
        /// The process that is stuck in it.
        pid: i32,
    },
    /// The step is about to be taken back.
    Undoing {
        /// Number of the step.
        step: u32,
    },
    /// The step is taken back; nothing of it is left.
    Undone {
        /// Number of the step.
        step: u32,
    },
    /// All of it is taken back unless it is confirmed in time (see [`super::confirm`]).
    Awaits {
        /// When the time is over, in seconds of the boot.
        confirm_by_boot_s: u64,
    },
    /// It was confirmed.
    Confirmed,
}

/// A device, to be told from another one in its place at a later boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// Where it was.
    pub address: PciAddress,
    /// Its vendor and device ID.
    pub ids: (u16, u16),
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum StepState {
    /// It was begun; whether it was carried out is not written down.
    Begun,
    /// It was carried out.
    Done,
    /// It failed, and was not yet taken back.
    Failed {
        /// Why.
        reason: String,
    },
    /// A write of it did not return.
    Pending {
        /// Which write.
        reason: String,
        /// The process that was stuck in it.
        pid: i32,
    },
    /// Taking it back was begun.
    Undoing,
    /// Nothing of it is left.
    Undone,
}

/// A step as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedStep {
    /// Number, from 0.
    pub step: u32,
    /// The change.
    pub change: Change,
    /// What became of it.
    pub state: StepState,
    /// The device that it concerns.
    pub device: Option<KnownDevice>,
}

/// A transaction as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// First line.
    pub header: Header,
    /// Steps, in the order in which they were begun.
    pub steps: Vec<RecordedStep>,
    /// Until when it waits for confirmation, in seconds of the boot; absent if it does not.
    pub confirm_by_boot_s: Option<u64>,
    /// How long what it changes lasts.
    pub lifetime: Lifetime,
}

impl Transaction {
    /// Whether it counts in boot `boot_id`, and is not history.
    #[must_use]
    pub fn counts_in(&self, boot_id: &str) -> bool {
        self.lifetime == Lifetime::Lasting || self.header.boot_id == boot_id
    }

    /// Whether a step of it, of which something may be left, wrote the file at `path`.
    #[must_use]
    pub fn writes(&self, path: &str) -> bool {
        let mut objects = self.open_steps().flat_map(|step| step.change.footprint().changes);
        objects.any(|object| matches!(object, Object::File(other) if other == path))
    }

    /// Whether `step` is left as it is in boot `boot_id`: a link that another boot brought up is not persisted, and one that a
    /// boot brought up for us the network of that boot has used since.
    #[must_use]
    pub fn leaves(&self, step: &RecordedStep, boot_id: &str) -> bool {
        step.change.ends_with_boot() && (self.header.boot_id != boot_id || self.header.restores.is_some())
    }

    /// The steps of which something may be left, oldest first.
    pub fn open_steps(&self) -> impl DoubleEndedIterator<Item = &RecordedStep> {
        self.steps.iter().filter(|step| step.state != StepState::Undone)
    }

    /// Whether something of it may be left.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open_steps().next().is_some()
    }

    pub(super) fn parse(text: &str, path: &Path, lifetime: Lifetime) -> Result<Option<Self>, JournalError> {
        // What does not end in a newline was never recorded.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        let foreign =
            |line: usize, reason: String| JournalError::Foreign { path: path.to_owned(), line, reason };
        let mut lines = whole.lines().enumerate().map(|(index, line)| (index + 1, line));
        let Some((_, first)) = lines.next() else { return Ok(None) };
        let header: Header = serde_json::from_str(first).map_err(|error| foreign(1, error.to_string()))?;
        if header.schema != SCHEMA || header.schema_version != SCHEMA_VERSION {
            let reason =
                format!("it is {} {}, not {SCHEMA} {SCHEMA_VERSION}", header.schema, header.schema_version);
            return Err(foreign(1, reason));
        }
        let mut steps: Vec<RecordedStep> = Vec::new();
        let mut awaits = None;
        for (line, text) in lines {
            let record: Record =
                serde_json::from_str(text).map_err(|error| foreign(line, error.to_string()))?;
            let (number, state) = match record {
                Record::Intent { step, change, device } => {
                    steps.push(RecordedStep { step, change: *change, state: StepState::Begun, device });
                    continue;
                }
                Record::Awaits { confirm_by_boot_s } => {
                    awaits = Some(confirm_by_boot_s);
                    continue;
                }
                Record::Confirmed => {
                    awaits = None;
                    continue;
                }
                Record::Done { step } => (step, StepState::Done),
                Record::Failed { step, reason } => (step, StepState::Failed { reason }),
                Record::Pending { step, reason, pid } => (step, StepState::Pending { reason, pid }),
                Record::Undoing { step } => (step, StepState::Undoing),
                Record::Undone { step } => (step, StepState::Undone),
            };
            let step = steps.iter_mut().find(|step| step.step == number);
            step.ok_or_else(|| foreign(line, format!("step {number} was never begun")))?.state = state;
        }
        Ok(Some(Self { header, steps, confirm_by_boot_s: awaits, lifetime }))
    }
}
