//! isa-debug-exit: a port by which a test in a guest ends the machine with a result of its own.
//!
//! QEMU: hw/misc/debugexit.c. A write of `n` ends the machine with exit code `2n + 1`, so that 0 stays what a guest cannot
//! make. Only where the configuration asks for it: any guest code with ports could end the machine so.

use std::sync::atomic::{AtomicU8, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// First I/O port; where test suites look for it.
pub const PORT: u16 = 0x501;
/// I/O ports.
pub const LENGTH: u64 = 4;

/// A port that ends the machine. It has no settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugExitConfig {}

/// The port.
#[derive(Debug, Default)]
pub struct DebugExit {
    written: AtomicU8,
}

impl DebugExit {
    /// The exit code that was asked for last.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.written.load(Ordering::Relaxed) << 1 | 1
    }
}

impl BusDevice for DebugExit {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(0)
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [value, ..] = value.to_le_bytes();
        self.written.store(value, Ordering::Relaxed);
        Ok(Effects::DEBUG_EXIT)
    }
}

impl Lifecycle for DebugExit {
    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_an_odd_exit_code() {
        let port = DebugExit::default();
        for (value, code) in [(0, 1), (0x10, 0x21), (0xFF, 0xFF), (0x1_0001, 3)] {
            assert_eq!(port.write(0, AccessSize::Dword, value), Ok(Effects::DEBUG_EXIT));
            assert_eq!(port.code(), code);
        }
        assert_eq!(port.read(0, AccessSize::Byte), Ok(0));
    }
}
