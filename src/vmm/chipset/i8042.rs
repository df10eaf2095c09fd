//! The command port of a keyboard controller that is not there, but for its oldest trick: command FEh resets the machine
//! (IBM PC AT Technical Reference, "Keyboard Controller", commands). ACPI's reset register points here; Linux also comes here by `reboot=k`.

use crate::spec::acpi;
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// Command and status port. The data port 60h stays unanswered.
pub const COMMAND_PORT: u16 = acpi::reset::PORT;

/// The command and status port. No state: the controller is always ready and never has data, so that nobody waits.
#[derive(Debug, Default)]
pub struct ResetCommand;

impl BusDevice for ResetCommand {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(0)
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        Ok(if value == u64::from(acpi::reset::VALUE) { Effects::RESET } else { Effects::empty() })
    }
}

impl Lifecycle for ResetCommand {
    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pulse_command_resets_and_the_input_buffer_is_always_empty() {
        assert_eq!(ResetCommand.read(0, AccessSize::Byte), Ok(0));
        assert_eq!(ResetCommand.write(0, AccessSize::Byte, 0xAA), Ok(Effects::empty()));
        assert_eq!(ResetCommand.write(0, AccessSize::Byte, 0xFE), Ok(Effects::RESET));
    }
}
