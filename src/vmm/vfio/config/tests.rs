//! The virtual configuration space on images written from the specifications.

use std::cell::RefCell;

use proptest::prelude::{Strategy, any, prop, proptest};

use super::*;
use crate::vmm::pci::capability::{capabilities, extended_capabilities};
use crate::vmm::vfio::testing::{E1000E_BARS, IGB_VF_BARS, Image, NVME_BARS, e1000e, igb_vf, nvme};

const ALL: Limits = Limits { msi_vectors: 32, msix_vectors: 2048, intx: true, reset: true };
const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword];
const EDGES: [u32; 7] = [0, 1, 0x8000_0000, 0x7FFF_FFFF, 0x55AA_55AA, 0xFFFF_FFFE, u32::MAX];

/// The device's registers: a plain memory that records what reaches it.
struct Device {
    registers: RefCell<Vec<u8>>,
    writes: RefCell<Vec<(u16, AccessSize, u32)>>,
}

impl Device {
    fn new(image: &Image) -> Self {
        Self { registers: RefCell::new(image.0.clone()), writes: RefCell::default() }
    }

    fn take(&self) -> Vec<(u16, AccessSize, u32)> {
        std::mem::take(&mut *self.writes.borrow_mut())
    }
}

impl HardwareConfig for Device {
    fn read(&self, offset: u16, size: AccessSize) -> u32 {
        let registers = self.registers.borrow();
        let mut data = [0; 4];
        for (byte, at) in data.iter_mut().zip(usize::from(offset)..).take(size.bytes()) {
            *byte = registers.get(at).copied().unwrap_or(0xFF);
        }
        u32::from_le_bytes(data)
    }
    fn write(&self, offset: u16, size: AccessSize, value: u32) {
        self.writes.borrow_mut().push((offset, size, value));
    }
}

fn registers(image: &Image, sizes: &[(usize, u64)]) -> Vec<BarRegister> {
    sizes.iter().filter_map(|(index, size)| BarRegister::new(&image.0, *index, *size)).collect()
}

fn config(image: &Image, sizes: &[(usize, u64)], limits: Limits) -> (VirtualConfig, Device) {
    let config = lay_out(&image.0, &registers(image, sizes), None, limits).unwrap();
    (config, Device::new(image))
}

/// The space as the guest sees it.
fn view(config: &VirtualConfig, device: &Device) -> Vec<u8> {
    (0..4096).map(|offset| config.read(offset, AccessSize::Byte, device).to_le_bytes()[0]).collect()
}

fn capability_ids(view: &[u8]) -> Vec<(u8, u16)> {
    capabilities(view).iter().map(|entry| (entry.id.0, entry.offset)).collect()
}

fn extended_ids(view: &[u8]) -> Vec<(u16, u16)> {
    extended_capabilities(view).iter().map(|entry| (entry.id, entry.offset)).collect()
}

fn word(view: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([view[at], view[at + 1]])
}

#[test]
fn an_nvme_controller_keeps_its_identity_and_its_own_capabilities() {
    let (config, device) = config(&nvme(), &NVME_BARS, ALL);
    let view = view(&config, &device);
    assert_eq!(view[..4], [0x36, 0x1B, 0x10, 0x00]);
    assert_eq!(view[9..12], [0x02, 0x08, 0x01]);
    assert_eq!(capability_ids(&view), [(0x11, 0x40), (0x10, 0x80), (0x01, 0x60)]);
    assert_eq!(extended_ids(&view), [], "AER and SR-IOV are hidden");
    assert_eq!(view[0x3D], 1);
    assert_eq!(word(&view, 0x42), 64, "65 vectors, disabled");
    assert_eq!(word(&view, 0x82), 0x0002, "an endpoint, version 2");
    assert_eq!(
        view[0x8C..0x94],
        [0x11, 0, 0, 0, 0, 0, 0x11, 0x10],
        "the link that the host says, without its control"
    );
    assert_eq!(word(&view, 0x62) & 0xFE00, 0, "no PME, no D1, no D2");
    assert_eq!(word(&view, 0x64), 0x0008, "keeps its state in D3hot");
    let facts = config.places().msix.unwrap();
    assert_eq!(
        (facts.place.table_bar, facts.place.table_offset, facts.place.pba_offset),
        (0, 0x2000, 0x3000)
    );
}

