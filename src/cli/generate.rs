//! `thruway generate`: man pages, completions and the profile's JSON schema, all from the one definition of each.
//!
//! The results are committed under `man/` and `profiles/`; the test `generated` fails when they are stale.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{CliResult, Context, Exit, Failure, OrExit};
use crate::profile::schema::json_schema;

/// Arguments of `thruway generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write one man page for the program and one for each sub-command
    Man {
        /// Directory that takes the pages; made if it does not exist
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the JSON schema of profiles, for editors and other programs
    Schema,
}

/// Runs `thruway generate`.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    match &args.what {
        What::Man { directory } => man_pages(directory)?,
        What::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut crate::cli::command(), env!("CARGO_PKG_NAME"), &mut script);
            context.print(String::from_utf8_lossy(&script))?;
        }
        What::Schema => {
            let schema = serde_json::to_string_pretty(&json_schema()).or_exit(Exit::VmmFault)?;
            context.print(schema)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn man_pages(directory: &Path) -> Result<(), Failure> {
    let cannot_write =
        |path: &Path, error| Failure::caused(format!("cannot write {}", path.display()), Exit::Host, error);
    fs::create_dir_all(directory).map_err(|error| cannot_write(directory, error))?;
    let mut command = crate::cli::command();
    command.build();
    for (name, page) in pages(&command).or_exit(Exit::VmmFault)? {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|error| cannot_write(&path, error))?;
    }
    Ok(())
}

/// File name and text of the page of `command` and of every command beneath it.
fn pages(command: &clap::Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![page(command)?];
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        all.append(&mut pages(child)?);
    }
    Ok(all)
}

fn page(command: &clap::Command) -> io::Result<(String, Vec<u8>)> {
    let source = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("User Commands");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    notes_and_examples(command).to_writer(&mut text)?;
    exit_status().to_writer(&mut text)?;
    Ok((man.get_filename(), text))
}

/// What stands behind a command's options in its long help: notes, then examples. The program's examples are its road.
fn notes_and_examples(command: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let help = help.unwrap_or_default();
    let headings = ["Examples:\n", "The road:\n"];
    let (notes, examples) =
        headings.iter().find_map(|heading| help.split_once(heading)).unwrap_or((&help, ""));
    if !notes.trim().is_empty() {
        roff.control("SH", ["NOTES"]);
        for paragraph in notes.trim().split("\n\n") {
            roff.control("PP", []).text([roman(paragraph.replace('\n', " "))]);
        }
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::TABLE {
        roff.control("TP", ["5"]).text([bold(exit.code().to_string())]).text([roman(meaning)]);
    }
    roff
}
