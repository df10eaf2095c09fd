//! `thruway confirm`: keep what was applied with `--confirm-within`; and the process that takes it back otherwise.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anstream::adapter::strip_str;
use nix::sys::signal::SigSet;
use nix::unistd::setsid;
use serde::Serialize;

use crate::cli::change::{Workplace, boot_id, count, journal_failure, require_root};
use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::setup::confirm::{awaited, boot_time_s, confirm};
use crate::setup::journal::{Home, Journal};
use crate::setup::undo::{OnDrift, Which};

/// Arguments of `thruway confirm`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway apply my.yaml --confirm-within 120s --yes; thruway confirm

Ends with 1 if nothing waits: nothing was applied so, or its time was over and it was taken back.")]
pub(crate) struct Args {
    /// Wait until this second of the boot, then take back what waits until then
    #[arg(long, hide = true, value_name = "SECOND")]
    watch: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was confirmed, as programs read it.
#[derive(Debug, Serialize)]
struct Confirmed {
    transactions: Vec<u32>,
}

/// Confirms, or waits.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    require_root()?;
    if let Some(deadline) = args.watch {
        return watch(deadline, context).inspect_err(say_in_the_kernels_log);
    }
    let transactions = match Journal::open(&Home::system()).map_err(journal_failure)? {
        Some(_) => {
            let workplace = Workplace::open(context)?;
            confirm(workplace.journal(), workplace.lock(), &boot_id()?).map_err(journal_failure)?
        }
        None => Vec::new(),
    };
    let exit = if transactions.is_empty() { Exit::No } else { Exit::Ok };
    let ids: Vec<_> = transactions.iter().map(u32::to_string).collect();
    let text = document(args.format.format, "thruway.confirm", 1, &Confirmed { transactions })?;
    context.print(text.unwrap_or_else(|| match ids.as_slice() {
        [] => "Nothing waits for confirmation".to_owned(),
        ids => format!("Confirmed: transaction {} stays", ids.join(", ")),
    }))?;
    Ok(exit.into())
}

/// Starts the process that takes back what is not confirmed until `deadline`.
pub(crate) fn start_watch(deadline: u64) -> Result<(), Failure> {
    let program = std::env::current_exe().or_exit(Exit::Host)?;
    let mut command = Command::new(program);
    command.args(["confirm", "--watch", &deadline.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // Not waited for: it outlives us.
    command.spawn().map(drop).map_err(|error| {
        Failure::caused("nothing was changed: nobody could be set to take it back", Exit::SetupFailed, error)
    })
}

/// Nobody sees what the waiting process prints; the kernel's log is read when something is odd. A log that cannot be
/// written leaves `thruway status`.
fn say_in_the_kernels_log(failure: &Failure) {
    let failure = failure.to_string();
    let why: Vec<_> = strip_str(&failure).flat_map(str::split_whitespace).collect();
    let why = why.join(" ");
    let text = format!("<3>thruway: not confirmed in time, and not taken back: {why}; see thruway status\n");
    if let Ok(mut log) = std::fs::File::options().write(true).open("/dev/kmsg") {
        drop(log.write_all(text.as_bytes()));
    }
}

/// Waits until `deadline`, then takes back what waits until then and was not confirmed.
fn watch(deadline: u64, context: &Context) -> CliResult {
    /// The clock is asked again so often, because sleeping does not count while the host is suspended.
    const NAP: Duration = Duration::from_secs(1);
    // Out of the session of who started us: the end of a connection ends its session. He had signals blocked, and we
    // inherited that; to be ended when the host shuts down is right, because the changes end then, too.
    setsid().or_exit(Exit::Host)?;
    SigSet::all().thread_unblock().or_exit(Exit::Host)?;
    while boot_time_s().or_exit(Exit::Host)? < deadline {
        std::thread::sleep(NAP);
    }
    let workplace = Workplace::open_after(Duration::from_secs(600), context)?;
    let executor = workplace.executor(&|_| {}, &|| false);
    let mut steps = 0;
    for transaction in awaited(workplace.journal(), &boot_id()?).map_err(journal_failure)?.iter().rev() {
        if transaction.confirm_by_boot_s == Some(deadline) {
            let undone =
                executor.undo(Which::Id(transaction.header.id), OnDrift::Stop).or_exit(Exit::SetupStuck)?;
            steps += undone.steps.len();
        }
    }
    context.print(format!("{} taken back, not confirmed in time", count(steps)))?;
    Ok(Exit::Ok.into())
}
