//! `thruway rehearse`: the road, or one command, in an emulated host.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::cli::Context;
use crate::cli::confirm::{Answer, ConsentArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::{CliResult, Failure, OrExit};
use crate::cli::format::{FormatArgs, document};
use crate::cli::progress::spinner;
use crate::profile::{Purpose, load};
use crate::rehearse::road::{Drive, Event, Road, StepOutcome, drive, rehearse};
use crate::rehearse::{
    Assets, AssetsError, Cache, EmulatedHost, Hardware, Options, Outcome, Progress, Stream, shell_words,
};
use crate::report::{table, view};

/// Name of the document that `--format json` prints.
const SCHEMA: &str = "thruway.rehearse";
/// Version of its shape.
const SCHEMA_VERSION: u32 = 1;

/// Arguments of `thruway rehearse`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Boots an emulated host (QEMU) with an IOMMU and SR-IOV devices, and takes the road in it with this same program: probe,
plan, apply, run a guest that gets the function, undo, probe again. What is missing on this machine is fetched after a
yes, or with --yes; nothing else of this machine is changed. A step that fails ends it with exit code 1.

With `-- COMMAND` the emulated host runs that command instead. Its output and exit code are handed back; 125 is a
failure of the rehearsal itself. Its files are this machine's, and what it writes to them is gone afterwards, except
below $LAB_OUT with --keep.

Examples:
  thruway rehearse --yes
  thruway rehearse nvme --hardware vtd-nvme
  thruway rehearse --hardware amdvi -- thruway probe
  thruway rehearse --keep run -- sh -c 'dmesg > $LAB_OUT/dmesg'")]
pub(crate) struct Args {
    /// A profile: a built-in name or a YAML file
    #[arg(default_value = "sriov-nic")]
    profile: String,
    /// The host to emulate: a built-in name or a YAML file
    #[arg(long, value_name = "NAME|FILE", default_value = "vtd-igb")]
    hardware: String,
    #[command(flatten)]
    format: FormatArgs,
    /// Keep the run's files here: console, images, what the steps wrote
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    consent: ConsentArgs,
    /// Give up after so many seconds, counted from when the emulated host is up
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// The inner half: take the steps on this host, with this guest kernel
    #[arg(long, value_name = "FILE", hide = true, requires = "drive_initrd")]
    drive_kernel: Option<PathBuf>,
    /// The inner half's guest initial RAM file system
    #[arg(long, value_name = "FILE", hide = true, requires = "drive_kernel")]
    drive_initrd: Option<PathBuf>,
    /// Run this command in the emulated host instead of the road
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Rehearses.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    if let (Some(kernel), Some(initrd)) = (&args.drive_kernel, &args.drive_initrd) {
        return inner_half(&args.profile, kernel, initrd);
    }
    if args.command.is_empty() { road(args, context) } else { command(args, context) }
}

/// Runs one command in the emulated host.
fn command(args: &Args, context: &Context) -> CliResult {
    let own = Exit::Rehearsal;
    let hardware = Hardware::load(&args.hardware).or_exit(own)?;
    let assets = assets(args, context, own)?;
    let options = Options { listener: Some(Arc::new(hand_on)), kept_output_bytes: 0, ..options(args) };
    let host = EmulatedHost::prepare(&hardware, &assets, options).or_exit(own)?;
    let outcome = host.run(&format!("exec {}", shell_words(&args.command))).or_exit(own)?;
    keep(args, &outcome, context, own)?;
    let status = outcome.status().or_exit(own)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(own.code())))
}

/// Passes the emulated host's streams on to ours.
fn hand_on(stream: Stream, bytes: &[u8]) {
    // Who reads our output may have seen enough; the command still runs to its end.
    let _ = match stream {
        Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    };
}

/// Takes the whole road.
fn road(args: &Args, context: &Context) -> CliResult {
    let hardware = Hardware::load(&args.hardware).or_exit(Exit::Usage)?;
    let profile = load(&args.profile, Purpose::Look).or_exit(Exit::Usage)?;
    let is_file = Path::new(profile.origin()) == Path::new(&args.profile);
    let road_ahead = Road {
        hardware_name: args.hardware.clone(),
        hardware,
        profile_name: args.profile.clone(),
        profile_text: is_file.then(|| profile.text().to_owned()),
    };
    let assets = assets(args, context, Exit::Host)?;
    let live = Arc::new(Live::new(*context));
    live.begin("boot", "start the emulated host");
    let hearing = Arc::clone(&live);
    let result = rehearse(&road_ahead, &assets, options(args), move |event| hearing.event(event));
    live.clear();
    let (report, outcome) = result.or_exit(Exit::Host)?;
    keep(args, &outcome, context, Exit::Host)?;
    let text = document(args.format.format, SCHEMA, SCHEMA_VERSION, &report)?;
    context.print(text.unwrap_or_else(|| view::rehearsal::render(&report, table::terminal_width())))?;
    Ok(if report.passed { Exit::Ok } else { Exit::No }.into())
}

