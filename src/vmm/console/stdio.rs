//! A console on this process's standard input and output.
//!
//! On a terminal, which is raw meanwhile, Ctrl-A x leaves, Ctrl-A p presses the power button and Ctrl-A Ctrl-A sends one
//! Ctrl-A.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::OFlag;

use crate::sys::terminal::{RawTerminal, is_writable, nonblocking_copy};
use crate::vmm::backend::console::End;
use crate::vmm::console::Typed;

/// The escape character, Ctrl-A.
const ESCAPE: u8 = 0x01;
/// Most bytes that are written at once where a write may block: what a pipe takes as a whole.
const PIPE_BYTES: usize = 4096;

/// Standard input and output. Restores the terminal when it is dropped.
#[derive(Debug)]
pub struct Stdio {
    stdout: File,
    /// Whether writes to `stdout` never block.
    stdout_nonblocking: bool,
    stdin: Option<File>,
    escape: Option<Escape>,
    terminal: Option<RawTerminal>,
}

/// Looks for the escape character in terminal input.
#[derive(Debug, Default)]
struct Escape {
    pressed: bool,
}

impl Escape {
    /// What goes to the guest of `input`, up to a request of the user's.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, Typed) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            match (std::mem::take(&mut self.pressed), *byte) {
                (false, ESCAPE) => self.pressed = true,
                (true, b'x' | b'X') => return (passed, Typed::Leave),
                (true, b'p' | b'P') => return (passed, Typed::PowerButton),
                (_, byte) => passed.push(byte),
            }
        }
        (passed, Typed::Input)
    }
}

impl Stdio {
    /// Takes standard input and output; a terminal becomes raw.
    ///
    /// # Errors
    /// What the kernel answered to the calls on the terminal and the descriptors.
    pub fn open() -> io::Result<Self> {
        let (stdout, stdout_nonblocking) = nonblocking_copy(io::stdout().as_fd(), OFlag::O_WRONLY)?;
        let terminal = RawTerminal::new()?;
        // Reading a terminal that belongs to another job would stop this process.
        let readable = terminal.is_some() || !io::stdin().is_terminal();
        let stdin = readable.then(|| nonblocking_copy(io::stdin().as_fd(), OFlag::O_RDONLY)).transpose()?;
        Ok(Self {
            stdout: stdout.into(),
            stdout_nonblocking,
            stdin: stdin.map(|(fd, _)| fd.into()),
            escape: terminal.is_some().then(Escape::default),
            terminal,
        })
    }
}

impl End for Stdio {
    fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    fn writer(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stdout.as_fd())
    }

    fn reader(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(AsFd::as_fd)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.stdout_nonblocking {
            return self.stdout.write(data);
        }
        // One that may block gets no more than a pipe takes at once, and only when it says that it has room.
        if !is_writable(&self.stdout) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.stdout.write(data.get(..PIPE_BYTES).unwrap_or(data))
    }

    /// The end of the input is no error.
    fn read(&mut self) -> (Vec<u8>, Typed) {
        let mut bytes = [0; 256];
        let nothing = (Vec::new(), Typed::Input);
        let Some(stdin) = self.stdin.as_mut() else { return nothing };
        let length = match stdin.read(&mut bytes) {
            Ok(0) => {
                self.stdin = None;
                return nothing;
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return nothing;
            }
            Err(error) => {
                tracing::debug!(%error, "standard input is gone");
                self.stdin = None;
                return nothing;
            }
        };
        let input = bytes.get(..length).unwrap_or_default();
        match &mut self.escape {
            Some(escape) => escape.filter(input),
            None => (input.to_vec(), Typed::Input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_character_is_found_across_reads() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"ls\r"), (b"ls\r".to_vec(), Typed::Input));
        assert_eq!(escape.filter(b"a\x01"), (b"a".to_vec(), Typed::Input));
        assert_eq!(escape.filter(b"\x01b"), (b"\x01b".to_vec(), Typed::Input), "doubled: sent once");
        assert_eq!(escape.filter(b"q\x01p"), (b"q".to_vec(), Typed::PowerButton));
        assert_eq!(escape.filter(b"\x01xrest"), (Vec::new(), Typed::Leave));
    }
}
