//! What the commands that change the host have in common: plan, show, ask, lock, look again, carry out, tell.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::cli::confirm::ConsentArgs;
use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit, confirmation, source};
use crate::host::HostFacts;
use crate::host::boot::Boot;
use crate::host::fact::Fact;
use crate::host::select::Selector;
use crate::host::source::{LiveSource, Source};
use crate::report::{style::Tone, style::clean, table, view};
use crate::setup::account;
use crate::setup::action::Action;
use crate::setup::apply::{ApplyError, Event, Executor, Left, StepError};
use crate::setup::confirm::boot_time_s;
use crate::setup::control::LiveControl;
use crate::setup::goal::Goal;
use crate::setup::guard::{Consents, Objection};
use crate::setup::journal::{Home, Journal, JournalError, LOCK_PATIENCE, Lock, StepState, Transaction};
use crate::setup::persist::{Persistence, this_program};
use crate::setup::plan::{Plan, PlanError, plan_for_good, plan_trial_boot};
use crate::setup::session;
use crate::spec::pci::PciAddress;
use crate::sys::signal::TerminationSignals;

/// Options of every command that changes the host by a plan.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) allow: AllowArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take it all back after this time (30s, 5min) unless thruway confirm is run: for a host that is reached over what
    /// changes
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) confirm_within: Option<Duration>,
    #[command(flatten)]
    pub(crate) consent: ConsentArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The option `--allow`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AllowArgs {
    /// Consent to what a safety rule says of exactly this function; repeat it for others. Binds nothing by itself
    #[arg(long, value_name = "ADDR")]
    allow: Vec<PciAddress>,
}

impl AllowArgs {
    /// What the user consents to.
    pub(crate) fn consents(&self) -> Consents {
        Consents { allow: self.allow.iter().copied().collect::<BTreeSet<_>>(), remote_session: is_remote() }
    }
}

fn is_remote() -> bool {
    ["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"].iter().any(|name| std::env::var_os(name).is_some())
        || session::came_over_network(&LiveSource, std::process::id())
}

/// The option `--persist`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct PersistArgs {
    /// Make it so at every boot, too: by files below /etc that thruway undo removes. thruway.skip=1 on the kernel's
    /// command line switches them off for one boot
    #[arg(long)]
    persist: bool,
}

impl PersistArgs {
    /// `goal` under the name of `name`, if it is to be persisted.
    pub(crate) fn of<'a>(self, name: impl FnOnce() -> String, goal: &'a Goal) -> Option<ForGood<'a>> {
        self.persist.then(|| ForGood { name: name(), goal, when: When::EveryBoot })
    }
}

/// The options `--persist` and `--trial-boot`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct BootArgs {
    #[command(flatten)]
    persist: PersistArgs,
    /// Only let the next boot have host.kernel_arguments, to see whether the host comes up with them; the boot after
    /// that is as before. With GRUB and systemd-boot
    #[arg(long, conflicts_with = "persist")]
    trial_boot: bool,
}

impl BootArgs {
    /// `goal` under the name of `name`, if it is for another boot than this.
    pub(crate) fn of<'a>(self, name: impl FnOnce() -> String, goal: &'a Goal) -> Option<ForGood<'a>> {
        if self.trial_boot {
            return Some(ForGood { name: name(), goal, when: When::NextBoot });
        }
        self.persist.of(name, goal)
    }
}

/// A goal that is for other boots than this.
#[derive(Debug, Clone)]
pub(crate) struct ForGood<'a> {
    name: String,
    goal: &'a Goal,
    when: When,
}

/// For which boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Now and at every boot.
    EveryBoot,
    /// The next one alone, as far as kernel arguments go.
    NextBoot,
}

impl ForGood<'_> {
    /// The plan.
    fn plan(&self, facts: &HostFacts, consents: &Consents) -> Result<Plan, PlanError> {
        let program = this_program();
        let control = LiveControl::new(Box::new(LiveSource));
        // What a program was to make of files that are as they should be may not have been made.
        let is_whole = Journal::open(&Home::system()).is_ok_and(|journal| {
            journal
                .is_none_or(|journal| journal.transactions().is_ok_and(|all| !all.iter().any(is_half_made)))
        });
        let is_so =
            |action: &Action| is_whole && action.observe(&control).is_ok_and(|change| change.is_already_so());
        let boot = Boot::collect(&LiveSource);
        if self.when == When::NextBoot {
            return plan_trial_boot(facts, &boot, &self.name, self.goal, &is_so);
        }
        let program = program.as_deref().map_err(String::as_str);
        let wanted = Persistence { name: &self.name, goal: self.goal, program };
        plan_for_good(facts, &boot, consents, &wanted, &is_so)
    }
}

