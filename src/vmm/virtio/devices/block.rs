//! Block device (VIRTIO 1.3, 5.2).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::virtio::DeviceType;
use crate::spec::virtio::block::{SECTOR, config, feature, request, status};
use crate::vmm::Lifecycle;
use crate::vmm::backend::disk::{self, Access, Disk, ZeroedSpace};
use crate::vmm::rate_limit::RateLimit;
use crate::vmm::virtio::devices::{VirtioError, read_registers};
use crate::vmm::virtio::queue::{Chain, QueueError, Virtqueue, slice, total_bytes};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler, VirtioDevice};

/// A disk of the guest, backed by a file or block device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Image file or block device on the host.
    pub path: PathBuf,
    /// Format of the image; never guessed from its content, which the guest can write.
    pub format: ImageFormat,
    /// The guest cannot write.
    #[serde(default)]
    pub readonly: bool,
    /// Serial number that the guest sees, up to 20 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// How an image file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// Sector n of the disk is at byte 512 n of the file.
    #[default]
    Raw,
}

const QUEUE_SIZES: [u16; 1] = [256];
/// Block size that the guest is told: what its requests are multiples of.
const BLOCK_BYTES: u32 = 512;
/// Data buffers of one request: the ring without header and status.
const MAX_SEGMENTS: u32 = 254;
/// Sectors of a discard segment: 2 GiB, which no host takes long to deallocate.
const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// Sectors of a write zeroes segment: 16 MiB, because a host may have to write them.
const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 15;
/// Segments of a discard or write zeroes request.
const MAX_RANGES: u32 = 32;
/// Alignment of discards that lets a host's file system deallocate.
const DISCARD_ALIGNMENT_SECTORS: u32 = 8;

/// Hosts can fail as often as the guest asks: the log must stay readable.
static FAILURES: RateLimit = RateLimit::new();

/// The device.
pub struct Block {
    label: String,
    disk: Arc<dyn Disk>,
    serial: [u8; request::ID_BYTES],
    registers: [u8; config::LENGTH],
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Block {
    /// Opens and locks the image of `config`.
    ///
    /// # Errors
    /// [`VirtioError::Disk`] and [`VirtioError::Serial`].
    pub fn open(config: &BlockConfig) -> Result<Self, VirtioError> {
        let text = config.serial.as_deref().unwrap_or_default();
        if text.len() > request::ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VirtioError::Serial { serial: text.to_owned() });
        }
        let access = if config.readonly { Access::ReadOnly } else { Access::ReadWrite };
        let disk = disk::open(&config.path, config.format, access)?;
        Ok(Self::new(format!("virtio-block({})", config.path.display()), disk, text))
    }

    fn new(label: String, disk: Arc<dyn Disk>, serial: &str) -> Self {
        let mut id = [0; request::ID_BYTES];
        for (byte, character) in id.iter_mut().zip(serial.bytes()) {
            *byte = character;
        }
        Self { label, registers: registers(&*disk), disk, serial: id }
    }
}

