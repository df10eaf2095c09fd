//! Takes back what was applied, newest step first.
//!
//! By compare and swap: what is there now must be what we left, or something on our own way to it; anything else is
//! somebody else's doing (drift), and undo stops before it changes anything, unless told to go on. Idempotent: what was
//! taken back before counts as done, so an undo that was killed is simply run again. Transactions of another boot are
//! history: what they changed ended with that boot. A lasting one counts in every boot, and with it goes what a boot made so
//! again for its sake.

use super::action::bind_driver::nobody_uses;
use super::action::{ActionError, Change, Footprint, Object, Standing};
use super::apply::{Event, Executor, Left, NotTakenBack, chain, note};
use super::journal::{Journal, JournalError, KnownDevice, Record, RecordedStep, StepState, Transaction};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::{self, HostFacts};
use crate::spec::pci::PciAddress;

/// What to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest transaction of which something is left.
    Latest,
    /// One transaction.
    Id(u32),
    /// All of them, newest first.
    All,
}

/// What to do about changes that somebody else made to the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrift {
    /// Stop before anything is changed.
    Stop,
    /// Put back what was so before us.
    Overwrite,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Undone {
    /// The transactions, in the order in which they were taken back.
    pub transactions: Vec<u32>,
    /// What was done.
    pub steps: Vec<String>,
}

/// Why nothing, or not everything, was taken back.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no such transaction, or nothing of it is left.
    #[error("there is nothing to undo of transaction {0}; `thruway status` lists what is applied")]
    NoSuch(u32),
    /// A later transaction builds on it.
    #[error("transaction {later} came after {id} and concerns {object} too; undo that first, or say --all")]
    Under {
        /// The transaction to be taken back.
        id: u32,
        /// The later one.
        later: u32,
        /// What both concern.
        object: Object,
    },
    /// Somebody else changed it since.
    #[error(
        "transaction {id} cannot be taken back: since it was to {step}, something else made it: {found}; --accept-drift puts back what was so before all of it"
    )]
    Drifted {
        /// The transaction.
        id: u32,
        /// The step that is concerned.
        step: String,
        /// What is there.
        found: String,
    },
    /// A guest or something of the host uses what would go.
    #[error("transaction {id} cannot be taken back now")]
    InUse {
        /// The transaction.
        id: u32,
        /// What is used, and by whom.
        #[source]
        cause: ActionError,
    },
    /// What is there cannot be read, so nothing was changed.
    #[error("transaction {id} cannot be judged")]
    Unread {
        /// The transaction.
        id: u32,
        /// What could not be read.
        #[source]
        cause: ActionError,
    },
    /// Some of it could not be taken back.
    #[error("transaction {id} is not taken back in full")]
    Left {
        /// The transaction.
        id: u32,
        /// What is left.
        left: Vec<Left>,
    },
    /// The user wanted to stop.
    #[error("interrupted; run undo again to go on")]
    Interrupted,
}

