//! The host bridge at 00:00.0: the memory controller of a q35 machine, as far as firmware and kernels look at it.
//!
//! Intel 82Q35 (8086:29C0; Intel 3 Series Express Chipset Family datasheet, chapter 5). OVMF tells the platform by its device
//! ID and reads the place of the ECAM window from PCIEXBAR; that window does not move here, so the register is read-only.

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
