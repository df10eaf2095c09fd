//! Power management: ACPI's PM1a registers and timer.
//!
//! ACPI 6.5, 4.8; the tables in [`acpi`](crate::vmm::acpi) announce them. Soft off is the only sleep state, there are no
//! fixed events, so the status register stays empty and the SCI is never raised.
//!
//! Deviation: sleep type 0 powers off as well, for OVMF, which does not ask the tables (edk2: OvmfPkg/Library/ResetSystemLib).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::spec::acpi::{PM_TIMER_BITS, PM_TIMER_HZ, SLP_TYP_S5, block, pm1_control};
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// Bits of the PM1 enable register that keep what was written: timer, global lock, buttons, clock (table 4.15).
const ENABLE_STORED: u16 = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;
const ENABLE: u16 = block::PM1A_EVENT + 2;

/// The PM1a blocks and the timer, from the power management base on.
#[derive(Debug)]
pub struct Power {
    start: Instant,
    registers: Mutex<Registers>,
}

#[derive(Debug, Default)]
struct Registers {
    enable: u16,
    control: u16,
}

impl Default for Power {
    fn default() -> Self {
        Self { start: Instant::now(), registers: Mutex::default() }
    }
}

impl Power {
    fn timer(&self) -> u64 {
        let ticks = self.start.elapsed().as_nanos() * u128::from(PM_TIMER_HZ) / 1_000_000_000;
        let mask = (1u64 << PM_TIMER_BITS) - 1;
        u64::try_from(ticks & u128::from(mask)).unwrap_or(0)
    }

    /// The registers as the bytes that a read of any width sees.
    fn byte(registers: &Registers, timer: u64, offset: u64) -> Option<u8> {
        let offset = u16::try_from(offset).ok()?;
        let pick = |value: u64, base: u16| value.to_le_bytes().get(usize::from(offset - base)).copied();
        match offset {
            // Status: no fixed event ever happens.
            block::PM1A_EVENT..ENABLE => Some(0),
            ENABLE..block::PM1A_CONTROL => pick(registers.enable.into(), ENABLE),
            block::PM1A_CONTROL..block::TIMER => {
                pick((registers.control | pm1_control::SCI_EN).into(), block::PM1A_CONTROL)
            }
            block::TIMER..block::LENGTH => pick(timer, block::TIMER),
            _ => None,
        }
    }
}

impl BusDevice for Power {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        // The timer comes first: guests read it in loops.
        if offset == u64::from(block::TIMER) && size == AccessSize::Dword {
            return Ok(self.timer());
        }
        let registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = self.timer();
        let mut bytes = [0; 8];
        for (byte, index) in bytes.iter_mut().take(size.bytes()).zip(0..) {
            let at = offset.checked_add(index).ok_or(IoError::InvalidRegister)?;
            *byte = Self::byte(&registers, timer, at).ok_or(IoError::InvalidRegister)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut effects = Effects::empty();
        let offset = u16::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        for (byte, index) in value.to_le_bytes().into_iter().take(size.bytes()).zip(0u16..) {
            let at = offset.saturating_add(index);
            match at {
                ENABLE..block::PM1A_CONTROL => {
                    registers.enable = replace(registers.enable, at - ENABLE, byte) & ENABLE_STORED;
                }
                block::PM1A_CONTROL..block::TIMER => {
                    let written = replace(registers.control, at - block::PM1A_CONTROL, byte);
                    registers.control = written & pm1_control::STORED;
                    let sleep = written >> pm1_control::SLP_TYP_SHIFT & pm1_control::SLP_TYP_MASK;
                    if written & pm1_control::SLP_EN != 0 && (sleep == u16::from(SLP_TYP_S5) || sleep == 0) {
                        effects |= Effects::SHUTDOWN;
                    }
                }
                // Status bits are cleared by writing ones; the timer is read-only.
                _ => {}
            }
        }
        Ok(effects)
    }
}

/// `register` with its byte `index` replaced; other indexes change nothing.
fn replace(register: u16, index: u16, byte: u8) -> u16 {
    let [low, high] = register.to_le_bytes();
    match index {
        0 => u16::from_le_bytes([byte, high]),
        1 => u16::from_le_bytes([low, byte]),
        _ => register,
    }
}

impl Lifecycle for Power {
    fn reset(&self) {
        *self.registers.lock().unwrap_or_else(PoisonError::into_inner) = Registers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off_takes_the_type_and_the_enable_bit_in_any_width() {
        let power = Power::default();
        let off = (5 << 10 | 1 << 13) | 1;
        assert_eq!(power.write(4, AccessSize::Word, 5 << 10), Ok(Effects::empty()));
        assert_eq!(power.write(4, AccessSize::Word, 4 << 10 | 1 << 13), Ok(Effects::empty()));
        assert_eq!(power.write(4, AccessSize::Word, off), Ok(Effects::SHUTDOWN));
        assert_eq!(power.write(4, AccessSize::Word, 1 << 13), Ok(Effects::SHUTDOWN), "what OVMF writes");
        assert_eq!(power.write(5, AccessSize::Byte, off >> 8), Ok(Effects::SHUTDOWN));
        assert_eq!(power.read(4, AccessSize::Word), Ok(5 << 10 | 1), "SLP_EN reads as zero, SCI_EN as one");
        power.reset();
        assert_eq!(power.read(4, AccessSize::Word), Ok(1));
    }

    #[test]
    fn the_timer_counts_up_in_24_bits_and_cannot_be_written() {
        let power = Power::default();
        let first = power.read(8, AccessSize::Dword).unwrap();
        assert_eq!(power.write(8, AccessSize::Dword, u64::MAX), Ok(Effects::empty()));
        while power.read(8, AccessSize::Dword).unwrap() == first {}
        assert!(power.read(8, AccessSize::Dword).unwrap() < 1 << 24);
    }

    #[test]
    fn any_offset_and_width_is_answered() {
        let power = Power::default();
        for offset in 0..64 {
            for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                let _ = power.read(offset, size);
                let _ = power.write(offset, size, 0);
            }
        }
        assert!(power.read(u64::MAX, AccessSize::Qword).is_err());
    }
}
