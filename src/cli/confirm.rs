//! Asking before something is changed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// The option `--yes`, to be flattened into the arguments of a command that changes something.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ConsentArgs {
    /// Do it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `--yes`, or a yes on the terminal.
    Yes,
    /// Anything else on the terminal.
    No,
    /// There is no terminal to ask on.
    NobodyToAsk,
}

impl ConsentArgs {
    /// Asks `question` (a whole sentence, without a question mark's `[y/N]`) unless `--yes` was given.
    pub(crate) fn ask(self, question: &str) -> Answer {
        if self.yes {
            return Answer::Yes;
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Answer::NobodyToAsk;
        }
        drop(write!(anstream::stderr().lock(), "{question} [y/N] "));
        read_answer(io::stdin().lock())
    }

    /// Like [`Self::ask`], for commands that go on only with a yes.
    ///
    /// # Errors
    /// A no ends the command with [`Exit::No`], nobody to ask with [`Exit::Usage`] and a hint at `--yes`.
    pub(crate) fn require(self, question: &str) -> Result<(), Failure> {
        match self.ask(question) {
            Answer::Yes => Ok(()),
            Answer::No => Err(Failure::report(Exit::No, "nothing was changed")),
            Answer::NobodyToAsk => Err(Failure::new(
                Exit::Usage,
                "this changes the host, and there is no terminal to ask on; look with --dry-run, then pass --yes",
            )),
        }
    }
}

fn read_answer(mut input: impl BufRead) -> Answer {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(_) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Answer::Yes,
        _ => Answer::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_are_a_yes() {
        for line in ["y\n", "yes\n", "Y\n", " YES \n", "y"] {
            assert_eq!(read_answer(line.as_bytes()), Answer::Yes, "{line:?}");
        }
        for line in ["", "\n", "n\n", "no\n", "yess\n", "yy\n", "\u{ff}\n"] {
            assert_eq!(read_answer(line.as_bytes()), Answer::No, "{line:?}");
        }
    }

    #[test]
    fn the_option_answers_without_a_terminal() {
        assert_eq!(ConsentArgs { yes: true }.ask("Go on?"), Answer::Yes);
    }
}
