//! How a sub-command fails: an exit code and an error, printed once, here.

use std::any::Any;
use std::error::Error;
use std::fmt::{self, Display};
use std::io::{ErrorKind, Write};
use std::panic;
use std::process::ExitCode;

use crate::cli::exit::Exit;
use crate::profile::ProfileError;

/// What a sub-command returns: the code to exit with, or why it failed. [`Exit`] converts into `ExitCode`;
/// `rehearse --` hands back numbers that are not ours.
pub(crate) type CliResult = Result<ExitCode, Failure>;

type AnyError = Box<dyn Error + Send + Sync>;

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Why a sub-command ends early, and with which exit code.
#[derive(Debug)]
pub(crate) struct Failure(Kind);

#[derive(Debug)]
enum Kind {
    /// Printed as `error: ..` with the chain of causes.
    Error { exit: Exit, error: AnyError },
    /// Printed as it is.
    Report { exit: Exit, text: String },
    /// Whoever read our output has seen enough: not an error.
    ClosedPipe,
}

impl Failure {
    /// Ends with `exit` and prints `error` with its causes. `error` is any error type, or a text.
    pub(crate) fn new(exit: Exit, error: impl Into<AnyError>) -> Self {
        Self(Kind::Error { exit, error: error.into() })
    }

    /// Ends with `exit` and prints `what` with `cause` beneath it.
    pub(crate) fn caused(what: impl Display, exit: Exit, cause: impl Into<AnyError>) -> Self {
        Self::new(exit, Caused { what: what.to_string(), cause: cause.into() })
    }

    /// Ends with `exit` and prints `text`, which is whole: several errors, or an excerpt of a file.
    pub(crate) fn report(exit: Exit, text: impl Display) -> Self {
        Self(Kind::Report { exit, text: text.to_string() })
    }

    /// Stdout is a pipe that nobody reads any more.
    pub(crate) fn closed_pipe() -> Self {
        Self(Kind::ClosedPipe)
    }

    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self.0 {
            Kind::Error { exit, .. } | Kind::Report { exit, .. } => exit,
            Kind::ClosedPipe => Exit::Ok,
        }
    }

    /// Prints it to stderr; the code that the process ends with.
    pub(super) fn print(&self) -> ExitCode {
        drop(write!(anstream::stderr().lock(), "{self}")); // nobody is left to tell if stderr is gone
        self.exit().into()
    }
}

impl From<ProfileError> for Failure {
    /// Exit code 2; what is wrong in a file is shown there.
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Invalid(findings) => Self::report(Exit::Usage, findings.render()),
            error => Self::new(Exit::Usage, error),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Error { error, .. } => {
                writeln!(f, "{RED}error:{RED:#} {error}")?;
                let mut said = error.to_string();
                for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
                    let text = cause.to_string();
                    if !said.ends_with(&text) {
                        writeln!(f, "  {DIM}because:{DIM:#} {text}")?;
                    }
                    said = text;
                }
                Ok(())
            }
            Kind::Report { text, .. } => writeln!(f, "{}", text.trim_end_matches('\n')),
            Kind::ClosedPipe => Ok(()),
        }
    }
}

/// A text in front of its cause.
#[derive(Debug)]
struct Caused {
    what: String,
    cause: AnyError,
}

impl Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Caused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.as_ref())
    }
}

/// Turns an error into a [`Failure`] where it leaves a sub-command.
pub(crate) trait OrExit<T> {
    /// The value, or a failure that ends the program with `exit`.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<AnyError>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

/// Prints what clap has to say (help, the version, or a usage error) and gives the code to exit with.
pub(super) fn print_usage(message: &clap::Error) -> ExitCode {
    match message.print() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Exit::Host.into(),
        _ if message.use_stderr() => Exit::Usage.into(),
        _ => Exit::Ok.into(),
    }
}

/// Makes a panic name itself as our own fault, in one line, before it unwinds to [`crate::cli::main`].
pub(super) fn name_panics() {
    let verbose = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            verbose(panic);
        }
        let what = text_of(panic.payload());
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        drop(writeln!(
            anstream::stderr().lock(),
            "{RED}internal error:{RED:#} {what}{}\nThis is a fault in thruway {}; please report it with the lines above and what you ran.",
            place.unwrap_or_default(),
            env!("CARGO_PKG_VERSION"),
        ));
    }));
}

fn text_of(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot bind 0000:01:00.0")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write /sys/x: {0}")]
    struct Inner(#[source] io::Error);

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn causes_are_printed_once_each_from_the_outside_in() {
        let error = Outer(Inner(io::Error::new(ErrorKind::PermissionDenied, "no")));
        let failure = Err::<(), _>(error).or_exit(Exit::SetupFailed).unwrap_err();
        assert_eq!(plain(&failure), "error: cannot bind 0000:01:00.0\n  because: cannot write /sys/x: no\n");
        assert_eq!(failure.exit(), Exit::SetupFailed);
    }

    #[test]
    fn a_text_is_an_error_and_can_have_a_cause() {
        assert_eq!(plain(&Failure::new(Exit::Host, "no /dev/kvm")), "error: no /dev/kvm\n");
        let failure = Failure::caused("cannot read x", Exit::Usage, io::Error::other("broken"));
        assert_eq!(plain(&failure), "error: cannot read x\n  because: broken\n");
    }

    #[test]
    fn a_closed_pipe_is_success_without_a_word() {
        let failure = Failure::closed_pipe();
        assert_eq!((failure.exit(), plain(&failure)), (Exit::Ok, String::new()));
    }
}