fn registers(disk: &dyn Disk) -> [u8; config::LENGTH] {
    let mut registers = [0; config::LENGTH];
    let mut put = |offset: usize, bytes: &[u8]| {
        for (register, byte) in registers.iter_mut().skip(offset).zip(bytes) {
            *register = *byte;
        }
    };
    put(config::CAPACITY, &(disk.capacity_bytes() / SECTOR).to_le_bytes());
    put(config::SEG_MAX, &MAX_SEGMENTS.to_le_bytes());
    put(config::BLK_SIZE, &BLOCK_BYTES.to_le_bytes());
    if !disk.is_read_only() {
        put(config::MAX_DISCARD_SECTORS, &MAX_DISCARD_SECTORS.to_le_bytes());
        put(config::MAX_DISCARD_SEG, &MAX_RANGES.to_le_bytes());
        put(config::DISCARD_SECTOR_ALIGNMENT, &DISCARD_ALIGNMENT_SECTORS.to_le_bytes());
        put(config::MAX_WRITE_ZEROES_SECTORS, &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
        put(config::MAX_WRITE_ZEROES_SEG, &MAX_RANGES.to_le_bytes());
        put(config::WRITE_ZEROES_MAY_UNMAP, &[1]);
    }
    registers
}

impl Lifecycle for Block {
    fn reset(&self) {}
}

impl VirtioDevice for Block {
    fn label(&self) -> &str {
        &self.label
    }

    fn device_type(&self) -> DeviceType {
        DeviceType::BLOCK
    }

    fn features(&self) -> u64 {
        let access =
            if self.disk.is_read_only() { feature::RO } else { feature::DISCARD | feature::WRITE_ZEROES };
        feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH | access
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_registers(&self.registers, offset, data);
    }

    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError> {
        let handler =
            BlockHandler { disk: Arc::clone(&self.disk), serial: self.serial, features: activation.features };
        Ok(vec![QueueGroup { handler: Box::new(handler), queues: activation.queues }])
    }
}

struct BlockHandler {
    disk: Arc<dyn Disk>,
    serial: [u8; request::ID_BYTES],
    features: u64,
}

/// Why a request is answered with an error status.
enum Refusal {
    /// The device does not know the request.
    Unsupported,
    /// The request breaks a limit that the device announced.
    Invalid,
    /// The host failed.
    Host(io::Error),
    /// The queue is broken: there is no answer.
    Queue(QueueError),
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// Part of the disk, in bytes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    length: u64,
}

impl QueueHandler for BlockHandler {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            let writable = total_bytes(chain.writable());
            let Some(data) = writable.checked_sub(1) else {
                return Err(queue.request_error(&chain, "a block request has no room for its status"));
            };
            let answer = match self.execute(queue, &chain, data) {
                Ok(()) => status::OK,
                Err(Refusal::Queue(error)) => return Err(error),
                Err(Refusal::Unsupported) => status::UNSUPP,
                Err(Refusal::Invalid) => status::IOERR,
                Err(Refusal::Host(error)) => {
                    if let Some(suppressed) = FAILURES.allow() {
                        tracing::warn!(%error, suppressed, "a disk request failed on the host; the guest is told");
                    }
                    status::IOERR
                }
            };
            queue.write(&chain, data, &[answer])?;
            // A chain has less than 4 GiB, or it would not have been taken.
            queue.push(chain, u32::try_from(writable).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }
}

impl BlockHandler {
    /// Carries out one request; its data buffers have room for `data_in` bytes before the status.
    fn execute(&self, queue: &Virtqueue, chain: &Chain, data_in: u64) -> Result<(), Refusal> {
        let mut header = [0; request::HEADER];
        if queue.read(chain, 0, &mut header)? < header.len() {
            return Err(Refusal::Invalid);
        }
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let data_out = total_bytes(chain.readable()).saturating_sub(header.len() as u64);
        match u32::from_le_bytes([k0, k1, k2, k3]) {
            request::IN => {
                let extent = self.extent(sector, data_in)?;
                self.limit_segments(slice(chain.writable(), 0, data_in).count())?;
                let buffers = slice(chain.writable(), 0, data_in);
                queue.with_memory(chain, buffers, |pieces| self.disk.read(pieces, extent.offset))??;
            }
            request::OUT => {
                self.writable()?;
                let extent = self.extent(sector, data_out)?;
                let buffers = || slice(chain.readable(), header.len() as u64, data_out);
                self.limit_segments(buffers().count())?;
                queue.with_memory(chain, buffers(), |pieces| self.disk.write(pieces, extent.offset))??;
                if self.features & feature::FLUSH == 0 {
                    // Without flushes the driver takes a completed write for a durable one (5.2.6.2)
                    self.disk.flush()?;
                }
            }
            request::FLUSH => self.disk.flush()?,
            request::GET_ID => {
                let room = usize::try_from(data_in).unwrap_or(usize::MAX).min(self.serial.len());
                queue.write(chain, 0, self.serial.get(..room).unwrap_or_default())?;
            }
            request::DISCARD if self.features & feature::DISCARD != 0 => {
                for (extent, flags) in self.ranges(queue, chain, data_out, MAX_DISCARD_SECTORS)? {
                    if flags != 0 {
                        return Err(Refusal::Unsupported);
                    }
                    self.disk.discard(extent.offset, extent.length)?;
                }
            }
            request::WRITE_ZEROES if self.features & feature::WRITE_ZEROES != 0 => {
                for (extent, flags) in self.ranges(queue, chain, data_out, MAX_WRITE_ZEROES_SECTORS)? {
                    let space = match flags {
                        0 => ZeroedSpace::Keep,
                        request::UNMAP => ZeroedSpace::MayFree,
                        _ => return Err(Refusal::Unsupported),
                    };
                    self.disk.write_zeroes(extent.offset, extent.length, space)?;
                }
            }
            _ => return Err(Refusal::Unsupported),
        }
        Ok(())
    }

    fn writable(&self) -> Result<(), Refusal> {
        if self.disk.is_read_only() { Err(Refusal::Invalid) } else { Ok(()) }
    }

    fn limit_segments(&self, count: usize) -> Result<(), Refusal> {
        let negotiated = self.features & feature::SEG_MAX != 0;
        let many = u32::try_from(count).is_ok_and(|count| count <= MAX_SEGMENTS);
        if negotiated && !many { Err(Refusal::Invalid) } else { Ok(()) }
    }

    /// `length` bytes from `sector` on, if they are whole sectors inside the disk.
    fn extent(&self, sector: u64, length: u64) -> Result<Extent, Refusal> {
        let offset = sector.checked_mul(SECTOR).ok_or(Refusal::Invalid)?;
        let end = offset.checked_add(length).ok_or(Refusal::Invalid)?;
        if !length.is_multiple_of(SECTOR) || end > self.disk.capacity_bytes() {
            return Err(Refusal::Invalid);
        }
        Ok(Extent { offset, length })
    }

    /// The segments of a discard or write zeroes request with their flags. All of them are checked before the first is
    /// carried out.
    fn ranges(
        &self,
        queue: &Virtqueue,
        chain: &Chain,
        data_out: u64,
        max_sectors: u32,
    ) -> Result<Vec<(Extent, u32)>, Refusal> {
        self.writable()?;
        let most = u64::from(MAX_RANGES) * request::SEGMENT as u64;
        if data_out == 0 || data_out > most || !data_out.is_multiple_of(request::SEGMENT as u64) {
            return Err(Refusal::Invalid);
        }
        let mut bytes = vec![0; usize::try_from(data_out).map_err(|_| Refusal::Invalid)?];
        queue.read(chain, request::HEADER as u64, &mut bytes)?;
        let (segments, _) = bytes.as_chunks::<{ request::SEGMENT }>();
        let mut ranges = Vec::with_capacity(segments.len());
        for [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] in segments {
            let sector = u64::from_le_bytes([*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7]);
            let sectors = u32::from_le_bytes([*n0, *n1, *n2, *n3]);
            if sectors > max_sectors {
                return Err(Refusal::Invalid);
            }
            let extent = self.extent(sector, u64::from(sectors) * SECTOR)?;
            if extent.length > 0 {
                ranges.push((extent, u32::from_le_bytes(*flags)));
            }
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests;
