//! `thruway profile`: list, show and check profiles.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::format::{self, FormatArgs};
use crate::cli::{CliResult, Context, Exit, Failure};
use crate::profile::{ProfileError, Purpose, builtin, load};

/// Arguments of `thruway profile`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  thruway profile list
  thruway profile show sriov-nic > my.yaml
  thruway profile check my.yaml")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the built-in profiles
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Print a profile: a built-in one to be copied, or what a file says in the end
    #[command(
        after_long_help = "With --format json or yaml, the profile is printed as it was understood, defaults filled in."
    )]
    Show {
        /// Name of a built-in profile, or path of a file
        #[arg(value_name = "PROFILE")]
        profile: String,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Check profiles without touching the host; exit code 2 if one is not valid
    Check {
        /// Paths of files, or names of built-in profiles
        #[arg(required = true, value_name = "PROFILE")]
        profiles: Vec<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
}

#[derive(Debug, Serialize)]
struct ListEntry {
    name: &'static str,
    description: String,
}

#[derive(Debug, Serialize)]
struct Checked<'a> {
    profile: &'a str,
    valid: bool,
    error: Option<String>,
}

/// Runs `thruway profile`.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    match &args.what {
        What::List { format } => list(*format, context),
        What::Show { profile, format } => show(profile, *format, context),
        What::Check { profiles, format } => check(profiles, *format, context),
    }
}

fn list(format: FormatArgs, context: &Context) -> CliResult {
    let mut entries = Vec::new();
    for builtin in builtin::ALL {
        let description = load(builtin.name, Purpose::Look)?.profile.description;
        entries.push(ListEntry { name: builtin.name, description });
    }
    let document = format::document(format.format, "thruway.profile-list", 1, &entries)?;
    context.print(document.unwrap_or_else(|| {
        let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        let lines = entries.iter().map(|entry| format!("{:width$}  {}\n", entry.name, entry.description));
        lines.collect()
    }))?;
    Ok(ExitCode::SUCCESS)
}

fn show(profile: &str, format: FormatArgs, context: &Context) -> CliResult {
    let loaded = load(profile, Purpose::Look)?;
    let document = format::document(format.format, "thruway.profile", 1, &loaded.profile)?;
    context.print(document.as_deref().unwrap_or(loaded.text()))?;
    Ok(ExitCode::SUCCESS)
}

fn check(profiles: &[String], format: FormatArgs, context: &Context) -> CliResult {
    let mut failures: Vec<ProfileError> = Vec::new();
    let mut checked = Vec::new();
    for profile in profiles {
        let error = load(profile, Purpose::Look).err();
        checked.push(Checked {
            profile,
            valid: error.is_none(),
            error: error.as_ref().map(ToString::to_string),
        });
        failures.extend(error);
    }
    if let Some(document) = format::document(format.format, "thruway.profile-check", 1, &checked)? {
        context.print(document)?;
        return Ok(if failures.is_empty() { Exit::Ok } else { Exit::Usage }.into());
    }
    let valid = checked.iter().filter(|checked| checked.valid);
    context.print(valid.map(|checked| format!("{}: valid\n", checked.profile)).collect::<String>())?;
    let texts: Vec<String> = failures.into_iter().map(|error| Failure::from(error).to_string()).collect();
    if texts.is_empty() { Ok(Exit::Ok.into()) } else { Err(Failure::report(Exit::Usage, texts.join("\n"))) }
}