/// Takes the steps on this host and writes an event a line.
fn inner_half(profile: &str, kernel: &Path, initrd: &Path) -> CliResult {
    let told = Drive { profile: profile.to_owned(), kernel: kernel.to_owned(), initrd: initrd.to_owned() };
    let emit = |event: &Event| {
        if let Ok(line) = serde_json::to_string(event) {
            // The outer half is gone if nobody reads; this host ends with it.
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
    };
    Ok(if drive(&told, &emit) { Exit::Ok } else { Exit::No }.into())
}

fn options(args: &Args) -> Options {
    Options { limit: args.timeout.map(Duration::from_secs), ..Options::default() }
}

/// Moves the run's files to where the user wants them.
fn keep(args: &Args, outcome: &Outcome, context: &Context, own: Exit) -> Result<(), Failure> {
    let Some(directory) = &args.keep else { return Ok(()) };
    outcome.keep(directory).or_exit(own)?;
    context.note(format!("The run's files are in {}", directory.display()));
    Ok(())
}

/// Steps on stderr while they are taken: a spinner on a terminal, plain lines elsewhere.
struct Live {
    context: Context,
    bar: Mutex<Option<ProgressBar>>,
    /// When the emulated host was started, until it is known to be up.
    started: Mutex<Option<Instant>>,
}

impl Live {
    fn new(context: Context) -> Self {
        Self { context, bar: Mutex::new(None), started: Mutex::new(Some(Instant::now())) }
    }

    fn begin(&self, name: &str, title: &str) {
        self.clear();
        if self.context.can_animate() {
            *self.bar() = Some(spinner(format!("{name}: {title}")));
        } else {
            self.context.note(format!("{name}: {title} .."));
        }
    }

    fn event(&self, event: &Event) {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(started) = started {
            self.clear();
            self.context.note(format!("boot: ok, {:.1} s", started.elapsed().as_secs_f64()));
        }
        match event {
            Event::Begin { name, title } => self.begin(name, title),
            Event::Detail(line) => {
                if let Some(bar) = &*self.bar() {
                    bar.set_message(crate::report::style::clean(line));
                } else {
                    self.context.note(format!("  {}", crate::report::style::clean(line)));
                }
            }
            Event::End(step) => {
                self.clear();
                let word = match step.outcome {
                    StepOutcome::Passed => "ok",
                    StepOutcome::Failed => "FAILED",
                    StepOutcome::Skipped => return,
                };
                let milliseconds = step.duration_ms;
                self.context.note(format!(
                    "{}: {word}, {}.{} s",
                    step.name,
                    milliseconds / 1000,
                    milliseconds % 1000 / 100
                ));
            }
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

/// The parts of the emulated host; installs what is missing when the user agrees.
fn assets(args: &Args, context: &Context, own_failure: Exit) -> Result<Assets, Failure> {
    let progress = Shown::new(context);
    let cache = Cache::of_environment().or_exit(own_failure)?;
    match Assets::open(&cache, &progress) {
        Err(AssetsError::Incomplete(plan)) => {
            context.note(format!("The emulated host needs {}. This brings it:", plan.summary()));
            for command in &plan.commands {
                context.note(format!("  {command}"));
            }
            match args.consent.ask("Do this now?") {
                Answer::Yes => {}
                Answer::No => return Err(Failure::report(own_failure, "nothing was changed")),
                Answer::NobodyToAsk => {
                    return Err(Failure::new(
                        own_failure,
                        "parts are missing; pass --yes to fetch and install them",
                    ));
                }
            }
            Assets::install(&cache, &plan, &progress).or_exit(own_failure)?;
            Assets::open(&cache, &progress).or_exit(own_failure)
        }
        other => other.or_exit(own_failure),
    }
}

/// Progress on stderr: a spinner on a terminal, plain lines elsewhere.
struct Shown<'a> {
    context: &'a Context,
    now: RefCell<Option<(String, ProgressBar)>>,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, now: RefCell::new(None) }
    }
}

impl Progress for Shown<'_> {
    fn begin(&self, what: &str) {
        let bar = if self.context.can_animate() {
            spinner(what.to_owned())
        } else {
            self.context.note(format!("{what} .."));
            ProgressBar::hidden()
        };
        *self.now.borrow_mut() = Some((what.to_owned(), bar));
    }

    fn detail(&self, line: &str) {
        match &*self.now.borrow() {
            Some((what, bar)) if self.context.can_animate() => bar.set_message(format!("{what}: {line}")),
            _ => self.context.note(format!("  {line}")),
        }
    }

    fn end(&self, elapsed: Duration) {
        if let Some((what, bar)) = self.now.borrow_mut().take() {
            bar.finish_and_clear();
            // What took no time is not worth a line.
            if elapsed >= Duration::from_millis(300) {
                self.context.note(format!("{what}: {:.1} s", elapsed.as_secs_f64()));
            }
        }
    }
}
