//! Registers of the interrupt chips in user space: the 8259 pair's ports, its edge/level ports, the I/O APIC's window.
//!
//! The chips sit on an 8-bit bus: a wider access to their ports is one access to each port, lowest first. The I/O APIC
//! takes any width at its two registers; narrow writes clear the bits that they do not carry, as KVM's chip does.

use std::sync::Arc;

use crate::vmm::bus::{AccessSize, Bus, BusDevice, Effects, IoError, RangeError};
use crate::vmm::interrupt::ioapic;
use crate::vmm::interrupt::pic::{ChipSelect, Register};
use crate::vmm::interrupt::userspace::Chips;
use crate::vmm::layout;

/// Ports of the chips (ICH9, 316972-004, 13.4 and 13.7).
const FIRST_CHIP: u16 = 0x20;
const SECOND_CHIP: u16 = 0xA0;
const EDGE_LEVEL: u16 = 0x4D0;

/// Reads `size` bytes from `offset` on, one by one; a byte that is not there reads as ones.
pub(super) fn bytes_of(offset: u64, size: AccessSize, mut read: impl FnMut(u64) -> Option<u8>) -> u64 {
    let mut bytes = [0; 8];
    for (byte, index) in bytes.iter_mut().take(size.bytes()).zip(0..) {
        *byte = offset.checked_add(index).and_then(&mut read).unwrap_or(0xFF);
    }
    u64::from_le_bytes(bytes)
}

/// Writes the bytes of `value` from `offset` on, one by one.
pub(super) fn each_byte(offset: u64, size: AccessSize, value: u64, mut write: impl FnMut(u64, u8)) {
    for (byte, index) in value.to_le_bytes().into_iter().take(size.bytes()).zip(0..) {
        if let Some(at) = offset.checked_add(index) {
            write(at, byte);
        }
    }
}

fn register(offset: u64) -> Option<Register> {
    match offset {
        0 => Some(Register::Command),
        1 => Some(Register::Data),
        _ => None,
    }
}

/// Both ports of one chip of the pair.
#[derive(Debug)]
struct PicPorts(Arc<Chips>, ChipSelect);

impl BusDevice for PicPorts {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        Ok(bytes_of(offset, size, |at| Some(self.0.read_pic(self.1, register(at)?))))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        each_byte(offset, size, value, |at, byte| {
            if let Some(register) = register(at) {
                self.0.write_pic(self.1, register, byte);
            }
        });
        Ok(Effects::empty())
    }
}

/// The edge/level registers of both chips.
#[derive(Debug)]
struct EdgeLevelPorts(Arc<Chips>);

fn chip(offset: u64) -> Option<ChipSelect> {
    match offset {
        0 => Some(ChipSelect::First),
        1 => Some(ChipSelect::Second),
        _ => None,
    }
}

impl BusDevice for EdgeLevelPorts {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        Ok(bytes_of(offset, size, |at| Some(self.0.read_elcr(chip(at)?))))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        each_byte(offset, size, value, |at, byte| {
            if let Some(select) = chip(at) {
                self.0.write_elcr(select, byte);
            }
        });
        Ok(Effects::empty())
    }
}

/// The I/O APIC's window.
#[derive(Debug)]
struct IoapicWindow(Arc<Chips>);

impl BusDevice for IoapicWindow {
    fn read(&self, offset: u64, _: AccessSize) -> Result<u64, IoError> {
        self.0.read_ioapic(offset).map(u64::from).ok_or(IoError::InvalidRegister)
    }

    fn write(&self, offset: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [a, b, c, d, ..] = value.to_le_bytes();
        self.0.write_ioapic(offset, u32::from_le_bytes([a, b, c, d]));
        Ok(Effects::empty())
    }
}

/// Puts the registers of `chips` on the buses.
///
/// # Errors
/// [`RangeError`] if something else is there already.
pub fn insert(chips: &Arc<Chips>, pio: &Bus, mmio: &Bus) -> Result<(), RangeError> {
    for (port, select) in [(FIRST_CHIP, ChipSelect::First), (SECOND_CHIP, ChipSelect::Second)] {
        pio.insert(port.into(), 2, Arc::new(PicPorts(Arc::clone(chips), select)))?;
    }
    pio.insert(EDGE_LEVEL.into(), 2, Arc::new(EdgeLevelPorts(Arc::clone(chips))))?;
    if chips.has_ioapic() {
        mmio.insert(layout::IOAPIC, ioapic::LENGTH, Arc::new(IoapicWindow(Arc::clone(chips))))?;
    }
    Ok(())
}