#[test]
fn an_e1000e_has_msi_vpd_vendor_and_serial_number() {
    let (config, device) = config(&e1000e(), &E1000E_BARS, ALL);
    let view = view(&config, &device);
    let ids: Vec<u8> = capability_ids(&view).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [0x01, 0x05, 0x10, 0x11, 0x03, 0x09]);
    assert_eq!(
        extended_ids(&view),
        [(0x0000, 0x100), (0x0003, 0x140)],
        "a null header leads to the serial number"
    );
    assert_eq!(view[0x144..0x14C], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(view[0x0E], 0, "not multi-function here");
    assert_eq!(config.places().msi, Some((0xD0, 0x80)));
    assert_eq!(view[0x60..0x66], [0x09, 0, 0x10, 1, 2, 3]);
}

#[test]
fn bars_show_their_sizes_and_the_rom_bar_is_absent() {
    let (mut config, device) = config(&e1000e(), &E1000E_BARS, ALL);
    for offset in [0x10, 0x14, 0x18, 0x1C, 0x20, 0x30] {
        let _ = config.write(offset, AccessSize::Dword, u32::MAX, &device);
    }
    let sizes = [0x10, 0x14, 0x18, 0x1C, 0x20, 0x30].map(|at| config.read(at, AccessSize::Dword, &device));
    assert_eq!(sizes, [0xFFFE_0000, 0xFFFE_0000, 0xFFFF_FFE1, 0xFFFF_C000, 0, 0]);
    assert_eq!(device.take(), [], "BARs of the host are never touched");
}

#[test]
fn what_the_machine_does_not_offer_is_unlinked() {
    let none = Limits { msi_vectors: 0, msix_vectors: 0, intx: false, reset: false };
    let (config, device) = config(&e1000e(), &E1000E_BARS, none);
    let view = view(&config, &device);
    let ids: Vec<u8> = capability_ids(&view).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [0x01, 0x10, 0x03, 0x09]);
    assert_eq!(view[0xD0..0xDA], [0; 10], "the body of a hidden capability is gone too");
    assert_eq!(view[0x3D], 0);
    assert_eq!(view[0xE7] & 0x10, 0, "no FLR without a reset");
    assert_eq!(config.places().express_flr, None);
}

#[test]
fn more_vectors_are_never_announced_than_can_be_delivered() {
    let limits = Limits { msi_vectors: 1, msix_vectors: 3, ..ALL };
    let mut image = e1000e();
    image.put(0xD2, &[0x8A, 0x00]);
    let (config, device) = config(&image, &E1000E_BARS, limits);
    assert_eq!(config.places().msi, Some((0xD0, 0x80)));
    assert_eq!(word(&view(&config, &device), 0xA2), 2);
}

#[test]
fn the_command_register_is_ours_and_the_device_stays_decoded() {
    let (mut config, device) = config(&igb_vf(), &IGB_VF_BARS, ALL);
    let (effects, touched) = config.write(0x04, AccessSize::Dword, 0xFFFF_FFFF, &device);
    assert_eq!(effects, Effects::REMAP_BARS);
    assert!(touched.command);
    assert_eq!(config.read(0x04, AccessSize::Word, &device), 0x0546, "no I/O BAR, so no I/O decoding");
    assert_eq!(device.take(), [(6, AccessSize::Byte, 0xFF), (7, AccessSize::Byte, 0xFF)], "status alone");
    let (effects, _) = config.write(0x04, AccessSize::Word, 0x0004, &device);
    assert_eq!(effects, Effects::REMAP_BARS);
    assert_eq!(config.decode(), Command::empty());
    let always = Command::IO | Command::MEMORY;
    assert_eq!(config.hardware_command(), always | Command::BUS_MASTER);
}

#[test]
fn in_d3_nothing_is_decoded_and_dma_is_off() {
    let (mut config, device) = config(&nvme(), &NVME_BARS, ALL);
    let _ = config.write(0x04, AccessSize::Word, 0x0006, &device);
    assert_eq!(config.decode(), Command::MEMORY);
    let (effects, touched) = config.write(0x64, AccessSize::Word, 0x0003, &device);
    assert_eq!((effects, touched.command), (Effects::REMAP_BARS, true));
    assert_eq!(config.decode(), Command::empty());
    assert!(!config.hardware_command().contains(Command::BUS_MASTER));
    let (effects, _) = config.write(0x64, AccessSize::Word, 0x0001, &device);
    assert_eq!((effects, config.awake()), (Effects::empty(), false), "D1 does not exist");
    let (effects, touched) = config.write(0x64, AccessSize::Dword, 0x0000, &device);
    assert_eq!((effects, touched.command), (Effects::REMAP_BARS, true));
    assert_eq!(config.read(0x64, AccessSize::Word, &device), 0x0008);
    assert!(config.hardware_command().contains(Command::BUS_MASTER));
    assert_eq!(device.take(), [], "the device itself stays in D0");
}

