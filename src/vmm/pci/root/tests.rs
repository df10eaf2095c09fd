//! Placement against a fake mapper.

use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use super::testing::{FakeMapper, root, root_on};
use super::*;
use crate::spec::pci::ClassCode;
use crate::vmm::bus::{BusDevice, IoError};
use crate::vmm::pci::config_space::{ConfigSpace, Identity};
use crate::vmm::pci::{Backing, Bar, BarKind, Segment};

struct Constant(u64);

impl BusDevice for Constant {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(self.0)
    }
    fn write(&self, _: u64, _: AccessSize, _: u64) -> Result<Effects, IoError> {
        Err(IoError::InvalidRegister)
    }
}

/// A function with BAR 0 (64 bits, trapped, with a doorbell at 0x1000) and BAR 2 (32 bits, trapped).
struct Function {
    config: Mutex<ConfigSpace>,
    number: u64,
}

impl Function {
    fn new(number: u64) -> Arc<Self> {
        let class = ClassCode { base: 0xFF, sub: 0, prog_if: 0 };
        let mut config = ConfigSpace::endpoint(Identity {
            vendor_id: 0x1234,
            device_id: 1,
            revision: 0,
            class,
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        });
        config.add_bar(0, BarKind::Memory64 { prefetchable: false }, 0x4000).unwrap();
        config.add_bar(2, BarKind::Memory32 { prefetchable: false }, 0x1000).unwrap();
        Arc::new(Self { config: Mutex::new(config), number })
    }

    /// One with a prefetchable BAR 4 of `size` bytes, too.
    fn with_large_bar(number: u64, size: u64) -> Arc<Self> {
        let function = Self::new(number);
        let prefetchable = BarKind::Memory64 { prefetchable: true };
        function.config.lock().unwrap().add_bar(4, prefetchable, size).unwrap();
        function
    }

    /// One with an expansion ROM of 64 KiB, too.
    fn with_rom(number: u64) -> Arc<Self> {
        let function = Self::new(number);
        function.config.lock().unwrap().add_rom(0x1_0000).unwrap();
        function
    }
}

impl Lifecycle for Function {
    fn reset(&self) {
        self.config.lock().unwrap().reset();
    }
}

impl PciFunction for Function {
    fn label(&self) -> &'static str {
        "test function"
    }
    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        self.config.lock().unwrap().read(offset, size)
    }
    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        self.config.lock().unwrap().write(offset, size, value)
    }
    fn bar(&self, index: usize) -> Option<Bar> {
        let (kind, size) = self.config.lock().unwrap().bar_shape(index)?;
        let trap = Segment { offset: 0, size, backing: Backing::Trap(Arc::new(Constant(self.number))) };
        let doorbell = Backing::Notify(Arc::new(EventFd::new(0).unwrap()));
        let notify = Segment { offset: 0x1000, size: 4, backing: doorbell };
        let segments = if index == 0 { vec![trap, notify] } else { vec![trap] };
        Some(Bar { kind, size, segments })
    }
    fn bar_address(&self, index: usize) -> u64 {
        self.config.lock().unwrap().bar_address(index)
    }
}

struct Bench {
    root: Arc<PciRoot>,
    mmio: Arc<Bus>,
    mapper: FakeMapper,
}

const FIRST: Slot = Slot(1 << 3);
const SECOND: Slot = Slot(2 << 3);

fn on_root(slot: Slot) -> Address {
    Address { bus: 0, slot }
}

const HIGH: u64 = 0x1_0000_0000;

impl Bench {
    fn new() -> Self {
        let mmio = Arc::default();
        let mapper = FakeMapper::default();
        let root = root_on(&mmio, &mapper);
        root.insert(Place::on_root(FIRST), Function::new(1)).unwrap();
        root.insert(Place::on_root(SECOND), Function::new(2)).unwrap();
        root.place_bars().unwrap();
        Self { root, mmio, mapper }
    }

    fn write(&self, slot: Slot, offset: u16, value: u32) {
        if self
            .root
            .config_write(on_root(slot), offset, AccessSize::Dword, value)
            .contains(Effects::REMAP_BARS)
        {
            self.root.remap();
        }
    }

    fn at(&self, address: u64) -> u8 {
        let mut data = [0];
        self.mmio.read(address, &mut data);
        data[0]
    }

    fn notifies(&self) -> Vec<String> {
        self.mapper.0.lock().unwrap().clone()
    }
}

