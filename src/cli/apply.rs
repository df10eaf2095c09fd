//! `thruway apply`: make the host what a profile says.

use crate::cli::change::{BootArgs, ChangeArgs, carry_out, named};
use crate::cli::{CliResult, Context};
use crate::profile::{Purpose, load};
use crate::setup::plan::plan;

/// Arguments of `thruway apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway apply sriov-nic            after a look at the plan and a yes
  thruway apply my.yaml --yes        without asking
  thruway apply my.yaml --dry-run    as thruway plan
  thruway apply my.yaml --persist    now and at every boot
  thruway apply my.yaml --trial-boot kernel arguments for the next boot alone

With --persist, a unit (thruway-boot-NAME.service) makes it so again at every boot, before the network comes up; a udev rule
keeps devices from their drivers until then; and host.kernel_arguments and host.memlock take effect, the first by whatever
boot loader there is. thruway plan --persist lists the files. thruway.skip=1 on the kernel's command line switches them off
for one boot. If the host went down before thruway confirm, the next boot takes all of it back.

With --trial-boot, a copy of the boot entry that this boot came from gets host.kernel_arguments, and the loader starts it
once; nothing else is changed. A host that does not come up with them is switched off and on, and is as before.

Every change is written down before it is made. If one fails, all are taken back: exit code 4, or 5 with a list if
something is left. thruway undo puts back what was so before; of what was persisted, at any later boot, too.")]
pub(crate) struct Args {
    /// A profile: a built-in name or a YAML file
    #[arg(value_name = "PROFILE")]
    profile: String,
    #[command(flatten)]
    boots: BootArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Applies.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let profile = load(&args.profile, Purpose::Act)?.profile;
    let goal = named(profile.host)?;
    let for_good = args.boots.of(|| profile.name, &goal);
    carry_out(&|facts, consents| plan(facts, &goal, consents), for_good.as_ref(), &args.change, context)
}
