//! Network device (VIRTIO 1.3, 5.1), connected to a tap interface.
//!
//! The kernel's tap speaks virtio-net headers itself, so checksum and segmentation offloads pass through: what the two
//! sides negotiated is told to the tap, and headers are handed on as they are. Frames to the guest are read into one buffer
//! and copied once into the guest's; frames from the guest go out of its memory without a copy here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::ethernet::MacAddress;
use crate::spec::virtio::DeviceType;
use crate::spec::virtio::net::{HEADER, HEADER_NUM_BUFFERS, LINK_UP, RX_QUEUE, feature};
use crate::sys::scatter::MAX_PIECES;
use crate::sys::tap::{Offload, Tap};
use crate::vmm::Lifecycle;
use crate::vmm::rate_limit::RateLimit;
use crate::vmm::virtio::devices::{VirtioError, read_registers};
use crate::vmm::virtio::queue::{Chain, QueueError, Virtqueue, total_bytes};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler, VirtioDevice};

/// A network card of the guest, connected to a tap interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the tap interface.
    pub tap: String,
    /// MAC address, `52:54:00:12:34:56`; one made from this host's identity and the tap interface's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

const QUEUE_SIZES: [u16; 2] = [256, 256];
/// The longest frame: a segmentation offload's 64 KiB of IP packet behind an Ethernet header with a VLAN tag.
const MAX_FRAME: usize = 65535 + 18;
const MAX_BYTES: usize = HEADER + MAX_FRAME;
/// Identity of this host, part of what default MAC addresses are made from (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Which offload of the tap each negotiated feature allows.
const OFFLOADS: [(u64, Offload); 4] = [
    (feature::GUEST_CSUM, Offload::CHECKSUM),
    (feature::GUEST_TSO4, Offload::TSO4),
    (feature::GUEST_TSO6, Offload::TSO6),
    (feature::GUEST_ECN, Offload::TSO_ECN),
];

/// Guests can send nonsense as often as they like: the log must stay readable.
static DROPPED: RateLimit = RateLimit::new();