impl Executor<'_> {
    /// Takes `which` back.
    ///
    /// # Errors
    /// [`UndoError`]. Of a transaction with drift or in use nothing is changed; those that came before it in the order
    /// (newer ones) are taken back.
    pub fn undo(&self, which: Which, on_drift: OnDrift) -> Result<Undone, UndoError> {
        let mut undone = Undone::default();
        for transaction in choose(self.journal, self.boot_id, which)? {
            self.undo_one(&transaction, on_drift, &mut undone)?;
            undone.transactions.push(transaction.header.id);
        }
        Ok(undone)
    }

    fn undo_one(
        &self,
        transaction: &Transaction,
        on_drift: OnDrift,
        undone: &mut Undone,
    ) -> Result<(), UndoError> {
        let id = transaction.header.id;
        self.look_first(transaction, on_drift)?;
        let mut writer = self.journal.resume(self.lock, id)?;
        let mut left = Vec::new();
        let mut untouchable: Vec<Footprint> = Vec::new();
        for recorded @ RecordedStep { step, change, state, .. } in transaction.open_steps().rev() {
            if (self.interrupted)() {
                return Err(UndoError::Interrupted);
            }
            let footprint = change.footprint();
            let mut may_follow = true;
            let result = if untouchable.iter().any(|other| footprint.touches(other)) {
                Err("a later step on the same thing is left".to_owned())
            } else {
                (self.observer)(Event::TakesBack(&change.describe_undo()));
                note(Some(&mut writer), &Record::Undoing { step: *step });
                match change.standing(self.control) {
                    _ if self.ended(transaction, recorded) => Ok(false),
                    // What a program makes of files may not be as the files are.
                    Ok(Standing::Before) if *state != StepState::Done && change.outlives_boot() => {
                        change.take_back(self.control).map(|()| false).map_err(|error| chain(&error))
                    }
                    Ok(Standing::Before | Standing::Gone) => Ok(false),
                    Ok(_) => change.take_back(self.control).map(|()| true).map_err(|error| {
                        if let Some(pid) = error.pending_pid() {
                            may_follow = false;
                            let reason = error.to_string();
                            note(Some(&mut writer), &Record::Pending { step: *step, reason, pid });
                        }
                        chain(&error)
                    }),
                    Err(error) => Err(chain(&error)),
                }
            };
            match result {
                Ok(changed) => {
                    note(Some(&mut writer), &Record::Undone { step: *step });
                    let text = change.describe_undo();
                    (self.observer)(Event::TookBack(&text));
                    undone.steps.extend(changed.then_some(text));
                }
                Err(why) => {
                    (self.observer)(Event::Left(&change.describe()));
                    let may_go = may_follow && change.ends_with_function();
                    if !may_go {
                        untouchable.push(footprint);
                    }
                    left.push(NotTakenBack { step: *step, change: change.clone(), why, may_go });
                }
            }
        }
        let left = self.still_left(left, |step| note(Some(&mut writer), &Record::Undone { step }));
        if left.is_empty() { Ok(()) } else { Err(UndoError::Left { id, left }) }
    }

    /// Whether a step ended with the boot in which it was made: nothing made it so again, or not at the same device.
    fn ended(&self, transaction: &Transaction, step: &RecordedStep) -> bool {
        let is_another =
            |device: KnownDevice| self.ids_at(device.address).is_some_and(|found| found != device.ids);
        transaction.leaves(step, self.boot_id)
            || (transaction.header.boot_id != self.boot_id && step.device.is_some_and(is_another))
    }

    /// Everything that would stop us half way, before the first write.
    fn look_first(&self, transaction: &Transaction, on_drift: OnDrift) -> Result<(), UndoError> {
        let id = transaction.header.id;
        let facts = host::collect(self.control.source());
        for (at, recorded @ RecordedStep { change, .. }) in transaction.open_steps().enumerate() {
            if transaction.open_steps().skip(at + 1).any(|later| later.change.supersedes(change)) {
                continue; // it can be judged when the later one is taken back
            }
            if self.ended(transaction, recorded) {
                continue;
            }
            let standing = change.standing(self.control).map_err(|cause| UndoError::Unread { id, cause })?;
            match standing {
                Standing::Before | Standing::Gone => continue,
                Standing::Drifted(found) if on_drift == OnDrift::Stop => {
                    return Err(UndoError::Drifted { id, step: change.describe(), found });
                }
                Standing::Drifted(_) | Standing::Applied | Standing::Between => {}
            }
            change.may_take_back(self.control).map_err(|cause| match cause {
                ActionError::InUse { .. } => UndoError::InUse { id, cause },
                cause => UndoError::Unread { id, cause },
            })?;
            if let Some((function, name)) = change.downs() {
                keeps_default_route(&facts, function, Some(name))
                    .map_err(|cause| UndoError::InUse { id, cause })?;
            }
            for address in change.loses() {
                let vfs = facts.device(address).and_then(|device| device.sriov.as_ref());
                let vfs =
                    vfs.into_iter().flat_map(|sriov| &sriov.vfs).filter_map(|vf| vf.address.known().copied());
                let is_count = matches!(change, Change::VfCount(_));
                // The physical function itself stays when its virtual ones go.
                for lost in vfs.chain((!is_count).then_some(address)) {
                    let Some(device) = facts.device(lost) else { continue };
                    nobody_uses(device)
                        .and_then(|()| keeps_default_route(&facts, lost, None))
                        .map_err(|cause| UndoError::InUse { id, cause })?;
                }
            }
        }
        Ok(())
    }
}

