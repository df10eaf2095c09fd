//! Entropy device (VIRTIO 1.3, 5.4).

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::virtio::DeviceType;
use crate::vmm::Lifecycle;
use crate::vmm::virtio::devices::VirtioError;
use crate::vmm::virtio::queue::{QueueError, Virtqueue, total_bytes};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler, VirtioDevice};

/// A source of random bytes for the guest, fed by the host's kernel. It has no settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RngConfig {}

/// The host kernel's generator. Opened once, so that a worker opens nothing.
const SOURCE: &str = "/dev/urandom";
/// Most bytes that one request gets, however large its buffers are.
const MAX_BYTES: usize = 64 << 10;
const QUEUE_SIZES: [u16; 1] = [64];

/// The device.
#[derive(Debug)]
pub struct Rng {
    source: Arc<File>,
}

impl Rng {
    /// Opens the host's generator.
    ///
    /// # Errors
    /// [`VirtioError::Entropy`].
    pub fn open() -> Result<Self, VirtioError> {
        let source = File::open(SOURCE).map_err(|source| VirtioError::Entropy { path: SOURCE, source })?;
        Ok(Self { source: Arc::new(source) })
    }
}

impl Lifecycle for Rng {
    fn reset(&self) {}
}

impl VirtioDevice for Rng {
    fn label(&self) -> &'static str {
        "virtio-rng"
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::ENTROPY
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _: usize, _: &mut [u8]) {}

    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError> {
        let handler = RngHandler { source: Arc::clone(&self.source), bytes: Vec::new() };
        Ok(vec![QueueGroup { handler: Box::new(handler), queues: activation.queues }])
    }
}

struct RngHandler {
    source: Arc<File>,
    /// Reused between requests; at most [`MAX_BYTES`].
    bytes: Vec<u8>,
}

impl QueueHandler for RngHandler {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            let wanted = usize::try_from(total_bytes(chain.writable())).unwrap_or(usize::MAX).min(MAX_BYTES);
            self.bytes.resize(wanted, 0);
            let filled = match (&*self.source).read_exact(&mut self.bytes) {
                Ok(()) => queue.write(&chain, 0, &self.bytes)?,
                Err(error) => {
                    tracing::error!(%error, "cannot read {SOURCE}");
                    0
                }
            };
            queue.push(chain, u32::try_from(filled).unwrap_or(0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::virtio::testing::{Bench, Descriptor, hostile};

    fn bench() -> Bench {
        Bench::new(&Rng::open().unwrap(), 0)
    }

    #[test]
    fn a_request_is_filled_up_to_the_cap() {
        let mut bench = bench();
        let data = bench.buffer(3 * MAX_BYTES);
        let used = bench.request(0, &[Descriptor::write(data, 100), Descriptor::write(data + 100, 28)]);
        assert_eq!(used, 128);
        assert!(bench.bytes(data, 128).iter().any(|byte| *byte != 0));
        assert_eq!(bench.bytes(data + 128, 16), [0; 16]);
        let used = bench.request(0, &[Descriptor::write(data, u32::try_from(3 * MAX_BYTES).unwrap())]);
        assert_eq!(used as usize, MAX_BYTES);
    }

    #[test]
    fn a_request_without_room_is_given_back() {
        let mut bench = bench();
        let data = bench.buffer(16);
        assert_eq!(bench.request(0, &[Descriptor::read(data, 16)]), 0);
    }

    #[test]
    fn hostile_chains_are_survived() {
        hostile(bench);
    }
}
