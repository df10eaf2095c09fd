//! `thruway capture`: what this host is, in one file that can be passed on.

use std::path::{Path, PathBuf};

use crate::cli::source::RootArgs;
use crate::cli::{CliResult, Context, Exit, OrExit, new_file, progress};
use crate::host;
use crate::host::source::redact::Redaction;
use crate::host::source::{Bundle, patiently};

/// Arguments of `thruway capture`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  thruway capture -o host.tar.gz                  this host, for a bug report
  thruway probe --root host.tar.gz                what it was, anywhere and at any time
  thruway probe --diff host.tar.gz                what has changed since
  thruway capture --no-redact -o private.tar.gz   with serial numbers, addresses and names

The file holds what the inspector reads, denials included, and nothing else. Serial numbers, MAC and IP addresses,
UUIDs, host and user names are replaced, each by the same placeholder wherever it stands. `tar xzf` shows what is in
it; an unpacked capture works with --root too.")]
pub(crate) struct Args {
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Keep serial numbers, addresses, UUIDs and names as they are
    #[arg(long)]
    no_redact: bool,
    #[command(flatten)]
    root: RootArgs,
}

/// Reads the host and writes the file.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let path = args.output.as_path();
    new_file::refuse_existing(path)?;
    let source = args.root.open()?;
    let packed = progress::shown(context, "reading this host", || {
        let (_, bundle) = patiently(source, host::capture);
        let (bundle, redaction) = match args.no_redact {
            true => (bundle, None),
            false => {
                let (bundle, redaction) = bundle.redacted();
                (bundle, Some(redaction))
            }
        };
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).map(|()| (bundle, redaction, bytes))
    });
    let (bundle, redaction, bytes) = packed.or_exit(Exit::VmmFault)?;
    new_file::write(path, &bytes)?;
    context.note(summary(path, &bundle, redaction.as_ref(), bytes.len()));
    Ok(Exit::Ok.into())
}

/// What is in the file, and what a reader learns from it.
fn summary(path: &Path, bundle: &Bundle, redaction: Option<&Redaction>, size_bytes: usize) -> String {
    let mut lines = vec![format!(
        "{}: {} files and links, {} KiB",
        path.display(),
        bundle.entries(),
        size_bytes.div_ceil(1024)
    )];
    let Some(redaction) = redaction else {
        lines.push(
            "Nothing was replaced: serial numbers, addresses, and names of this host and its users are in it. Think \
             before you pass it on."
                .to_owned(),
        );
        return lines.join("\n");
    };
    let replaced: Vec<_> = redaction.replaced.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !replaced.is_empty() {
        lines.push(format!("  replaced   {}", replaced.join(", ")));
    }
    let mut left_out = redaction.left_out.clone();
    match redaction.processes_left_out {
        0 => {}
        1 => left_out.push("1 process that holds no device".to_owned()),
        count => left_out.push(format!("{count} processes that hold no device")),
    }
    if !left_out.is_empty() {
        lines.push(format!("  left out   {}", left_out.join(", ")));
    }
    lines.push(
        "  still told  hardware, firmware and its versions, kernel and its arguments, names of interfaces, volumes, \
         mount points and of processes that hold devices"
            .to_owned(),
    );
    lines.join("\n")
}
