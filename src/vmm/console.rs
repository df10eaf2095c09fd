//! The machine's console on this process's standard input and output.
//!
//! vCPUs put bytes into [`Output`]; the thread that runs the machine writes them out and feeds input to the serial port.
//! On a terminal, which is raw meanwhile, Ctrl-A x leaves and Ctrl-A Ctrl-A sends one Ctrl-A.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::terminal::{RawTerminal, is_writable, nonblocking_copy};
use crate::vmm::chipset::serial::Serial;

/// Bytes that wait for a slow reader of standard output.
const CAPACITY: usize = 64 << 10;
/// How long a vCPU waits for room before output is dropped.
const PATIENCE: Duration = Duration::from_secs(1);
/// The escape character, Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What the guest printed and nobody wrote out yet.
#[derive(Debug)]
pub struct Output {
    buffer: Mutex<Buffer>,
    room: Condvar,
    /// Signalled when the buffer stops being empty.
    ready: EventFd,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    /// Nobody reads: drop at once instead of waiting each time, until a byte is taken again.
    stalled: bool,
    /// Nobody will ever read again.
    closed: bool,
    dropped: u64,
}

impl Output {
    /// An empty buffer.
    ///
    /// # Errors
    /// What eventfd(2) answered.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            buffer: Mutex::default(),
            room: Condvar::new(),
            ready: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// Adds one byte. Waits up to a second where the buffer is full, then drops output until somebody reads again.
    pub fn print(&self, byte: u8) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.bytes.len() >= CAPACITY && !buffer.stalled && !buffer.closed {
            let full = |buffer: &mut Buffer| buffer.bytes.len() >= CAPACITY && !buffer.closed;
            buffer = self
                .room
                .wait_timeout_while(buffer, PATIENCE, full)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if buffer.closed {
            return;
        }
        if buffer.bytes.len() >= CAPACITY {
            buffer.stalled = true;
            buffer.dropped = buffer.dropped.saturating_add(1);
            return;
        }
        let first = buffer.bytes.is_empty();
        buffer.bytes.push_back(byte);
        drop(buffer);
        if first {
            drop(self.ready.write(1));
        }
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = std::mem::take(&mut buffer.bytes);
        buffer.stalled = false;
        if buffer.dropped > 0 {
            tracing::warn!(
                bytes = buffer.dropped,
                "standard output was not read for long; guest output was dropped"
            );
            buffer.dropped = 0;
        }
        drop(buffer);
        self.room.notify_all();
        bytes.into()
    }

    fn close(&self) {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.closed = true;
        buffer.bytes = VecDeque::new();
        drop(buffer);
        self.room.notify_all();
    }
}

/// What the user typed at the terminal, apart from input for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// Nothing special.
    Input,
    /// Ctrl-A x: leave.
    Leave,
}

/// The console. Restores the terminal when it is dropped.
#[derive(Debug)]
pub struct Console {
    output: Arc<Output>,
    stdout: File,
    /// Whether writes to `stdout` never block.
    stdout_nonblocking: bool,
    /// Taken out of `output`, not yet written.
    pending: VecDeque<u8>,
    stdin: Option<File>,
    /// Read, not yet taken by the serial port.
    typed: VecDeque<u8>,
    escape: Option<Escape>,
    terminal: Option<RawTerminal>,
}

/// Looks for the escape character in terminal input.
#[derive(Debug, Default)]
struct Escape {
    pressed: bool,
}

impl Escape {
    /// What goes to the guest of `input`, up to a request to leave.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, Typed) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            match (std::mem::take(&mut self.pressed), *byte) {
                (false, ESCAPE) => self.pressed = true,
                (true, b'x' | b'X') => return (passed, Typed::Leave),
                (_, byte) => passed.push(byte),
            }
        }
        (passed, Typed::Input)
    }
}

impl Console {
    /// Takes standard input and output; a terminal becomes raw.
    ///
    /// # Errors
    /// What the kernel answered to the calls on the terminal and the descriptors.
    pub fn open(output: Arc<Output>) -> io::Result<Self> {
        let (stdout, stdout_nonblocking) = nonblocking_copy(io::stdout().as_fd(), OFlag::O_WRONLY)?;
        let terminal = RawTerminal::new()?;
        // Reading a terminal that belongs to another job would stop this process.
        let readable = terminal.is_some() || !io::stdin().is_terminal();
        let stdin = readable.then(|| nonblocking_copy(io::stdin().as_fd(), OFlag::O_RDONLY)).transpose()?;
        Ok(Self {
            output,
            stdout: stdout.into(),
            stdout_nonblocking,
            pending: VecDeque::new(),
            stdin: stdin.map(|(fd, _)| fd.into()),
            typed: VecDeque::new(),
            escape: terminal.is_some().then(Escape::default),
            terminal,
        })
    }

