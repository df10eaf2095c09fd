//! `thruway plan`: what `apply` would change on this host.

use crate::cli::change::{AllowArgs, BootArgs, named, show};
use crate::cli::format::FormatArgs;
use crate::cli::{CliResult, Context};
use crate::profile::{Purpose, load};
use crate::setup::plan::plan;

/// Arguments of `thruway plan`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway plan sriov-nic
  thruway plan my.yaml --format json | jq .data.changes

Reads only. Without root some things cannot be seen, and what cannot be seen needs consent: plan as root what you
will apply as root.")]
pub(crate) struct Args {
    /// A profile: a built-in name or a YAML file
    #[arg(value_name = "PROFILE")]
    profile: String,
    #[command(flatten)]
    boots: BootArgs,
    #[command(flatten)]
    allow: AllowArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Plans and shows.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let profile = load(&args.profile, Purpose::Look)?.profile;
    let goal = named(profile.host)?;
    let for_good = args.boots.of(|| profile.name, &goal);
    show(
        &|facts, consents| plan(facts, &goal, consents),
        for_good.as_ref(),
        &args.allow,
        args.format,
        context,
    )
}
