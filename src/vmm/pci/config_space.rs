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
mod tests;