#[test]
fn bars_get_disjoint_places_and_appear_with_the_decode_bit() {
    let bench = Bench::new();
    assert_eq!(bench.at(HIGH), 0xFF);
    bench.write(FIRST, header::COMMAND, 2);
    bench.write(SECOND, header::COMMAND, 2);
    assert_eq!([HIGH, HIGH + 0x4000, 0xC000_0000, 0xC000_1000].map(|a| bench.at(a)), [1, 2, 1, 2]);
    assert_eq!(bench.notifies(), ["notify 0x100001000", "notify 0x100005000"]);
    bench.write(FIRST, header::COMMAND, 0);
    assert_eq!([HIGH, HIGH + 0x4000].map(|a| bench.at(a)), [0xFF, 2]);
    assert_eq!(bench.notifies(), ["notify 0x100005000"]);
}

#[test]
fn sizing_with_decoding_on_moves_nothing() {
    let bench = Bench::new();
    bench.write(FIRST, header::COMMAND, 2);
    bench.write(FIRST, header::BAR0, u32::MAX);
    bench.write(FIRST, header::BAR0 + 4, u32::MAX);
    assert_eq!(bench.at(HIGH + 0x3FFF), 1);
}

#[test]
fn a_bar_moves_and_its_neighbour_stays() {
    let bench = Bench::new();
    bench.write(FIRST, header::COMMAND, 2);
    bench.write(SECOND, header::COMMAND, 2);
    bench.write(FIRST, header::BAR0, 0x8000_0000);
    assert_eq!([HIGH, HIGH + 0x8000_0000, HIGH + 0x4000].map(|a| bench.at(a)), [0xFF, 1, 2]);
    assert_eq!(bench.notifies(), ["notify 0x100005000", "notify 0x180001000"]);
}

#[test]
fn an_overlapping_bar_waits_until_the_place_is_free() {
    let bench = Bench::new();
    bench.write(FIRST, header::COMMAND, 2);
    bench.write(SECOND, header::BAR0, 0);
    bench.write(SECOND, header::COMMAND, 2);
    assert_eq!(bench.at(HIGH), 1);
    bench.write(FIRST, header::BAR0, 0x10_0000);
    assert_eq!([HIGH, HIGH + 0x10_0000].map(|a| bench.at(a)), [2, 1]);
}

#[test]
fn a_bar_outside_of_the_windows_is_not_reachable() {
    let bench = Bench::new();
    bench.write(FIRST, header::COMMAND, 2);
    for address in [0x1000_u32, 0xB000_0000, 0xFEC0_0000, 0xFEE0_0000, 0xFFFF_F000] {
        bench.write(FIRST, header::BAR0 + 8, address);
        assert_eq!(bench.at(u64::from(address)), 0xFF, "{address:#x}");
    }
}

#[test]
fn reset_brings_the_first_placement_back() {
    let bench = Bench::new();
    bench.write(FIRST, header::BAR0, 0x8000_0000);
    bench.write(FIRST, header::COMMAND, 2);
    bench.root.reset();
    assert_eq!((bench.at(HIGH + 0x8000_0000), bench.notifies().len()), (0xFF, 0));
    bench.write(FIRST, header::COMMAND, 2);
    assert_eq!(bench.at(HIGH), 1);
}

#[test]
fn a_second_function_sets_the_multi_function_bit() {
    let root = root();
    root.insert(Place::on_root(Slot::new(3, 0).unwrap()), Function::new(1)).unwrap();
    let header_type = |root: &PciRoot| {
        [
            root.config_read(on_root(Slot(3 << 3)), 0x0E, AccessSize::Byte) & 0xFF,
            root.config_read(on_root(Slot(3 << 3)), 0x0C, AccessSize::Dword) >> 16,
        ]
    };
    assert_eq!(header_type(&root), [0, 0]);
    root.insert(Place::on_root(Slot::new(3, 5).unwrap()), Function::new(2)).unwrap();
    assert_eq!(header_type(&root), [0x80, 0x80]);
    assert!(root.insert(Place::on_root(Slot::new(3, 5).unwrap()), Function::new(2)).is_err());
}

#[test]
fn too_large_bars_are_named() {
    let mmio = Arc::default();
    let windows = Windows { pio: 0..0, mmio32: 0xC000_0000..0xC000_1000, mmio64: 0..0 };
    let root = PciRoot::new(windows, mmio, Arc::default(), Arc::new(FakeMapper::default()));
    root.insert(Place::on_root(FIRST), Function::new(1)).unwrap();
    let error = root.place_bars().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no room for BAR 0 (16KiB) of test function: what must lie where it must takes 16KiB in all, each at a multiple of its \
         size, and 0xc0000000 to 0xc0001000 is there for that; leave a device out, or let it ask for less"
    );
}

