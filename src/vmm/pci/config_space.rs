//! A function's configuration space as a table: what each byte holds, what the guest can change in it, and what it was
//! after power-on.
//!
//! Reads and writes are done byte by byte through the table, so an access that spans two registers can never reach a bit
//! that neither of them lets the guest write. BARs and the expansion ROM's register behave as PCI 3.0, 6.2.5 has them:
//! address bits below the size read as zero. A write of ones to all address bits (the sizing probe) shows the size but does
//! not move the BAR: [`ConfigSpace::bar_address`] stays where it was until an address is written.

use crate::spec::option_rom;
use crate::spec::pci::{
    BAR_COUNT, CONFIG_SPACE_SIZE, ClassCode, Command, EXTENDED_CONFIG_SPACE_SIZE, ROM_BAR, Status, bar,
    bridge, header,
};
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::pci::BarKind;
use crate::vmm::pci::capability::Capability;

/// One byte of the space.
#[derive(Debug, Clone, Copy, Default)]
struct Byte {
    value: u8,
    /// Value after reset.
    reset: u8,
    /// Bits that a write stores.
    writable: u8,
    /// Bits that a write of one clears.
    write_one_clears: u8,
}

#[derive(Debug, Clone, Copy)]
struct BarRegister {
    kind: BarKind,
    size: u64,
    /// Address bits as of the last write that was no sizing probe.
    address: u64,
}

/// Who a function says it is (PCI 3.0, 6.2.1 and 6.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor_id: u16,
    /// Device ID.
    pub device_id: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code.
    pub class: ClassCode,
    /// Subsystem vendor ID.
    pub subsystem_vendor_id: u16,
    /// Subsystem ID.
    pub subsystem_id: u16,
}

/// Why a configuration space cannot be laid out like this: a mistake of the one who builds the function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigSpaceError {
    /// There is no room for another capability.
    #[error("no room for a capability of {length} bytes at configuration offset {offset:#x}")]
    CapabilityDoesNotFit {
        /// Where it would have begun.
        offset: u16,
        /// Its length with the header, in bytes.
        length: usize,
    },
    /// The BAR does not exist, is taken, or its size is no power of two or out of range for its kind.
    #[error("BAR {index} cannot be {kind:?} of {size:#x} bytes")]
    InvalidBar {
        /// Index that was asked for.
        index: usize,
        /// Its kind.
        kind: BarKind,
        /// Its size in bytes.
        size: u64,
    },
}

/// A configuration space of 256 or 4096 bytes.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: Box<[Byte]>,
    /// The last one is the expansion ROM.
    bars: [Option<BarRegister>; ROM_BAR + 1],
    /// Where the next capability goes.
    free: u16,
    /// The register that points to the next capability.
    link: u16,
}

/// Whether an access of `size` at `offset` touches any of the `length` bytes of a register at `register`.
#[must_use]
pub fn touches(offset: u16, size: AccessSize, register: u16, length: u16) -> bool {
    let end = usize::from(offset) + size.bytes();
    usize::from(offset) < usize::from(register) + usize::from(length) && usize::from(register) < end
}

impl ConfigSpace {
    /// An endpoint's space (type 0 header) of `identity`: 256 bytes, command and interrupt line writable as usual.
    #[must_use]
    pub fn endpoint(identity: Identity) -> Self {
        let mut space = Self::identified(identity, CONFIG_SPACE_SIZE);
        space.define(header::SUBSYSTEM_VENDOR_ID, &identity.subsystem_vendor_id.to_le_bytes());
        space.define(header::SUBSYSTEM_ID, &identity.subsystem_id.to_le_bytes());
        space
    }

    /// A PCI Express bridge's space (type 1 header) of `identity`: 4096 bytes, without BARs, with the registers that route to
    /// the bus behind it. The subsystem stands in a capability of its own there, which the caller adds.
    #[must_use]
    pub fn bridge(identity: Identity) -> Self {
        let mut space = Self::identified(identity, EXTENDED_CONFIG_SPACE_SIZE);
        space.define(header::HEADER_TYPE, &[bridge::HEADER_TYPE]);
        space.set_writable(bridge::PRIMARY_BUS, &[0xFF; 3]);
        space.set_writable(bridge::IO_BASE, &[0xF0; 2]);
        space.set_writable(bridge::MEMORY_BASE, &[0xF0, 0xFF, 0xF0, 0xFF]);
        space.set_writable(bridge::PREFETCHABLE_BASE, &[0xF0, 0xFF, 0xF0, 0xFF]);
        for register in [bridge::PREFETCHABLE_BASE, bridge::PREFETCHABLE_LIMIT] {
            space.define(register, &bridge::PREFETCHABLE_64.to_le_bytes());
        }
        space.set_writable(bridge::PREFETCHABLE_BASE_UPPER, &[0xFF; 8]);
        space.set_writable(bridge::CONTROL, &bridge::CONTROL_WRITABLE.to_le_bytes());
        space
    }

