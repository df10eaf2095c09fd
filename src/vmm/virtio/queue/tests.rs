//! Queues by themselves: what is taken, given back, refused, and when the guest is told.

use virtio_queue::QueueT;

use super::*;
use crate::vmm::pci::msix::MsixTable;
use crate::vmm::pci::vector::testing::RecordingSink;
use crate::vmm::virtio::testing::{Descriptor, RAM, Ring, line, put_descriptor, ring};

const SIZE: u16 = 8;
const DATA: u64 = 0x200_0000;

struct Driver {
    ring: Ring,
    queue: Virtqueue,
    interrupt: Arc<VirtioInterrupt>,
    stop: Arc<AtomicBool>,
}

impl Driver {
    fn new(event_index: bool) -> Self {
        let memory = Arc::new(GuestMemory::new(RAM).unwrap());
        let ring = ring(0, SIZE);
        let mut queue = Queue::new(SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(ring.descriptors)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(ring.available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(ring.used)).unwrap();
        queue.set_event_idx(event_index);
        queue.set_ready(true);
        let msix = MsixTable::new(1, Arc::new(RecordingSink::default()));
        let interrupt = VirtioInterrupt::new(msix, line(), 1);
        let kick = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        let queue = Virtqueue::new(0, queue, memory, kick, Arc::clone(&interrupt));
        let mut driver = Self { ring, queue, interrupt, stop: Arc::default() };
        driver.queue.begin(&driver.stop);
        driver
    }

    fn offer(&mut self, chain: &[Descriptor]) {
        let memory = Arc::clone(self.queue.memory());
        self.ring.offer_chain(&memory, chain);
    }

    fn word(&self, address: u64) -> u16 {
        let mut word = [0; 2];
        self.queue.memory().read(address, &mut word).unwrap();
        u16::from_le_bytes(word)
    }

    /// Whether the guest was interrupted since the last call.
    fn interrupted(&self) -> bool {
        self.interrupt.read_isr() != 0
    }
}

fn buffer() -> Descriptor {
    Descriptor::write(DATA, 64)
}

#[test]
fn chains_come_with_readable_then_writable_buffers_and_without_empty_ones() {
    let mut driver = Driver::new(false);
    driver.offer(&[
        Descriptor::read(DATA, 10),
        Descriptor::read(DATA, 0),
        Descriptor::read(DATA + 20, 5),
        Descriptor::write(DATA + 30, 7),
    ]);
    let chain = driver.queue.pop().unwrap().unwrap();
    assert_eq!(
        chain.readable(),
        [Buffer { address: DATA, length: 10 }, Buffer { address: DATA + 20, length: 5 }]
    );
    assert_eq!(chain.writable(), [Buffer { address: DATA + 30, length: 7 }]);
}

#[test]
fn an_indirect_table_is_one_chain() {
    let mut driver = Driver::new(false);
    let memory = Arc::clone(driver.queue.memory());
    for i in 0..3 {
        let more = Descriptor { flags: 1, next: i + 1, ..Descriptor::read(DATA, 16) };
        put_descriptor(&memory, DATA + 0x1000, i, more);
    }
    put_descriptor(&memory, DATA + 0x1000, 3, buffer());
    driver.offer(&[Descriptor { flags: 4, ..Descriptor::read(DATA + 0x1000, 64) }]);
    let chain = driver.queue.pop().unwrap().unwrap();
    assert_eq!((chain.readable().len(), chain.writable().len()), (3, 1));
}

#[test]
fn a_chain_in_flight_cannot_be_made_available_again() {
    let mut driver = Driver::new(false);
    driver.offer(&[buffer()]);
    let chain = driver.queue.pop().unwrap().unwrap();
    let memory = Arc::clone(driver.queue.memory());
    driver.ring.offer(&memory, chain.head());
    assert!(matches!(driver.queue.pop(), Err(QueueError::Duplicate { head: 0, .. })));
}

#[test]
fn a_chain_that_is_given_back_comes_again() {
    let mut driver = Driver::new(false);
    driver.offer(&[buffer()]);
    driver.offer(&[Descriptor::write(DATA + 64, 32)]);
    let first = driver.queue.pop().unwrap().unwrap();
    let second = driver.queue.pop().unwrap().unwrap();
    driver.queue.unpop(second);
    driver.queue.unpop(first);
    assert_eq!(driver.queue.pop().unwrap().unwrap().head(), 0);
    assert_eq!(driver.queue.pop().unwrap().unwrap().head(), 1);
}

#[test]
fn a_wake_up_takes_one_ring_of_chains_and_none_once_it_must_stop() {
    let mut driver = Driver::new(false);
    for _ in 0..SIZE {
        driver.offer(&[buffer()]);
    }
    for _ in 0..SIZE {
        let chain = driver.queue.pop().unwrap().unwrap();
        driver.queue.push(chain, 0).unwrap();
        driver.offer(&[buffer()]);
    }
    assert!(driver.queue.pop().unwrap().is_none() && driver.queue.exhausted());
    let stop = Arc::clone(&driver.stop);
    driver.queue.begin(&stop);
    stop.store(true, Ordering::Relaxed);
    assert!(driver.queue.pop().unwrap().is_none() && !driver.queue.exhausted());
}

#[test]
fn kicks_are_suppressed_while_the_device_works_and_armed_when_the_ring_is_empty() {
    let mut flags = Driver::new(false);
    flags.offer(&[buffer()]);
    flags.queue.pop().unwrap().unwrap();
    assert_eq!(flags.word(flags.ring.used), 1, "VIRTQ_USED_F_NO_NOTIFY");
    assert!(flags.queue.pop().unwrap().is_none());
    assert_eq!(flags.word(flags.ring.used), 0);
    let mut index = Driver::new(true);
    index.offer(&[buffer()]);
    index.queue.pop().unwrap().unwrap();
    assert!(index.queue.pop().unwrap().is_none());
    assert_eq!(index.word(index.ring.used + 4 + 8 * u64::from(SIZE)), 1, "avail_event");
}

#[test]
fn the_guest_is_told_once_per_wake_up_and_not_if_it_does_not_want_to() {
    let mut driver = Driver::new(true);
    let used_event = driver.ring.available + 4 + 2 * u64::from(SIZE);
    for (wanted, told) in [(0u16, true), (5, false)] {
        driver.queue.memory().write(used_event, &wanted.to_le_bytes()).unwrap();
        for _ in 0..2 {
            driver.offer(&[buffer()]);
            let chain = driver.queue.pop().unwrap().unwrap();
            driver.queue.told = Instant::now() + Duration::from_secs(3600);
            driver.queue.push(chain, 0).unwrap();
        }
        assert_eq!(driver.queue.notify().unwrap(), told);
        assert_eq!(driver.interrupted(), told);
        assert!(!driver.queue.notify().unwrap());
    }
}

#[test]
fn long_work_does_not_keep_the_guest_waiting_for_what_is_done() {
    let mut driver = Driver::new(false);
    driver.offer(&[buffer()]);
    driver.offer(&[buffer()]);
    let first = driver.queue.pop().unwrap().unwrap();
    driver.queue.push(first, 0).unwrap();
    driver.queue.told = Instant::now().checked_sub(PATIENCE).unwrap();
    driver.queue.pop().unwrap().unwrap();
    assert!(driver.interrupted());
}

#[test]
fn parts_of_buffers_are_cut_at_any_byte() {
    let buffers = [Buffer { address: 100, length: 10 }, Buffer { address: 200, length: 5 }];
    let cut = |skip, length| slice(&buffers, skip, length).map(|b| (b.address, b.length)).collect::<Vec<_>>();
    assert_eq!(cut(0, u64::MAX), [(100, 10), (200, 5)]);
    assert_eq!(cut(9, 2), [(109, 1), (200, 1)]);
    assert_eq!(cut(10, 5), [(200, 5)]);
    assert!(cut(15, 1).is_empty() && cut(3, 0).is_empty() && cut(u64::MAX, 1).is_empty());
    assert_eq!(total_bytes(&buffers), 15);
}
