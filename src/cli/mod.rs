//! The command line: what the user types. Joins the rooms; holds no logic that a library user would want.
//!
//! # How a sub-command is added
//!
//! One file `cli/NAME.rs` with
//!
//! ```ignore
//! #[derive(Debug, clap::Args)]
//! pub(crate) struct Args { .. }
//!
//! pub(crate) fn run(args: &Args, context: &Context) -> CliResult { .. }
//! ```
//!
//! then here a `mod` line, a variant of `Command` (its doc comment is the help text) and a line in `Command::run`.
//! What such a file has at hand:
//!
//! - [`CliResult`]: the exit code (`Ok(Exit::Ok.into())`), or a [`Failure`], which is printed once, in [`main`];
//!   `result.or_exit(Exit::Host)?` makes the one into the other.
//! - [`Context::print`]: data to stdout, styled text welcome (styles are taken out where they do not belong), a
//!   closed pipe ends the program with success. [`Context::note`]: everything else, to stderr.
//! - [`format::FormatArgs`], to be flattened into `Args`: `--format table|json|yaml`; and [`format::document`], the
//!   envelope of machine-readable output.
//! - [`source::RootArgs`], to be flattened by every command that reads a host: `--root`; its `facts` are those of the
//!   host that the user named, live or captured.
//! - [`confirm::ConsentArgs`], to be flattened: `--yes`, and the question on a terminal.
//! - Examples of use go into `#[command(after_long_help = "Examples:\n  thruway ..")]`; man pages take them from there.
//! - `tracing::{error, warn, info, debug, trace}!` for diagnostics; `-v` and `-q` choose how much of it is seen.

pub mod exit;

mod apply;
mod bench;
mod bind;
mod boot;
mod capture;
mod change;
pub(crate) mod confirm;
mod confirmation;
pub(crate) mod context;
mod disk;
mod doctor;
mod export;
pub(crate) mod failure;
pub(crate) mod format;
mod generate;
mod groups;
mod hotplug;
mod logging;
mod new_file;
mod plan;
mod probe;
mod profile;
mod progress;
mod rehearse;
mod report;
mod run;
pub(crate) mod source;
mod status;
mod topology;
mod undo;
mod verify;
mod vf;

use std::ffi::OsString;
use std::panic;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use context::ColorMode;
pub(crate) use context::Context;
pub(crate) use exit::Exit;
pub(crate) use failure::{CliResult, Failure, OrExit};

/// The end of the program's help: where a newcomer starts.
const ROAD: &str = "\
The road:
  thruway rehearse             all of this on an emulated host first
  thruway probe                what is this host?
  thruway doctor               what is wrong with it, and what to do?
  thruway plan sriov-nic       what would this profile change?
  thruway apply sriov-nic      change it, in steps that can be undone
  thruway run sriov-nic        run the machine
  thruway undo                 put everything back";

/// Take hardware from the BIOS switch to a running guest.
///
/// thruway inspects a Linux host, prepares its devices for passthrough, runs virtual machines that own them, and
/// puts everything back afterwards. A profile says in YAML what the host should look like and which machine runs on
/// it.
#[derive(Debug, Parser)]
#[command(name = "thruway", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = ROAD)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to use colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true, hide_default_value = true, help_heading = "Global options")]
    color: ColorMode,
    /// Say more on stderr; twice for debugging, thrice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
}