/// A root whose two ports have a function each behind them.
fn behind_ports() -> Bench {
    let mmio = Arc::default();
    let mapper = FakeMapper::default();
    let root = root_on(&mmio, &mapper);
    for (slot, number) in [(FIRST, 1), (SECOND, 2)] {
        root.insert_port(slot, &Arc::new(RootPort::new(slot.device()).unwrap())).unwrap();
        root.insert(Place::behind(slot, 0).unwrap(), Function::new(number)).unwrap();
    }
    root.place_bars().unwrap();
    Bench { root, mmio, mapper }
}

#[test]
fn functions_behind_ports_are_found_by_the_numbers_of_their_buses() {
    let bench = behind_ports();
    let id = |bus, slot| bench.root.config_read(Address { bus, slot: Slot(slot) }, 0, AccessSize::Dword);
    assert_eq!([id(1, 0), id(2, 0)], [0x0001_1234; 2]);
    // Another device, another bus.
    assert_eq!([id(1, 1 << 3), id(3, 0)], [u32::MAX; 2]);
    assert_eq!(bench.root.last_bus(), 2);
    bench.write(SECOND, 0x18, 0x0007_0700);
    assert_eq!([id(2, 0), id(7, 0)], [u32::MAX, 0x0001_1234]);
    let error = bench.root.insert(Place::behind(Slot(3 << 3), 0).unwrap(), Function::new(3)).unwrap_err();
    assert_eq!(error.to_string(), "test function cannot be at 00:03.0/00.0: there is no root port above it");
}

#[test]
fn bars_behind_a_port_are_reachable_as_far_as_it_forwards_them() {
    let bench = behind_ports();
    let behind = |bus| Address { bus, slot: Slot(0) };
    let command = |bus, value| {
        let effects = bench.root.config_write(behind(bus), header::COMMAND, AccessSize::Word, value);
        assert!(effects.contains(Effects::REMAP_BARS));
        bench.root.remap();
    };
    command(1, 2);
    command(2, 2);
    let register = |bus, bar: u16| {
        bench.root.config_read(behind(bus), header::BAR0 + 4 * bar, AccessSize::Dword) & 0xFFFF_FFF0
    };
    let at = |bus, bar| u64::from(register(bus, bar));
    // The 64-bit BAR is not prefetchable, so that it lies below 4 GiB, each in a megabyte of its port's.
    let places = [at(1, 0), at(1, 2), at(2, 0), at(2, 2)];
    assert_eq!(places, [0xC000_0000, 0xC000_4000, 0xC010_0000, 0xC010_4000]);
    assert_eq!(places.map(|address| bench.at(address)), [1, 1, 2, 2]);
    // The port stops forwarding, then forwards again, then elsewhere.
    bench.write(FIRST, header::COMMAND, 0);
    assert_eq!(places.map(|address| bench.at(address)), [0xFF, 0xFF, 2, 2]);
    bench.write(FIRST, header::COMMAND, 7);
    assert_eq!(bench.at(places[0]), 1);
    bench.write(FIRST, 0x20, 0xC020_C020);
    assert_eq!(places.map(|address| bench.at(address)), [0xFF, 0xFF, 2, 2]);
    bench.root.reset();
    command(1, 2);
    assert_eq!(bench.at(places[0]), 1, "as after power-on");
}

/// A root on windows of a machine whose CPUs drive `physical_bits` address bits, with functions behind its ports.
fn ports_with(physical_bits: u8, behind: &[(u8, u8, Arc<Function>)]) -> (Arc<PciRoot>, Arc<Bus>) {
    let mmio: Arc<Bus> = Arc::default();
    let windows = Windows { mmio64: crate::vmm::layout::mmio64(0, physical_bits), ..testing::windows() };
    let root = PciRoot::new(windows, Arc::clone(&mmio), Arc::default(), Arc::new(FakeMapper::default()));
    for (port, function, device) in behind {
        let slot = Slot::new(*port, 0).unwrap();
        if *function == 0 {
            root.insert_port(slot, &Arc::new(RootPort::new(*port).unwrap())).unwrap();
        }
        root.insert(Place::behind(slot, *function).unwrap(), Arc::clone(device) as _).unwrap();
    }
    (root, mmio)
}

fn behind(bus: u8, function: u8) -> Address {
    Address { bus, slot: Slot::new(0, function).unwrap() }
}

