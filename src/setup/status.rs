//! What is applied in this boot, by which transaction, and whether it is still so. Changes nothing and takes no lock.

use serde::Serialize;

use super::action::{Change, Standing};
use super::apply::chain;
use super::control::Control;
use super::journal::{Journal, JournalError, RecordedStep, StepState, Transaction};

/// What the journal and the host say together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Status {
    /// Transactions of this boot of which something may be left, oldest first.
    pub transactions: Vec<TransactionStatus>,
    /// Transactions of this boot that were taken back.
    pub undone: usize,
    /// Transactions of earlier boots; what they changed ended with those.
    pub history: usize,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionStatus {
    /// Number.
    pub id: u32,
    /// Command line that made it.
    pub argv: Vec<String>,
    /// When it began, in seconds since 1970.
    pub begun_unix_s: u64,
    /// Version of the tool that made it.
    pub tool_version: String,
    /// Until when it waits for confirmation, in seconds of the boot; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_by_boot_s: Option<u64>,
    /// Its steps of which something may be left.
    pub steps: Vec<StepStatus>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepStatus {
    /// Number within the transaction.
    pub step: u32,
    /// What it did.
    pub text: String,
    /// What the journal says.
    pub recorded: StepState,
    /// What the host says.
    pub now: Now,
}

/// What the host says of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum Now {
    /// As the step left it.
    Applied,
    /// As it was before the step.
    Before,
    /// Half way.
    Between,
    /// A later step decides about the same thing.
    Superseded,
    /// Somebody else changed it; says what is there.
    Drifted(String),
    /// What it is about is gone.
    Gone,
    /// It cannot be read; says why.
    Unread(String),
}

impl Status {
    /// Whether everything that was done is still so: no step was left half way, and none was changed by somebody else.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.transactions.iter().flat_map(|transaction| &transaction.steps).all(StepStatus::holds)
    }
}

impl StepStatus {
    fn holds(&self) -> bool {
        self.recorded == StepState::Done && matches!(self.now, Now::Applied | Now::Superseded)
    }
}

/// Compares the journal with the host.
///
/// # Errors
/// [`JournalError`].
pub fn status(control: &dyn Control, journal: &Journal, boot_id: &str) -> Result<Status, JournalError> {
    let (current, history): (Vec<Transaction>, Vec<Transaction>) =
        journal.transactions()?.into_iter().partition(|transaction| transaction.counts_in(boot_id));
    let (open, undone): (Vec<Transaction>, Vec<Transaction>) =
        current.into_iter().partition(Transaction::is_open);
    let changes: Vec<&Change> =
        open.iter().flat_map(Transaction::open_steps).map(|step| &step.change).collect();
    let mut at = 0;
    let transactions = open.iter().map(|transaction| {
        let steps = transaction.open_steps().filter_map(|step| {
            at += 1;
            if transaction.leaves(step, boot_id) {
                return None;
            }
            let later = changes.get(at..).unwrap_or_default();
            let superseded = later.iter().any(|later| later.supersedes(&step.change));
            Some(one_step(control, step, superseded))
        });
        TransactionStatus {
            steps: steps.collect(),
            id: transaction.header.id,
            argv: transaction.header.argv.clone(),
            begun_unix_s: transaction.header.begun_unix_s,
            tool_version: transaction.header.tool_version.clone(),
            confirm_by_boot_s: transaction.confirm_by_boot_s,
        }
    });
    Ok(Status { transactions: transactions.collect(), undone: undone.len(), history: history.len() })
}

fn one_step(control: &dyn Control, step: &RecordedStep, superseded: bool) -> StepStatus {
    let now = match step.change.standing(control) {
        _ if superseded => Now::Superseded,
        Ok(Standing::Applied) => Now::Applied,
        Ok(Standing::Before) => Now::Before,
        Ok(Standing::Between) => Now::Between,
        Ok(Standing::Drifted(found)) => Now::Drifted(found),
        Ok(Standing::Gone) => Now::Gone,
        Err(error) => Now::Unread(chain(&error)),
    };
    StepStatus { step: step.step, text: step.change.describe(), recorded: step.state.clone(), now }
}
