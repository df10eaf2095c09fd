//! Virtqueues as devices see them: chains that were checked and copied once.
//!
//! The rings are those of the `virtio-queue` crate; [`Virtqueue`] adds what a device must not have to think about. A chain
//! is walked to its end once, its buffers are checked to lie in RAM, and what the guest writes into the descriptors later
//! does not matter. Each wake-up serves at most one ring's worth of chains, and tells the guest at its end, or on the way when
//! the work takes long. Anything that the standard forbids is a
//! [`QueueError`], which ends the device's work until the driver resets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use crate::vmm::memory::{GuestMemory, Ram};
use crate::vmm::virtio::interrupt::VirtioInterrupt;

/// How long the guest may wait to hear of a finished chain while the device works on the next ones of the same wake-up.
const PATIENCE: Duration = Duration::from_micros(100);

/// What the driver did wrong with a queue. The device needs a reset then (VIRTIO 1.3, 2.1.2).
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The rings are not readable, or the available index is more than a ring ahead.
    #[error("the rings of queue {queue} are broken")]
    Ring {
        /// Index of the queue.
        queue: u16,
        /// What was found.
        #[source]
        source: virtio_queue::Error,
    },
    /// A chain loops, has no end, leaves its table or nests indirect tables.
    #[error("queue {queue}, head {head}: the descriptor chain is malformed")]
    MalformedChain {
        /// Index of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
    },
    /// A device-readable buffer behind a device-writable one (VIRTIO 1.3, 2.7.4.2).
    #[error("queue {queue}, head {head}: a readable buffer follows a writable one")]
    Order {
        /// Index of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
    },
    /// A buffer that does not lie in guest RAM.
    #[error("queue {queue}, head {head}: {length} bytes at {address:#x} are not RAM")]
    NotRam {
        /// Index of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
        /// Guest-physical address of the buffer.
        address: u64,
        /// Its length in bytes.
        length: u32,
    },
    /// A chain was made available that the device still works on.
    #[error("queue {queue}: head {head} was made available twice")]
    Duplicate {
        /// Index of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
    },
    /// A request that breaks the rules of its device type so badly that it cannot be answered.
    #[error("queue {queue}, head {head}: {what}")]
    Request {
        /// Index of the queue.
        queue: u16,
        /// First descriptor of the chain.
        head: u16,
        /// The rule.
        what: &'static str,
    },
}

/// A buffer in guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes, not zero.
    pub length: u32,
}

/// A descriptor chain: readable buffers, then writable ones, all of them in RAM.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    buffers: Vec<Buffer>,
    /// How many of `buffers` are readable.
    readable: usize,
}

impl Chain {
    /// Index of the first descriptor: the chain's name.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device reads.
    #[must_use]
    pub fn readable(&self) -> &[Buffer] {
        self.buffers.get(..self.readable).unwrap_or_default()
    }

    /// What the device writes.
    #[must_use]
    pub fn writable(&self) -> &[Buffer] {
        self.buffers.get(self.readable..).unwrap_or_default()
    }
}

/// Bytes in `buffers` together.
#[must_use]
pub fn total_bytes(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| u64::from(buffer.length)).sum()
}

/// The part of `buffers` behind its first `skip` bytes, at most `length` bytes of it.
pub fn slice(buffers: &[Buffer], skip: u64, length: u64) -> impl Iterator<Item = Buffer> + '_ {
    let mut skip = skip;
    let mut left = length;
    buffers.iter().filter_map(move |buffer| {
        let whole = u64::from(buffer.length);
        let from = skip.min(whole);
        skip -= from;
        let take = (whole - from).min(left);
        left -= take;
        let length = u32::try_from(take).ok().filter(|length| *length > 0)?;
        Some(Buffer { address: buffer.address + from, length })
    })
}

/// A live queue in the hands of a worker.
pub struct Virtqueue {
    index: u16,
    queue: Queue,
    memory: Arc<GuestMemory>,
    kick: Arc<EventFd>,
    interrupt: Arc<VirtioInterrupt>,
    in_flight: Vec<bool>,
    /// Chains that may still be taken in this wake-up.
    budget: u16,
    /// Set when the transport wants its worker to end soon.
    stop: Arc<AtomicBool>,
    kicks_wanted: bool,
    /// Chains were pushed that the guest was not told of.
    used: bool,
    /// When the guest was told last, or the wake-up began.
    told: Instant,
    spare: Vec<Buffer>,
}