fn is_half_made(transaction: &Transaction) -> bool {
    transaction.open_steps().any(|step| step.state != StepState::Done && step.change.outlives_boot())
}

/// Part of the name of a file for what a command concerns: `bind-0000-02-00.0`.
pub(crate) fn file_name(verb: &str, what: &[Selector]) -> String {
    let text =
        what.iter().fold(verb.to_owned(), |text, selector| format!("{text}-{selector}")).to_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let words: Vec<_> = text.split(|c: char| !plain(c)).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// Makes a plan from what is so.
pub(crate) type Planner<'a> = &'a dyn Fn(&HostFacts, &Consents) -> Result<Plan, PlanError>;

/// A plan, as programs read it.
#[derive(Debug, Serialize)]
struct PlanDocument<'a> {
    changes: usize,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// What was done, as programs read it.
#[derive(Debug, Serialize)]
struct AppliedDocument {
    changes: usize,
    transaction: Option<u32>,
    steps: Vec<String>,
    undo: Option<String>,
}

/// Why nothing was done, as programs read it.
#[derive(Debug, Serialize)]
struct RefusedDocument<'a> {
    refused: &'a [Objection],
}

/// A profile's goal with the numbers of the users and groups that it names.
pub(crate) fn named(goal: Goal) -> Result<Goal, Failure> {
    account::look_up(goal).map_err(plan_failure)
}

/// Shows what `make` plans; nothing is changed.
pub(crate) fn show(
    make: Planner<'_>,
    for_good: Option<&ForGood<'_>>,
    allow: &AllowArgs,
    format: FormatArgs,
    context: &Context,
) -> CliResult {
    let plan = planned(make, for_good, &allow.consents(), format, context)?;
    let changes = plan.steps.len();
    let text = document(format.format, "thruway.plan", 1, &PlanDocument { changes, plan: &plan })?;
    context.print(text.unwrap_or_else(|| view::plan::render(&plan, table::terminal_width())))?;
    Ok(Exit::Ok.into())
}

/// Carries out what `make` plans, after the user agreed.
pub(crate) fn carry_out(
    make: Planner<'_>,
    for_good: Option<&ForGood<'_>>,
    args: &ChangeArgs,
    context: &Context,
) -> CliResult {
    if args.dry_run {
        return show(make, for_good, &args.allow, args.format, context);
    }
    require_root()?;
    let consents = args.allow.consents();
    let planned = || planned(make, for_good, &consents, args.format, context);
    let shown = if args.consent.yes { None } else { Some(planned()?) };
    if let Some(shown) = shown.as_ref().filter(|shown| !shown.is_empty()) {
        tell_plan(shown, context);
        args.consent.require("Do this?")?;
    }
    let mut workplace = Workplace::open(context)?;
    // From here on a signal ends the work between two steps, with everything taken back.
    let signals = TerminationSignals::new().or_exit(Exit::Host)?;
    // Under the lock things may be different: another thruway may have been at work until now.
    let plan = planned()?;
    if plan.is_empty() {
        // Nothing to show.
    } else if shown.is_none() {
        tell_plan(&plan, context);
    } else if shown.is_some_and(|shown| shown != plan) {
        return Err(Failure::new(
            Exit::SetupFailed,
            "the host changed after the plan was shown; nothing was changed; run it again to see the new plan",
        ));
    }
    workplace.mention_unfinished(context)?;
    if let Some(time) = args.confirm_within
        && !plan.is_empty()
    {
        let deadline = boot_time_s().or_exit(Exit::Host)? + time.as_secs();
        confirmation::start_watch(deadline)?;
        workplace.confirm_by_boot_s = Some(deadline);
    }
    let observer = |event: Event<'_>| tell(event, context);
    let interrupted = || signals.take().is_some();
    let executor = workplace.executor(&observer, &interrupted);
    let argv: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match executor.apply(&plan, &consents, &argv) {
        Ok(applied) => {
            let undo = applied.transaction.map(|id| format!("thruway undo {id}"));
            let result = AppliedDocument {
                changes: applied.steps.len(),
                transaction: applied.transaction,
                steps: applied.steps,
                undo,
            };
            let text = match document(args.format.format, "thruway.apply", 1, &result)? {
                Some(text) => text,
                None => match &result.undo {
                    Some(undo) => {
                        let waits = args.confirm_within.map(|time| {
                            format!(
                                "; that happens by itself in {} s unless thruway confirm is run",
                                time.as_secs()
                            )
                        });
                        let then = for_good.filter(|for_good| for_good.when == When::NextBoot).map(|_| {
                            format!(
                                ". Reboot to try it; to keep it afterwards: {undo}, then thruway apply --persist"
                            )
                        });
                        format!(
                            "Done: {}. {undo} puts everything back as it was{}{}",
                            count(result.changes),
                            waits.unwrap_or_default(),
                            then.unwrap_or_default()
                        )
                    }
                    None => "Nothing to do: it is all so already".to_owned(),
                },
            };
            context.print(text)?;
            Ok(Exit::Ok.into())
        }
        Err(error) => {
            tell_left(error.left(), context);
            Err(apply_failure(error))
        }
    }
}

