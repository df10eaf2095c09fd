//! `thruway undo`: put back what was so before.

use serde::Serialize;

use crate::cli::change::{
    Workplace, boot_id, count, is_table, journal_failure, require_root, tell, tell_left,
};
use crate::cli::confirm::ConsentArgs;
use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::report::{table, view};
use crate::setup::journal::{Home, Journal, Transaction};
use crate::setup::undo::{OnDrift, UndoError, Which, choose};
use crate::sys::signal::TerminationSignals;

/// Arguments of `thruway undo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway undo              the last transaction
  thruway undo 3            transaction 3, if nothing builds on it
  thruway undo --all        everything, newest first

What somebody else changed since is not overwritten (exit code 6) unless you say --accept-drift. An undo that was
interrupted is run again. Changes end with the boot by themselves, but for those that were persisted: of these the files
go, and what the boot made so for their sake.")]
pub(crate) struct Args {
    /// Number of the transaction; thruway status lists them
    #[arg(value_name = "ID", conflicts_with = "all")]
    id: Option<u32>,
    /// Everything, newest first
    #[arg(long)]
    all: bool,
    /// Put back what was so before us, whatever somebody else made of it since
    #[arg(long)]
    accept_drift: bool,
    /// Show what would be taken back, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was taken back, as programs read it.
#[derive(Debug, Serialize)]
struct UndoneDocument {
    transactions: Vec<u32>,
    steps: Vec<String>,
}

/// Takes back.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    require_root()?;
    let which = match args.id {
        Some(id) => Which::Id(id),
        None if args.all => Which::All,
        None => Which::Latest,
    };
    let shown = match Journal::open(&Home::system()).map_err(journal_failure)? {
        Some(journal) => choose(&journal, &boot_id()?, which).map_err(failure)?,
        None => match which {
            Which::Id(id) => return Err(failure(UndoError::NoSuch(id))),
            Which::Latest | Which::All => Vec::new(),
        },
    };
    if args.dry_run || shown.is_empty() {
        return print(&shown, args.format, context);
    }
    context.note(view::journal::render_undo(&shown, &boot_id()?, table::terminal_width()).trim_end());
    args.consent.require("Take this back?")?;
    let workplace = Workplace::open(context)?;
    let signals = TerminationSignals::new().or_exit(Exit::Host)?;
    let observer = |event: crate::setup::apply::Event<'_>| tell(event, context);
    let interrupted = || signals.take().is_some();
    let executor = workplace.executor(&observer, &interrupted);
    let on_drift = if args.accept_drift { OnDrift::Overwrite } else { OnDrift::Stop };
    let undone = executor.undo(which, on_drift).map_err(|error| {
        if let UndoError::Left { left, .. } = &error {
            tell_left(left, context);
        }
        failure(error)
    })?;
    let result = UndoneDocument { transactions: undone.transactions, steps: undone.steps };
    let text = document(args.format.format, "thruway.undo", 1, &result)?;
    context.print(text.unwrap_or_else(|| format!("Done: {} taken back", count(result.steps.len()))))?;
    Ok(Exit::Ok.into())
}

fn print(transactions: &[Transaction], format: FormatArgs, context: &Context) -> CliResult {
    if is_table(format) {
        context.print(match transactions {
            [] => "Nothing to undo".to_owned(),
            some => view::journal::render_undo(some, &boot_id()?, table::terminal_width()),
        })?;
    } else {
        let steps = transactions
            .iter()
            .flat_map(|transaction| transaction.open_steps().rev())
            .map(|step| step.change.describe_undo());
        let planned = UndoneDocument {
            steps: steps.collect(),
            transactions: transactions.iter().map(|transaction| transaction.header.id).collect(),
        };
        context.print(document(format.format, "thruway.undo", 1, &planned)?.unwrap_or_default())?;
    }
    Ok(Exit::Ok.into())
}

fn failure(error: UndoError) -> Failure {
    let exit = match &error {
        UndoError::Journal(_) => {
            return match error {
                UndoError::Journal(error) => journal_failure(error),
                other => Failure::new(Exit::SetupFailed, other),
            };
        }
        UndoError::NoSuch(_) => Exit::Usage,
        UndoError::Under { .. } | UndoError::Drifted { .. } | UndoError::InUse { .. } => Exit::Refused,
        UndoError::Unread { .. } => Exit::Host,
        UndoError::Left { .. } => Exit::SetupStuck,
        UndoError::Interrupted => Exit::Interrupted,
    };
    Failure::new(exit, error)
}