#[test]
fn a_bar_of_32_gib_lies_in_its_ports_window_above_4_gib() {
    let large = Function::with_large_bar(7, 32 << 30);
    let (root, mmio) = ports_with(
        39,
        &[(1, 0, Function::with_large_bar(1, 1 << 30)), (2, 0, large), (3, 0, Function::new(3))],
    );
    root.place_bars().unwrap();
    let register = |offset| u64::from(root.config_read(behind(2, 0), offset, AccessSize::Dword));
    let start = (register(header::BAR0 + 16) & !0xF) | register(header::BAR0 + 20) << 32;
    assert_eq!(start, 32 << 30);
    // Base and limit of the port's prefetchable window, with their upper halves.
    let port = |offset| root.config_read(on_root(SECOND), offset, AccessSize::Dword);
    assert_eq!([port(0x24), port(0x28), port(0x2C)], [0xFFF1_0001, 0x8, 0xF]);
    let _ = root.config_write(behind(2, 0), header::COMMAND, AccessSize::Word, 2);
    root.remap();
    let at = |address| {
        let mut data = [0];
        mmio.read(address, &mut data);
        data[0]
    };
    assert_eq!([start - 1, start, start + (32 << 30) - 1, start + (32 << 30)].map(at), [0xFF, 7, 7, 0xFF]);
    // What the large one's alignment skipped is not lost.
    assert_eq!(u64::from(root.config_read(behind(1, 0), header::BAR0 + 20, AccessSize::Dword)), 1);
}

#[test]
fn bars_that_together_are_more_than_their_window_are_named_with_their_place() {
    let half = || Function::with_large_bar(1, 16 << 30);
    let (root, _) = ports_with(36, &[(1, 0, half()), (2, 0, half())]);
    let error = root.place_bars().unwrap_err();
    let PciRootError::NoRoom { place, bar, wanted, .. } = &error else { panic!("{error}") };
    assert_eq!((place.to_string(), *bar, *wanted), ("00:02.0/00.0".to_owned(), 4, 32 << 30));
    assert!(error.to_string().contains("BAR 4 (16GiB) of test function"), "{error}");
}

#[test]
fn functions_of_one_device_share_its_bus_and_its_windows() {
    let (root, _) = ports_with(39, &[(2, 0, Function::new(1)), (2, 3, Function::new(2))]);
    root.place_bars().unwrap();
    let header_type =
        |function| root.config_read(behind(2, function), header::HEADER_TYPE, AccessSize::Byte) & 0xFF;
    assert_eq!([header_type(0), header_type(3), header_type(1)], [0x80, 0, 0xFF]);
    let bar = |function| root.config_read(behind(2, function), header::BAR0 + 8, AccessSize::Dword);
    assert_eq!([bar(0), bar(3)], [0xC000_8000, 0xC000_9000]);
    let place = root.functions().last().unwrap().0;
    assert_eq!((place.address().to_string(), root.last_bus()), ("0000:02:00.3".to_owned(), 2));
}

#[test]
fn an_expansion_rom_has_an_address_and_is_there_while_it_is_on() {
    let (root, mmio) = ports_with(39, &[(1, 0, Function::with_rom(5))]);
    root.place_bars().unwrap();
    let at = |address| {
        let mut data = [0];
        mmio.read(address, &mut data);
        data[0]
    };
    let write = |offset, value| {
        if root.config_write(behind(1, 0), offset, AccessSize::Dword, value).contains(Effects::REMAP_BARS) {
            root.remap();
        }
    };
    assert_eq!(root.config_read(behind(1, 0), header::ROM, AccessSize::Dword), 0xC000_0000);
    write(header::COMMAND, 2);
    assert_eq!(at(0xC000_0000), 0xFF);
    write(header::ROM, 0xC000_0001);
    assert_eq!([at(0xC000_0000), at(0xC000_FFFF)], [5, 5]);
    write(header::ROM, 0xC002_0001);
    assert_eq!([at(0xC000_0000), at(0xC002_0000)], [0xFF, 5]);
    write(header::COMMAND, 0);
    assert_eq!(at(0xC002_0000), 0xFF);
}

#[test]
fn a_reset_of_the_bus_behind_a_port_resets_what_is_there() {
    let bench = behind_ports();
    let behind = Address { bus: 2, slot: Slot(0) };
    let _ = bench.root.config_write(behind, header::COMMAND, AccessSize::Word, 2);
    bench.write(SECOND, 0x3C, 0x0040_0000);
    assert_eq!(bench.root.config_read(behind, header::COMMAND, AccessSize::Word), 0);
    assert_eq!(bench.root.config_read(behind, header::BAR0, AccessSize::Dword), 4);
}
