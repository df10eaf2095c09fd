//! Consoles of the machine: what a guest prints and is told, between its device and a place of this host.
//!
//! vCPUs and workers put bytes into [`Output`]; the thread that runs the machine carries them to the console's
//! [`End`](crate::vmm::backend::console::End), and input back to the device, a [`Receiver`]. A [`Port`] is one such pair. Nobody
//! waits for long: a console whose end takes nothing loses what the guest prints.

pub mod stdio;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event;
use crate::vmm::backend::console::{ConsoleError, End, Target};
use stdio::Stdio;

/// Bytes that wait for a slow reader of a console.
const CAPACITY: usize = 64 << 10;
/// How long a vCPU waits for room before output is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

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

    /// Adds bytes, as [`Self::print`] does.
    pub fn print_all(&self, bytes: &[u8]) {
        for byte in bytes {
            self.print(*byte);
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
                "a console was not read for long; guest output was dropped"
            );
            buffer.dropped = 0;
        }
        drop(buffer);
        self.room.notify_all();
        bytes.into()
    }

    /// Nobody will ever read again: what is printed from now on is dropped.
    pub fn close(&self) {
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
    /// Ctrl-A p: press the power button.
    PowerButton,
}

/// The device that takes a console's input.
pub trait Receiver: Send + Sync {
    /// Takes as much of `input` as there is room for; the number of bytes taken.
    fn input(&self, input: &[u8]) -> usize;

    /// Signalled when there is room again.
    fn room(&self) -> &EventFd;
}

/// Input that a device takes when it gets to it.
#[derive(Debug)]
pub struct InputQueue {
    bytes: Mutex<VecDeque<u8>>,
    arrived: EventFd,
    room: EventFd,
}

impl InputQueue {
    const CAPACITY: usize = 4096;

    /// An empty queue.
    ///
    /// # Errors
    /// What eventfd(2) answered.
    pub fn new() -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self { bytes: Mutex::default(), arrived: event()?, room: event()? })
    }

    /// Signalled when there is something to take.
    #[must_use]
    pub fn arrived(&self) -> &EventFd {
        &self.arrived
    }

    /// Whether nothing is there to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes up to `limit` bytes.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<u8> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = limit.min(bytes.len());
        let taken = bytes.drain(..count).collect();
        drop(bytes);
        drop(self.room.write(1));
        taken
    }
}

impl Receiver for InputQueue {
    fn input(&self, input: &[u8]) -> usize {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = Self::CAPACITY.saturating_sub(bytes.len()).min(input.len());
        bytes.extend(input.iter().take(taken));
        drop(bytes);
        if taken > 0 {
            drop(self.arrived.write(1));
        }
        taken
    }

    fn room(&self) -> &EventFd {
        &self.room
    }
}

/// A console before its end is opened.
pub struct Wiring {
    /// Where it is to be.
    pub target: Target,
    /// What the guest prints.
    pub output: Arc<Output>,
    /// Who takes input.
    pub receiver: Arc<dyn Receiver>,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").field("target", &self.target).finish_non_exhaustive()
    }
}

/// One console.
pub struct Port {
    output: Arc<Output>,
    receiver: Arc<dyn Receiver>,
    end: Box<dyn End>,
    /// Taken out of `output`, not yet written.
    pending: VecDeque<u8>,
    /// Read, not yet taken by the device.
    typed: VecDeque<u8>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("end", &self.end).finish_non_exhaustive()
    }
}

/// What of a port became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEvent {
    /// The guest printed something, or the end takes more.
    Output,
    /// The device has room for input.
    Room,
    /// The end has input.
    Input,
}

/// Opens the ends of all consoles.
///
/// # Errors
/// [`ConsoleError`], which names what the host refused.
pub fn open(wirings: Vec<Wiring>) -> Result<Vec<Port>, ConsoleError> {
    let is_stdio = |wiring: &Wiring| matches!(wiring.target, Target::Stdio { .. });
    let (last, first): (Vec<_>, Vec<_>) = wirings.into_iter().partition(is_stdio);
    // Standard input last, since a terminal becomes raw by it: messages of what failed before come out straight.
    first.into_iter().chain(last).map(Port::open).collect()
}

impl Port {
    fn open(wiring: Wiring) -> Result<Self, ConsoleError> {
        let Wiring { target, output, receiver } = wiring;
        let end: Box<dyn End> = match &target {
            Target::Stdio { .. } => Box::new(
                Stdio::open()
                    .map_err(|source| ConsoleError { what: "standard input and output".into(), source })?,
            ),
            other => other.open()?,
        };
        Ok(Self { output, receiver, end, pending: VecDeque::new(), typed: VecDeque::new() })
    }

