//! Carries a plan out, step by step, so that it can be taken back from any point.
//!
//! Per step: look at what is so, write down the intent with it, act, read back, write down that it is done. When a step
//! fails, everything is taken back in reverse. A write that did not return is *pending*: the kernel may carry it out at
//! any time, so nothing more is done to what it concerns, and it is reported.

use super::action::bind_driver::is_vfio;
use super::action::{Action, ActionError, Change, Footprint, Standing};
use super::control::Control;
use super::guard::{Consents, Guard, Objection};
use super::journal::{About, Journal, JournalError, KnownDevice, Lifetime, Lock, Record, StepState, Writer};
use super::plan::{Plan, Step};
use crate::host;
use crate::host::fact::Fact;
use crate::spec::pci::PciAddress;

/// What changing a host takes.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// The host.
    pub control: &'a dyn Control,
    /// Where changes are written down.
    pub journal: &'a Journal,
    /// The right to change the host.
    pub lock: &'a Lock,
    /// Identity of this boot.
    pub boot_id: &'a str,
    /// Until when what is applied waits for confirmation, in seconds of the boot.
    pub confirm_by_boot_s: Option<u64>,
    /// The persisted file for whose sake the host is changed, at a boot.
    pub restores: Option<&'a str>,
    /// Whether the user wants to stop; asked between steps.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Told what happens.
    pub observer: &'a dyn Fn(Event<'_>),
}

impl std::fmt::Debug for Executor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("boot_id", &self.boot_id).finish_non_exhaustive()
    }
}