    /// Whether the console is a terminal that this process has made raw.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Readable when the guest printed something.
    #[must_use]
    pub fn output_ready(&self) -> &EventFd {
        &self.output.ready
    }

    /// Standard output, to be polled for room, while something waits to be written.
    #[must_use]
    pub fn blocked_output(&self) -> Option<BorrowedFd<'_>> {
        (!self.pending.is_empty()).then(|| self.stdout.as_fd())
    }

    /// Standard input, to be polled, while there is room for what it holds.
    #[must_use]
    pub fn wanted_input(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().filter(|_| self.typed.is_empty()).map(AsFd::as_fd)
    }

    /// Writes out as much as standard output takes without waiting. A closed output is no error: what the guest prints from
    /// then on is dropped.
    pub fn write_out(&mut self) {
        drop(self.output.ready.read());
        loop {
            if self.pending.is_empty() {
                self.pending = self.output.take().into();
                if self.pending.is_empty() {
                    return;
                }
            }
            let (front, _) = self.pending.as_slices();
            // One that may block gets no more than a pipe takes at once, and only when it says that it has room.
            let chunk = if self.stdout_nonblocking { front } else { front.get(..4096).unwrap_or(front) };
            if !self.stdout_nonblocking && !is_writable(&self.stdout) {
                return;
            }
            match self.stdout.write(chunk) {
                Ok(written) => {
                    self.pending.drain(..written.min(self.pending.len()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, "standard output is closed; the guest's output is dropped");
                    self.pending.clear();
                    self.output.close();
                    return;
                }
            }
        }
    }

    /// Writes out what is left, for at most a second. Called when no vCPU runs any more.
    pub fn flush(&mut self) {
        let end = Instant::now() + PATIENCE;
        self.write_out();
        while !self.pending.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            self.write_out();
        }
    }

    /// Reads standard input and gives the serial port what it has room for. The end of the input is no error.
    pub fn read_in(&mut self, serial: &Serial) -> Typed {
        let mut bytes = [0; 256];
        let Some(stdin) = self.stdin.as_mut() else { return Typed::Input };
        let length = match stdin.read(&mut bytes) {
            Ok(0) => {
                self.stdin = None;
                return Typed::Input;
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return Typed::Input;
            }
            Err(error) => {
                tracing::debug!(%error, "standard input is gone");
                self.stdin = None;
                return Typed::Input;
            }
        };
        let input = bytes.get(..length).unwrap_or_default();
        let (passed, typed) = match &mut self.escape {
            Some(escape) => escape.filter(input),
            None => (input.to_vec(), Typed::Input),
        };
        self.typed.extend(passed);
        self.feed(serial);
        typed
    }

    /// Gives the serial port more of what was typed, now that it has room.
    pub fn feed(&mut self, serial: &Serial) {
        let taken = serial.input(self.typed.make_contiguous());
        self.typed.drain(..taken.min(self.typed.len()));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.output.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_slows_down_once_and_then_drops_until_somebody_reads() {
        let output = Output::new().unwrap();
        for _ in 0..CAPACITY {
            output.print(b'x');
        }
        let start = Instant::now();
        for _ in 0..1000 {
            output.print(b'y');
        }
        let waited = start.elapsed();
        assert!(waited >= PATIENCE && waited < 3 * PATIENCE, "{waited:?}");
        assert_eq!(output.take().len(), CAPACITY);
        output.print(b'z');
        assert_eq!(output.take(), b"z");
    }

    #[test]
    fn a_closed_console_takes_everything_at_once() {
        let output = Output::new().unwrap();
        output.close();
        for _ in 0..2 * CAPACITY {
            output.print(b'x');
        }
        assert!(output.take().is_empty());
    }

    #[test]
    fn the_escape_character_is_found_across_reads() {
        let mut escape = Escape::default();
        assert_eq!(escape.filter(b"ls\r"), (b"ls\r".to_vec(), Typed::Input));
        assert_eq!(escape.filter(b"a\x01"), (b"a".to_vec(), Typed::Input));
        assert_eq!(escape.filter(b"\x01b"), (b"\x01b".to_vec(), Typed::Input), "doubled: sent once");
        assert_eq!(escape.filter(b"\x01xrest"), (Vec::new(), Typed::Leave));
    }
}
