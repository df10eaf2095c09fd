//! What every sub-command is handed: where its output goes and how much of it is wanted.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use anstream::AutoStream;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorMode {
    /// On a terminal that can, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Even into files and pipes
    Always,
    /// Not at all
    Never,
}

impl From<ColorMode> for anstream::ColorChoice {
    fn from(mode: ColorMode) -> Self {
        match mode {
            ColorMode::Auto => Self::Auto,
            ColorMode::Always => Self::Always,
            ColorMode::Never => Self::Never,
        }
    }
}

/// The options that hold for every sub-command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    color: ColorMode,
    verbosity: Verbosity,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Notes, warnings and errors.
    Normal,
    /// Rare changes of state too.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

impl Context {
    /// From the global options `--color`, `-v` (counted) and `-q`.
    pub(crate) fn new(color: ColorMode, verbose: u8, quiet: bool) -> Self {
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Info,
            (false, 2) => Verbosity::Debug,
            (false, _) => Verbosity::Trace,
        };
        anstream::ColorChoice::from(color).write_global();
        Self { color, verbosity }
    }

    /// How much is said on stderr.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Whether stderr is a terminal on which progress can be redrawn.
    pub(crate) fn can_animate(&self) -> bool {
        self.verbosity >= Verbosity::Normal
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Writes data to stdout, with a line break at its end if it has none. ANSI styles are taken out where stdout
    /// does not show colour.
    ///
    /// # Errors
    /// Stdout cannot take it. A closed pipe is a [`Failure`] too, one that ends the program with success.
    pub(crate) fn print(&self, text: impl Display) -> Result<(), Failure> {
        let mut text = text.to_string();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let out = AutoStream::new(io::stdout().lock(), self.color.into());
        if out.current_choice() == anstream::ColorChoice::Never {
            // At once: the stream would write piece by piece, a system call each.
            text = anstream::adapter::strip_str(&text).to_string();
        }
        let mut out = out.into_inner();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::closed_pipe(),
            _ => Failure::caused("cannot write to stdout", Exit::Host, error),
        })
    }

    /// Writes a line for people to stderr: progress, hints, what was done. Silent under `--quiet`.
    pub(crate) fn note(&self, text: impl Display) {
        if self.verbosity >= Verbosity::Normal {
            let mut out = AutoStream::new(io::stderr().lock(), self.color.into());
            drop(writeln!(out, "{text}")); // nobody is left to tell if stderr is gone
        }
    }
}

/// The colour of help and usage errors, which clap prints before it has understood `--color`.
pub(crate) fn color_of_help(arguments: &[OsString]) -> clap::ColorChoice {
    let ours = arguments.split(|argument| argument == "--").next().unwrap_or(&[]);
    let mut modes = ours.iter().enumerate().filter_map(|(at, argument)| {
        match argument.to_str()?.strip_prefix("--color")? {
            "" => ours.get(at + 1)?.to_str(),
            value => value.strip_prefix('='),
        }
    });
    match modes.next_back() {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color_of(arguments: &[&str]) -> clap::ColorChoice {
        color_of_help(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn colour_of_help_follows_the_last_color_option() {
        assert_eq!(color_of(&["thruway", "--help"]), clap::ColorChoice::Auto);
        assert_eq!(color_of(&["thruway", "--color", "never", "--help"]), clap::ColorChoice::Never);
        assert_eq!(color_of(&["thruway", "--color=never", "--color=always"]), clap::ColorChoice::Always);
        assert_eq!(color_of(&["thruway", "--color"]), clap::ColorChoice::Auto);
    }

    #[test]
    fn colour_options_of_a_rehearsed_command_are_not_ours() {
        assert_eq!(color_of(&["thruway", "rehearse", "--", "ls", "--color=always"]), clap::ColorChoice::Auto);
    }

    #[test]
    fn quiet_wins_and_v_counts() {
        let verbosity = |verbose, quiet| Context::new(ColorMode::Auto, verbose, quiet).verbosity();
        assert_eq!(verbosity(0, true), Verbosity::Quiet);
        assert_eq!(verbosity(0, false), Verbosity::Normal);
        assert_eq!(verbosity(2, false), Verbosity::Debug);
        assert_eq!(verbosity(9, false), Verbosity::Trace);
    }
}