/// The sub-commands, in the order in which the road is taken.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show what this host is: CPU, KVM, IOMMU groups, PCI functions and what uses them
    Probe(probe::Args),
    /// Say what is wrong with this host, why, and what to do
    Doctor(doctor::Args),
    /// Show the IOMMU groups, why each is as it is, and what another slot would give
    Groups(groups::Args),
    /// Draw the PCI tree with its IOMMU groups: as text, as a picture (SVG), or for Graphviz (DOT)
    Topology(topology::Args),
    /// Write one page for people: verdicts, what to do, groups, facts; for a browser
    Report(report::Args),
    /// Write what this host is into one file, to be looked at elsewhere or later
    Capture(capture::Args),
    /// Give functions to a driver, for guests usually to vfio-pci
    Bind(bind::Args),
    /// Give functions back to the driver that the kernel chooses
    Unbind(bind::UnbindArgs),
    /// Create and destroy virtual functions
    Vf(vf::Args),
    /// Show what applying a profile would change
    Plan(plan::Args),
    /// Make this host what a profile says
    Apply(apply::Args),
    /// Keep what was applied with --confirm-within
    Confirm(confirmation::Args),
    /// Make so in this boot what was persisted; the units that --persist writes run it
    Boot(boot::Args),
    /// Put back what was so before
    Undo(undo::Args),
    /// Show what is applied, and whether it is still so
    Status(status::Args),
    /// Say whether everything is still so; exit code 1 if it is not
    Verify(verify::Args),
    /// Run a virtual machine from a profile, from flags, or from both
    Run(Box<run::Args>),
    /// Put a device into a running machine, or take one out
    Hotplug(hotplug::Args),
    /// Make a disk for a machine
    Disk(disk::Args),
    /// Write a profile's machine for QEMU, libvirt, Cloud Hypervisor or systemd
    Export(export::Args),
    /// Measure what virtualization costs on this host
    Bench(bench::Args),
    /// Take the road, or run one command, in an emulated host
    Rehearse(rehearse::Args),
    /// List, show and check profiles: the YAML that describes a host and its machine
    Profile(profile::Args),
    /// Generate man pages, shell completions and the profile's JSON schema
    Generate(generate::Args),
}

impl Command {
    fn run(&self, context: &Context) -> CliResult {
        match self {
            Self::Probe(args) => probe::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
            Self::Groups(args) => groups::run(args, context),
            Self::Topology(args) => topology::run(args, context),
            Self::Report(args) => report::run(args, context),
            Self::Capture(args) => capture::run(args, context),
            Self::Bind(args) => bind::run(args, context),
            Self::Unbind(args) => bind::run_unbind(args, context),
            Self::Vf(args) => vf::run(args, context),
            Self::Plan(args) => plan::run(args, context),
            Self::Apply(args) => apply::run(args, context),
            Self::Confirm(args) => confirmation::run(args, context),
            Self::Boot(args) => boot::run(args, context),
            Self::Undo(args) => undo::run(args, context),
            Self::Status(args) => status::run(args, context),
            Self::Verify(args) => verify::run(args, context),
            Self::Run(args) => run::run(args, context),
            Self::Hotplug(args) => hotplug::run(args, context),
            Self::Disk(args) => disk::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::Bench(args) => bench::run(args, context),
            Self::Rehearse(args) => rehearse::run(args, context),
            Self::Profile(args) => profile::run(args, context),
            Self::Generate(args) => generate::run(args, context),
        }
    }
}

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let matches = match command().color(context::color_of_help(&arguments)).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(message) => return failure::print_usage(&message),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(message) => return failure::print_usage(&message),
    };
    let context = Context::new(cli.color, cli.verbose, cli.quiet);
    logging::start(&context);
    failure::name_panics();
    finish(|| cli.command.run(&context))
}

/// Runs a command and gives the code to exit with; a failure is printed here and nowhere else.
fn finish(command: impl FnOnce() -> CliResult) -> ExitCode {
    // Whatever the command held was dropped while it unwound, and nobody looks at it again.
    match panic::catch_unwind(panic::AssertUnwindSafe(command)) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => failure.print(),
        Err(_) => Exit::VmmFault.into(), // its message was printed where it happened
    }
}

/// The whole command line as clap sees it: help, man pages and completions are made from this.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn codes_failures_and_panics_become_exit_codes() {
        assert_eq!(finish(|| Ok(ExitCode::from(77))), ExitCode::from(77));
        assert_eq!(finish(|| Err(Failure::new(Exit::Refused, "no"))), ExitCode::from(6));
        assert_eq!(finish(|| Err(Failure::closed_pipe())), ExitCode::SUCCESS);
        assert_eq!(finish(|| panic!("a fault of ours")), ExitCode::from(12));
    }
}
