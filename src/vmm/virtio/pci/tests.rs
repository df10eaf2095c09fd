//! The transport as a driver meets it, with real workers behind it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::spec::pci::CONFIG_SPACE_SIZE;
use crate::spec::virtio::{feature, pci::common};
use crate::vmm::bus::Bus;
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::capability::capabilities;
use crate::vmm::pci::rom::Rom;
use crate::vmm::pci::vector::testing::{Call, RecordingSink};
use crate::vmm::virtio::queue::{QueueError, Virtqueue};
use crate::vmm::virtio::testing::{Descriptor, RAM, Ring, line, ring};
use crate::vmm::virtio::{ActivateError, Activation, QueueGroup, QueueHandler};

const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword];
const ACK: u64 = 1;
const DRIVER: u64 = 3;
const FEATURES_OK: u64 = 11;
const DRIVER_OK: u64 = 15;
const NEEDS_RESET: u64 = 64;
const OFFER: u64 = 1 << 5;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the handler of a [`Scripted`] device does at each wake-up that finds a chain.
#[derive(Clone, Copy)]
enum Act {
    GiveBack,
    Panic,
    /// Say on `entered` that the work began, then wait for `leave`.
    Block,
}

/// A device with two queues whose handler follows a script.
struct Scripted {
    act: Act,
    entered: Mutex<Sender<()>>,
    leave: Arc<Mutex<Receiver<()>>>,
    fail_activation: bool,
}

struct ScriptedHandler {
    act: Act,
    entered: Sender<()>,
    leave: Arc<Mutex<Receiver<()>>>,
}

impl Lifecycle for Scripted {
    fn reset(&self) {}
}

impl VirtioDevice for Scripted {
    fn label(&self) -> &'static str {
        "virtio-test"
    }
    fn device_type(&self) -> DeviceType {
        DeviceType(63)
    }
    fn features(&self) -> u64 {
        OFFER
    }
    fn queue_max_sizes(&self) -> &[u16] {
        &[16, 8]
    }
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        data.fill(offset.to_le_bytes()[0]);
    }
    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError> {
        if self.fail_activation {
            let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(ActivateError { what: "cannot start", source });
        }
        let entered = self.entered.lock().unwrap().clone();
        let handler = ScriptedHandler { act: self.act, entered, leave: Arc::clone(&self.leave) };
        Ok(vec![QueueGroup { handler: Box::new(handler), queues: activation.queues }])
    }
}

impl QueueHandler for ScriptedHandler {
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError> {
        while let Some(chain) = queue.pop()? {
            match self.act {
                Act::GiveBack => {}
                Act::Panic => panic!("as the script says"),
                Act::Block => {
                    self.entered.send(()).unwrap();
                    self.leave.lock().unwrap().recv().unwrap();
                }
            }
            queue.push(chain, 0)?;
        }
        Ok(())
    }
}

/// A driver in front of a function.
struct Driver {
    function: VirtioPci,
    bus: Bus,
    memory: Arc<GuestMemory>,
    sink: RecordingSink,
    entered: Receiver<()>,
    leave: Sender<()>,
}

impl Driver {
    fn new(act: Act) -> Self {
        Self::with(act, false)
    }

    fn with(act: Act, fail_activation: bool) -> Self {
        let memory = Arc::new(GuestMemory::new(RAM).unwrap());
        let sink = RecordingSink::default();
        let (entered_sender, entered) = channel();
        let (leave, leave_receiver) = channel();
        let device = Scripted {
            act,
            entered: Mutex::new(entered_sender),
            leave: Arc::new(Mutex::new(leave_receiver)),
            fail_activation,
        };
        let context = FunctionContext {
            memory: Arc::clone(&memory),
            msi: Arc::new(sink.clone()),
            intx: line(),
            rom: Rom::Own,
        };
        let function = VirtioPci::new(Arc::new(device), context).unwrap();
        let _ = sink.take();
        let bus = Bus::default();
        for segment in function.bar(0).unwrap().segments {
            if let Backing::Trap(device) = segment.backing {
                bus.insert(segment.offset, segment.size, device).unwrap();
            }
        }
        Self { function, bus, memory, sink, entered, leave }
    }

