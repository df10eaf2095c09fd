//! Console device (VIRTIO 1.3, 5.3): one port, output only.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::virtio::{DeviceType, console};
use crate::vmm::Lifecycle;
use crate::vmm::backend::console::{ConsoleError, ConsoleFile};
use crate::vmm::virtio::queue::{QueueError, Virtqueue, total_bytes};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler, VirtioDevice};

/// A console of the guest (`hvc0`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// File that takes what the guest prints, created if it does not exist, appended to if it does.
    pub file: PathBuf,
}

const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Bytes that are copied out of a chain at a time, so that a long one needs no long buffer.
const PIECE: usize = 4096;
/// Most bytes of one chain that are printed. Drivers send a page at a time.
const MAX_BYTES: u64 = 1 << 20;

/// The device.
#[derive(Debug)]
pub struct Console {
    label: String,
    output: Arc<Mutex<ConsoleFile>>,
}

impl Console {
    /// Opens the console's file.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn open(config: &ConsoleConfig) -> Result<Self, ConsoleError> {
        let output = Arc::new(Mutex::new(ConsoleFile::open(&config.file)?));
        Ok(Self { label: format!("virtio-console({})", config.file.display()), output })
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
        let handler = ConsoleHandler { output: Arc::clone(&self.output), piece: vec![0; PIECE] };
        Ok(vec![QueueGroup { handler: Box::new(handler), queues: activation.queues }])
    }
}

struct ConsoleHandler {
    /// Shared with the device for its next activation; no other thread uses it meanwhile.
    output: Arc<Mutex<ConsoleFile>>,
    piece: Vec<u8>,
}

impl QueueHandler for ConsoleHandler {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        if usize::from(queue.index()) != console::TX_QUEUE {
            // Buffers for input wait until there is input.
            return Ok(());
        }
        while let Some(chain) = queue.pop()? {
            let length = total_bytes(chain.readable()).min(MAX_BYTES);
            let mut done = 0;
            while done < length {
                let read = queue.read(&chain, done, &mut self.piece)?;
                let text = self.piece.get(..read).unwrap_or_default();
                self.output.lock().unwrap_or_else(PoisonError::into_inner).print(text);
                done += read as u64;
            }
            queue.push(chain, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::virtio::testing::{Bench, Descriptor, hostile};

    fn bench() -> (Bench, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::open(&ConsoleConfig { file: file.path().to_owned() }).unwrap();
        (Bench::new(&console, 0), file)
    }

    #[test]
    fn output_reaches_the_file_in_order() {
        let (mut bench, file) = bench();
        let long = "x".repeat(2 * PIECE + 5);
        let (first, second) = (bench.text(b"hello "), bench.text(long.as_bytes()));
        let second_length = u32::try_from(long.len()).unwrap();
        let tx = console::TX_QUEUE;
        assert_eq!(
            bench.request(tx, &[Descriptor::read(first, 6), Descriptor::read(second, second_length)]),
            0
        );
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), format!("hello {long}"));
    }

    #[test]
    fn input_buffers_wait() {
        let (mut bench, _file) = bench();
        let data = bench.buffer(64);
        bench.offer(console::RX_QUEUE, &[Descriptor::write(data, 64)]);
        bench.process(console::RX_QUEUE).unwrap();
        assert_eq!(bench.used(console::RX_QUEUE), 0);
    }

    #[test]
    fn hostile_chains_are_survived() {
        let files = std::cell::RefCell::new(Vec::new());
        hostile(|| {
            let (bench, file) = bench();
            files.borrow_mut().push(file);
            bench
        });
    }
}