    /// Whether the console is a terminal that this process has made raw.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.end.is_terminal()
    }

    /// What the user has to know to use the console, for example which terminal it is.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.end.note()
    }

    /// What to wait for, whether for room, and what it means.
    pub fn events(&self) -> impl Iterator<Item = (PortEvent, BorrowedFd<'_>, Readiness)> {
        // While the end is blocked, more output is no news.
        let blocked = self.end.writer().filter(|_| !self.pending.is_empty());
        let output = match blocked {
            Some(writer) => (PortEvent::Output, writer, Readiness::Write),
            None => (PortEvent::Output, event::borrow(&self.output.ready), Readiness::Read),
        };
        let room = (PortEvent::Room, event::borrow(self.receiver.room()), Readiness::Read);
        // Nothing is read before the device took what was read before.
        let reader = self.end.reader().filter(|_| self.typed.is_empty());
        let input = reader.map(|reader| (PortEvent::Input, reader, Readiness::Read));
        [output, room].into_iter().chain(input)
    }

    /// Does what `event` asks for.
    pub fn handle(&mut self, event: PortEvent) -> Typed {
        match event {
            PortEvent::Output => self.write_out(),
            PortEvent::Room => {
                drop(self.receiver.room().read());
                self.feed();
            }
            PortEvent::Input => {
                let (input, typed) = self.end.read();
                self.typed.extend(input);
                self.feed();
                return typed;
            }
        }
        Typed::Input
    }

    /// Gives the device more of what was typed, as far as it has room.
    fn feed(&mut self) {
        if !self.typed.is_empty() {
            let taken = self.receiver.input(self.typed.make_contiguous());
            self.typed.drain(..taken.min(self.typed.len()));
        }
    }

    /// Writes out as much as the end takes without waiting. A closed end is no error: what the guest prints from then on is
    /// dropped.
    fn write_out(&mut self) {
        drop(self.output.ready.read());
        loop {
            if self.pending.is_empty() {
                self.pending = self.output.take().into();
                if self.pending.is_empty() {
                    return;
                }
            }
            let (front, _) = self.pending.as_slices();
            match self.end.write(front) {
                Ok(written) => {
                    self.pending.drain(..written.min(self.pending.len()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(end = ?self.end, %error, "a console is closed; the guest's output is dropped");
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
}

/// For what a descriptor is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
}

impl Drop for Port {
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
    fn input_waits_for_the_device_and_is_never_more_than_the_queue_holds() {
        let queue = InputQueue::new().unwrap();
        assert_eq!(queue.input(&[b'x'; 5000]), 4096);
        assert_eq!(queue.input(b"more"), 0);
        assert!(event::is_signalled(queue.arrived()) && !event::is_signalled(queue.room()));
        assert_eq!(queue.take(100).len(), 100);
        assert!(event::is_signalled(queue.room()));
        assert_eq!(queue.input(&[b'y'; 5000]), 100);
        assert_eq!(queue.take(usize::MAX).len(), 4096);
        assert!(queue.is_empty());
    }

    /// An end in memory that takes so much and then blocks.
    #[derive(Debug, Default)]
    struct Memory(Arc<Mutex<(Vec<u8>, usize)>>);

    impl End for Memory {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut state = self.0.lock().unwrap();
            let taken = state.1.min(data.len());
            if taken == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            state.1 -= taken;
            state.0.extend(&data[..taken]);
            Ok(taken)
        }
    }

    #[test]
    fn a_port_writes_what_its_end_takes_and_keeps_the_rest() {
        let (output, receiver) = (Arc::new(Output::new().unwrap()), Arc::new(InputQueue::new().unwrap()));
        let end = Memory::default();
        let state = Arc::clone(&end.0);
        state.lock().unwrap().1 = 3;
        let (pending, typed) = (VecDeque::new(), VecDeque::new());
        let mut port = Port { output: Arc::clone(&output), receiver, end: Box::new(end), pending, typed };
        output.print_all(b"hello");
        assert_eq!(port.handle(PortEvent::Output), Typed::Input);
        assert_eq!(state.lock().unwrap().0, b"hel");
        state.lock().unwrap().1 = 100;
        output.print_all(b" world");
        let _ = port.handle(PortEvent::Output);
        assert_eq!(state.lock().unwrap().0, b"hello world");
    }
}
