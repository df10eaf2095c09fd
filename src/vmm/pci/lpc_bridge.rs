//! The LPC bridge at 00:1f.0: where firmware finds power management, and where a PC's interrupts are routed.
//!
//! Intel ICH9 (8086:2918; I/O Controller Hub 9 datasheet, 316972, 13.1). Registers keep what is written. The power management
//! block does not move from where OVMF puts it, and the routing registers steer nothing: functions are wired to the I/O APIC
//! as ACPI tells.

use std::sync::{Mutex, PoisonError};

use crate::spec::pci::{ClassCode, Command, header};
use crate::vmm::Lifecycle;
use crate::vmm::boot::Programming;
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::layout;
use crate::vmm::pci::config_space::{ConfigSpace, Identity};
use crate::vmm::pci::{Bar, PciFunction};

/// Its device number.
pub const DEVICE: u8 = 31;

/// Registers: offset, value at power-on, and which bits firmware can write.
const REGISTERS: [(u16, u32, u32); 15] = [
    // PMBASE: address bits 15:7; bit 0 says that it is a port.
    (PMBASE, 1, 0xFF80),
    // ACPI_CNTL: enable, interrupt of the SCI.
    (ACPI_CNTL, 0, 0x87),
    // GPIOBASE, GPIO_CNTL: there are no such pins.
    (0x48, 1, 0xFF80),
    (0x4C, 0, 0x11),
    // PIRQ[A-D]_ROUT, PIRQ[E-H]_ROUT: bit 7 set is not routed.
    (0x60, 0x8080_8080, 0x8F8F_8F8F),
    (0x68, 0x8080_8080, 0x8F8F_8F8F),
    // SIRQ_CNTL
    (0x64, 0x10, 0xC3),
    // LPC_I/O_DEC, LPC_EN
    (0x80, 0, 0x3FFF_1377),
    // GEN1_DEC to GEN4_DEC
    (0x84, 0, 0x00FC_FFFD),
    (0x88, 0, 0x00FC_FFFD),
    (0x8C, 0, 0x00FC_FFFD),
    (0x90, 0, 0x00FC_FFFD),
    // GEN_PMCON_1 and _2, without what clears itself.
    (0xA0, 0, 0x0000_07FF),
    // BIOS_CNTL
    (0xDC, 0, 0x01),
    // RCBA: root complex registers, of which there are none.
    (RCBA, 0, 0xFFFF_C001),
];
const PMBASE: u16 = 0x40;
const ACPI_CNTL: u16 = 0x44;
const RCBA: u16 = 0xF0;
/// ACPI_CNTL, bit 7: the power management block answers.
const ACPI_ENABLE: u8 = 1 << 7;

/// The function at 00:1f.0.
#[derive(Debug)]
pub struct LpcBridge(Mutex<ConfigSpace>);

impl LpcBridge {
    /// A bridge in the state after power-on.
    #[must_use]
    pub fn new(programming: Programming) -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor_id: 0x8086,
            device_id: 0x2918,
            revision: 2,
            class: ClassCode { base: 0x06, sub: 0x01, prog_if: 0x00 },
            subsystem_vendor_id: 0x1AF4,
            subsystem_id: 0x1100,
        });
        // The bridge always decodes ports and memory and always may be master (13.1.3).
        let decodes = Command::IO | Command::MEMORY | Command::BUS_MASTER;
        config.define(header::COMMAND, &decodes.bits().to_le_bytes());
        config.set_writable(header::COMMAND, &(Command::PARITY | Command::SERR).bits().to_le_bytes());
        for (offset, value, writable) in REGISTERS {
            config.define(offset, &value.to_le_bytes());
            config.set_writable(offset, &writable.to_le_bytes());
        }
        if programming == Programming::Done {
            config.define(PMBASE, &(layout::PM_BASE | 1).to_le_bytes());
            config.define(ACPI_CNTL, &[ACPI_ENABLE]);
        }
        Self(Mutex::new(config))
    }
}

impl Lifecycle for LpcBridge {
    fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reset();
    }
}

impl PciFunction for LpcBridge {
    fn label(&self) -> &'static str {
        "LPC bridge"
    }

    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(offset, size)
    }

    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(offset, size, value)
    }

    fn bar(&self, _: usize) -> Option<Bar> {
        None
    }

    fn bar_address(&self, _: usize) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_finds_power_management_off_and_switches_it_on() {
        let bridge = LpcBridge::new(Programming::ByFirmware);
        assert_eq!(bridge.config_read(0, AccessSize::Dword), 0x2918_8086);
        assert_eq!(bridge.config_read(header::SUBCLASS, AccessSize::Word), 0x0601);
        assert_eq!(bridge.config_read(ACPI_CNTL, AccessSize::Byte), 0);
        let _ = bridge.config_write(PMBASE, AccessSize::Dword, 0x601);
        let _ = bridge.config_write(ACPI_CNTL, AccessSize::Byte, 0x80);
        let _ = bridge.config_write(RCBA, AccessSize::Dword, 0xFED1_C001);
        let _ = bridge.config_write(0x60, AccessSize::Dword, 0x0B0B_0A0A);
        let read = |offset| bridge.config_read(offset, AccessSize::Dword);
        assert_eq!([PMBASE, ACPI_CNTL, RCBA, 0x60].map(read), [0x601, 0x80, 0xFED1_C001, 0x0B0B_0A0A]);
        bridge.reset();
        assert_eq!([PMBASE, ACPI_CNTL, RCBA, 0x60].map(read), [1, 0, 0, 0x8080_8080]);
    }

    #[test]
    fn without_firmware_power_management_is_on() {
        let bridge = LpcBridge::new(Programming::Done);
        assert_eq!(bridge.config_read(PMBASE, AccessSize::Dword), 0x601);
        assert_eq!(bridge.config_read(ACPI_CNTL, AccessSize::Byte), 0x80);
    }

    #[test]
    fn every_register_takes_every_value_and_asks_for_nothing() {
        let bridge = LpcBridge::new(Programming::ByFirmware);
        for offset in (0..0x1000).chain([u16::MAX]) {
            for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                for value in [0, 1, 0x8000_0000, u32::MAX] {
                    assert_eq!(bridge.config_write(offset, size, value), Effects::empty());
                    let _ = bridge.config_read(offset, size);
                }
            }
        }
        assert_eq!(bridge.config_read(0, AccessSize::Dword), 0x2918_8086);
    }
}