/// What frames come from and go to: a tap, or a test.
trait Link: Send + Sync {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize>;
    fn send(&self, pieces: &[vm_memory::VolatileSlice<'_>]) -> io::Result<usize>;
    fn set_offload(&self, offload: Offload) -> io::Result<()>;
    /// Becomes readable when a frame arrives.
    fn event(&self) -> Option<BorrowedFd<'_>>;
}

impl Link for Tap {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        Self::receive(self, frame)
    }
    fn send(&self, pieces: &[vm_memory::VolatileSlice<'_>]) -> io::Result<usize> {
        Self::send(self, pieces)
    }
    fn set_offload(&self, offload: Offload) -> io::Result<()> {
        Self::set_offload(self, offload)
    }
    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// The device.
pub struct Net {
    label: String,
    link: Arc<dyn Link>,
    /// MAC address, then link status.
    registers: [u8; 8],
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Net {
    /// Opens the tap interface of `config`.
    ///
    /// # Errors
    /// [`VirtioError::Tap`] and [`VirtioError::Mac`].
    pub fn open(config: &NetConfig) -> Result<Self, VirtioError> {
        let mac = match &config.mac {
            Some(text) => parse_mac(text).ok_or_else(|| VirtioError::Mac { mac: text.clone() })?,
            None => default_mac(&std::fs::read(MACHINE_ID).unwrap_or_default(), &config.tap),
        };
        let header = u8::try_from(HEADER).unwrap_or(u8::MAX);
        let tap = Tap::open(&config.tap, header)?;
        Ok(Self::new(format!("virtio-net({})", config.tap), Arc::new(tap), mac))
    }

    fn new(label: String, link: Arc<dyn Link>, mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        let [low, high] = LINK_UP.to_le_bytes();
        Self { label, link, registers: [a, b, c, d, e, f, low, high] }
    }
}

/// A unicast address in the usual notation.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    text.parse().ok().filter(|mac: &MacAddress| mac.is_of_one_card()).map(MacAddress::bytes)
}

/// A locally administered address (IEEE 802, 8.2.2) that is the same in every run and differs between hosts and taps.
fn default_mac(machine_id: &[u8], tap: &str) -> [u8; 6] {
    // FNV-1a, 64 bits: stable for ever, unlike the standard library's hashers
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = machine_id.iter().chain(b"/").chain(tap.as_bytes()).fold(0xCBF2_9CE4_8422_2325, step);
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

impl Lifecycle for Net {
    fn reset(&self) {}
}

impl VirtioDevice for Net {
    fn label(&self) -> &str {
        &self.label
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::NET
    }

    fn features(&self) -> u64 {
        let receive = OFFLOADS.iter().fold(0, |bits, (bit, _)| bits | bit);
        let send = feature::CSUM | feature::HOST_TSO4 | feature::HOST_TSO6 | feature::HOST_ECN;
        feature::MAC | feature::STATUS | feature::MRG_RXBUF | receive | send
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_registers(&self.registers, offset, data);
    }

    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError> {
        let features = activation.features;
        let mut offload = Offload::empty();
        for (bit, allowed) in OFFLOADS {
            // A tap takes no segmentation offload without checksums (Linux: drivers/net/tun.c, set_offload)
            offload.set(allowed, features & bit != 0 && features & feature::GUEST_CSUM != 0);
        }
        let set = self.link.set_offload(offload);
        set.map_err(|source| ActivateError { what: "cannot set the offloads of the tap interface", source })?;
        let (receive, send) = activation.queues.into_iter().partition(is_receive);
        let receiver = Receiver {
            link: Arc::clone(&self.link),
            mergeable: features & feature::MRG_RXBUF != 0,
            frame: vec![0; MAX_BYTES],
            waiting: 0,
        };
        let sender = Sender { link: Arc::clone(&self.link) };
        let mut groups = vec![
            QueueGroup { handler: Box::new(receiver), queues: receive },
            QueueGroup { handler: Box::new(sender), queues: send },
        ];
        groups.retain(|group| !group.queues.is_empty());
        Ok(groups)
    }
}

fn is_receive(queue: &Virtqueue) -> bool {
    usize::from(queue.index()) == RX_QUEUE
}

/// Frames from the host to the guest.
struct Receiver {
    link: Arc<dyn Link>,
    mergeable: bool,
    frame: Vec<u8>,
    /// Bytes in `frame` that the guest has no buffers for yet.
    waiting: usize,
}

/// What became of a frame.
enum Delivery {
    /// It is gone: the guest has it, or could never have it.
    Done,
    /// The guest has to give more buffers first.
    NoBuffers,
}

impl Receiver {
    fn receive(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        loop {
            if self.waiting == 0 {
                match self.link.receive(&mut self.frame) {
                    Ok(length) if length > HEADER => self.waiting = length,
                    Ok(_) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => {
                        if let Some(suppressed) = DROPPED.allow() {
                            tracing::warn!(%error, suppressed, "cannot read from the tap interface");
                        }
                        return Ok(());
                    }
                }
            }
            match self.deliver(queue)? {
                Delivery::Done => self.waiting = 0,
                Delivery::NoBuffers => return Ok(()),
            }
        }
    }

    fn deliver(&mut self, queue: &mut Virtqueue) -> Result<Delivery, QueueError> {
        let length = self.waiting as u64;
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        while room < length && (chains.is_empty() || self.mergeable) {
            let Some(chain) = queue.pop()? else {
                for chain in chains.into_iter().rev() {
                    queue.unpop(chain);
                }
                return Ok(Delivery::NoBuffers);
            };
            room += total_bytes(chain.writable());
            chains.push(chain);
        }
        if room < length {
            // One buffer per frame was agreed upon, and this one is too small for the frame.
            for chain in chains {
                queue.unpop(chain);
            }
            if let Some(suppressed) = DROPPED.allow() {
                tracing::debug!(length, room, suppressed, "frame dropped: larger than the guest's buffer");
            }
            return Ok(Delivery::Done);
        }
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX).to_le_bytes();
        let number = usize::try_from(HEADER_NUM_BUFFERS).unwrap_or(0);
        for (target, byte) in self.frame.iter_mut().skip(number).zip(count) {
            *target = byte;
        }
        let mut done = 0;
        for chain in chains {
            let rest = self.frame.get(done..self.waiting).unwrap_or_default();
            let written = queue.write(&chain, 0, rest)?;
            done += written;
            queue.push(chain, u32::try_from(written).unwrap_or(u32::MAX))?;
        }
        Ok(Delivery::Done)
    }
}

impl QueueHandler for Receiver {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        self.receive(queue)
    }

    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.link.event().into_iter().collect()
    }

    fn process_event(&mut self, _: usize, queues: &mut [Virtqueue]) -> Result<(), QueueError> {
        queues.first_mut().map_or(Ok(()), |queue| self.receive(queue))
    }
}

/// Frames from the guest to the host.
struct Sender {
    link: Arc<dyn Link>,
}

impl QueueHandler for Sender {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            let length = total_bytes(chain.readable());
            if (HEADER as u64 + 1..=MAX_BYTES as u64).contains(&length) {
                let buffers = chain.readable().iter().copied();
                let sent = queue.with_memory(&chain, buffers, |pieces| {
                    if pieces.len() > MAX_PIECES {
                        return Err(io::Error::from(io::ErrorKind::InvalidInput));
                    }
                    self.link.send(pieces)
                })?;
                // A wire loses frames as well: the guest is not told.
                if let Err(error) = sent
                    && let Some(suppressed) = DROPPED.allow()
                {
                    tracing::debug!(%error, suppressed, "frame from the guest dropped");
                }
            }
            queue.push(chain, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
