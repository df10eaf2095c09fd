//! The driver's side of a device in tests: rings in guest RAM, chains of every kind, and the generators of hostile ones.
//!
//! [`Bench`] runs handlers on the calling thread, without transport and worker; what a guest could do to a queue is done
//! here by writing guest memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::time::ClockId;
use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use crate::spec::virtio::feature;
use crate::vmm::Unsupported;
use crate::vmm::interrupt::{Connection, InterruptLine, LineController};
use crate::vmm::layout;
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::msix::MsixTable;
use crate::vmm::pci::vector::testing::RecordingSink;
use crate::vmm::virtio::interrupt::VirtioInterrupt;
use crate::vmm::virtio::queue::{QueueError, Virtqueue};
use crate::vmm::virtio::{Activation, QueueGroup, VirtioDevice};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// RAM of a bench, in bytes.
pub(crate) const RAM: u64 = 64 << 20;
/// Bytes of guest memory that a queue's rings take.
const RING_SPACE: u64 = 0x2_0000;
const RINGS: u64 = 0x10_0000;
const BUFFERS: u64 = 0x100_0000;
/// No wake-up may take more of a processor, however hostile the guest.
const WORK_LIMIT: Duration = Duration::from_secs(1);

/// One descriptor as the driver writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) length: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    /// A buffer that the device reads.
    pub(crate) fn read(address: u64, length: u32) -> Self {
        Self { address, length, flags: 0, next: 0 }
    }
    /// A buffer that the device writes.
    pub(crate) fn write(address: u64, length: u32) -> Self {
        Self { address, length, flags: WRITE, next: 0 }
    }
    /// A table of `count` descriptors.
    fn indirect(address: u64, length: u32) -> Self {
        Self { address, length, flags: INDIRECT, next: 0 }
    }
    fn then(self, next: u16) -> Self {
        Self { flags: self.flags | NEXT, next, ..self }
    }
}

/// A line that nobody listens to.
struct NoLine;

impl LineController for NoLine {
    fn set_level(&self, _: u32, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
        Err(Unsupported)
    }
}

/// A line at GSI 16 that leads nowhere.
pub(crate) fn line() -> InterruptLine {
    InterruptLine::new(16, Arc::new(NoLine))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ring {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) next_available: u16,
    pub(crate) next_descriptor: u16,
}

/// The rings of queue `index`.
pub(crate) fn ring(index: usize, size: u16) -> Ring {
    let base = RINGS + index as u64 * RING_SPACE;
    Ring {
        size,
        descriptors: base,
        available: base + 0x8000,
        used: base + 0x1_0000,
        next_available: 0,
        next_descriptor: 0,
    }
}

/// Writes descriptor `index` of the table at `table`.
pub(crate) fn put_descriptor(memory: &GuestMemory, table: u64, index: u16, descriptor: Descriptor) {
    let mut bytes = descriptor.address.to_le_bytes().to_vec();
    bytes.extend(descriptor.length.to_le_bytes());
    bytes.extend(descriptor.flags.to_le_bytes());
    bytes.extend(descriptor.next.to_le_bytes());
    memory.write(table + 16 * u64::from(index), &bytes).unwrap();
}

impl Ring {
    /// Makes `head` available.
    pub(crate) fn offer(&mut self, memory: &GuestMemory, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        memory.write(self.available + 4 + 2 * slot, &head.to_le_bytes()).unwrap();
        self.next_available = self.next_available.wrapping_add(1);
        memory.write(self.available + 2, &self.next_available.to_le_bytes()).unwrap();
    }

    /// Writes a chain into the table and makes it available.
    pub(crate) fn offer_chain(&mut self, memory: &GuestMemory, chain: &[Descriptor]) {
        let index = |i: usize| (self.next_descriptor + u16::try_from(i).unwrap()) % self.size;
        for (i, descriptor) in chain.iter().enumerate() {
            let linked = if i + 1 < chain.len() { descriptor.then(index(i + 1)) } else { *descriptor };
            put_descriptor(memory, self.descriptors, index(i), linked);
        }
        let head = index(0);
        self.next_descriptor = index(chain.len());
        self.offer(memory, head);
    }

    /// The used index.
    pub(crate) fn used_index(&self, memory: &GuestMemory) -> u16 {
        let mut index = [0; 2];
        memory.read(self.used + 2, &mut index).unwrap();
        u16::from_le_bytes(index)
    }

    /// Length in used element number `number`.
    pub(crate) fn used_length(&self, memory: &GuestMemory, number: u16) -> u32 {
        let mut length = [0; 4];
        memory.read(self.used + 4 + 8 * u64::from(number % self.size) + 4, &mut length).unwrap();
        u32::from_le_bytes(length)
    }
}

/// A device with a driver, all on one thread.
pub(crate) struct Bench {
    pub(crate) memory: Arc<GuestMemory>,
    groups: Vec<QueueGroup>,
    pub(crate) rings: Vec<Ring>,
    next_buffer: u64,
}

