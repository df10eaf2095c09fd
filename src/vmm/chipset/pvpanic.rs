//! pvpanic: the port by which a guest kernel says that it panicked.
//!
//! QEMU: docs/specs/pvpanic.rst, the ISA device. A read tells which events are understood.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// I/O port, one byte.
pub const PORT: u16 = 0x505;
/// The kernel panicked and nobody else takes care of it.
const PANICKED: u64 = 1 << 0;
/// The kernel panicked and starts its crash kernel, which needs the machine.
const CRASH_LOADED: u64 = 1 << 1;

/// The panic port. It has no settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PvpanicConfig {}

/// The device; it has no state.
#[derive(Debug, Default)]
pub struct Pvpanic;

impl BusDevice for Pvpanic {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(PANICKED | CRASH_LOADED)
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        if value & PANICKED != 0 {
            return Ok(Effects::PANIC);
        }
        if value & CRASH_LOADED != 0 {
            tracing::warn!("the guest's kernel panicked and starts its crash kernel");
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for Pvpanic {
    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_panic_that_nobody_handles_ends_the_machine() {
        assert_eq!(Pvpanic.read(0, AccessSize::Byte), Ok(3));
        for (value, effects) in
            [(1, Effects::PANIC), (2, Effects::empty()), (3, Effects::PANIC), (4, Effects::empty())]
        {
            assert_eq!(Pvpanic.write(0, AccessSize::Byte, value), Ok(effects));
        }
    }
}
