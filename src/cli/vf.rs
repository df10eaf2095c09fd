//! `thruway vf`: create and destroy virtual functions.

use crate::cli::change::{ChangeArgs, PersistArgs, carry_out, file_name};
use crate::cli::{CliResult, Context};
use crate::host::select::Selector;
use crate::setup::goal::{Goal, SriovGoal};
use crate::setup::plan::plan;

/// Arguments of `thruway vf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create virtual functions of a physical function
    #[command(after_long_help = "\
Examples:
  thruway vf create 0000:01:00.0 --count 2    two VFs, with the drivers that the kernel chooses
  thruway vf create enp1s0f0 --count 2        the same, by the name of its network interface

A profile creates VFs and binds them in one step: see thruway profile show sriov-nic.")]
    Create {
        /// The physical function: ADDR, or any other name that bind takes
        #[arg(value_name = "PF")]
        pf: Selector,
        /// How many there should be; others are destroyed first
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        count: u16,
        #[command(flatten)]
        persist: PersistArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Destroy all virtual functions of a physical function
    Destroy {
        /// The physical function: ADDR, or any other name that bind takes
        #[arg(value_name = "PF")]
        pf: Selector,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// Creates or destroys.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let (pf, count, persist, change) = match &args.what {
        What::Create { pf, count, persist, change } => (pf.clone(), *count, Some(persist), change),
        What::Destroy { pf, change } => (pf.clone(), 0, None, change),
    };
    let name = file_name("vf", std::slice::from_ref(&pf));
    let sriov = SriovGoal { pf, count, autoprobe: None, vfs: Vec::new() };
    let goal = Goal { sriov: vec![sriov], ..Goal::default() };
    let for_good = persist.and_then(|persist| persist.of(|| name, &goal));
    carry_out(&|facts, consents| plan(facts, &goal, consents), for_good.as_ref(), change, context)
}