impl Bench {
    /// A live device; the driver accepted `features` of the device type.
    pub(crate) fn new(device: &impl VirtioDevice, features: u64) -> Self {
        let memory = Arc::new(GuestMemory::new(RAM).unwrap());
        let msix = MsixTable::new(1, Arc::new(RecordingSink::default()));
        let sizes = device.queue_max_sizes().to_vec();
        let rings: Vec<Ring> = sizes.iter().enumerate().map(|(index, size)| ring(index, *size)).collect();
        let interrupt = VirtioInterrupt::new(msix, line(), rings.len());
        let queue = |(index, ring): (usize, &Ring)| {
            let mut queue = Queue::new(ring.size).unwrap();
            queue.try_set_desc_table_address(GuestAddress(ring.descriptors)).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(ring.available)).unwrap();
            queue.try_set_used_ring_address(GuestAddress(ring.used)).unwrap();
            queue.set_ready(true);
            let kick = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
            Virtqueue::new(
                u16::try_from(index).unwrap(),
                queue,
                Arc::clone(&memory),
                kick,
                Arc::clone(&interrupt),
            )
        };
        let activation = Activation {
            memory: Arc::clone(&memory),
            features: features | feature::VERSION_1,
            queues: rings.iter().enumerate().map(queue).collect(),
            interrupt: Arc::clone(&interrupt),
        };
        let groups = device.activate(activation).unwrap();
        Self { memory, groups, rings, next_buffer: BUFFERS }
    }

    /// Fresh guest memory of `length` zeros.
    pub(crate) fn buffer(&mut self, length: usize) -> u64 {
        let address = self.next_buffer;
        self.next_buffer += (length as u64).next_multiple_of(4096);
        address
    }

    /// Guest memory that holds `data`.
    pub(crate) fn text(&mut self, data: &[u8]) -> u64 {
        let address = self.buffer(data.len());
        self.memory.write(address, data).unwrap();
        address
    }

    /// What guest memory holds.
    pub(crate) fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory.read(address, &mut data).unwrap();
        data
    }

    /// Makes a chain available in queue `index`.
    pub(crate) fn offer(&mut self, index: usize, chain: &[Descriptor]) {
        self.rings[index].offer_chain(&self.memory, chain);
    }

    /// One wake-up of queue `index`; whether the guest wants an interrupt.
    pub(crate) fn process(&mut self, index: usize) -> Result<bool, QueueError> {
        let stop = Arc::new(AtomicBool::new(false));
        for QueueGroup { handler, queues } in &mut self.groups {
            if let Some(queue) = queues.iter_mut().find(|queue| usize::from(queue.index()) == index) {
                queue.begin(&stop);
                handler.process_queue(queue)?;
                return queue.notify();
            }
        }
        Ok(false)
    }

    /// Chains that the device took from queue `index`.
    fn taken(&self, index: usize) -> u16 {
        let queues = self.groups.iter().flat_map(|group| &group.queues);
        queues.filter(|queue| usize::from(queue.index()) == index).map(Virtqueue::taken).sum()
    }

    /// The used index of queue `index`.
    pub(crate) fn used(&self, index: usize) -> u16 {
        self.rings[index].used_index(&self.memory)
    }

    /// Makes a chain available, lets the device work, and returns the length that it gave back.
    pub(crate) fn request(&mut self, index: usize, chain: &[Descriptor]) -> u32 {
        let before = self.used(index);
        self.offer(index, chain);
        self.process(index).unwrap();
        assert_eq!(self.used(index), before.wrapping_add(1), "the device did not answer");
        self.rings[index].used_length(&self.memory, before)
    }
}

/// What a queue's driver does wrong. Each returns the descriptors from index 0 on; chain heads are `0`.
fn malformed(indirect: u64) -> Vec<(&'static str, Vec<Descriptor>)> {
    let read = Descriptor::read(BUFFERS, 512);
    let write = Descriptor::write(BUFFERS, 512);
    let hole = layout::LOW_RAM_LIMIT + 0x1000;
    vec![
        ("self-loop", vec![read.then(0)]),
        ("loop of three", vec![read.then(1), write.then(2), write.then(0)]),
        ("next behind the table", vec![read.then(u16::MAX)]),
        ("next is the size", vec![read.then(256)]),
        ("readable behind writable", vec![write.then(1), read]),
        ("empty indirect table", vec![Descriptor::indirect(indirect, 0)]),
        ("indirect length not of 16", vec![Descriptor::indirect(indirect, 24)]),
        ("huge indirect table", vec![Descriptor::indirect(indirect, 0xFFFF_FFF0)]),
        ("indirect table in a hole", vec![Descriptor::indirect(hole, 64)]),
        ("nested indirect tables", vec![Descriptor::indirect(indirect, 64)]),
        ("buffer in a hole", vec![Descriptor::write(hole, 512)]),
        ("buffer is MMIO", vec![Descriptor::write(layout::MMIO32.start, 512)]),
        ("buffer one byte past the end", vec![Descriptor::write(RAM - 511, 512)]),
        ("buffer wraps", vec![Descriptor::write(u64::MAX - 10, 512)]),
        ("longest buffer", vec![Descriptor::write(BUFFERS, u32::MAX)]),
        ("more than 4 GiB", vec![Descriptor::read(BUFFERS, 3 << 20).then(0)]),
    ]
}

