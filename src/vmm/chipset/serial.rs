//! Serial ports: 16550A UARTs (`vm-superio`), each on a console of the machine.
//!
//! Output goes to [`Output`] after the UART's lock is released: a console that does not take bytes slows down the vCPU
//! that writes them, for a bounded time, and nobody else.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::console::{Output, Receiver};
use crate::vmm::interrupt::InterruptLine;

/// COM1: first of its eight I/O ports.
pub const COM1: u16 = 0x3F8;
/// COM1's ISA interrupt.
pub const COM1_GSI: u32 = 4;
/// COM2: first of its eight I/O ports.
pub const COM2: u16 = 0x2F8;
/// COM2's ISA interrupt.
pub const COM2_GSI: u32 = 3;
/// Every port's first I/O port and interrupt, in the order of a machine's configuration.
pub const PORTS: [(u16, u32); 2] = [(COM1, COM1_GSI), (COM2, COM2_GSI)];
/// I/O ports of one.
pub const LENGTH: u64 = 8;

/// The UART's edge-triggered ISA interrupt.
struct Edge(Arc<InterruptLine>);

impl Trigger for Edge {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set_level(true);
        self.0.set_level(false);
        Ok(())
    }
}

/// Tells the console that the guest read all input.
struct InputEvents(Arc<EventFd>);

impl SerialEvents for InputEvents {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        // Fails only if the counter is full, and then it is signalled anyway.
        drop(self.0.write(1));
    }
}

type Port = Uart<Edge, InputEvents, Vec<u8>>;

/// The port.
pub struct Serial {
    /// Released before the console is called.
    uart: Mutex<Port>,
    line: Arc<InterruptLine>,
    output: Arc<Output>,
    input_empty: Arc<EventFd>,
}

impl std::fmt::Debug for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serial").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Serial {
    /// A port that interrupts by `line` and prints to `output`.
    ///
    /// # Errors
    /// What eventfd(2) answered.
    pub fn new(line: InterruptLine, output: Arc<Output>) -> io::Result<Self> {
        let line = Arc::new(line);
        let input_empty = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let uart = Mutex::new(port(&line, &input_empty));
        Ok(Self { uart, line, output, input_empty })
    }
}

impl Receiver for Serial {
    fn input(&self, input: &[u8]) -> usize {
        let mut uart = self.uart.lock().unwrap_or_else(PoisonError::into_inner);
        uart.enqueue_raw_bytes(input).unwrap_or(0)
    }

    /// Each time that the guest has read all input.
    fn room(&self) -> &EventFd {
        &self.input_empty
    }
}

fn port(line: &Arc<InterruptLine>, input_empty: &Arc<EventFd>) -> Port {
    Port::with_events(Edge(Arc::clone(line)), InputEvents(Arc::clone(input_empty)), Vec::new())
}

/// The register at `offset`, if the access is one that a UART on an 8-bit bus takes.
fn register(offset: u64, size: AccessSize) -> Result<u8, IoError> {
    match (u8::try_from(offset), size) {
        (Ok(offset @ 0..8), AccessSize::Byte) => Ok(offset),
        (_, AccessSize::Byte) => Err(IoError::InvalidRegister),
        _ => Err(IoError::InvalidAccessSize),
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let register = register(offset, size)?;
        Ok(self.uart.lock().unwrap_or_else(PoisonError::into_inner).read(register).into())
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let register = register(offset, size)?;
        let [value, ..] = value.to_le_bytes();
        let mut uart = self.uart.lock().unwrap_or_else(PoisonError::into_inner);
        // The only error left is a full loopback FIFO, which real hardware drops too.
        drop(uart.write(register, value));
        let printed = uart.writer_mut().pop();
        drop(uart);
        if let Some(byte) = printed {
            self.output.print(byte);
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for Serial {
    fn reset(&self) {
        let mut uart = self.uart.lock().unwrap_or_else(PoisonError::into_inner);
        *uart = port(&self.line, &self.input_empty);
        drop(uart);
        drop(self.input_empty.write(1));
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::sys::event::is_signalled;
    use crate::vmm::Unsupported;
    use crate::vmm::interrupt::{Connection, LineController};

    #[derive(Default)]
    struct Edges(Mutex<Vec<bool>>);

    impl LineController for Edges {
        fn set_level(&self, _: u32, high: bool) -> io::Result<()> {
            self.0.lock().unwrap().push(high);
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    fn serial() -> (Serial, Arc<Edges>, Arc<Output>) {
        let edges = Arc::new(Edges::default());
        let line = InterruptLine::new(COM1_GSI, Arc::clone(&edges) as Arc<dyn LineController>);
        let output = Arc::new(Output::new().unwrap());
        (Serial::new(line, Arc::clone(&output)).unwrap(), edges, output)
    }

    #[test]
    fn what_the_guest_prints_reaches_the_console() {
        let (serial, _, output) = serial();
        for byte in *b"ok" {
            let _ = serial.write(0, AccessSize::Byte, byte.into());
        }
        assert_eq!(output.take(), b"ok");
    }

    #[test]
    fn input_interrupts_once_and_stops_at_the_fifos_end() {
        let (serial, edges, _) = serial();
        let _ = serial.write(1, AccessSize::Byte, 1);
        let room = serial.uart.lock().unwrap().fifo_capacity();
        assert_eq!(serial.input(&vec![b'x'; room + 100]), room);
        assert_eq!(serial.input(b"more"), 0);
        assert_eq!(*edges.0.lock().unwrap(), [true, false]);
        assert!(!is_signalled(serial.room()));
        for _ in 0..room {
            assert_eq!(serial.read(0, AccessSize::Byte), Ok(b'x'.into()));
        }
        assert!(is_signalled(serial.room()));
    }

    #[test]
    fn any_offset_and_width_is_answered_and_reset_empties_the_fifo() {
        let (serial, _, _) = serial();
        for offset in 0..16 {
            for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                let _ = serial.write(offset, size, u64::MAX);
                let _ = serial.read(offset, size);
            }
        }
        serial.reset();
        serial.input(b"x");
        serial.reset();
        assert_eq!(serial.read(5, AccessSize::Byte), Ok(0x60), "idle, no data");
    }
}
