//! Console device (VIRTIO 1.3, 5.3): one port, both directions.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::spec::virtio::{DeviceType, console};
use crate::sys::event;
use crate::vmm::Lifecycle;
pub use crate::vmm::backend::console::Target as ConsoleConfig;
use crate::vmm::console::{InputQueue, Output};
use crate::vmm::virtio::queue::{QueueError, Virtqueue, total_bytes};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler, VirtioDevice};

const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Bytes that are copied out of a chain at a time, so that a long one needs no long buffer.
const PIECE: usize = 4096;
/// Most bytes of one chain that are printed. Drivers send a page at a time.
const MAX_BYTES: u64 = 1 << 20;

/// The device.
#[derive(Debug)]
pub struct Console {
    label: String,
    output: Arc<Output>,
    input: Arc<InputQueue>,
}

impl Console {
    /// A console (`hvc0`) that prints to `output` and takes what comes by `input`; `place` names where that is.
    #[must_use]
    pub fn new(place: &ConsoleConfig, output: Arc<Output>, input: Arc<InputQueue>) -> Self {
        Self { label: format!("virtio-console({place})"), output, input }
    }
}

impl Lifecycle for Console {
    fn reset(&self) {}
}

impl VirtioDevice for Console {
    fn label(&self) -> &str {
        &self.label
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::CONSOLE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _: usize, _: &mut [u8]) {}

    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError> {
        let handler = ConsoleHandler {
            output: Arc::clone(&self.output),
            input: Arc::clone(&self.input),
            piece: vec![0; PIECE],
        };
        Ok(vec![QueueGroup { handler: Box::new(handler), queues: activation.queues }])
    }
}

struct ConsoleHandler {
    output: Arc<Output>,
    input: Arc<InputQueue>,
    piece: Vec<u8>,
}

impl ConsoleHandler {
    /// Gives the guest what was typed, as far as it has buffers.
    fn receive(&self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        while !self.input.is_empty() {
            let Some(chain) = queue.pop()? else { return Ok(()) };
            let room = usize::try_from(total_bytes(chain.writable())).unwrap_or(usize::MAX);
            let input = self.input.take(room);
            let written = queue.write(&chain, 0, &input)?;
            queue.push(chain, u32::try_from(written).unwrap_or(0))?;
        }
        Ok(())
    }
}

impl QueueHandler for ConsoleHandler {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        if usize::from(queue.index()) == console::RX_QUEUE {
            return self.receive(queue);
        }
        while let Some(chain) = queue.pop()? {
            let length = total_bytes(chain.readable()).min(MAX_BYTES);
            let mut done = 0;
            while done < length {
                let read = queue.read(&chain, done, &mut self.piece)?;
                let text = self.piece.get(..read).unwrap_or_default();
                self.output.print_all(text);
                done += read as u64;
            }
            queue.push(chain, 0)?;
        }
        Ok(())
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![event::borrow(self.input.arrived())]
    }

    fn process_event(&mut self, _: usize, queues: &mut [Virtqueue]) -> Result<(), QueueError> {
        drop(self.input.arrived().read());
        let receive = queues.iter_mut().find(|queue| usize::from(queue.index()) == console::RX_QUEUE);
        receive.map_or(Ok(()), |queue| self.receive(queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::virtio::testing::{Bench, Descriptor, hostile};

    use crate::vmm::console::Receiver;

    fn bench() -> (Bench, Arc<Output>, Arc<InputQueue>) {
        let (output, input) = (Arc::new(Output::new().unwrap()), Arc::new(InputQueue::new().unwrap()));
        let console = Console::new(&ConsoleConfig::STDIO, Arc::clone(&output), Arc::clone(&input));
        (Bench::new(&console, 0), output, input)
    }

    #[test]
    fn output_reaches_the_console_in_order() {
        let (mut bench, output, _) = bench();
        let long = "x".repeat(2 * PIECE + 5);
        let (first, second) = (bench.text(b"hello "), bench.text(long.as_bytes()));
        let second_length = u32::try_from(long.len()).unwrap();
        let tx = console::TX_QUEUE;
        assert_eq!(
            bench.request(tx, &[Descriptor::read(first, 6), Descriptor::read(second, second_length)]),
            0
        );
        assert_eq!(output.take(), format!("hello {long}").into_bytes());
    }

    #[test]
    fn input_waits_for_buffers_and_buffers_for_input() {
        let (mut bench, _, input) = bench();
        let data = bench.buffer(64);
        assert_eq!(input.input(b"typed"), 5);
        bench.offer(console::RX_QUEUE, &[Descriptor::write(data, 3)]);
        bench.process(console::RX_QUEUE).unwrap();
        assert_eq!((bench.used(console::RX_QUEUE), bench.bytes(data, 3)), (1, b"typ".to_vec()));
        bench.offer(console::RX_QUEUE, &[Descriptor::write(data, 64)]);
        bench.process(console::RX_QUEUE).unwrap();
        assert_eq!((bench.used(console::RX_QUEUE), bench.bytes(data, 2)), (2, b"ed".to_vec()));
        bench.offer(console::RX_QUEUE, &[Descriptor::write(data, 64)]);
        bench.process(console::RX_QUEUE).unwrap();
        assert_eq!(bench.used(console::RX_QUEUE), 2, "the third waits");
    }

    #[test]
    fn hostile_chains_are_survived() {
        hostile(|| {
            let (bench, output, input) = bench();
            input.input(b"something");
            // Nobody reads what is printed.
            output.close();
            bench
        });
    }
}