#[test]
fn function_level_reset_is_taken_out_of_writes_of_every_shape() {
    let (mut config, device) = config(&nvme(), &NVME_BARS, ALL);
    for (offset, size, value) in [
        (0x88, AccessSize::Word, 0xA810),
        (0x88, AccessSize::Dword, 0x0000_8000),
        (0x89, AccessSize::Byte, 0x80),
    ] {
        assert!(config.write(offset, size, value, &device).1.reset, "{offset:#x} {size:?}");
        for (at, size, value) in device.take() {
            let first = u16::try_from(size.bytes()).unwrap();
            assert!(at + first <= 0x89 || value >> (8 * (0x89 - at)) & 0x80 == 0, "FLR reached the device");
        }
    }
    assert!(!config.write(0x88, AccessSize::Word, 0x2810, &device).1.reset);
    assert_eq!(device.take(), [(0x88, AccessSize::Word, 0x2810)], "the rest goes through in one piece");
    assert!(!config.write(0x8A, AccessSize::Word, 0xFFFF, &device).1.reset);
}

#[test]
fn advanced_features_offer_the_same_reset() {
    let mut image = Image::new(0x8086, 0x2934, [0, 3, 0x0C], 256);
    image.put(0x34, &[0x98]);
    image.put(0x98, &[0x13, 0, 6, 3, 0, 0]);
    let (mut config, device) = config(&image, &[(4, 0x20)], ALL);
    assert_eq!(capability_ids(&view(&config, &device)[..256]), [(0x13, 0x98)]);
    assert!(config.write(0x9C, AccessSize::Byte, 1, &device).1.reset);
    assert!(config.write(0x9C, AccessSize::Word, 1, &device).1.reset);
    assert!(!config.write(0x9C, AccessSize::Byte, 0xFE, &device).1.reset);
    assert!(device.take().iter().all(|(at, ..)| *at == 0x9D));
}

#[test]
fn the_vital_product_data_can_be_read_but_not_written() {
    let (mut config, device) = config(&e1000e(), &E1000E_BARS, ALL);
    let _ = config.write(0x54, AccessSize::Dword, 0x1234_5678, &device);
    let _ = config.write(0x52, AccessSize::Word, 0x8004, &device);
    let _ = config.write(0x50, AccessSize::Dword, 0x8008_0000, &device);
    let writes = device.take();
    assert!(writes.contains(&(0x52, AccessSize::Word, 0x0004)), "{writes:x?}");
    assert!(writes.iter().all(|(at, size, value)| match (at, size) {
        (0x52, AccessSize::Word) => value & 0x8000 == 0,
        (0x53, AccessSize::Byte) => value & 0x80 == 0,
        _ => true,
    }));
    assert_eq!(config.read(0x52, AccessSize::Word, &device), 0x8000, "the device's own flag is seen");
}

/// Every byte that a write sends to the device must belong to it, with no bit set that is not the guest's to set; no
/// register that is ours or hidden may reach it.
fn assert_filtered(config: &VirtualConfig, device: &Device, context: impl std::fmt::Debug) {
    for (at, size, value) in device.take() {
        for (at, byte) in (at..).zip(value.to_le_bytes()).take(size.bytes()) {
            let allowed = match config.owner(at) {
                Byte::Passthrough => 0xFF,
                Byte::Masked(mask) => mask,
                Byte::Emulated | Byte::Hidden => panic!("{context:x?} reached {at:#x}"),
            };
            assert_eq!(byte & !allowed, 0, "{context:x?} set bits of {at:#x}");
        }
    }
}

