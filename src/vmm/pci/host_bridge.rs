//! The host bridge at 00:00.0: the memory controller of a q35 machine, as far as firmware and kernels look at it.
//!
//! Intel 82Q35 (8086:29C0; Intel 3 Series Express Chipset Family datasheet, chapter 5). OVMF tells the platform by its device
//! ID and writes the place of the ECAM window to PCIEXBAR. Registers keep what is written, and nothing follows from it: the
//! window lies where OVMF and SeaBIOS put it, below 1 MiB is RAM whatever the attribute maps say, and there is no SMRAM.

use std::sync::{Mutex, PoisonError};

use crate::spec::pci::ClassCode;
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Effects};
use crate::vmm::layout;
use crate::vmm::pci::config_space::{ConfigSpace, Identity};
use crate::vmm::pci::{Bar, PciFunction};

/// PCI Express register range base address, 64 bits (datasheet, 5.1.15).
const PCIEXBAR: u16 = 0x60;
/// Enables the window; with length field 0 it has 256 MiB.
const PCIEXBAR_ENABLE: u64 = 1;
/// Address bits 35:28, length and enable.
const PCIEXBAR_WRITABLE: u64 = 0xF_F000_0007;
/// Programmable attribute maps 0 to 6 (5.1.18): read and write enable of each 16 KiB, or 64 KiB, below 1 MiB.
const PAM: u16 = 0x90;
const PAM_WRITABLE: [u8; 7] = [0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33];
/// System management RAM control (5.1.28): base segment 0A_0000h fixed in bits 2:0.
const SMRAM: u16 = 0x9D;
const SMRAM_BASE_SEGMENT: u8 = 0b010;
const SMRAM_WRITABLE: u8 = 0x78;
/// Extended system management RAM control (5.1.29): cache bits 5:3 are always set.
const ESMRAMC: u16 = 0x9E;
const ESMRAMC_CACHED: u8 = 0x38;
const ESMRAMC_WRITABLE: u8 = 0x87;

/// The function at 00:00.0.
#[derive(Debug)]
pub struct HostBridge(Mutex<ConfigSpace>);

impl HostBridge {
    /// A host bridge that announces the ECAM window of [`layout`].
    #[must_use]
    pub fn new() -> Self {
        let mut config = ConfigSpace::endpoint(Identity {
            vendor_id: 0x8086,
            device_id: 0x29C0,
            revision: 0,
            class: ClassCode { base: 0x06, sub: 0x00, prog_if: 0x00 },
            subsystem_vendor_id: 0x1AF4,
            subsystem_id: 0x1100,
        });
        config.define(PCIEXBAR, &(layout::ECAM.start | PCIEXBAR_ENABLE).to_le_bytes());
        config.set_writable(PCIEXBAR, &PCIEXBAR_WRITABLE.to_le_bytes());
        config.set_writable(PAM, &PAM_WRITABLE);
        config.define(SMRAM, &[SMRAM_BASE_SEGMENT]);
        config.set_writable(SMRAM, &[SMRAM_WRITABLE]);
        config.define(ESMRAMC, &[ESMRAMC_CACHED]);
        config.set_writable(ESMRAMC, &[ESMRAMC_WRITABLE]);
        Self(Mutex::new(config))
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle for HostBridge {
    fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reset();
    }
}

impl PciFunction for HostBridge {
    fn label(&self) -> &'static str {
        "host bridge"
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
    fn registers_keep_what_firmware_writes_until_a_reset() {
        let bridge = HostBridge::new();
        for value in [0, 0xB000_0001] {
            let _ = bridge.config_write(PCIEXBAR, AccessSize::Dword, value);
            assert_eq!(bridge.config_read(PCIEXBAR, AccessSize::Dword), value);
        }
        let _ = bridge.config_write(PAM, AccessSize::Dword, u32::MAX);
        assert_eq!(bridge.config_read(PAM, AccessSize::Dword), 0x3333_3330);
        let _ = bridge.config_write(SMRAM, AccessSize::Byte, 0xFF);
        assert_eq!(bridge.config_read(SMRAM, AccessSize::Byte), 0x7A);
        bridge.reset();
        assert_eq!(bridge.config_read(PCIEXBAR, AccessSize::Dword), 0xB000_0001);
        assert_eq!(bridge.config_read(PAM, AccessSize::Dword), 0);
        assert_eq!(bridge.config_read(SMRAM, AccessSize::Word), 0x3802);
    }
}