impl std::fmt::Debug for Virtqueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Virtqueue")
            .field("index", &self.index)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Virtqueue {
    /// Queue `index` with rings that were checked to lie in RAM. `kick` is its doorbell, `interrupt` the way back.
    #[must_use]
    pub fn new(
        index: u16,
        queue: Queue,
        memory: Arc<GuestMemory>,
        kick: Arc<EventFd>,
        interrupt: Arc<VirtioInterrupt>,
    ) -> Self {
        let in_flight = vec![false; usize::from(queue.size())];
        Self {
            index,
            budget: 0,
            queue,
            memory,
            kick,
            interrupt,
            in_flight,
            stop: Arc::default(),
            kicks_wanted: true,
            used: false,
            told: Instant::now(),
            spare: Vec::new(),
        }
    }

    /// The queue's number in its device.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Entries of the rings.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// The doorbell.
    #[must_use]
    pub fn kick(&self) -> &Arc<EventFd> {
        &self.kick
    }

    /// Guest RAM.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Chains taken so far, modulo 2^16.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Begins a wake-up: from here on one ring's worth of chains may be taken, until `stop` is set.
    pub(super) fn begin(&mut self, stop: &Arc<AtomicBool>) {
        self.budget = self.queue.size();
        self.told = Instant::now();
        if !Arc::ptr_eq(&self.stop, stop) {
            self.stop = Arc::clone(stop);
        }
    }

    /// Whether the last [`Self::pop`] held chains back because the wake-up's share was used up.
    pub(super) fn exhausted(&self) -> bool {
        self.budget == 0
    }

    /// Interrupts the guest if it wants to hear of the chains that were pushed since the last call; whether it did.
    pub(super) fn notify(&mut self) -> Result<bool, QueueError> {
        if !std::mem::take(&mut self.used) {
            return Ok(false);
        }
        self.told = Instant::now();
        let ram = Arc::clone(self.memory.ram());
        let wanted = self.queue.needs_notification(&*ram).map_err(|source| self.ring_error(source))?;
        if wanted {
            self.interrupt.queue_used(self.index);
        }
        Ok(wanted)
    }

    fn ring_error(&self, source: virtio_queue::Error) -> QueueError {
        QueueError::Ring { queue: self.index, source }
    }

    /// The next available chain. Kicks are armed when this returns `None` because the ring is empty.
    ///
    /// # Errors
    /// [`QueueError`]: the queue cannot be used any more.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        if self.budget == 0 || self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if self.used && self.told.elapsed() >= PATIENCE {
            self.notify()?;
        }
        let ram = Arc::clone(self.memory.ram());
        if self.kicks_wanted {
            self.queue.disable_notification(&*ram).map_err(|source| self.ring_error(source))?;
            self.kicks_wanted = false;
        }
        loop {
            if let Some(chain) = self.take(&ram)? {
                self.budget -= 1;
                return Ok(Some(chain));
            }
            // The ring looks empty: arm kicks, then look once more, for a chain may have come in between.
            let more = self.queue.enable_notification(&*ram).map_err(|source| self.ring_error(source))?;
            if !more {
                self.kicks_wanted = true;
                return Ok(None);
            }
            self.queue.disable_notification(&*ram).map_err(|source| self.ring_error(source))?;
        }
    }

    fn take(&mut self, ram: &Ram) -> Result<Option<Chain>, QueueError> {
        let queue = self.index;
        let mut available = self.queue.iter(ram).map_err(|source| QueueError::Ring { queue, source })?;
        let Some(mut descriptors) = available.next() else { return Ok(None) };
        let head = descriptors.head_index();
        match self.in_flight.get_mut(usize::from(head)) {
            Some(busy) if *busy => return Err(QueueError::Duplicate { queue, head }),
            Some(busy) => *busy = true,
            None => return Err(QueueError::MalformedChain { queue, head }),
        }
        let mut buffers = std::mem::take(&mut self.spare);
        buffers.clear();
        let mut readable = 0;
        let mut ended = false;
        for descriptor in descriptors.by_ref() {
            // The iterator ends silently at what it does not like; a chain is whole only if its last descriptor says so.
            ended = !descriptor.has_next();
            let (address, length) = (descriptor.addr().0, descriptor.len());
            if length == 0 {
                continue;
            }
            let access = if descriptor.is_write_only() { Permissions::Write } else { Permissions::Read };
            if !usize::try_from(length).is_ok_and(|bytes| ram.check_range(descriptor.addr(), bytes, access)) {
                return Err(QueueError::NotRam { queue, head, address, length });
            }
            if !descriptor.is_write_only() {
                if readable < buffers.len() {
                    return Err(QueueError::Order { queue, head });
                }
                readable += 1;
            }
            buffers.push(Buffer { address, length });
        }
        if !ended {
            return Err(QueueError::MalformedChain { queue, head });
        }
        Ok(Some(Chain { head, buffers, readable }))
    }

    /// Gives `chain` back as if it had not been taken: the next [`Self::pop`] returns it again. Only for the chain that was
    /// popped last.
    pub fn unpop(&mut self, chain: Chain) {
        self.release(chain);
        self.queue.go_to_previous_position();
        self.budget = self.budget.saturating_add(1);
    }

    /// Hands `chain` back to the driver, with `written` bytes in its writable buffers.
    ///
    /// # Errors
    /// [`QueueError::Ring`] if the used ring is not RAM.
    pub fn push(&mut self, chain: Chain, written: u32) -> Result<(), QueueError> {
        let head = chain.head;
        self.release(chain);
        let ram = Arc::clone(self.memory.ram());
        self.queue.add_used(&*ram, head, written).map_err(|source| self.ring_error(source))?;
        self.used = true;
        Ok(())
    }

    fn release(&mut self, chain: Chain) {
        if let Some(busy) = self.in_flight.get_mut(usize::from(chain.head)) {
            *busy = false;
        }
        self.spare = chain.buffers;
    }

    /// The error for a request of `chain` that breaks the rules of its device type.
    #[must_use]
    pub fn request_error(&self, chain: &Chain, what: &'static str) -> QueueError {
        QueueError::Request { queue: self.index, head: chain.head, what }
    }

    fn not_ram(&self, chain: &Chain, buffer: Buffer) -> QueueError {
        let Buffer { address, length } = buffer;
        QueueError::NotRam { queue: self.index, head: chain.head, address, length }
    }

    /// Copies bytes from the readable buffers of `chain`, from byte `skip` on; returns how many there were.
    ///
    /// # Errors
    /// [`QueueError::NotRam`].
    pub fn read(&self, chain: &Chain, skip: u64, data: &mut [u8]) -> Result<usize, QueueError> {
        let mut done = 0;
        for buffer in slice(chain.readable(), skip, data.len() as u64) {
            let end = done + buffer.length as usize;
            let part = data.get_mut(done..end).unwrap_or_default();
            let read = self.memory.ram().read_slice(part, GuestAddress(buffer.address));
            read.map_err(|_| self.not_ram(chain, buffer))?;
            done = end;
        }
        Ok(done)
    }

    /// Copies `data` to the writable buffers of `chain`, from byte `skip` on; returns how much of it had room.
    ///
    /// # Errors
    /// [`QueueError::NotRam`].
    pub fn write(&self, chain: &Chain, skip: u64, data: &[u8]) -> Result<usize, QueueError> {
        let mut done = 0;
        for buffer in slice(chain.writable(), skip, data.len() as u64) {
            let end = done + buffer.length as usize;
            let part = data.get(done..end).unwrap_or_default();
            let written = self.memory.ram().write_slice(part, GuestAddress(buffer.address));
            written.map_err(|_| self.not_ram(chain, buffer))?;
            done = end;
        }
        Ok(done)
    }

    /// Calls `use_memory` with the memory of `buffers`, which are of `chain`.
    ///
    /// # Errors
    /// [`QueueError::NotRam`].
    pub fn with_memory<T>(
        &self,
        chain: &Chain,
        buffers: impl Iterator<Item = Buffer>,
        use_memory: impl FnOnce(&[VolatileSlice<'_>]) -> T,
    ) -> Result<T, QueueError> {
        let ram = self.memory.ram();
        let mut pieces = Vec::new();
        for buffer in buffers {
            let start = GuestAddress(buffer.address);
            let found = ram.get_slices(start, buffer.length as usize, Permissions::ReadWrite);
            for piece in found.map_err(|_| self.not_ram(chain, buffer))? {
                pieces.push(piece.map_err(|_| self.not_ram(chain, buffer))?);
            }
        }
        Ok(use_memory(&pieces))
    }
}

#[cfg(test)]
mod tests;
