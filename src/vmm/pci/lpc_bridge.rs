//! The LPC bridge at 00:1f.0: where firmware finds power management, and where a PC's interrupts are routed.
//!
//! Intel ICH9 (8086:2918; I/O Controller Hub 9 datasheet, 316972, 13.1). Registers keep what is written; those of the
//! interrupt router steer it ([`pirq`]). The power management block does not move from where OVMF puts it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spec::pci::{ClassCode, Command, header};
use crate::vmm::Lifecycle;
use crate::vmm::boot::Programming;
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::interrupt::pirq::{self, Router};
use crate::vmm::layout;
use crate::vmm::pci::config_space::{ConfigSpace, Identity, touches};
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
    (PIRQ_A_TO_D, 0x8080_8080, 0x8F8F_8F8F),
    (PIRQ_E_TO_H, 0x8080_8080, 0x8F8F_8F8F),
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
/// PIRQ\[A-D\]_ROUT, a byte each.
pub const PIRQ_A_TO_D: u16 = 0x60;
/// PIRQ\[E-H\]_ROUT.
pub const PIRQ_E_TO_H: u16 = 0x68;
/// ACPI_CNTL, bit 7: the power management block answers.
const ACPI_ENABLE: u8 = 1 << 7;

/// The function at 00:1f.0.
#[derive(Debug)]
pub struct LpcBridge {
    config: Mutex<ConfigSpace>,
    router: Router,
}

impl LpcBridge {
    /// A bridge in the state after power-on, whose registers steer `router`.
    #[must_use]
    pub fn new(programming: Programming, router: Router) -> Self {
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
            let [a_to_d @ .., e, f, g, h] = pirq::ROUTED;
            config.define(PIRQ_A_TO_D, &a_to_d);
            config.define(PIRQ_E_TO_H, &[e, f, g, h]);
        }
        let bridge = Self { config: Mutex::new(config), router };
        bridge.route();
        bridge
    }

    fn lock(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the router follow the registers.
    fn route(&self) {
        self.router.follow(|| {
            let config = self.lock();
            let half = |register| config.read(register, AccessSize::Dword).to_le_bytes();
            let ([a, b, c, d], [e, f, g, h]) = (half(PIRQ_A_TO_D), half(PIRQ_E_TO_H));
            [a, b, c, d, e, f, g, h]
        });
    }
}

impl Lifecycle for LpcBridge {
    fn reset(&self) {
        self.lock().reset();
        self.route();
    }
}

impl PciFunction for LpcBridge {
    fn label(&self) -> &'static str {
        "LPC bridge"
    }

    fn config_read(&self, offset: u16, size: AccessSize) -> u32 {
        self.lock().read(offset, size)
    }

    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects {
        let effects = self.lock().write(offset, size, value);
        if touches(offset, size, PIRQ_A_TO_D, 4) || touches(offset, size, PIRQ_E_TO_H, 4) {
            self.route();
        }
        effects
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
    use std::io;
    use std::sync::Arc;

    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::vmm::Unsupported;
    use crate::vmm::interrupt::{Connection, InterruptLine, LineController};

    struct Nowhere;

    impl LineController for Nowhere {
        fn set_level(&self, _: u32, _: bool) -> io::Result<()> {
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    fn bridge(programming: Programming) -> LpcBridge {
        let inputs = (0..24).map(|gsi| InterruptLine::new(gsi, Arc::new(Nowhere)));
        LpcBridge::new(programming, Router::new(inputs.collect()))
    }

    #[test]
    fn firmware_finds_power_management_off_and_switches_it_on() {
        let bridge = bridge(Programming::ByFirmware);
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
        let bridge = bridge(Programming::Done);
        assert_eq!(bridge.config_read(PMBASE, AccessSize::Dword), 0x601);
        assert_eq!(bridge.config_read(ACPI_CNTL, AccessSize::Byte), 0x80);
        for (request, input) in (0..).zip(pirq::ROUTED) {
            assert_eq!(bridge.router.pic_input(request), Some(input.into()));
        }
    }

    #[test]
    fn routing_registers_steer_the_router_by_any_width_until_a_reset() {
        let bridge = bridge(Programming::ByFirmware);
        let inputs = || (0..8).map(|request| bridge.router.pic_input(request)).collect::<Vec<_>>();
        let _ = bridge.config_write(PIRQ_A_TO_D + 1, AccessSize::Byte, 11);
        let _ = bridge.config_write(PIRQ_E_TO_H + 2, AccessSize::Word, 0x0580);
        assert_eq!(inputs(), [None, Some(11), None, None, None, None, None, Some(5)]);
        bridge.reset();
        assert_eq!(inputs(), [None; 8]);
    }

    #[test]
    fn every_register_takes_every_value_and_asks_for_nothing() {
        let bridge = bridge(Programming::ByFirmware);
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