fn tell_plan(plan: &Plan, context: &Context) {
    context.note(view::plan::render(plan, table::terminal_width()).trim_end());
}

/// A time between a second and an hour: `30`, `30s`, `5min`.
fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let factor = match unit {
        "" | "s" => Some(1),
        "m" | "min" => Some(60),
        _ => None,
    };
    let seconds =
        digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    let seconds = seconds.filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "write 1s to 60min, for example 120s".to_owned())
}

/// Changing the host is root's. (Capabilities alone do not suffice: the files of sysfs belong to root.)
pub(crate) fn require_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Host,
        "changing the host needs root: run it again with sudo (--dry-run and `thruway plan` do not need it)",
    ))
}

fn planned(
    make: Planner<'_>,
    for_good: Option<&ForGood<'_>>,
    consents: &Consents,
    format: FormatArgs,
    context: &Context,
) -> Result<Plan, Failure> {
    let facts = source::live(context);
    let plan = match for_good {
        Some(for_good) => for_good.plan(&facts, consents),
        None => make(&facts, consents),
    };
    plan.map_err(|error| match error {
        PlanError::Refused(refused) => {
            let document =
                document(format.format, "thruway.refused", 1, &RefusedDocument { refused: &refused });
            match document.and_then(|text| text.map_or(Ok(()), |text| context.print(text))) {
                Ok(()) => Failure::report(
                    Exit::Refused,
                    view::plan::render_refusal(&refused, table::terminal_width()),
                ),
                Err(failure) => failure,
            }
        }
        error => plan_failure(error),
    })
}

/// How a plan that cannot be made ends a command: nothing was changed.
pub(crate) fn plan_failure(error: PlanError) -> Failure {
    let exit = match &error {
        PlanError::Refused(_) => Exit::Refused,
        PlanError::Invalid(_) => Exit::Usage,
        PlanError::Select(_) | PlanError::Impossible { .. } | PlanError::Unpersistable { .. } => Exit::Host,
    };
    if let PlanError::Unpersistable { by_hand, .. } = &error {
        let text = format!("{error}; nothing was changed. What would do it:\n\n{by_hand}");
        return Failure::report(exit, text);
    }
    Failure::new(exit, error)
}

/// The journal, open and locked, and the live host.
pub(crate) struct Workplace {
    control: LiveControl,
    journal: Journal,
    lock: Lock,
    boot_id: String,
    confirm_by_boot_s: Option<u64>,
    restores: Option<String>,
}

impl Workplace {
    /// Opens and locks the journal of this host.
    pub(crate) fn open(context: &Context) -> Result<Self, Failure> {
        Self::open_after(LOCK_PATIENCE, context)
    }

    /// Like [`Self::open`], and waits at most `patience` for somebody else to finish.
    pub(crate) fn open_after(patience: Duration, context: &Context) -> Result<Self, Failure> {
        let journal = Journal::open_or_create(&Home::system()).map_err(journal_failure)?;
        let waiting = |holder: &str| {
            context.note(format!(
                "Another thruway is changing this host ({}); waiting up to {} s for it",
                clean(holder),
                patience.as_secs()
            ));
        };
        let lock = journal.lock(patience, waiting).map_err(journal_failure)?;
        let control = LiveControl::new(Box::new(LiveSource));
        Ok(Self { control, journal, lock, boot_id: boot_id()?, confirm_by_boot_s: None, restores: None })
    }

