//! The debug console, port 402h: what debug builds of OVMF and SeaBIOS say of themselves goes to the log, line by line.
//!
//! QEMU: `-device isa-debugcon`; docs/specs has no page for it. A read answers E9h, by which firmware knows that it is there.

use std::sync::{Mutex, PoisonError};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// Its port.
pub const PORT: u16 = 0x402;
const PRESENT: u64 = 0xE9;
/// A longer line is cut into lines.
const LINE_BYTES: usize = 512;

/// The console. What it says is for developers: it is logged at level debug, and not even decoded where nobody asked for that.
#[derive(Debug, Default)]
pub struct DebugConsole(Mutex<Vec<u8>>);

impl BusDevice for DebugConsole {
    fn read(&self, _: u64, size: AccessSize) -> Result<u64, IoError> {
        match size {
            AccessSize::Byte => Ok(PRESENT),
            _ => Err(IoError::InvalidAccessSize),
        }
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [byte, ..] = value.to_le_bytes();
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Ok(Effects::empty());
        }
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if byte != b'\n' && line.len() < LINE_BYTES {
            line.push(byte);
        }
        if byte == b'\n' || line.len() == LINE_BYTES {
            let line = std::mem::take(&mut *line);
            tracing::debug!("firmware: {}", String::from_utf8_lossy(&line).trim_end().escape_debug());
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for DebugConsole {
    fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_and_keeps_no_more_than_a_line() {
        let console = DebugConsole::default();
        assert_eq!(console.read(0, AccessSize::Byte), Ok(0xE9));
        assert!(console.read(0, AccessSize::Word).is_err());
        for byte in std::iter::repeat_n(0xFF, 3 * LINE_BYTES).chain([u64::MAX, 0, 10]) {
            assert_eq!(console.write(0, AccessSize::Byte, byte), Ok(Effects::empty()));
            assert!(console.0.lock().unwrap().len() < LINE_BYTES);
        }
    }
}
