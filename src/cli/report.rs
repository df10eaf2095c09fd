//! `thruway report`: what this host is and what is wrong with it, as one page that can be passed on.

use std::path::{Path, PathBuf};

use crate::check::{self, Asked};
use crate::cli::source::{RootArgs, Telling, read};
use crate::cli::{CliResult, Context, Exit, OrExit, new_file, progress};
use crate::report::document;
use crate::report::view::html::{self, Page};

/// Arguments of `thruway report`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway report --html host.html                       this host, for a forum or a colleague
  thruway report --html host.html --root host.tar.gz    another host, by its capture
  sudo thruway report --html host.html                  with what only root may read
  thruway report --html - | ssh desk 'cat > host.html'

The page is one file that loads nothing and needs no script: verdicts, what to do first, every finding, the PCI tree with
its IOMMU groups, the facts, and what could not be read. Serial numbers, MAC and IP addresses, UUIDs, host and user names
are replaced, as in a capture. The same host gives the same page.")]
pub(crate) struct Args {
    /// The page to write; the file must not exist; - for stdout
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// Keep serial numbers, addresses, UUIDs and names as they are
    #[arg(long)]
    no_redact: bool,
    #[command(flatten)]
    root: RootArgs,
}

/// Reads the host and writes the page.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let path = args.html.as_path();
    let to_stdout = path == Path::new("-");
    if !to_stdout {
        new_file::refuse_existing(path)?;
    }
    let source = args.root.open()?;
    let redact = !args.no_redact && !source.is_redacted();
    let redacted = redact || source.is_redacted();
    let page = progress::shown(context, "reading the host", || {
        let facts = read(source, if redact { Telling::Redacted } else { Telling::Whole });
        let diagnosis = check::diagnose(&facts, Asked::Host);
        let (_, unread) = document::split(&facts)?;
        Ok::<_, serde_json::Error>(html::render(Page {
            facts: &facts,
            diagnosis: &diagnosis,
            unread: &unread,
            redacted,
        }))
    });
    let page = page.or_exit(Exit::VmmFault)?;
    if to_stdout {
        context.print(page)?;
    } else {
        new_file::write(path, page.as_bytes())?;
        context.note(format!("{}: open it in a browser", path.display()));
    }
    Ok(Exit::Ok.into())
}