/// What [`Executor::undo`] would take back, newest first.
///
/// # Errors
/// [`UndoError::NoSuch`], [`UndoError::Under`] or a [`JournalError`].
pub fn choose(journal: &Journal, boot_id: &str, which: Which) -> Result<Vec<Transaction>, UndoError> {
    let mut open = journal.transactions()?;
    open.retain(|transaction| transaction.counts_in(boot_id) && transaction.is_open());
    let mut chosen = match which {
        Which::Latest => open.last().map(|last| vec![last.header.id]).unwrap_or_default(),
        Which::All => open.iter().map(|transaction| transaction.header.id).collect(),
        Which::Id(id) => vec![id],
    };
    if let Which::Id(id) = which
        && !open.iter().any(|transaction| transaction.header.id == id)
    {
        return Err(UndoError::NoSuch(id));
    }
    // What a boot made so for the sake of a lasting transaction is a part of it.
    let pairs: Vec<(u32, u32)> = open
        .iter()
        .filter_map(|restored| {
            let (id, path) = (restored.header.id, restored.header.restores.as_deref()?);
            let before = open.iter().take_while(|other| other.header.id < id);
            Some((id, before.filter(|other| other.writes(path)).last()?.header.id))
        })
        .collect();
    for (restored, lasting) in pairs {
        if chosen.contains(&restored) || chosen.contains(&lasting) {
            chosen.extend([restored, lasting]);
        }
    }
    let (mine, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|one| chosen.contains(&one.header.id));
    for transaction in &mine {
        let id = transaction.header.id;
        for other in rest.iter().rev().filter(|other| other.header.id > id) {
            if let Some(object) = common(transaction, other) {
                return Err(UndoError::Under { id, later: other.header.id, object });
            }
        }
    }
    Ok(mine.into_iter().rev().collect())
}

/// Fails if this host's only default route leads over `function`: over its interface `name`, or over any. One of several
/// may go: an interface that we brought up gets one by itself where a router announces it.
fn keeps_default_route(
    facts: &HostFacts,
    function: PciAddress,
    name: Option<&str>,
) -> Result<(), ActionError> {
    let over = |device: &PciDevice, name: Option<&str>| {
        let interfaces = device.usage.interfaces.known().into_iter().flatten();
        let mut carrying = interfaces.filter(|interface| {
            interface.default_route == Fact::Known(true) && name.is_none_or(|name| interface.name == name)
        });
        carrying.next().map(|interface| interface.name.clone())
    };
    let Some(name) = facts.device(function).and_then(|device| over(device, name)) else { return Ok(()) };
    let mut others = facts.pci.functions().iter().filter(|device| device.address != function);
    if others.any(|device| over(device, None).is_some()) {
        return Ok(());
    }
    let by = format!("the only default route of this host leads over {name} now");
    Err(ActionError::InUse { subject: function.into(), by })
}

/// What keeps `transaction` under `later`.
fn common(transaction: &Transaction, later: &Transaction) -> Option<Object> {
    let footprints =
        |of: &Transaction| of.open_steps().map(|step| step.change.footprint()).collect::<Vec<_>>();
    let later = footprints(later);
    footprints(transaction).iter().find_map(|mine| later.iter().find_map(|other| mine.under(other)))
}

#[cfg(test)]
mod tests;
