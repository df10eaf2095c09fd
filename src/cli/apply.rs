//! `thruway apply`: make the host what a profile says.

use crate::cli::change::{ChangeArgs, carry_out, goal};
use crate::cli::{CliResult, Context};
use crate::profile::Purpose;
use crate::setup::plan::plan;

/// Arguments of `thruway apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway apply sriov-nic            after a look at the plan and a yes
  thruway apply my.yaml --yes        without asking
  thruway apply my.yaml --dry-run    as thruway plan

Every change is written down before it is made. If one fails, all are taken back: exit code 4, or 5 with a list if
something is left. thruway undo puts back what was so before.")]
pub(crate) struct Args {
    /// A profile: a built-in name or a YAML file
    #[arg(value_name = "PROFILE")]
    profile: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Applies.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let wanted = goal(&args.profile, Purpose::Act)?;
    carry_out(&|facts, consents| plan(facts, &wanted, consents), &args.change, context)
}
