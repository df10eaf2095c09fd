//! The table against what drivers and firmware write.

use super::*;
use crate::spec::pci::CapabilityId;
use crate::vmm::pci::capability::capabilities;

const BAR0: u16 = header::BAR0;

fn space() -> ConfigSpace {
    let mut space = ConfigSpace::endpoint(Identity {
        vendor_id: 0x1AF4,
        device_id: 0x1042,
        revision: 1,
        class: ClassCode { base: 1, sub: 0x80, prog_if: 0 },
        subsystem_vendor_id: 0x1AF4,
        subsystem_id: 0x1100,
    });
    space.add_bar(0, BarKind::Memory64 { prefetchable: true }, 0x4000).unwrap();
    space.add_bar(2, BarKind::Memory32 { prefetchable: false }, 0x1000).unwrap();
    space.add_bar(3, BarKind::Io, 0x20).unwrap();
    space
}

fn write(space: &mut ConfigSpace, offset: u16, value: u32) -> Effects {
    space.write(offset, AccessSize::Dword, value)
}

#[test]
fn sizing_shows_size_and_kind_and_moves_nothing() {
    let mut space = space();
    assert_eq!(write(&mut space, BAR0, 0xD000_0000), Effects::REMAP_BARS);
    assert_eq!(write(&mut space, BAR0 + 4, 0x1), Effects::REMAP_BARS);
    for offset in [BAR0, BAR0 + 4, BAR0 + 8, BAR0 + 12] {
        assert_eq!(write(&mut space, offset, u32::MAX), Effects::empty());
    }
    let sizes = [0, 4, 8, 12, 16].map(|i| space.read(BAR0 + i, AccessSize::Dword));
    assert_eq!(sizes, [0xFFFF_C00C, 0xFFFF_FFFF, 0xFFFF_F000, 0xFFFF_FFE1, 0]);
    assert_eq!(space.bar_address(0), 0x1_D000_0000);
    assert_eq!(write(&mut space, BAR0, 0xD000_0000), Effects::empty());
    assert_eq!(write(&mut space, BAR0 + 4, 0x2), Effects::REMAP_BARS);
    assert_eq!(space.bar_address(0), 0x2_D000_0000);
}

#[test]
fn whatever_sizing_writes_below_the_address_bits_moves_nothing() {
    let mut space = space();
    space.add_rom(0x1_0000).unwrap();
    let addresses = [(0, 0xD000_0000), (8, 0xC000_0000), (12, 0x6000), (0x20, 0xC100_0001)];
    for (register, address) in addresses {
        let _ = write(&mut space, BAR0 + register, address);
    }
    let before = space.bar_addresses();
    let probes = [(0, 0xFFFF_FFF0), (4, u32::MAX), (8, 0xFFFF_FFF0), (12, 0xFFFF_FFFC), (0x20, 0xFFFF_F801)];
    for (register, probe) in probes {
        assert_eq!(write(&mut space, BAR0 + register, probe), Effects::empty());
        assert_ne!(space.read(BAR0 + register, AccessSize::Dword), 0);
    }
    assert_eq!(space.bar_addresses(), before);
    // An address whose lower half has ones in all bits that this BAR keeps.
    assert_eq!(write(&mut space, BAR0, 0xFFFF_C00C), Effects::REMAP_BARS);
    assert_eq!(space.bar_address(0), 0xFFFF_C000);
}

#[test]
fn a_bar_of_32_gib_shows_its_size_in_its_upper_half() {
    let mut space = space();
    space.add_bar(4, BarKind::Memory64 { prefetchable: true }, 32 << 30).unwrap();
    for (half, address) in [(16, 0), (20, 8)] {
        let _ = write(&mut space, BAR0 + half, address);
    }
    for half in [16, 20] {
        assert_eq!(write(&mut space, BAR0 + half, u32::MAX), Effects::empty());
    }
    let sizes = [16, 20].map(|half| space.read(BAR0 + half, AccessSize::Dword));
    assert_eq!((sizes, space.bar_address(4)), ([0xC, 0xFFFF_FFF8], 8 << 32));
}

#[test]
fn an_expansion_rom_is_where_its_register_says_while_that_is_on() {
    let mut space = space();
    space.add_rom(0x1_0000).unwrap();
    let rom = header::ROM;
    assert_eq!(write(&mut space, rom, 0xFFFF_F800), Effects::empty());
    assert_eq!(space.read(rom, AccessSize::Dword), 0xFFFF_0000);
    assert_eq!(write(&mut space, rom, 0xC001_0000), Effects::empty());
    assert_eq!(space.bar_address(ROM_BAR), 0, "switched off");
    assert_eq!(write(&mut space, rom, 0xC001_0001), Effects::REMAP_BARS);
    assert_eq!(space.bar_address(ROM_BAR), 0xC001_0000);
    // A probe that switches it off, as edk2 writes it, and back.
    assert_eq!(write(&mut space, rom, 0xFFFF_FFFE), Effects::REMAP_BARS);
    assert_eq!(space.read(rom, AccessSize::Dword), 0xFFFF_0000);
    assert_eq!(write(&mut space, rom, 0xC001_0001), Effects::REMAP_BARS);
    assert_eq!(space.bar_address(ROM_BAR), 0xC001_0000);
    space.reset();
    assert_eq!((space.bar_address(ROM_BAR), space.read(rom, AccessSize::Dword)), (0, 0));
    for size in [0, 0x400, 0x1800, 32 << 20, 1 << 40] {
        assert!(space.add_rom(size).is_err(), "{size:#x}");
    }
}

