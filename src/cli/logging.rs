//! Diagnostics to stderr: `tracing` events, as many as `-v` and `-q` ask for.
//!
//! Levels mean: error, what the user asked did not happen; warn, abnormal but harmless; info, a rare change of state;
//! debug and trace, for developers. Libraries that use `log` come through the bridge.

use std::io::{self, IsTerminal};

use anstream::AutoStream;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::context::{Context, Verbosity};

/// Starts diagnostics for the rest of the process.
pub(super) fn start(context: &Context) {
    let (ours, others) = levels(context.verbosity());
    let filter = Targets::new().with_default(others).with_target(env!("CARGO_PKG_NAME"), ours);
    let color = AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(color && io::stderr().is_terminal())
        .with_target(context.verbosity() >= Verbosity::Debug)
        .without_time()
        .with_filter(filter);
    // A second start in one process (a test) keeps the first.
    drop(tracing_subscriber::registry().with(lines).try_init());
}

/// The least important level that is shown, of our own events and of our libraries'.
fn levels(verbosity: Verbosity) -> (LevelFilter, LevelFilter) {
    match verbosity {
        Verbosity::Quiet => (LevelFilter::ERROR, LevelFilter::OFF),
        Verbosity::Normal => (LevelFilter::WARN, LevelFilter::ERROR),
        Verbosity::Info => (LevelFilter::INFO, LevelFilter::WARN),
        Verbosity::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        Verbosity::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
    }
}
