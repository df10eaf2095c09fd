//! Placement against a fake mapper.

use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use super::testing::{FakeMapper, root, root_on};
use super::*;
use crate::spec::pci::ClassCode;
use crate::vmm::bus::{BusDevice, IoError};
use crate::vmm::pci::config_space::{ConfigSpace, Identity};
use crate::vmm::pci::{Backing, Bar, Segment};

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
const HIGH: u64 = 0x1_0000_0000;

impl Bench {
    fn new() -> Self {
        let mmio = Arc::default();
        let mapper = FakeMapper::default();
        let root = root_on(&mmio, &mapper);
        root.insert(FIRST, Function::new(1)).unwrap();
        root.insert(SECOND, Function::new(2)).unwrap();
        root.place_bars().unwrap();
        Self { root, mmio, mapper }
    }

    fn write(&self, slot: Slot, offset: u16, value: u32) {
        if self.root.config_write(slot, offset, AccessSize::Dword, value).contains(Effects::REMAP_BARS) {
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
    root.insert(Slot::new(3, 0).unwrap(), Function::new(1)).unwrap();
    let header_type = |root: &PciRoot| {
        [
            root.config_read(Slot(3 << 3), 0x0E, AccessSize::Byte) & 0xFF,
            root.config_read(Slot(3 << 3), 0x0C, AccessSize::Dword) >> 16,
        ]
    };
    assert_eq!(header_type(&root), [0, 0]);
    root.insert(Slot::new(3, 5).unwrap(), Function::new(2)).unwrap();
    assert_eq!(header_type(&root), [0x80, 0x80]);
    assert!(root.insert(Slot::new(3, 5).unwrap(), Function::new(2)).is_err());
}

#[test]
fn too_large_bars_are_named() {
    let mmio = Arc::default();
    let windows = Windows { pio: 0..0, mmio32: 0xC000_0000..0xC000_1000, mmio64: 0..0 };
    let root = PciRoot::new(windows, mmio, Arc::default(), Arc::new(FakeMapper::default()));
    root.insert(FIRST, Function::new(1)).unwrap();
    let error = root.place_bars().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no room for BAR 0 of test function: 0x4000 bytes do not fit into 0xc0000000..0xc0001000"
    );
}
