//! `thruway probe`: what this host is.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::check::{self, Verdicts};
use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::source::{self, RootArgs, Telling};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit, progress};
use crate::host::{self, HostFacts, diff};
use crate::report::area::{self, Area};
use crate::report::view::facts::{self, View};
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
  thruway probe cpu iommu                         two areas of it
  thruway probe kvm --measure                     whether KVM runs guests in hardware, measured
  thruway probe --format json | jq .data.unread   what could not be read, and why
  thruway probe --root host.tar.gz                another host, by its capture
  thruway probe --diff before.tar.gz              what a BIOS update or a moved card has changed

Reading needs no privilege. What this user may not see is shown as unknown, never as absent.")]
pub(crate) struct Args {
    /// Show these areas only: cpu, firmware, kernel, kvm, memory, iommu, pci, sriov, usage, vfio, usb, scsi, interrupts
    #[arg(value_enum, value_name = "AREA", hide_possible_values = true)]
    areas: Vec<Area>,
    /// Show what has changed since this capture was made; ends with 1 if something has
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "areas")]
    diff: Option<PathBuf>,
    /// Measure KVM with a small guest, for less than half a second: is there hardware behind it?
    #[arg(long, conflicts_with = "diff")]
    measure: bool,
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
    if let Some(before) = &args.diff {
        return diff(args, before, context);
    }
    if args.measure && !args.root.is_live() {
        return Err(Failure::new(
            Exit::Usage,
            "--measure runs a guest on this host, and --root names another one",
        ));
    }
    let mut facts = args.root.facts(context)?;
    let mut areas = args.areas.clone();
    if args.measure {
        progress::shown(context, "measuring KVM with a small guest", || facts.kvm.measure());
        if !areas.is_empty() && !areas.contains(&Area::Kvm) {
            areas.push(Area::Kvm);
        }
    }
    let probe = Probe { verdicts: check::verdicts(&facts), facts };
    let format = args.format.format;
    if areas.is_empty() {
        print(format, &areas, &probe, &probe, context)?;
    } else {
        let mut chosen = serde_json::to_value(&probe).or_exit(Exit::VmmFault)?;
        area::keep(&mut chosen, &areas);
        print(format, &areas, &probe, &chosen, context)?;
    }
    Ok(Exit::Ok.into())
}

/// Compares the host with what it was. A capture with placeholders is compared with what the host's own would hold.
fn diff(args: &Args, before: &Path, context: &Context) -> CliResult {
    let before = source::open(before)?;
    let now = args.root.open()?;
    let found = progress::shown(context, "comparing", || {
        let placeholders = before.is_redacted() && !now.is_redacted();
        let now = source::read(now, if placeholders { Telling::Redacted } else { Telling::Whole });
        diff::compare(&host::collect(before.as_ref()), &now)
    });
    let found = found.or_exit(Exit::VmmFault)?;
    let text = document(args.format.format, "thruway.diff", 1, &found)?;
    context.print(text.unwrap_or_else(|| view::diff::render(&found, table::terminal_width())))?;
    Ok(if found.is_empty() { Exit::Ok } else { Exit::No }.into())
}

/// Prints `data`, which is what of `probe` was asked for.
fn print(
    format: Format,
    areas: &[Area],
    probe: &Probe,
    data: &impl Serialize,
    context: &Context,
) -> Result<(), Failure> {
    let text = match format {
        Format::Table => {
            let (_, unread) = report::document::split(data).or_exit(Exit::VmmFault)?;
            let Probe { verdicts, facts } = probe;
            let view = View { facts, verdicts, unread: &unread, areas };
            facts::render(view, table::terminal_width())
        }
        format => document(format, SCHEMA, SCHEMA_VERSION, data)?.unwrap_or_default(),
    };
    context.print(text)
}
