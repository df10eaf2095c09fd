//! `thruway bind` and `thruway unbind`: give functions to a driver, and back to the one that the kernel chooses.

use crate::cli::change::{ChangeArgs, PersistArgs, carry_out, file_name};
use crate::cli::{CliResult, Context};
use crate::host::select::Selector;
use crate::setup::goal::{DeviceGoal, Goal};
use crate::setup::plan::{plan, release};

/// Arguments of `thruway bind`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway bind 0000:02:00.0                         for a guest, after a look at the plan
  thruway bind 02:00 --yes                          a whole card
  thruway bind 01:00.0/vf0                          the first virtual function of a NIC
  thruway bind 8086:10c9                            by vendor and device, if only one has them
  thruway bind 0000:02:00.0 --persist               now and at every boot
  thruway bind 01:00.0 --allow 01:00.1 --dry-run    what consent would change

What is in use is refused (exit code 6), and what may be missed needs --allow. thruway undo takes it back.")]
pub(crate) struct Args {
    /// Functions to bind: ADDR, a card (02:00), IDs (8086:10c9), a path of bridges (00:02.0/00.0), PF/vfN, /dev/DISK,
    /// the name of a network interface, or slot=N
    #[arg(required = true, value_name = "FUNCTION")]
    functions: Vec<Selector>,
    /// Driver to bind them to
    #[arg(long, value_name = "NAME", default_value = "vfio-pci")]
    driver: String,
    #[command(flatten)]
    persist: PersistArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `thruway unbind`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway unbind 0000:02:00.0    let the kernel choose its driver again

To put back exactly what was so before a bind, use thruway undo.")]
pub(crate) struct UnbindArgs {
    /// Functions to give back, named as for bind
    #[arg(required = true, value_name = "FUNCTION")]
    functions: Vec<Selector>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Binds.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let devices = args.functions.iter().map(|select| DeviceGoal::new(select.clone(), args.driver.clone()));
    let goal = Goal { devices: devices.collect(), ..Goal::default() };
    let for_good = args.persist.of(|| file_name("bind", &args.functions), &goal);
    carry_out(&|facts, consents| plan(facts, &goal, consents), for_good.as_ref(), &args.change, context)
}

/// Gives back.
pub(crate) fn run_unbind(args: &UnbindArgs, context: &Context) -> CliResult {
    carry_out(&|facts, consents| release(facts, &args.functions, consents), None, &args.change, context)
}
