//! `thruway doctor`: what is wrong with this host, why, and what to do.

use std::str::FromStr;

use serde::Serialize;

use crate::check::{self, Asked, Check, Finding, Purpose, Question, Verdicts};
use crate::cli::context::Verbosity;
use crate::cli::format::{FormatArgs, document};
use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::host::select::{Selector, resolve};
use crate::report::table;
use crate::report::view::findings::{self, Detail};
use crate::spec::pci::PciAddress;
use crate::spec::spelling::closest;

/// Name of the document.
const SCHEMA: &str = "thruway.doctor";
/// Version of its shape.
const SCHEMA_VERSION: u32 = 1;

/// Arguments of `thruway doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway doctor                                 everything that is wrong here, and what to do
  thruway doctor --for vfio                      only what matters for passing devices through
  thruway doctor --for 01:00.0                   can this device be passed through, and what does the host lose?
  thruway doctor --explain iommu-running         why a check matters, and its answer here
  thruway doctor --format json | jq '.data.findings[] | select(.status == \"fail\")'

Ends with 1 if a check failed, and only then. What could not be read is unknown, never passed: as root more is known.")]
pub(crate) struct Args {
    /// Ask only what matters for this: kvm, vfio, sriov, performance, or one function by its address
    #[arg(long = "for", value_name = "PURPOSE|ADDR", conflicts_with_all = ["list", "explain"])]
    subject: Option<Subject>,
    /// Explain one check: what it asks, why that matters, where to read on, its answer here
    #[arg(long, value_name = "ID", conflicts_with = "list")]
    explain: Option<String>,
    /// List all checks and ask none
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Purpose(Purpose),
    Function(PciAddress),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write kvm, vfio, sriov, performance, or the address of a function, for example 0000:01:00.0")]
struct NoSubject;

impl FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == text).map(Self::Purpose);
        purpose.or_else(|| text.parse().ok().map(Self::Function)).ok_or(NoSubject)
    }
}

/// Asks and answers.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    if args.list {
        return list(args.format, context);
    }
    if let Some(id) = &args.explain {
        return explain(args, by_id(id)?, context);
    }
    let facts = args.root.facts(context)?;
    let asked = match args.subject {
        None => Asked::Host,
        Some(Subject::Purpose(purpose)) => Asked::Purpose(purpose),
        Some(Subject::Function(address)) => {
            let address = resolve(&facts, &Selector::Address(address)).or_exit(Exit::Usage)?;
            let function = facts.device(address);
            Asked::Function(function.expect("an address that resolved is that of a function"))
        }
    };
    let diagnosis = check::diagnose(&facts, asked);
    let text = document(args.format.format, SCHEMA, SCHEMA_VERSION, &diagnosis)?;
    let detail = if context.verbosity() > Verbosity::Normal { Detail::Full } else { Detail::Brief };
    context.print(text.unwrap_or_else(|| findings::render(&diagnosis, detail, table::terminal_width())))?;
    Ok(if diagnosis.is_no() { Exit::No } else { Exit::Ok }.into())
}

/// The check that the user names, or the one that was probably meant.
fn by_id(id: &str) -> Result<&'static Check, Failure> {
    check::by_id(id).ok_or_else(|| {
        let ids: Vec<_> = check::all().map(|check| check.id).collect();
        let meant = closest(id, &ids).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        Failure::new(
            Exit::Usage,
            format!("there is no check called `{id}`; {meant}thruway doctor --list shows them all"),
        )
    })
}

/// A check as programs read it.
#[derive(Debug, Serialize)]
struct CheckDocument<'a> {
    id: &'a str,
    title: &'a str,
    purposes: &'a [Purpose],
    /// Whether it is asked of one function, by `--for ADDR`.
    of_function: bool,
    why: &'a str,
    refs: &'a [&'a str],
}

impl<'a> From<&'a Check> for CheckDocument<'a> {
    fn from(check: &'a Check) -> Self {
        Self {
            id: check.id,
            title: check.title,
            purposes: check.purposes,
            of_function: matches!(check.run, Question::Function(_)),
            why: check.why,
            refs: check.refs,
        }
    }
}

fn list(format: FormatArgs, context: &Context) -> CliResult {
    #[derive(Serialize)]
    struct List<'a> {
        checks: Vec<CheckDocument<'a>>,
    }
    let checks: Vec<_> = check::all().collect();
    let data = List { checks: checks.iter().copied().map(CheckDocument::from).collect() };
    let text = document(format.format, "thruway.checks", 1, &data)?;
    context.print(text.unwrap_or_else(|| findings::list(&checks, table::terminal_width())))?;
    Ok(Exit::Ok.into())
}

fn explain(args: &Args, check: &'static Check, context: &Context) -> CliResult {
    #[derive(Serialize)]
    struct Explained<'a> {
        #[serde(flatten)]
        check: CheckDocument<'a>,
        verdicts: Verdicts,
        /// Its answer here; absent for a check of functions.
        finding: Option<Finding>,
    }
    let facts = args.root.facts(context)?;
    let finding = check::run(&facts, None).into_iter().find(|finding| finding.id == check.id);
    let data = Explained { check: check.into(), verdicts: check::verdicts(&facts), finding };
    let text = document(args.format.format, "thruway.check", 1, &data)?;
    context.print(
        text.unwrap_or_else(|| findings::explain(check, data.finding.as_ref(), table::terminal_width())),
    )?;
    Ok(Exit::Ok.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_that_the_help_explains_is_there() {
        let help =
            <Args as clap::Args>::augment_args(clap::Command::new("doctor")).render_long_help().to_string();
        let (_, rest) = help.split_once("thruway doctor --explain ").unwrap();
        let id = rest.split_whitespace().next().unwrap();
        assert!(check::by_id(id).is_some(), "{id}");
    }

    #[test]
    fn a_subject_is_a_purpose_or_an_address() {
        assert_eq!("vfio".parse(), Ok(Subject::Purpose(Purpose::Vfio)));
        assert_eq!("01:00.0".parse(), Ok(Subject::Function("0000:01:00.0".parse().unwrap())));
        assert_eq!("gpu".parse::<Subject>(), Err(NoSubject));
    }
}