/// Something that happens while a host is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step begins.
    Begins(&'a str),
    /// It is done.
    Done(&'a str),
    /// It was already so.
    AlreadySo(&'a str),
    /// It failed.
    Failed(&'a str),
    /// A step is to be taken back.
    TakesBack(&'a str),
    /// It is as it was.
    TookBack(&'a str),
    /// It could not be taken back.
    Left(&'a str),
}

/// What became of a plan that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Number of the transaction; none if everything was already so.
    pub transaction: Option<u32>,
    /// What was done.
    pub steps: Vec<String>,
}

/// Something that is not as it was, and is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The change that is left.
    pub change: String,
    /// Why it could not be taken back.
    pub why: String,
}

/// Why a plan was not carried out, and what is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The journal cannot be written, so nothing was changed.
    #[error("nothing was changed, because it could not be written down")]
    Journal(#[from] JournalError),
    /// A step failed.
    #[error("cannot {step}")]
    Failed {
        /// What it was to do.
        step: String,
        /// Why it failed.
        #[source]
        cause: Box<StepError>,
        /// What could not be taken back; empty if everything was.
        left: Vec<Left>,
    },
    /// The user wanted to stop.
    #[error("interrupted")]
    Interrupted {
        /// What could not be taken back; empty if everything was.
        left: Vec<Left>,
    },
}

impl ApplyError {
    /// What is left behind.
    #[must_use]
    pub fn left(&self) -> &[Left] {
        match self {
            Self::Journal(_) => &[],
            Self::Failed { left, .. } | Self::Interrupted { left } => left,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The action failed.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The journal could not be written any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A safety rule speaks against it now that the function is there.
    #[error("refused by a safety rule: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Objection>),
    /// Another device is at the address than when the plan was made.
    #[error(
        "{address} is another device than when the plan was made ({planned} then, {found} now); plan again"
    )]
    Replaced {
        /// The address.
        address: PciAddress,
        /// Vendor and device ID in the plan.
        planned: String,
        /// What is there.
        found: String,
    },
}

/// A step that was begun.
struct Begun {
    step: u32,
    change: Change,
    /// Why a write of it is pending.
    pending: Option<String>,
}

/// A change that could not be taken back when it was its turn.
pub(super) struct NotTakenBack {
    pub(super) step: u32,
    pub(super) change: Change,
    pub(super) why: String,
    /// Whether it may still go with its function.
    pub(super) may_go: bool,
}

impl Executor<'_> {
    /// Carries `plan` out. `argv` is written down as the reason.
    ///
    /// # Errors
    /// [`ApplyError`]; everything was taken back but what it lists.
    pub fn apply(&self, plan: &Plan, consents: &Consents, argv: &[String]) -> Result<Applied, ApplyError> {
        let mut begun = Vec::new();
        let mut writer = None;
        let lasts = plan.steps.iter().any(|step| step.action.outlives_boot());
        let about = About {
            argv,
            lifetime: if lasts { Lifetime::Lasting } else { Lifetime::Boot },
            restores: self.restores,
        };
        let unfinished = if lasts { self.unfinished()? } else { Vec::new() };
        for (number, step) in (0..).zip(&plan.steps) {
            if (self.interrupted)() {
                return Err(ApplyError::Interrupted { left: self.roll_back(begun, writer.as_mut()) });
            }
            let mut pending = None;
            let result = self.step(number, step, (plan, consents, &unfinished), |change| {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(self.begin(&about)?),
                };
                let device = step.ids.zip(step.action.function());
                let device = device.map(|(ids, address)| KnownDevice { address, ids });
                let intent = Record::Intent { step: number, change: Box::new(change.clone()), device };
                writer.record(&intent)?;
                begun.push(Begun { step: number, change: change.clone(), pending: None });
                (self.observer)(Event::Begins(&step.text));
                Ok(())
            });
            let result = result.and_then(|changed| match (changed, &mut writer) {
                (true, Some(writer)) => Ok(writer.record(&Record::Done { step: number })?),
                _ => Ok(()),
            });
            let Err(cause) = result else { continue };
            if begun.is_empty()
                && let StepError::Journal(error) = cause
            {
                return Err(error.into());
            }
            (self.observer)(Event::Failed(&step.text));
            if let StepError::Action(error) = &cause
                && let Some(pid) = error.pending_pid()
            {
                let reason = error.to_string();
                let record = Record::Pending { step: number, reason: reason.clone(), pid };
                note(writer.as_mut(), &record);
                pending = Some(reason);
            } else if begun.last().is_some_and(|last| last.step == number) {
                note(writer.as_mut(), &Record::Failed { step: number, reason: chain(&cause) });
            }
            if let Some(last) = begun.last_mut().filter(|last| last.step == number) {
                last.pending = pending;
            }
            let left = self.roll_back(begun, writer.as_mut());
            return Err(ApplyError::Failed { step: step.text.clone(), cause: Box::new(cause), left });
        }
        let steps = begun.iter().map(|begun| begun.change.describe()).collect();
        Ok(Applied { transaction: writer.map(|writer| writer.id()), steps })
    }

    /// The things of lasting changes that were begun and neither ended nor taken back: what a program was to make of them may
    /// not be made.
    fn unfinished(&self) -> Result<Vec<Footprint>, JournalError> {
        let transactions = self.journal.transactions()?;
        let steps = transactions.iter().flat_map(|transaction| transaction.open_steps());
        let unfinished = steps.filter(|step| step.state != StepState::Done && step.change.outlives_boot());
        Ok(unfinished.map(|step| step.change.footprint()).collect())
    }

    fn begin(&self, about: &About<'_>) -> Result<Writer, JournalError> {
        let mut writer = self.journal.begin(self.lock, self.boot_id, about)?;
        if let Some(confirm_by_boot_s) = self.confirm_by_boot_s {
            writer.record(&Record::Awaits { confirm_by_boot_s })?;
        }
        Ok(writer)
    }

    /// One step; whether something was changed. `intend` is called before the host is touched.
    fn step(
        &self,
        number: u32,
        step: &Step,
        (plan, consents, unfinished): (&Plan, &Consents, &[Footprint]),
        intend: impl FnOnce(&Change) -> Result<(), JournalError>,
    ) -> Result<bool, StepError> {
        tracing::debug!(number, step = step.text, "step");
        let change = step.action.observe(self.control)?;
        self.is_the_planned_device(step)?;
        let footprint = change.footprint();
        let is_unfinished = unfinished.iter().any(|other| other.touches(&footprint));
        if change.is_already_so() && !(is_unfinished && change.outlives_boot()) {
            (self.observer)(Event::AlreadySo(&step.text));
            return Ok(false);
        }
        self.ask_guard_again(step, &change, plan, consents)?;
        intend(&change)?;
        change.carry_out(self.control)?;
        (self.observer)(Event::Done(&step.text));
        Ok(true)
    }

    fn is_the_planned_device(&self, step: &Step) -> Result<(), StepError> {
        let (Some(planned), Some(address)) = (step.ids, step.action.function()) else { return Ok(()) };
        match self.ids_at(address) {
            Some(found) if found != planned => {
                let text = |(vendor, device): (u16, u16)| format!("{vendor:04x}:{device:04x}");
                Err(StepError::Replaced { address, planned: text(planned), found: text(found) })
            }
            _ => Ok(()),
        }
    }

    /// Vendor and device ID of the function at `address`, if they can be read.
    pub(super) fn ids_at(&self, address: PciAddress) -> Option<(u16, u16)> {
        let id = |attribute: &str| {
            let path = format!("/sys/bus/pci/devices/{address}/{attribute}");
            let text = self.control.source().text(&path);
            text.parse(&path, |text| u16::from_str_radix(text.trim().trim_start_matches("0x"), 16))
        };
        match (id("vendor"), id("device")) {
            (Fact::Known(vendor), Fact::Known(device)) => Some((vendor, device)),
            _ => None,
        }
    }

    /// A virtual function that did not exist when the plan was made has a group, and neighbours in it, only now.
    fn ask_guard_again(
        &self,
        step: &Step,
        change: &Change,
        plan: &Plan,
        consents: &Consents,
    ) -> Result<(), StepError> {
        let Action::BindDriver(bind) = &step.action else { return Ok(()) };
        if step.ids.is_some() || !bind.driver.as_deref().is_some_and(is_vfio) {
            return Ok(());
        }
        let facts = host::collect(self.control.source());
        let functions: Vec<_> = change.footprint().functions().collect();
        let planned = plan.steps.iter().filter_map(|step| match &step.action {
            Action::BindDriver(bind) if bind.driver.as_deref().is_some_and(is_vfio) => Some(bind.function),
            _ => None,
        });
        let taken = functions.iter().copied().chain(planned).collect();
        let guard = Guard::new(&facts, consents, &taken);
        let objections = functions
            .iter()
            .filter_map(|address| facts.device(*address))
            .flat_map(|d| guard.against_passing(d));
        let (standing, _) = consents.divide(objections.collect());
        if standing.is_empty() { Ok(()) } else { Err(StepError::Refused(standing)) }
    }

    /// Takes back what was begun, newest first; returns what could not be.
    fn roll_back(&self, begun: Vec<Begun>, mut writer: Option<&mut Writer>) -> Vec<Left> {
        let mut left = Vec::new();
        let mut untouchable: Vec<Footprint> = Vec::new();
        for Begun { step, change, pending } in begun.into_iter().rev() {
            let footprint = change.footprint();
            // What a driver refuses to put back may still end with its function; a write that hangs keeps all away.
            let may_follow = pending.is_none();
            let result = match pending {
                Some(reason) => Err(reason),
                None if untouchable.iter().any(|other| footprint.touches(other)) => {
                    Err("a later step on the same thing is left".to_owned())
                }
                None => {
                    (self.observer)(Event::TakesBack(&change.describe_undo()));
                    note(writer.as_deref_mut(), &Record::Undoing { step });
                    change.take_back(self.control).map_err(|error| chain(&error))
                }
            };
            match result {
                Ok(()) => {
                    note(writer.as_deref_mut(), &Record::Undone { step });
                    (self.observer)(Event::TookBack(&change.describe_undo()));
                }
                Err(why) => {
                    (self.observer)(Event::Left(&change.describe()));
                    let may_go = may_follow && change.ends_with_function();
                    if !may_go {
                        untouchable.push(footprint);
                    }
                    left.push(NotTakenBack { step, change, why, may_go });
                }
            }
        }
        self.still_left(left, |step| note(writer.as_deref_mut(), &Record::Undone { step }))
    }

    /// Those of `left` that did not go with something that was taken back after them; `gone` is told of the others.
    pub(super) fn still_left(&self, left: Vec<NotTakenBack>, mut gone: impl FnMut(u32)) -> Vec<Left> {
        let still = left.into_iter().filter(|NotTakenBack { step, change, may_go, .. }| {
            let is_gone =
                *may_go && matches!(change.standing(self.control), Ok(Standing::Before | Standing::Gone));
            if is_gone {
                gone(*step);
            }
            !is_gone
        });
        still.map(|NotTakenBack { change, why, .. }| Left { change: change.describe(), why }).collect()
    }
}

/// Writes a record that is helpful and not necessary: taking back must work with a full disk, too.
pub(super) fn note(writer: Option<&mut Writer>, record: &Record) {
    if let Some(writer) = writer
        && let Err(error) = writer.record(record)
    {
        tracing::warn!(error = chain(&error), "not written down");
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
