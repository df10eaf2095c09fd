//! What a function is to the machine that it is in, beyond its class: parts of the chipset, volume management, remote
//! management.

use super::PciDevice;
use crate::host::fact::Fact;
use crate::spec::pci::ClassCode;

/// Vendor IDs of displays that belong to remote management: ASPEED, and Matrox, whose G200 lives on in such chips.
const BMC_VENDORS: [u16; 2] = [0x1A03, 0x102B];
/// Intel's Volume Management Device (Linux: drivers/pci/controller/vmd.c, `vmd_ids`).
const VMD: [u16; 10] = [0x201D, 0x28C0, 0x467F, 0x4C3D, 0x7D0B, 0x9A0B, 0xA77F, 0xAD0B, 0xB06F, 0xB60B];
const INTEL: u16 = 0x8086;
const AMD: u16 = 0x1022;

impl PciDevice {
    /// What part of the chipset it is, in words that follow `it is`; `None` for what is none, or whose class or vendor is
    /// not known.
    #[must_use]
    pub fn chipset_part(&self) -> Option<&'static str> {
        let class = ClassCode::from_u24(*self.class.known()?);
        let vendor = *self.vendor_id.known()?;
        let is_bmc = self.is_display() && BMC_VENDORS.contains(&vendor);
        Some(match (class.base, class.sub) {
            _ if is_bmc => "the display of remote management",
            (0x06, 0x01) => "the bridge to ISA or LPC: clocks, keyboard, TPM and firmware are behind it",
            (0x06, _) => "a part of the chipset",
            (0x07, 0x80) if vendor == INTEL => "the way to the management engine",
            (0x08, 0x05) => return None,
            (0x08, 0x06) => "an IOMMU",
            (0x08, _) => "a part of the chipset",
            (0x0C, 0x05) => "the SMBus: memory, sensors and fans hang on it",
            (0x0C, 0x07) => "the way to remote management (IPMI)",
            (0x10, _) if vendor == AMD => "the processor's own encryption, and its TPM",
            (0x11 | 0x13, _) if matches!(vendor, AMD | INTEL) => "a part of the processor",
            _ => return None,
        })
    }

    /// Whether it is a Volume Management Device: what is behind it stands in a PCI domain of its own, above ffff.
    #[must_use]
    pub fn is_volume_management(&self) -> bool {
        self.vendor_id == Fact::Known(INTEL)
            && self.device_id.known().is_some_and(|device| VMD.contains(device))
    }
}
