//! `thruway probe`: what this host is.

use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::host::{self, HostFacts};
use crate::report::{self, table, view};

/// Name of the document.
const SCHEMA: &str = "thruway.probe";
/// Version of its shape.
const SCHEMA_VERSION: u32 = 1;

/// Arguments of `thruway probe`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway probe                                   this host, as a table
  thruway probe --format json | jq .data.unread   what could not be read, and why
  thruway probe --root /tmp/other-host            a directory laid out like a host

Reading needs no privilege. What this user may not see is shown as unknown, never as absent.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Reads the host and prints what it found.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let facts = host::collect(args.root.open()?.as_ref());
    print(args.format.format, &facts, context)?;
    Ok(Exit::Ok.into())
}

fn print(format: Format, facts: &HostFacts, context: &Context) -> Result<(), Failure> {
    match document(format, SCHEMA, SCHEMA_VERSION, facts)? {
        Some(document) => context.print(document),
        None => {
            let (_, unread) = report::document::split(facts).or_exit(Exit::VmmFault)?;
            context.print(view::facts::render(facts, &unread, table::terminal_width()))
        }
    }
}