    /// What both headers begin with.
    fn identified(identity: Identity, size: u16) -> Self {
        let mut space = Self::zeroed(usize::from(size));
        space.define(header::VENDOR_ID, &identity.vendor_id.to_le_bytes());
        space.define(header::DEVICE_ID, &identity.device_id.to_le_bytes());
        let ClassCode { base, sub, prog_if } = identity.class;
        space.define(header::REVISION_ID, &[identity.revision, prog_if, sub, base]);
        space.set_writable(header::COMMAND, &Command::all().bits().to_le_bytes());
        space.set_writable(header::CACHE_LINE_SIZE, &[0xFF]);
        space.set_writable(header::INTERRUPT_LINE, &[0xFF]);
        space
    }

    /// A space that holds `image` and is read-only throughout. `image` is cut or filled with zeros to 256 bytes, or to
    /// 4096 where it is longer than 256. No BAR and no capability is known to it yet: [`Self::add_capability`] would begin
    /// a new list at 0x40, over what the image has there.
    #[must_use]
    pub fn from_image(image: &[u8]) -> Self {
        let extended = image.len() > usize::from(CONFIG_SPACE_SIZE);
        let size = if extended { EXTENDED_CONFIG_SPACE_SIZE } else { CONFIG_SPACE_SIZE };
        let mut space = Self::zeroed(usize::from(size));
        space.define(0, image);
        space
    }

    fn zeroed(size: usize) -> Self {
        Self {
            bytes: vec![Byte::default(); size].into_boxed_slice(),
            bars: [None; ROM_BAR + 1],
            free: header::END,
            link: header::CAPABILITIES,
        }
    }

    fn each(&mut self, offset: u16, data: &[u8], mut apply: impl FnMut(&mut Byte, u8)) {
        let cells = self.bytes.get_mut(usize::from(offset)..).unwrap_or_default();
        for (cell, data) in cells.iter_mut().zip(data) {
            apply(cell, *data);
        }
    }

    /// Length in bytes: 256 or 4096.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the space has no bytes; it always has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sets the bytes from `offset`, and what they are after a reset.
    pub fn define(&mut self, offset: u16, data: &[u8]) {
        self.each(offset, data, |cell, data| (cell.value, cell.reset) = (data, data));
    }

    /// Sets the bytes from `offset` as the function itself does it: masks do not apply, a reset forgets it.
    pub fn set(&mut self, offset: u16, data: &[u8]) {
        self.each(offset, data, |cell, data| cell.value = data);
    }

    /// Which bits of the bytes from `offset` the guest can write.
    pub fn set_writable(&mut self, offset: u16, mask: &[u8]) {
        self.each(offset, mask, |cell, mask| cell.writable = mask);
    }

    /// Which bits of the bytes from `offset` the guest clears by writing ones.
    pub fn set_write_one_clears(&mut self, offset: u16, mask: &[u8]) {
        self.each(offset, mask, |cell, mask| cell.write_one_clears = mask);
    }

    /// Gives the function BAR `index` of `size` bytes at address 0.
    ///
    /// # Errors
    /// [`ConfigSpaceError::InvalidBar`], see there.
    pub fn add_bar(&mut self, index: usize, kind: BarKind, size: u64) -> Result<(), ConfigSpaceError> {
        let error = ConfigSpaceError::InvalidBar { index, kind, size };
        let (flags, least, most) = match kind {
            BarKind::Io => (bar::IO, 4, 1 << 8),
            BarKind::Memory32 { prefetchable } => (prefetch(prefetchable), 16, 1 << 31),
            BarKind::Memory64 { prefetchable } => (prefetch(prefetchable) | bar::MEMORY_64, 16, 1 << 62),
        };
        let wide = matches!(kind, BarKind::Memory64 { .. });
        let taken = |i: usize| i >= BAR_COUNT || self.bar_at(i).is_some();
        if taken(index)
            || (wide && taken(index + 1))
            || !size.is_power_of_two()
            || !(least..=most).contains(&size)
        {
            return Err(error);
        }
        let mask = !(size - 1);
        let register = self.bar_register(index);
        let length = if wide { 8 } else { 4 };
        let zero = [0; 8];
        self.define(register, zero.get(..length).unwrap_or_default());
        self.define(register, &flags.to_le_bytes());
        self.set_writable(register, mask.to_le_bytes().get(..length).unwrap_or_default());
        if let Some(slot) = self.bars.get_mut(index) {
            *slot = Some(BarRegister { kind, size, address: 0 });
        }
        Ok(())
    }