#[test]
fn the_expansion_rom_of_a_bridge_has_its_register_elsewhere() {
    let mut space = ConfigSpace::bridge(Identity {
        vendor_id: 0x1B36,
        device_id: 0x000C,
        revision: 0,
        class: ClassCode { base: 6, sub: 4, prog_if: 0 },
        subsystem_vendor_id: 0,
        subsystem_id: 0,
    });
    space.add_rom(0x800).unwrap();
    assert_eq!(write(&mut space, bridge::ROM, 0xC000_0801), Effects::REMAP_BARS);
    assert_eq!((space.bar_address(ROM_BAR), space.read(header::ROM, AccessSize::Dword)), (0xC000_0800, 0));
}

#[test]
fn byte_writes_build_an_address() {
    let mut space = space();
    let _ = space.write(BAR0 + 8 + 3, AccessSize::Byte, 0xC1);
    let _ = space.write(BAR0 + 8 + 1, AccessSize::Word, 0x23FF);
    assert_eq!(space.bar_address(2), 0xC123_F000);
}

#[test]
fn masks_hold_for_every_offset_and_size() {
    let sizes = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword];
    for offset in (0..0x120).chain([0xFFF, 0xFFFF]) {
        for size in sizes {
            for value in [0, 1, 0x8000_0000, 0xFFFF_FFFE, u32::MAX] {
                let mut space = space();
                let _ = space.write(offset, size, value);
                assert_eq!(space.read(header::VENDOR_ID, AccessSize::Dword), 0x1042_1AF4);
                assert_eq!(space.read(header::REVISION_ID, AccessSize::Dword), 0x0180_0001);
                let _ = space.read(offset, size);
            }
        }
    }
}

#[test]
fn decode_changes_ask_for_a_remap_and_reset_forgets() {
    let mut space = space();
    assert_eq!(space.write(header::COMMAND, AccessSize::Word, 0x2), Effects::REMAP_BARS);
    assert_eq!(space.write(header::COMMAND, AccessSize::Word, 0x6), Effects::empty());
    let _ = write(&mut space, BAR0 + 8, 0xC000_0000);
    space.reset();
    assert_eq!((space.command(), space.bar_address(2)), (Command::empty(), 0));
}

#[test]
fn capabilities_are_linked_and_the_space_can_be_full() {
    let mut space = space();
    let body = vec![0xAB; 5];
    let capability =
        |body: &[u8]| Capability { id: CapabilityId::VENDOR, body: body.to_vec(), writable: vec![] };
    assert_eq!(space.add_capability(&capability(&body)), Ok(0x40));
    assert_eq!(space.add_capability(&capability(&body)), Ok(0x48));
    let image: Vec<u8> = (0..0x100).map(|i| space.read(i, AccessSize::Byte).to_le_bytes()[0]).collect();
    assert_eq!(capabilities(&image).len(), 2);
    assert!(space.add_capability(&capability(&[0; 0xB0])).is_err());
    assert_eq!(space.add_capability(&capability(&[0; 0xAE])), Ok(0x50));
    assert!(space.add_capability(&capability(&[])).is_err());
}

#[test]
fn impossible_bars_are_refused() {
    let mut space = space();
    let memory = BarKind::Memory32 { prefetchable: false };
    for (index, kind, size) in [
        (0, memory, 0x1000),
        (1, memory, 0x1000),
        (4, memory, 0),
        (4, memory, 0x1800),
        (4, memory, 1 << 32),
        (5, BarKind::Memory64 { prefetchable: false }, 0x1000),
        (6, memory, 0x1000),
        (usize::MAX, memory, 0x1000),
        (4, BarKind::Io, 0x200),
    ] {
        assert!(space.add_bar(index, kind, size).is_err(), "{index} {kind:?} {size:#x}");
    }
}

#[test]
fn write_one_clears() {
    let mut space = space();
    space.set(header::STATUS, &[0, 0xF9]);
    space.set_write_one_clears(header::STATUS, &[0, 0xF9]);
    let _ = space.write(header::STATUS, AccessSize::Word, 0x8000);
    assert_eq!(space.read(header::STATUS, AccessSize::Word), 0x7900);
}