/// Plays every class of hostile queue against each queue of the devices that `make` builds: no panic, bounded time, and the
/// device refuses what it took. Then random tables, rings and contents.
pub(crate) fn hostile(make: impl Fn() -> Bench) {
    let queues = make().rings.len();
    for index in 0..queues {
        refuses_malformed_chains(&make, index);
        refuses_impossible_rings(&make, index);
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::default());
    runner
        .run(&proptest::collection::vec(any::<u8>(), 0..2048), |data| {
            fuzz(&mut make(), &data);
            Ok(())
        })
        .unwrap();
}

fn within_limit<T>(what: &str, work: impl FnOnce() -> T) -> T {
    // What others make of the processors does not count.
    let used = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
    let before = used();
    let result = work();
    let took = used() - before;
    assert!(took < WORK_LIMIT, "{what} took {took:?}");
    result
}

fn refuses_malformed_chains(make: &impl Fn() -> Bench, index: usize) {
    for (what, descriptors) in malformed(BUFFERS + 0x1_0000) {
        let mut bench = make();
        let nested = Descriptor::indirect(BUFFERS + 0x1_0000, 64);
        put_descriptor(&bench.memory, BUFFERS + 0x1_0000, 0, nested);
        let ring = bench.rings[index];
        for (i, descriptor) in descriptors.iter().enumerate() {
            put_descriptor(&bench.memory, ring.descriptors, u16::try_from(i).unwrap(), *descriptor);
        }
        bench.rings[index].offer(&bench.memory, 0);
        let result = within_limit(what, || bench.process(index));
        assert!(result.is_err() || bench.taken(index) == 0, "queue {index}, {what}: {result:?}");
    }
}

fn refuses_impossible_rings(make: &impl Fn() -> Bench, index: usize) {
    // A head behind the table
    let mut bench = make();
    let size = bench.rings[index].size;
    bench.rings[index].offer(&bench.memory, size);
    let result = within_limit("head behind the table", || bench.process(index));
    assert!(result.is_err() || bench.taken(index) == 0, "queue {index}: {result:?}");
    // An available index more than a ring ahead
    let mut bench = make();
    bench.memory.write(bench.rings[index].available + 2, &u16::MAX.to_le_bytes()).unwrap();
    let result = within_limit("available index jumps", || bench.process(index));
    assert!(result.is_err() || bench.taken(index) == 0, "queue {index}: {result:?}");
    // Every entry of a full ring is the same chain: one ring's worth of work at most
    let mut bench = make();
    put_descriptor(&bench.memory, bench.rings[index].descriptors, 0, Descriptor::write(BUFFERS, 1));
    for _ in 0..size {
        bench.rings[index].offer(&bench.memory, 0);
    }
    let _ = within_limit("one chain in every entry", || bench.process(index));
    assert!(bench.taken(index) <= size);
}

/// Interprets `data` as what a guest writes: descriptors of all queues, available rings and buffer contents. Every queue is
/// then served twice. Whatever `data` says, nothing may panic or take long.
pub(crate) fn fuzz(bench: &mut Bench, data: &[u8]) {
    let mut bytes = data.iter().copied().chain(std::iter::repeat(0));
    let mut next = || bytes.next().unwrap_or(0);
    let contents: Vec<u8> = data.iter().rev().copied().collect();
    bench.memory.write(BUFFERS, &contents).unwrap();
    for index in 0..bench.rings.len() {
        let ring = bench.rings[index];
        for descriptor in 0..16 {
            let address = match next() % 8 {
                0 => u64::from(next()) << 56,
                1 => layout::LOW_RAM_LIMIT - u64::from(next()),
                2 => RAM - u64::from(next()),
                3 => ring.descriptors + u64::from(next()),
                _ => BUFFERS + u64::from(next()) * 16,
            };
            let length = match next() % 8 {
                0 => u32::MAX - u32::from(next()),
                1 => 0,
                2 => 16 * u32::from(next()),
                3 => 512 * u32::from(next()),
                4 => u32::from(next()) << 16,
                5 => 16,
                _ => u32::from(next()),
            };
            let flags = u16::from(next() % 8);
            let link =
                if next().is_multiple_of(16) { u16::from(next()) << 8 } else { u16::from(next() % 16) };
            put_descriptor(
                &bench.memory,
                ring.descriptors,
                descriptor,
                Descriptor { address, length, flags, next: link },
            );
        }
        for _ in 0..next() % 32 {
            let head = u16::from(next() % 17);
            bench.rings[index].offer(&bench.memory, head);
        }
    }
    for index in (0..bench.rings.len()).chain(0..bench.rings.len()) {
        let _ = within_limit("fuzzed rings", || bench.process(index));
    }
}
