//! `thruway boot`: make so in this boot what was persisted; what the units that `--persist` writes run.

use std::time::Duration;

use crate::cli::change::{
    Workplace, apply_failure, boot_id, count, journal_failure, named, plan_failure, require_root, tell,
    tell_left,
};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::setup::apply::Event;
use crate::setup::confirm::awaited;
use crate::setup::control::Control;
use crate::setup::guard::Consents;
use crate::setup::persist::{self, PersistedGoal, restore};
use crate::setup::plan::plan;
use crate::setup::undo::{OnDrift, Which};
use crate::sys::signal::TerminationSignals;

/// Arguments of `thruway boot`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway boot sriov-nic    what thruway-boot-sriov-nic.service runs

Waits up to 60 s for the devices, and changes nothing if another device is in the place of one. Safety rules hold as for
apply. What was applied with --confirm-within and not confirmed before the host went down is taken back.")]
pub(crate) struct Args {
    /// Name under which it was persisted
    #[arg(value_name = "NAME")]
    name: String,
}

/// How long another one is waited for: units of several names start together.
const PATIENCE: Duration = Duration::from_secs(600);

/// Makes it so.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    require_root()?;
    let path = persist::path(&args.name);
    let mut workplace = Workplace::open_after(PATIENCE, context)?;
    let goal = PersistedGoal::read(workplace.control().files(), &args.name).or_exit(Exit::Host)?;
    let goal = goal.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{path} is not there: nothing is persisted under that name"))
    })?;
    let signals = TerminationSignals::new().or_exit(Exit::Host)?;
    if let Some(id) = unconfirmed(&workplace, &path)? {
        let observer = |event: Event<'_>| tell(event, context);
        let undone = workplace.executor(&observer, &|| false).undo(Which::Id(id), OnDrift::Stop);
        let undone = undone.or_exit(Exit::SetupStuck)?;
        context
            .print(format!("Transaction {id} was not confirmed: {} taken back", count(undone.steps.len())))?;
        return Ok(Exit::Ok.into());
    }
    let facts = restore::wait(workplace.control(), &goal).or_exit(Exit::Host)?;
    for sentence in restore::in_other_company(&facts, &goal) {
        context.note(sentence);
    }
    let consents = Consents { allow: goal.allow.iter().copied().collect(), remote_session: false };
    let wanted = named(goal.host.clone())?;
    let plan = plan(&facts, &wanted, &consents).map_err(plan_failure)?;
    workplace.for_persisted(path);
    let observer = |event: Event<'_>| tell(event, context);
    let interrupted = || signals.take().is_some();
    let argv = ["thruway".to_owned(), "boot".to_owned(), args.name.clone()];
    let applied = workplace.executor(&observer, &interrupted).apply(&plan, &consents, &argv);
    let applied = applied.map_err(|error| {
        tell_left(error.left(), context);
        apply_failure(error)
    })?;
    context.print(format!("Done: {}", count(applied.steps.len())))?;
    Ok(Exit::Ok.into())
}

/// The transaction of an earlier boot that persisted the goal at `path` and was never confirmed.
fn unconfirmed(workplace: &Workplace, path: &str) -> Result<Option<u32>, Failure> {
    let boot = boot_id()?;
    let waiting = awaited(workplace.journal(), &boot).map_err(journal_failure)?;
    let one = waiting.iter().find(|one| one.header.boot_id != boot && one.writes(path));
    Ok(one.map(|one| one.header.id))
}
