//! `thruway probe`: what this host is.

use std::path::PathBuf;

use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::host::source::{LiveSource, Source, TreeError, TreeSource};
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
    /// Read a directory tree laid out like a host instead of this host
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Reads the host and prints what it found.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let source: Box<dyn Source> = match &args.root {
        Some(root) => Box::new(TreeSource::open(root).map_err(|error| Failure::new(exit_of(&error), error))?),
        None => Box::new(LiveSource),
    };
    let facts = host::collect(source.as_ref());
    print(args.format.format, &facts, context)?;
    Ok(Exit::Ok.into())
}

/// A directory that cannot be used is a wrong argument; a kernel that cannot confine us to it is the host's affair.
fn exit_of(error: &TreeError) -> Exit {
    match error {
        TreeError::Unconfined => Exit::Host,
        TreeError::Root { .. } | TreeError::Answers { .. } => Exit::Usage,
    }
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