    /// Gives the function an expansion ROM of `size` bytes at address 0, switched off.
    ///
    /// # Errors
    /// [`ConfigSpaceError::InvalidBar`], see there.
    pub fn add_rom(&mut self, size: u64) -> Result<(), ConfigSpaceError> {
        let kind = BarKind::Memory32 { prefetchable: false };
        let fits = size.is_power_of_two() && (option_rom::MIN_SIZE..=option_rom::MAX_SIZE).contains(&size);
        let mask = u32::try_from(size).ok().filter(|_| fits).map(|size| !(size - 1) | bar::ROM_ENABLE);
        let mask = mask.ok_or(ConfigSpaceError::InvalidBar { index: ROM_BAR, kind, size })?;
        let register = self.bar_register(ROM_BAR);
        self.define(register, &[0; 4]);
        self.set_writable(register, &mask.to_le_bytes());
        if let Some(slot) = self.bars.get_mut(ROM_BAR) {
            *slot = Some(BarRegister { kind, size, address: 0 });
        }
        Ok(())
    }

    /// Appends a capability to the list and returns its offset.
    ///
    /// # Errors
    /// [`ConfigSpaceError::CapabilityDoesNotFit`] when the 256 bytes are full.
    pub fn add_capability(&mut self, capability: &Capability) -> Result<u16, ConfigSpaceError> {
        let offset = self.free;
        let length = capability.body.len() + 2;
        let error = ConfigSpaceError::CapabilityDoesNotFit { offset, length };
        let pointer = u8::try_from(offset).map_err(|_| error.clone())?;
        let end = u16::try_from(length).ok().and_then(|length| offset.checked_add(length));
        let free = end
            .and_then(|end| end.checked_next_multiple_of(4))
            .filter(|end| *end <= CONFIG_SPACE_SIZE)
            .ok_or(error)?;
        self.define(self.link, &[pointer]);
        let status = self.read(header::STATUS, AccessSize::Byte).to_le_bytes();
        let capabilities = Status::CAPABILITIES.bits().to_le_bytes();
        self.define(header::STATUS, &[status[0] | capabilities[0]]);
        self.define(offset, &[capability.id.0, 0]);
        self.define(offset + 2, &capability.body);
        self.set_writable(offset + 2, &capability.writable);
        self.link = offset + 1;
        self.free = free;
        Ok(offset)
    }

    /// The register at `offset`, in the low bits. Bytes behind the end read as 0.
    #[must_use]
    pub fn read(&self, offset: u16, size: AccessSize) -> u32 {
        let mut value = [0; 4];
        let cells = self.bytes.get(usize::from(offset)..).unwrap_or_default();
        for (byte, cell) in value.iter_mut().zip(cells.iter().take(size.bytes())) {
            *byte = cell.value;
        }
        u32::from_le_bytes(value)
    }

    /// A guest's write: stores writable bits, clears write-one-to-clear bits. Returns [`Effects::REMAP_BARS`] when a BAR
    /// got another address or a decode bit changed.
    pub fn write(&mut self, offset: u16, size: AccessSize, value: u32) -> Effects {
        let before = (self.decode(), self.bar_addresses());
        let data = value.to_le_bytes();
        let data = data.get(..size.bytes().min(4)).unwrap_or_default();
        self.each(offset, data, |cell, data| {
            cell.value = (cell.value & !cell.writable) | (data & cell.writable);
            cell.value &= !(data & cell.write_one_clears);
        });
        self.latch_bars(offset, size, value);
        if before == (self.decode(), self.bar_addresses()) { Effects::empty() } else { Effects::REMAP_BARS }
    }

