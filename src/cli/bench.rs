//! `thruway bench`: what virtualization costs on this host, measured.

use crate::bench::{self, Interrupts};
use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, OrExit, progress, source};
use crate::host::fact::Fact;
use crate::host::kvm::Kvm;
use crate::report::table;
use crate::report::view::bench::render;

use serde::Serialize;

/// Arguments of `thruway bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// What it costs to leave a guest, and how long an interrupt takes to it
    Interrupts(InterruptsArgs),
}

/// Arguments of `thruway bench interrupts`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway bench interrupts
  thruway bench interrupts --samples 10000 --format json | jq '.data.measurements[] | select(.probe == \"irqfd\")'

A guest of a few instructions, made anew for each line and for each place of the interrupt controllers (run --interrupts); no device and no kernel of a guest stands in between. Exits are
counted from one to the next. An interrupt takes from the moment before it is asked for until its handler's first
instruction, a write to a port, is back in this process: a port exit is part of it. What cannot be measured says why.
Numbers of a KVM in software or on an emulated or nested processor are none of hardware, and the answer says so.")]
struct InterruptsArgs {
    /// How often each is done
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=65536))]
    samples: u32,
    #[command(flatten)]
    format: FormatArgs,
}

/// `data` of the document `thruway.bench.interrupts`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    kvm: &'a Kvm,
    nested: &'a Fact<bool>,
    #[serde(flatten)]
    found: &'a Interrupts,
}

/// Measures and shows.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    match &args.what {
        What::Interrupts(args) => interrupts(args, context),
    }
}

fn interrupts(args: &InterruptsArgs, context: &Context) -> CliResult {
    let facts = source::live(context);
    let found =
        progress::shown(context, "measuring with a small guest", || bench::measure(args.samples, &|_, _| {}));
    let found = found.or_exit(Exit::Host)?;
    let nested = &facts.cpu.hypervisor.present;
    let answer = Document { kvm: &facts.kvm, nested, found: &found };
    let text = document(args.format.format, "thruway.bench.interrupts", 1, &answer)?;
    context.print(text.unwrap_or_else(|| render(&found, &facts.kvm, nested, table::terminal_width())))?;
    Ok(Exit::Ok.into())
}