#[test]
fn no_access_at_any_offset_in_any_size_gets_past_the_table() {
    for (image, bars) in [(nvme(), &NVME_BARS[..]), (igb_vf(), &IGB_VF_BARS), (e1000e(), &E1000E_BARS)] {
        let (mut config, device) = config(&image, bars, ALL);
        let identity = config.read(0, AccessSize::Dword, &device);
        for offset in (0..4096).chain([0xFFFF]) {
            for size in SIZES {
                for value in EDGES {
                    let _ = config.write(offset, size, value, &device);
                    assert_filtered(&config, &device, (offset, size, value));
                    let _ = config.read(offset, size, &device);
                }
            }
        }
        assert_eq!(config.read(0, AccessSize::Dword, &device), identity);
        config.reset();
        assert_eq!(config.read(0x04, AccessSize::Word, &device), 0);
    }
}

#[test]
fn hostile_lists_end() {
    let mut looped = nvme();
    looped.put(0x61, &[0x40]);
    let mut own_tail = nvme();
    own_tail.put(0x41, &[0x40]);
    let mut at_the_end = nvme();
    at_the_end.put(0x34, &[0xFC]);
    at_the_end.put(0xFC, &[0x11, 0xFC, 0xFF, 0xFF]);
    let mut overlapping = nvme();
    overlapping.put(0x41, &[0x44]);
    overlapping.put(0x44, &[0x10, 0x48]);
    overlapping.put(0x48, &[0x01, 0x4C]);
    overlapping.put(0x4C, &[0x09, 0x00, 0xFF]);
    let mut extended = nvme();
    extended.put(0x100, &[0x0B, 0x00, 0x01, 0xFF]);
    extended.put(0xFF0, &[0x03, 0x00, 0x01, 0x10]);
    for image in [looped, own_tail, at_the_end, overlapping, extended] {
        let (config, device) = config(&image, &NVME_BARS, ALL);
        let view = view(&config, &device);
        assert!(capabilities(&view).len() <= 4);
        assert!(extended_capabilities(&view).len() <= 2);
    }
}

#[test]
fn a_capability_that_runs_into_the_next_one_is_hidden() {
    let mut image = nvme();
    image.put(0x81, &[0x90]);
    image.put(0x90, &[0x09, 0x60, 4, 0xAA]);
    let (config, device) = config(&image, &NVME_BARS, ALL);
    let ids: Vec<u8> = capability_ids(&view(&config, &device)).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [0x11, 0x09, 0x01]);
}

#[test]
fn conventional_functions_have_no_extended_space() {
    let mut image = e1000e();
    image.0.truncate(256);
    let (config, device) = config(&image, &E1000E_BARS, ALL);
    assert_eq!(config.read(0x100, AccessSize::Dword, &device), 0);
}

#[test]
fn bridges_and_absent_functions_are_named() {
    let mut bridge = nvme();
    bridge.put(0x0E, &[0x81]);
    assert!(header_fault(&bridge.0).unwrap().contains("bridge"));
    assert!(header_fault(&[0xFF; 256]).unwrap().contains("does not answer"));
    assert!(header_fault(&[]).is_some());
    assert_eq!(header_fault(&e1000e().0), None);
}

/// A space in which the pointers of both lists are likely to lead somewhere.
fn spaces() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::collection::vec(any::<u8>(), 4096),
        prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 16),
    )
        .prop_map(|(mut image, entries)| {
            const KNOWN: [u8; 10] = [0x01, 0x03, 0x05, 0x09, 0x10, 0x11, 0x12, 0x13, 0x14, 0x00];
            image[0x06] |= 0x10;
            for (at, id, next) in entries {
                let place = 0x34 + usize::from(at) % 0xC8;
                image[place] = KNOWN[usize::from(id) % KNOWN.len()];
                image[place + 1] = next;
            }
            image
        })
}

proptest! {
    #[test]
    fn random_devices_and_guests_break_nothing(
        space in spaces(),
        accesses in prop::collection::vec((0u16..4096, 0usize..4, any::<u32>()), 64),
    ) {
        let image = Image(space);
        let Ok(mut config) = lay_out(&image.0, &registers(&image, &[(0, 0x100)]), None, ALL) else { return Ok(()) };
        let device = Device::new(&image);
        for (offset, size, value) in accesses {
            let size = SIZES[size];
            let _ = config.write(offset, size, value, &device);
            assert_filtered(&config, &device, (offset, size, value));
            let _ = config.read(offset, size, &device);
            let _ = (config.decode(), config.hardware_command(), config.msix_control());
        }
    }
}
