//! `thruway status`: what is applied, by which transaction, and whether it is still so.

use crate::cli::change::{boot_id, journal_failure};
use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure};
use crate::host::source::LiveSource;
use crate::report::{table, view};
use crate::setup::control::LiveControl;
use crate::setup::journal::{Home, Journal};
use crate::setup::status::{Status, status};

/// Arguments of `thruway status`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway status
  thruway status --format json | jq '.data.transactions[].id'

Changes nothing. The journal belongs to root, so reading it needs root.")]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

/// Compares and shows.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let found = read()?;
    let text = document(args.format.format, "thruway.status", 1, &found)?;
    context.print(text.unwrap_or_else(|| view::journal::render(&found, table::terminal_width())))?;
    Ok(Exit::Ok.into())
}

/// What the journal and this host say together.
pub(crate) fn read() -> Result<Status, Failure> {
    let Some(journal) = Journal::open(&Home::system()).map_err(journal_failure)? else {
        return Ok(Status::default());
    };
    let control = LiveControl::new(Box::new(LiveSource));
    status(&control, &journal, &boot_id()?).map_err(journal_failure)
}