    fn read(&self, offset: u64, bytes: usize) -> u64 {
        let mut data = [0; 8];
        self.bus.read(offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    }

    fn write(&self, offset: u64, bytes: usize, value: u64) {
        let _ = self.bus.write(offset, &value.to_le_bytes()[..bytes]);
    }

    fn status(&self) -> u64 {
        self.read(common::DEVICE_STATUS, 1)
    }

    fn set_status(&self, value: u64) {
        self.write(common::DEVICE_STATUS, 1, value);
    }

    fn accept(&self, features: u64) {
        for half in [0, 1] {
            self.write(common::DRIVER_FEATURE_SELECT, 4, half);
            self.write(common::DRIVER_FEATURE, 4, (features >> (32 * half)) & 0xFFFF_FFFF);
        }
    }

    fn set_up_queue(&self, index: u16, ring: &Ring) {
        self.write(common::QUEUE_SELECT, 2, u64::from(index));
        self.write(common::QUEUE_SIZE, 2, u64::from(ring.size));
        self.write(common::QUEUE_MSIX_VECTOR, 2, u64::from(index) + 1);
        self.write(common::QUEUE_DESC, 8, ring.descriptors);
        self.write(common::QUEUE_DRIVER, 4, ring.available);
        self.write(common::QUEUE_DRIVER + 4, 4, 0);
        self.write(common::QUEUE_DEVICE, 4, ring.used);
        self.write(common::QUEUE_ENABLE, 2, 1);
    }

    /// Negotiates, sets queue 0 up and goes live.
    fn start(&self) -> Ring {
        self.set_status(ACK);
        self.set_status(DRIVER);
        self.accept(feature::VERSION_1);
        self.set_status(FEATURES_OK);
        let ring = ring(0, 16);
        self.memory.write(ring.available, &[0; 256]).unwrap();
        self.memory.write(ring.used, &[0; 256]).unwrap();
        self.set_up_queue(0, &ring);
        self.set_status(DRIVER_OK);
        ring
    }

    fn kick(&self, index: u64) {
        self.write(0x3000 + 4 * index, 2, index);
    }

    fn enable_msix(&self) {
        let image: Vec<u8> = (0..CONFIG_SPACE_SIZE)
            .map(|offset| self.function.config_read(offset, AccessSize::Byte).to_le_bytes()[0])
            .collect();
        let msix = capabilities(&image).into_iter().find(|entry| entry.id == CapabilityId::MSI_X).unwrap();
        let _ = self.function.config_write(msix.offset + 2, AccessSize::Word, 0x8000);
        for vector in 0..3 {
            self.write(0x4000 + 16 * vector + 8, 4, 0x40 + vector);
            self.write(0x4000 + 16 * vector + 12, 4, 0);
        }
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < TIMEOUT, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }
}

const BUFFER: Descriptor = Descriptor { address: 0x200_0000, length: 16, flags: 0, next: 0 };

#[test]
fn a_request_travels_from_doorbell_to_vector() {
    let driver = Driver::new(Act::GiveBack);
    driver.enable_msix();
    let mut ring = driver.start();
    assert_eq!(driver.status(), DRIVER_OK);
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    driver.wait("the chain is used", |driver| ring.used_index(&driver.memory) == 1);
    let mut calls = Vec::new();
    driver.wait("the vector is raised", |driver| {
        calls.extend(driver.sink.take());
        !calls.is_empty()
    });
    assert!(matches!(calls[..], [Call::Signal(message)] if message.data == 0x41), "{calls:?}");
}

#[test]
fn without_vectors_the_isr_tells() {
    let driver = Driver::new(Act::GiveBack);
    let mut ring = driver.start();
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    let status = |driver: &Driver| driver.function.config_read(header::STATUS, AccessSize::Word) & 8;
    driver.wait("INTx is pending", |driver| status(driver) == 8);
    assert_eq!((driver.read(0x1000, 1), driver.read(0x1000, 1)), (1, 0));
    assert_eq!(status(&driver), 0);
}

#[test]
fn structures_are_where_the_capabilities_say() {
    let driver = Driver::new(Act::GiveBack);
    let image: Vec<u8> = (0..256)
        .map(|offset| driver.function.config_read(offset, AccessSize::Byte).to_le_bytes()[0])
        .collect();
    let dword = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let vendor: Vec<_> = capabilities(&image)
        .into_iter()
        .filter(|entry| entry.id == CapabilityId::VENDOR)
        .map(|entry| usize::from(entry.offset))
        .map(|at| (image[at + 2], image[at + 3], image[at + 4], dword(at + 8), dword(at + 12)))
        .collect();
    assert_eq!(
        vendor,
        [
            (16, 1, 0, 0x0000, 0x38),
            (16, 3, 0, 0x1000, 1),
            (16, 4, 0, 0x2000, 0x1000),
            (20, 2, 0, 0x3000, 8),
            (20, 5, 0, 0, 0)
        ]
    );
    assert_eq!(dword(0), 0x107F_1AF4);
    assert_eq!(driver.read(0x2005, 1), 5);
}

#[test]
fn the_status_goes_one_way_whatever_is_written() {
    let writes = [0u8, 1, 2, 3, 4, 8, 11, 15, 64, 128, 255];
    let driver = Driver::new(Act::GiveBack);
    let mut stack = vec![Vec::new()];
    while let Some(sequence) = stack.pop() {
        driver.set_status(0);
        driver.accept(feature::VERSION_1);
        let mut model = 0u8;
        for value in &sequence {
            driver.set_status(u64::from(*value));
            model = if *value == 0 {
                driver.accept(feature::VERSION_1);
                0
            } else {
                let mut next = model | (value & 0x81);
                for (bit, before) in [(2, 1), (8, 2), (4, 8)] {
                    if value & bit != 0 && next & before != 0 {
                        next |= bit;
                    }
                }
                next
            };
            assert_eq!(driver.status(), u64::from(model), "{sequence:?}");
        }
        if sequence.len() < 3 {
            stack.extend(writes.iter().map(|value| [&sequence[..], &[*value]].concat()));
        }
    }
}

#[test]
fn features_outside_of_the_offer_or_without_version_1_are_refused() {
    let driver = Driver::new(Act::GiveBack);
    for (features, accepted) in [
        (0, false),
        (OFFER, false),
        (feature::VERSION_1, true),
        (feature::VERSION_1 | OFFER | feature::EVENT_IDX | feature::INDIRECT_DESC, true),
        (feature::VERSION_1 | 1 << 6, false),
        (u64::MAX, false),
    ] {
        driver.set_status(0);
        driver.set_status(DRIVER);
        driver.accept(features);
        driver.set_status(FEATURES_OK);
        assert_eq!(driver.status() == FEATURES_OK, accepted, "{features:#x}");
    }
    driver.set_status(0);
    driver.set_status(DRIVER);
    driver.accept(feature::VERSION_1);
    driver.set_status(FEATURES_OK);
    driver.accept(u64::MAX);
    driver.write(common::DRIVER_FEATURE_SELECT, 4, 0);
    assert_eq!(driver.read(common::DRIVER_FEATURE, 4), 0, "features are frozen");
}

#[test]
fn a_queue_is_frozen_when_it_is_enabled_and_all_are_when_the_driver_is_ready() {
    let driver = Driver::new(Act::GiveBack);
    let ring0 = driver.start();
    let registers = |driver: &Driver, index: u64| {
        driver.write(common::QUEUE_SELECT, 2, index);
        [
            (common::QUEUE_SIZE, 2),
            (common::QUEUE_ENABLE, 2),
            (common::QUEUE_DESC, 8),
            (common::QUEUE_DEVICE, 8),
        ]
        .map(|(offset, bytes)| driver.read(offset, bytes))
    };
    for index in [0, 1] {
        let before = registers(&driver, index);
        for (offset, bytes) in [
            (common::QUEUE_SIZE, 2),
            (common::QUEUE_ENABLE, 2),
            (common::QUEUE_DESC, 8),
            (common::QUEUE_DEVICE, 4),
        ] {
            for value in [0, 1, 4, 0x1000] {
                driver.write(offset, bytes, value);
            }
        }
        assert_eq!(registers(&driver, index), before);
    }
    assert_eq!(registers(&driver, 0), [16, 1, ring0.descriptors, ring0.used]);
    assert_eq!(registers(&driver, 1)[..2], [8, 0]);
}

#[test]
fn queue_sizes_that_are_no_power_of_two_or_too_large_are_ignored() {
    let driver = Driver::new(Act::GiveBack);
    for (size, kept) in [(0, 16), (3, 16), (32, 16), (0xFFFF, 16), (4, 4), (16, 16)] {
        driver.write(common::QUEUE_SIZE, 2, size);
        assert_eq!(driver.read(common::QUEUE_SIZE, 2), kept);
    }
}

#[test]
fn a_queue_that_does_not_exist_reads_as_absent() {
    let driver = Driver::new(Act::GiveBack);
    for select in [2, 0x7FFF, 0xFFFF] {
        driver.write(common::QUEUE_SELECT, 2, select);
        for (offset, bytes) in [(common::QUEUE_SIZE, 2), (common::QUEUE_ENABLE, 2), (common::QUEUE_DESC, 8)] {
            driver.write(offset, bytes, 1);
            assert_eq!(driver.read(offset, bytes), 0);
        }
        driver.write(common::QUEUE_MSIX_VECTOR, 2, 0);
        assert_eq!(driver.read(common::QUEUE_MSIX_VECTOR, 2), 0xFFFF);
    }
}

#[test]
fn rings_outside_of_ram_or_misaligned_need_a_reset() {
    let good = ring(0, 16);
    for bad in [
        Ring { descriptors: RAM - 16, ..good },
        Ring { used: 0xC000_0000, ..good },
        Ring { available: u64::from(u32::MAX) - 3, ..good },
        Ring { available: 0, ..good },
        Ring { used: good.used + 2, ..good },
        Ring { descriptors: u64::MAX - 15, ..good },
    ] {
        let driver = Driver::new(Act::GiveBack);
        driver.set_status(DRIVER);
        driver.accept(feature::VERSION_1);
        driver.set_status(FEATURES_OK);
        driver.set_up_queue(0, &bad);
        driver.set_status(DRIVER_OK);
        assert_eq!(driver.status(), DRIVER_OK | NEEDS_RESET, "{bad:?}");
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
        driver.start();
        assert_eq!(driver.status(), DRIVER_OK);
    }
}

#[test]
fn a_failed_activation_needs_a_reset() {
    let driver = Driver::with(Act::GiveBack, true);
    driver.start();
    assert_eq!(driver.status(), DRIVER_OK | NEEDS_RESET);
    assert_eq!(driver.read(0x1000, 1), 2, "the driver is told by a configuration interrupt");
}

#[test]
fn a_panicking_handler_stops_its_device_only() {
    let driver = Driver::new(Act::Panic);
    for _ in 0..2 {
        let mut ring = driver.start();
        ring.offer_chain(&driver.memory, &[BUFFER]);
        driver.kick(0);
        driver.wait("the device needs a reset", |driver| driver.status() == DRIVER_OK | NEEDS_RESET);
        driver.set_status(0);
        driver.wait("the reset is done", |driver| driver.status() == 0);
    }
}

#[test]
fn a_broken_queue_needs_a_reset() {
    let driver = Driver::new(Act::GiveBack);
    let mut ring = driver.start();
    ring.offer(&driver.memory, 99);
    driver.kick(0);
    driver.wait("the device needs a reset", |driver| driver.status() == DRIVER_OK | NEEDS_RESET);
}

#[test]
fn a_reset_with_a_request_in_flight_does_not_block_the_vcpu() {
    let driver = Driver::new(Act::Block);
    let mut ring = driver.start();
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    driver.entered.recv_timeout(TIMEOUT).unwrap();
    driver.set_status(0);
    assert_eq!(driver.status(), DRIVER_OK, "the reset is not done yet, and was not waited for");
    driver.leave.send(()).unwrap();
    driver.wait("the reset is done", |driver| driver.status() == 0);
    let mut ring = driver.start();
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    driver.entered.recv_timeout(TIMEOUT).unwrap();
    driver.leave.send(()).unwrap();
    driver.wait("the device works again", |driver| ring.used_index(&driver.memory) == 1);
}

#[test]
fn pause_stops_the_work_and_resume_goes_on_where_it_was() {
    let driver = Driver::new(Act::GiveBack);
    let mut ring = driver.start();
    driver.function.pause();
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    assert_eq!(ring.used_index(&driver.memory), 0);
    driver.function.resume();
    driver.wait("the chain is used", |driver| ring.used_index(&driver.memory) == 1);
    driver.function.pause();
    driver.function.pause();
    driver.function.reset();
    driver.function.resume();
    assert_eq!(driver.status(), 0);
}

#[test]
fn configuration_space_is_a_window_to_the_bar() {
    let driver = Driver::new(Act::GiveBack);
    let at = driver.function.access_capability;
    let point = |bar: u32, offset: u32, length: u32| {
        let _ = driver.function.config_write(at + 4, AccessSize::Byte, bar);
        let _ = driver.function.config_write(at + 8, AccessSize::Dword, offset);
        let _ = driver.function.config_write(at + 12, AccessSize::Dword, length);
    };
    let data = || driver.function.config_read(at + 16, AccessSize::Dword);
    point(0, 0x14, 1);
    let _ = driver.function.config_write(at + 16, AccessSize::Byte, 1);
    assert_eq!((driver.status(), data() & 0xFF), (1, 1));
    point(0, 0x12, 2);
    assert_eq!(data() & 0xFFFF, 2);
    for (bar, offset, length) in
        [(1, 0x14, 1), (0, 0x15, 2), (0, 0, 3), (0, 0, 8), (0, 0x7FFF, 1), (0, u32::MAX, 1)]
    {
        point(bar, offset, length);
        let _ = driver.function.config_write(at + 16, AccessSize::Dword, 0);
        let _ = data();
        assert_eq!(driver.status(), 1, "{bar} {offset:#x} {length}");
    }
}

/// Every register of the BAR and of configuration space in every size with edge values.
fn sweep(driver: &Driver) {
    let values = [0u64, 1, 0x8000, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX];
    let regions =
        [0..0x60u64, 0x0FF8..0x1010, 0x1FF8..0x2010, 0x2FF8..0x3020, 0x3FF8..0x4050, 0x4FF8..0x5010];
    for offset in regions.into_iter().flatten() {
        for size in SIZES {
            for value in values {
                let _ = driver.read(offset, size.bytes());
                driver.write(offset, size.bytes(), value & size.ones());
            }
        }
    }
    for offset in (0..0x100).chain([0xFFC, 0xFFF]) {
        for size in &SIZES[..3] {
            for value in [0u32, 1, 0x8000_0000, u32::MAX] {
                let _ = driver.function.config_read(offset, *size);
                let _ = driver.function.config_write(offset, *size, value);
            }
        }
    }
}

#[test]
fn every_register_survives_every_access_before_during_and_after_activation() {
    let driver = Driver::new(Act::GiveBack);
    sweep(&driver);
    driver.function.reset();
    driver.start();
    sweep(&driver);
    driver.function.reset();
    driver.start();
    driver.set_status(0);
    sweep(&driver);
    driver.function.reset();
    let mut ring = driver.start();
    assert_eq!(driver.status(), DRIVER_OK);
    ring.offer_chain(&driver.memory, &[BUFFER]);
    driver.kick(0);
    driver.wait("the device works after all that", |driver| ring.used_index(&driver.memory) == 1);
}
