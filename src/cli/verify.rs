//! `thruway verify`: is it still so? Exit code 1 when it is not.

use serde::Serialize;

use crate::cli::change::{named, plan_failure};
use crate::cli::format::{FormatArgs, document};
use crate::cli::{CliResult, Context, Exit, Failure, source, status};
use crate::profile::{Purpose, load};
use crate::report::{style::Tone, table, view};
use crate::setup::guard::{Consents, Objection};
use crate::setup::plan::{PlanError, plan};
use crate::setup::status::Status;

/// Arguments of `thruway verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway verify              is everything that thruway changed in this boot still so?
  thruway verify sriov-nic    is this host what the profile says, whoever made it so?
  thruway verify sriov-nic || thruway apply sriov-nic --yes

Changes nothing. Ends with 0 if it is so, with 1 if it is not: somebody changed it, the host was
booted since, or a command did not end well. Without a profile the journal is read, which belongs
to root.")]
pub(crate) struct Args {
    /// A profile: a built-in name or a YAML file
    #[arg(value_name = "PROFILE")]
    profile: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was found about the journal, as programs read it.
#[derive(Debug, Serialize)]
struct JournalDocument<'a> {
    holds: bool,
    #[serde(flatten)]
    status: &'a Status,
}

/// What was found about a profile, as programs read it.
#[derive(Debug, Serialize)]
struct ProfileDocument<'a> {
    holds: bool,
    differences: Vec<&'a str>,
    refused: &'a [Objection],
}

/// Compares and shows.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let holds = match &args.profile {
        Some(profile) => profile_holds(profile, args.format, context)?,
        None => journal_holds(args.format, context)?,
    };
    Ok(if holds { Exit::Ok } else { Exit::No }.into())
}

fn journal_holds(format: FormatArgs, context: &Context) -> Result<bool, Failure> {
    let status = status::read()?;
    let holds = status.holds();
    let found = JournalDocument { holds, status: &status };
    let text = document(format.format, "thruway.verify", 1, &found)?;
    context.print(text.unwrap_or_else(|| {
        let verdict = verdict(holds, "It is all as thruway left it", "It is not as thruway left it");
        format!("{verdict}\n\n{}", view::journal::render(&status, table::terminal_width()))
    }))?;
    Ok(holds)
}

/// A profile holds if nothing is to be done for it. What a safety rule would say of doing it is told, and no obstacle.
fn profile_holds(profile: &str, format: FormatArgs, context: &Context) -> Result<bool, Failure> {
    let wanted = named(load(profile, Purpose::Look)?.profile.host)?;
    let facts = source::live(context);
    let (plan, refused) = match plan(&facts, &wanted, &Consents::default()) {
        Ok(plan) => (Some(plan), Vec::new()),
        Err(PlanError::Refused(objections)) => (None, objections),
        Err(error) => return Err(plan_failure(error)),
    };
    let holds = plan.as_ref().is_some_and(|plan| plan.is_empty() && plan.needs_reboot.is_empty());
    let steps = plan.iter().flat_map(|plan| &plan.steps).map(|step| &step.text);
    let of_boot = plan.iter().flat_map(|plan| &plan.needs_reboot);
    let differences = steps.chain(of_boot).map(String::as_str).collect();
    let found = ProfileDocument { holds, differences, refused: &refused };
    let text = document(format.format, "thruway.verify", 1, &found)?;
    context.print(text.unwrap_or_else(|| {
        let verdict =
            verdict(holds, "This host is what the profile says", "This host is not what the profile says");
        let width = table::terminal_width();
        let rest = plan.as_ref().map_or_else(
            || view::plan::render_refusal(&refused, width),
            |plan| view::plan::render(plan, width),
        );
        format!("{verdict}\n\n{rest}")
    }))?;
    Ok(holds)
}

fn verdict(holds: bool, yes: &str, no: &str) -> String {
    if holds { Tone::Good.paint(yes) } else { Tone::Bad.paint(no) }
}
