//! PCI Express: the capability structure of a function and the extended capability list.
//!
//! PCI Express Base Specification 6.0, chapter 7; extended capability identifiers from the PCI Code and ID Assignment
//! Specification 1.11, chapter 3. The conventional header stands in [`crate::spec::pci`].

/// Offsets within the PCI Express capability structure, in bytes (PCIe 6.0, 7.5.3).
pub mod express {
    /// PCI Express Capabilities register, 16 bits: version, device/port type, slot implemented.
    pub const CAPABILITIES: u16 = 0x02;
    /// Device Capabilities, 32 bits.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Device Control, 16 bits.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Device Status, 16 bits, its low half write-one-to-clear.
    pub const DEVICE_STATUS: u16 = 0x0A;
    /// Link Capabilities, Control and Status; eight bytes.
    pub const LINK: u16 = 0x0C;
    /// Slot and Root registers; behind the Link registers, up to [`DEVICE_CAPABILITIES_2`].
    pub const SLOT: u16 = 0x14;
    /// Device Capabilities 2, 32 bits. A version 1 structure ends before it at the latest.
    pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
    /// Device Control 2, 16 bits.
    pub const DEVICE_CONTROL_2: u16 = 0x28;
    /// Device Status 2, 16 bits, reserved.
    pub const DEVICE_STATUS_2: u16 = 0x2A;
    /// Link and Slot registers of version 2, up to [`SIZE_V2`].
    pub const LINK_2: u16 = 0x2C;
    /// Bytes of a version 2 structure.
    pub const SIZE_V2: u16 = 0x3C;
    /// Bytes of a version 1 structure of an endpoint, which ends behind the Link registers.
    pub const SIZE_V1_ENDPOINT: u16 = 0x14;

    /// Version field of [`CAPABILITIES`].
    pub const VERSION_MASK: u16 = 0x000F;
    /// Device/Port Type field of [`CAPABILITIES`].
    pub const TYPE_MASK: u16 = 0x00F0;
    /// [`TYPE_MASK`] value: Root Complex Integrated Endpoint.
    pub const TYPE_ROOT_COMPLEX_ENDPOINT: u16 = 0x9 << 4;
    /// Function Level Reset Capability, bit of [`DEVICE_CAPABILITIES`].
    pub const FLR_CAPABLE: u32 = 1 << 28;
    /// Initiate Function Level Reset, bit of [`DEVICE_CONTROL`]; reads as 0.
    pub const INITIATE_FLR: u16 = 1 << 15;
    /// LTR Mechanism Supported and the OBFF field, bits of [`DEVICE_CAPABILITIES_2`]: both need the port above.
    pub const LTR_AND_OBFF: u32 = 1 << 11 | 0b11 << 18;
    /// Bits of [`DEVICE_CONTROL_2`] that concern the function alone: completion time-out and ID-based ordering.
    pub const DEVICE_CONTROL_2_OWN: u16 = 0x031F;
}

/// Offsets and bits of the Power Management capability (PCI Power Management 1.2, 3.2; PCIe 6.0, 7.5.2).
pub mod power {
    /// Power Management Capabilities, 16 bits.
    pub const CAPABILITIES: u16 = 0x02;
    /// Power Management Control/Status, 16 bits.
    pub const CONTROL: u16 = 0x04;
    /// Bytes of the structure.
    pub const SIZE: u16 = 0x08;
    /// PowerState field of [`CONTROL`]: 0 is D0, 3 is D3hot.
    pub const STATE_MASK: u16 = 0b11;
    /// No_Soft_Reset bit of [`CONTROL`]: the function keeps its state from D3hot to D0.
    pub const NO_SOFT_RESET: u16 = 1 << 3;
    /// PME_Support field of [`CAPABILITIES`].
    pub const PME_SUPPORT: u16 = 0xF800;
}

/// Offsets and bits of the Advanced Features capability, the conventional FLR (PCI AF ECN, 2006).
pub mod advanced_features {
    /// AF Capabilities, 8 bits.
    pub const CAPABILITIES: u16 = 0x03;
    /// AF Control, 8 bits.
    pub const CONTROL: u16 = 0x04;
    /// Bytes of the structure.
    pub const SIZE: u16 = 0x06;
    /// FLR bit of [`CAPABILITIES`].
    pub const FLR_CAPABLE: u8 = 1 << 1;
    /// Initiate FLR, bit of [`CONTROL`]; reads as 0.
    pub const INITIATE_FLR: u8 = 1;
}

/// Offsets and bits of the Vital Product Data capability (PCI 3.0, appendix I).
pub mod vpd {
    /// VPD Address, 16 bits; [`FLAG`] is its top bit.
    pub const ADDRESS: u16 = 0x02;
    /// Bytes of the structure.
    pub const SIZE: u16 = 0x08;
    /// Top byte's bit that starts a *write* of the storage.
    pub const FLAG: u8 = 1 << 7;
}

/// First byte of the extended configuration space.
pub const EXTENDED_START: u16 = 0x100;

/// An extended capability's identifier. Unknown values are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCapabilityId(pub u16);

impl ExtendedCapabilityId {
    /// Null: a header without registers, for a place that must stay in the list.
    pub const NULL: Self = Self(0x0000);
    /// Advanced Error Reporting.
    pub const AER: Self = Self(0x0001);
    /// Device Serial Number.
    pub const SERIAL_NUMBER: Self = Self(0x0003);
    /// Vendor-Specific Extended Capability.
    pub const VENDOR: Self = Self(0x000B);
    /// Access Control Services.
    pub const ACS: Self = Self(0x000D);
    /// Alternative Routing-ID Interpretation.
    pub const ARI: Self = Self(0x000E);
    /// Address Translation Services.
    pub const ATS: Self = Self(0x000F);
    /// Single Root I/O Virtualization.
    pub const SR_IOV: Self = Self(0x0010);
    /// Page Request Interface.
    pub const PRI: Self = Self(0x0013);
    /// Resizable BAR.
    pub const RESIZABLE_BAR: Self = Self(0x0015);
    /// Process Address Space ID.
    pub const PASID: Self = Self(0x001B);
    /// Downstream Port Containment.
    pub const DPC: Self = Self(0x001D);
}

/// Bytes of the Device Serial Number capability (PCIe 6.0, 7.9.3).
pub const SERIAL_NUMBER_SIZE: u16 = 12;

/// The header of an extended capability (PCIe 6.0, 7.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedHeader {
    /// Identifier.
    pub id: ExtendedCapabilityId,
    /// Version of the structure.
    pub version: u8,
    /// Offset of the next one, 0 at the end; its low two bits are reserved and cleared here.
    pub next: u16,
}

impl ExtendedHeader {
    /// From the register's value.
    #[must_use]
    pub const fn from_u32(value: u32) -> Self {
        let [b0, b1, b2, b3] = value.to_le_bytes();
        Self {
            id: ExtendedCapabilityId(u16::from_le_bytes([b0, b1])),
            version: b2 & 0xF,
            next: (u16::from_le_bytes([b2, b3]) >> 4) & !0b11,
        }
    }

    /// The register's value.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        self.id.0 as u32 | (self.version as u32 & 0xF) << 16 | (self.next as u32 & 0xFFC) << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extended_header_round_trips() {
        let header = ExtendedHeader::from_u32(0x1601_0010);
        assert_eq!(header, ExtendedHeader { id: ExtendedCapabilityId::SR_IOV, version: 1, next: 0x160 });
        assert_eq!(header.to_u32(), 0x1601_0010);
        assert_eq!(ExtendedHeader::from_u32(0xFFFF_FFFF).next, 0xFFC);
    }
}
