//! System control port A, 92h: address line 20 and the fast reset of the PS/2 (IBM PS/2 Model 80 Technical Reference, system
//! board; Intel ICH9 datasheet, 13.7.3).
//!
//! Address line 20 is never masked here: the bit keeps what is written and does nothing.

use std::sync::{Mutex, PoisonError};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// Its port.
pub const PORT: u16 = 0x92;

/// A change from 0 to 1 resets the processor.
const FAST_RESET: u8 = 1 << 0;
/// Address line 20 is driven.
const A20: u8 = 1 << 1;

/// The port.
#[derive(Debug)]
pub struct Port92(Mutex<u8>);

impl Default for Port92 {
    fn default() -> Self {
        Self(Mutex::new(A20))
    }
}

impl BusDevice for Port92 {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok((*self.0.lock().unwrap_or_else(PoisonError::into_inner)).into())
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [byte, ..] = value.to_le_bytes();
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rising = byte & !*register & FAST_RESET != 0;
        *register = byte & (FAST_RESET | A20);
        Ok(if rising { Effects::RESET } else { Effects::empty() })
    }
}

impl Lifecycle for Port92 {
    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = A20;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rising_reset_bit_resets() {
        let port = Port92::default();
        assert_eq!(port.read(0, AccessSize::Byte), Ok(2));
        for (value, effects) in [
            (2, Effects::empty()),
            (0xFE, Effects::empty()),
            (3, Effects::RESET),
            (3, Effects::empty()),
            (0, Effects::empty()),
            (1, Effects::RESET),
        ] {
            assert_eq!(port.write(0, AccessSize::Byte, value), Ok(effects), "{value:#x}");
        }
        port.reset();
        assert_eq!(port.read(0, AccessSize::Byte), Ok(2));
    }
}