    /// What is done is done for the sake of the persisted goal in the file at `path`.
    pub(crate) fn for_persisted(&mut self, path: String) {
        self.restores = Some(path);
    }

    /// The live host.
    pub(crate) fn control(&self) -> &LiveControl {
        &self.control
    }

    /// Where changes are written down.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The right to change the host.
    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The one who carries out.
    pub(crate) fn executor<'a>(
        &'a self,
        observer: &'a dyn Fn(Event<'_>),
        interrupted: &'a dyn Fn() -> bool,
    ) -> Executor<'a> {
        Executor {
            control: &self.control,
            journal: &self.journal,
            lock: &self.lock,
            boot_id: &self.boot_id,
            confirm_by_boot_s: self.confirm_by_boot_s,
            restores: self.restores.as_deref(),
            interrupted,
            observer,
        }
    }

    /// A transaction that did not end well does not keep anybody from working; it should not be forgotten either.
    fn mention_unfinished(&self, context: &Context) -> Result<(), Failure> {
        for transaction in self.journal.transactions().map_err(journal_failure)? {
            let unfinished = transaction.open_steps().any(|step| step.state != StepState::Done);
            if transaction.counts_in(&self.boot_id) && unfinished {
                let id = transaction.header.id;
                context.note(format!(
                    "Transaction {id} did not end well: see thruway status, thruway undo {id}"
                ));
            }
        }
        Ok(())
    }
}

/// Identity of this boot, without which the journal cannot tell what is history.
pub(crate) fn boot_id() -> Result<String, Failure> {
    match LiveSource.text("/proc/sys/kernel/random/boot_id") {
        Fact::Known(id) => Ok(id),
        _ => Err(Failure::new(Exit::Host, "cannot read /proc/sys/kernel/random/boot_id")),
    }
}

/// How a journal that cannot be used ends a command: nothing was changed.
pub(crate) fn journal_failure(error: JournalError) -> Failure {
    let exit = if error.is_denied() { Exit::Host } else { Exit::SetupFailed };
    Failure::new(exit, error)
}

pub(crate) fn apply_failure(error: ApplyError) -> Failure {
    let exit = match &error {
        error if !error.left().is_empty() => Exit::SetupStuck,
        ApplyError::Interrupted { .. } => Exit::Interrupted,
        ApplyError::Failed { cause, .. } if matches!(**cause, StepError::Refused(_)) => Exit::Refused,
        ApplyError::Failed { .. } | ApplyError::Journal(_) => Exit::SetupFailed,
    };
    let what = match exit {
        Exit::SetupStuck => "not all of it could be taken back",
        Exit::SetupFailed | Exit::Refused | Exit::Interrupted => "everything was taken back",
        _ => "failed",
    };
    match error {
        ApplyError::Journal(_) => Failure::new(exit, error),
        other => Failure::caused(format!("the plan was not carried out; {what}"), exit, other),
    }
}

/// Says on stderr what happens.
pub(crate) fn tell(event: Event<'_>, context: &Context) {
    let (tone, word, text) = match event {
        // On a terminal a step that takes its time shows itself at once; its end is the news elsewhere.
        Event::Begins(text) | Event::TakesBack(text) if context.can_animate() => (Tone::Detail, "..", text),
        Event::Begins(_) | Event::TakesBack(_) => return,
        Event::Done(text) => (Tone::Good, "done", text),
        Event::AlreadySo(text) => (Tone::Detail, "so already", text),
        Event::Failed(text) => (Tone::Bad, "failed", text),
        Event::TookBack(text) => (Tone::Good, "taken back", text),
        Event::Left(text) => (Tone::Bad, "left", text),
    };
    context.note(format!("  {} {}", tone.paint(&format!("{word:<11}")), clean(text)));
}

/// Lists on stderr what is left behind.
pub(crate) fn tell_left(left: &[Left], context: &Context) {
    if !left.is_empty() {
        context.note(view::journal::render_left(left, table::terminal_width()).trim_end());
    }
}

/// `1 change`, `2 changes`.
pub(crate) fn count(changes: usize) -> String {
    format!("{changes} change{}", if changes == 1 { "" } else { "s" })
}

/// Whether a format is for people.
pub(crate) fn is_table(format: FormatArgs) -> bool {
    format.format == Format::Table
}
