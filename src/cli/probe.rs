//! `thruway probe`: what this host is.

use serde::Serialize;

use crate::check::{self, Verdicts};
use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::host::HostFacts;
use crate::report::area::{self, Area};
use crate::report::view::facts::{self, View};
use crate::report::{self, table};

/// Name of the document.
const SCHEMA: &str = "thruway.probe";
/// Version of its shape.
const SCHEMA_VERSION: u32 = 1;

/// Arguments of `thruway probe`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway probe                                   this host, as a table
  thruway probe cpu iommu                         two areas of it
  thruway probe --format json | jq .data.unread   what could not be read, and why
  thruway probe --root /tmp/other-host            a directory laid out like a host

Reading needs no privilege. What this user may not see is shown as unknown, never as absent.")]
pub(crate) struct Args {
    /// Show these areas only: cpu, firmware, kernel, kvm, memory, iommu, pci, sriov, usage, vfio, usb, scsi, interrupts
    #[arg(value_enum, value_name = "AREA", hide_possible_values = true)]
    areas: Vec<Area>,
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `data` of the document.
#[derive(Debug, Serialize)]
struct Probe {
    verdicts: Verdicts,
    #[serde(flatten)]
    facts: HostFacts,
}

/// Reads the host and prints what it found.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let facts = args.root.facts(context)?;
    let probe = Probe { verdicts: check::verdicts(&facts), facts };
    if args.areas.is_empty() {
        print(args, &probe, &probe, context)?;
    } else {
        let mut chosen = serde_json::to_value(&probe).or_exit(Exit::VmmFault)?;
        area::keep(&mut chosen, &args.areas);
        print(args, &probe, &chosen, context)?;
    }
    Ok(Exit::Ok.into())
}

/// Prints `data`, which is what of `probe` was asked for.
fn print(args: &Args, probe: &Probe, data: &impl Serialize, context: &Context) -> Result<(), Failure> {
    let text = match args.format.format {
        Format::Table => {
            let (_, unread) = report::document::split(data).or_exit(Exit::VmmFault)?;
            let Probe { verdicts, facts } = probe;
            let view = View { facts, verdicts, unread: &unread, areas: &args.areas };
            facts::render(view, table::terminal_width())
        }
        format => document(format, SCHEMA, SCHEMA_VERSION, data)?.unwrap_or_default(),
    };
    context.print(text)
}