    /// Takes over the addresses of the BAR registers that a write touched, but not those of sizing probes.
    fn latch_bars(&mut self, offset: u16, size: AccessSize, value: u32) {
        let is_probe = |register: u16, mask: u32| {
            size == AccessSize::Dword && offset == register && value & mask == mask
        };
        for index in 0..=ROM_BAR {
            let Some(bar) = self.bars.get(index).copied().flatten() else { continue };
            let (low, mask) = (self.bar_register(index), address_mask(index, bar.kind));
            let mut address = bar.address;
            if touches(offset, size, low, 4) && !is_probe(low, mask) {
                let register = u64::from(self.read(low, AccessSize::Dword) & mask);
                address = (address & !u64::from(u32::MAX)) | register;
            }
            let is_wide = matches!(bar.kind, BarKind::Memory64 { .. });
            if is_wide && touches(offset, size, low + 4, 4) && !is_probe(low + 4, u32::MAX) {
                let high = u64::from(self.read(low + 4, AccessSize::Dword));
                address = (address & u64::from(u32::MAX)) | (high << 32);
            }
            if let Some(Some(bar)) = self.bars.get_mut(index) {
                bar.address = address;
            }
        }
    }

    fn bar_addresses(&self) -> [u64; ROM_BAR + 1] {
        std::array::from_fn(|index| self.bar_address(index))
    }

    /// Kind and size in bytes of BAR `index`, or of the expansion ROM at [`ROM_BAR`]; a 64-bit BAR answers at its lower index
    /// only.
    #[must_use]
    pub fn bar_shape(&self, index: usize) -> Option<(BarKind, u64)> {
        self.bars.get(index).copied().flatten().map(|bar| (bar.kind, bar.size))
    }

    /// Where the guest put BAR `index`: the last address that it wrote, sizing probes left aside. 0 if it has none, and while an
    /// expansion ROM is switched off.
    #[must_use]
    pub fn bar_address(&self, index: usize) -> u64 {
        let is_on = || self.read(self.bar_register(ROM_BAR), AccessSize::Dword) & bar::ROM_ENABLE != 0;
        let bar = self.bars.get(index).copied().flatten();
        bar.filter(|_| index != ROM_BAR || is_on()).map_or(0, |bar| bar.address)
    }

    /// The command register.
    #[must_use]
    pub fn command(&self) -> Command {
        let [low, high, ..] = self.read(header::COMMAND, AccessSize::Word).to_le_bytes();
        Command::from_bits_truncate(u16::from_le_bytes([low, high]))
    }

    /// The decode bits of the command register.
    #[must_use]
    pub fn decode(&self) -> Command {
        self.command() & (Command::IO | Command::MEMORY)
    }

    /// Back to the state after power-on: BARs at address 0, decoding off.
    pub fn reset(&mut self) {
        for cell in &mut self.bytes {
            cell.value = cell.reset;
        }
        for bar in self.bars.iter_mut().flatten() {
            bar.address = 0;
        }
    }

    /// Offset of the register of BAR `index`.
    fn bar_register(&self, index: usize) -> u16 {
        let [layout, ..] = self.read(header::HEADER_TYPE, AccessSize::Byte).to_le_bytes();
        match index {
            ROM_BAR if layout & header::LAYOUT == bridge::HEADER_TYPE => bridge::ROM,
            ROM_BAR => header::ROM,
            _ => header::BAR0 + 4 * u16::try_from(index.min(BAR_COUNT)).unwrap_or(0),
        }
    }

    /// The BAR that owns register `index`, as its lower or its upper half.
    fn bar_at(&self, index: usize) -> Option<BarRegister> {
        let own = self.bars.get(index).copied().flatten();
        let below = index.checked_sub(1).and_then(|i| self.bars.get(i).copied().flatten());
        own.or_else(|| below.filter(|bar| matches!(bar.kind, BarKind::Memory64 { .. })))
    }
}

const fn prefetch(prefetchable: bool) -> u32 {
    if prefetchable { bar::PREFETCHABLE } else { 0 }
}

/// Address bits in the lower register of BAR `index`.
fn address_mask(index: usize, kind: BarKind) -> u32 {
    match kind {
        BarKind::Io => bar::IO_MASK,
        _ if index == ROM_BAR => bar::ROM_MASK,
        _ => bar::MEMORY_MASK,
    }
}

#[cfg(test)]
mod tests {
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
        let probes =
            [(0, 0xFFFF_FFF0), (4, u32::MAX), (8, 0xFFFF_FFF0), (12, 0xFFFF_FFFC), (0x20, 0xFFFF_F801)];
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
        assert_eq!(
            (space.bar_address(ROM_BAR), space.read(header::ROM, AccessSize::Dword)),
            (0xC000_0800, 0)
        );
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
}
