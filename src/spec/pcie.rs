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
    /// Link Control, 16 bits.
    pub const LINK_CONTROL: u16 = 0x10;
    /// Slot and Root registers; behind the Link registers, up to [`DEVICE_CAPABILITIES_2`].
    pub const SLOT: u16 = 0x14;
    /// Slot Control, 16 bits; see [`super::slot`].
    pub const SLOT_CONTROL: u16 = 0x18;
    /// Slot Status, 16 bits; see [`super::slot`].
    pub const SLOT_STATUS: u16 = 0x1A;
    /// Root Control, 16 bits.
    pub const ROOT_CONTROL: u16 = 0x1C;
    /// Device Capabilities 2, 32 bits. A version 1 structure ends before it at the latest.
    pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
    /// Device Control 2, 16 bits.
    pub const DEVICE_CONTROL_2: u16 = 0x28;
    /// Device Status 2, 16 bits, reserved.
    pub const DEVICE_STATUS_2: u16 = 0x2A;
    /// Link and Slot registers of version 2, up to [`SIZE_V2`].
    pub const LINK_2: u16 = 0x2C;
    /// Link Control 2, 16 bits.
    pub const LINK_CONTROL_2: u16 = 0x30;
    /// Bytes of a version 2 structure.
    pub const SIZE_V2: u16 = 0x3C;
    /// Bytes of a version 1 structure of an endpoint, which ends behind the Link registers.
    pub const SIZE_V1_ENDPOINT: u16 = 0x14;

    /// Version field of [`CAPABILITIES`].
    pub const VERSION_MASK: u16 = 0x000F;
    /// Device/Port Type field of [`CAPABILITIES`].
    pub const TYPE_MASK: u16 = 0x00F0;
    /// [`TYPE_MASK`] value: PCI Express Endpoint.
    pub const TYPE_ENDPOINT: u16 = 0x0 << 4;
    /// [`TYPE_MASK`] value: Legacy PCI Express Endpoint.
    pub const TYPE_LEGACY_ENDPOINT: u16 = 0x1 << 4;
    /// [`TYPE_MASK`] value: Root Port of PCI Express Root Complex.
    pub const TYPE_ROOT_PORT: u16 = 0x4 << 4;
    /// Slot Implemented, bit of [`CAPABILITIES`].
    pub const SLOT_IMPLEMENTED: u16 = 1 << 8;
    /// Role-Based Error Reporting, bit of [`DEVICE_CAPABILITIES`], set since PCIe 1.1.
    pub const ROLE_BASED_ERRORS: u32 = 1 << 15;
    /// [`TYPE_MASK`] value: Root Complex Integrated Endpoint.
    pub const TYPE_ROOT_COMPLEX_ENDPOINT: u16 = 0x9 << 4;
    /// [`TYPE_MASK`] value: Root Complex Event Collector.
    pub const TYPE_EVENT_COLLECTOR: u16 = 0xA << 4;
    /// Function Level Reset Capability, bit of [`DEVICE_CAPABILITIES`].
    pub const FLR_CAPABLE: u32 = 1 << 28;
    /// Initiate Function Level Reset, bit of [`DEVICE_CONTROL`]; reads as 0.
    pub const INITIATE_FLR: u16 = 1 << 15;
    /// LTR Mechanism Supported and the OBFF field, bits of [`DEVICE_CAPABILITIES_2`]: both need the port above.
    pub const LTR_AND_OBFF: u32 = 1 << 11 | 0b11 << 18;
    /// Bits of [`DEVICE_CONTROL_2`] that concern the function alone: completion time-out and ID-based ordering.
    pub const DEVICE_CONTROL_2_OWN: u16 = 0x031F;
}

/// Bits of the slot registers (PCIe 6.0, 7.5.3.9 to 7.5.3.11).
pub mod slot {
    /// Attention Button Present, bit of the Slot Capabilities.
    pub const HAS_BUTTON: u32 = 1 << 0;
    /// Power Controller Present, bit of the Slot Capabilities.
    pub const HAS_POWER_CONTROLLER: u32 = 1 << 1;
    /// Attention Indicator Present, bit of the Slot Capabilities.
    pub const HAS_ATTENTION_INDICATOR: u32 = 1 << 3;
    /// Power Indicator Present, bit of the Slot Capabilities.
    pub const HAS_POWER_INDICATOR: u32 = 1 << 4;
    /// Hot-Plug Surprise, bit of the Slot Capabilities: a device can go without notice.
    pub const SURPRISE: u32 = 1 << 5;
    /// Hot-Plug Capable, bit of the Slot Capabilities.
    pub const HOT_PLUG: u32 = 1 << 6;
    /// No Command Completed Support, bit of the Slot Capabilities: Slot Control acts at once.
    pub const ACTS_AT_ONCE: u32 = 1 << 18;
    /// Physical Slot Number, in the Slot Capabilities.
    pub const NUMBER_SHIFT: u32 = 19;

    /// Attention Button Pressed: bit of Slot Status, and in Slot Control what lets it interrupt.
    pub const BUTTON: u16 = 1 << 0;
    /// Presence Detect Changed: bit of Slot Status, and in Slot Control what lets it interrupt.
    pub const PRESENCE_CHANGED: u16 = 1 << 3;
    /// Presence Detect State, bit of Slot Status.
    pub const PRESENT: u16 = 1 << 6;
    /// Data Link Layer State Changed, bit of Slot Status.
    pub const LINK_CHANGED: u16 = 1 << 8;

    /// Hot-Plug Interrupt Enable, bit of Slot Control.
    pub const INTERRUPT: u16 = 1 << 5;
    /// Attention and Power Indicator Control, fields of Slot Control.
    pub const INDICATORS: u16 = 0b1111 << 6;
    /// The indicators off.
    pub const INDICATORS_OFF: u16 = 0b1111 << 6;
    /// Power Indicator Control, field of Slot Control.
    pub const POWER_INDICATOR: u16 = 0b11 << 8;
    /// [`POWER_INDICATOR`] value: off, the device can be taken out.
    pub const POWER_INDICATOR_OFF: u16 = 0b11 << 8;
    /// [`POWER_INDICATOR`] value: on.
    pub const POWER_INDICATOR_ON: u16 = 0b01 << 8;
    /// Power Controller Control, bit of Slot Control: set is off.
    pub const POWER_OFF: u16 = 1 << 10;
    /// Data Link Layer State Changed Enable, bit of Slot Control.
    pub const LINK_CHANGED_ENABLE: u16 = 1 << 12;
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

/// Link registers within the PCI Express capability structure (PCIe 6.0, 7.5.3.6 and 7.5.3.8). Link Capabilities stand at
/// [`express::LINK`]; both registers have speed and width in the same places.
pub mod link {
    /// Link Status, 16 bits.
    pub const STATUS: u16 = 0x12;
    /// Slot Clock Configuration, bit of [`STATUS`].
    pub const SLOT_CLOCK: u16 = 1 << 12;
    /// Data Link Layer Link Active, bit of [`STATUS`].
    pub const ACTIVE: u16 = 1 << 13;
    /// Data Link Layer Link Active Reporting Capable, bit of the Link Capabilities.
    pub const ACTIVE_REPORTING: u32 = 1 << 20;
    /// Port Number, in the Link Capabilities.
    pub const PORT_NUMBER_SHIFT: u32 = 24;
    /// Speed field: a [`super::LinkSpeed`].
    pub const SPEED_MASK: u32 = 0xF;
    /// First bit of the width field.
    pub const WIDTH_SHIFT: u32 = 4;
    /// Width field, in lanes.
    pub const WIDTH_MASK: u32 = 0x3F;

    /// The lanes that Link Capabilities or Link Status tells.
    #[must_use]
    pub const fn width_lanes(register: u32) -> u8 {
        let [width, ..] = (register >> WIDTH_SHIFT & WIDTH_MASK).to_le_bytes();
        width
    }
}

/// A link speed, as an index into the speeds that the standard knows. Unknown values are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkSpeed(pub u8);

impl LinkSpeed {
    /// From Link Capabilities or Link Status.
    #[must_use]
    pub const fn of(register: u32) -> Self {
        let [speed, ..] = (register & link::SPEED_MASK).to_le_bytes();
        Self(speed)
    }

    /// Transfers per second on a lane, in 10^9; `None` if the value is not defined.
    #[must_use]
    pub const fn gt_per_s(self) -> Option<f64> {
        Some(match self.0 {
            1 => 2.5,
            2 => 5.0,
            3 => 8.0,
            4 => 16.0,
            5 => 32.0,
            6 => 64.0,
            _ => return None,
        })
    }
}

/// Access Control Services (PCIe 6.0, 7.7.11).
pub mod acs {
    /// ACS Capability register, 16 bits.
    pub const CAPABILITIES: u16 = 0x04;
    /// ACS Control register, 16 bits, with the same bits.
    pub const CONTROL: u16 = 0x06;
    /// What separates devices at a root port: Source Validation, Translation Blocking, P2P Request Redirect, P2P Completion
    /// Redirect, Upstream Forwarding and Direct Translated P2P.
    pub const OF_ROOT_PORT: u16 = 0b101_1111;
}

/// Advanced Error Reporting (PCIe 6.0, 7.8.4): offsets from the capability's header.
pub mod aer {
    /// Uncorrectable Error Status, 32 bits.
    pub const UNCORRECTABLE_STATUS: u16 = 0x04;
    /// Correctable Error Status, 32 bits.
    pub const CORRECTABLE_STATUS: u16 = 0x10;
}

/// Address Translation Services (PCIe 6.0, 10.5.1): offsets and bits.
pub mod ats {
    /// ATS Control, 16 bits.
    pub const CONTROL: u16 = 0x06;
    /// Enable bit of [`CONTROL`].
    pub const ENABLE: u16 = 1 << 15;
}

/// Page Request Interface (PCIe 6.0, 10.5.2): offsets and bits.
pub mod pri {
    /// Page Request Control, 16 bits.
    pub const CONTROL: u16 = 0x04;
    /// Enable bit of [`CONTROL`].
    pub const ENABLE: u16 = 1 << 0;
}

/// Process Address Space IDs (PCIe 6.0, 7.8.9): offsets and bits.
pub mod pasid {
    /// PASID Capability, 16 bits; the high byte holds the width.
    pub const CAPABILITIES: u16 = 0x04;
    /// Max PASID Width field, in the high byte of [`CAPABILITIES`].
    pub const MAX_WIDTH_MASK: u8 = 0x1F;
    /// PASID Control, 16 bits.
    pub const CONTROL: u16 = 0x06;
    /// PASID Enable bit of [`CONTROL`].
    pub const ENABLE: u16 = 1 << 0;
}

/// Resizable BAR (PCIe 6.0, 7.8.6): one pair of registers for each BAR that can be resized.
pub mod resizable_bar {
    /// Capability register of the first BAR, 32 bits: bits 31:4 for sizes from 1 MiB to 128 TiB.
    pub const FIRST_CAPABILITY: u16 = 0x04;
    /// Control register of the first BAR, 32 bits.
    pub const FIRST_CONTROL: u16 = 0x08;
    /// Distance from one pair to the next.
    pub const STRIDE: u16 = 0x08;
    /// Smallest size, as a power of two.
    const SMALLEST: u32 = 20;

    /// How many pairs there are; the first control register tells (bits 7:5). There are six BARs.
    #[must_use]
    pub const fn count(first_control: u32) -> u8 {
        let [count, ..] = (first_control >> 5 & 0b111).to_le_bytes();
        if count > 6 { 6 } else { count }
    }

    /// Index of the BAR (bits 2:0).
    #[must_use]
    pub const fn bar_index(control: u32) -> u8 {
        let [index, ..] = (control & 0b111).to_le_bytes();
        index
    }

    /// Its size now (bits 13:8).
    #[must_use]
    pub const fn size_bytes(control: u32) -> u64 {
        // 2^63 bytes is the largest that the field and an address can name.
        match 1_u64.checked_shl(SMALLEST + (control >> 8 & 0x3F)) {
            Some(size) => size,
            None => 1 << 63,
        }
    }

    /// The sizes that it can have: bits 31:4 of the capability register, then bits 31:16 of the control register.
    pub fn sizes_bytes(capability: u32, control: u32) -> impl Iterator<Item = u64> {
        let bits = u64::from(capability >> 4) | u64::from(control >> 16) << 28;
        (0..44).filter(move |bit| bits >> bit & 1 != 0).map(|bit| 1_u64 << (SMALLEST + bit))
    }
}

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
    fn speed_and_width_are_told_and_unknown_speeds_are_none() {
        assert_eq!((LinkSpeed::of(0x1043).gt_per_s(), link::width_lanes(0x1043)), (Some(8.0), 4));
        assert_eq!((LinkSpeed::of(0x0207).gt_per_s(), link::width_lanes(0x0207)), (None, 32));
    }

    #[test]
    fn sizes_of_a_resizable_bar_span_both_registers() {
        let sizes: Vec<_> = resizable_bar::sizes_bytes(0x0000_0030, 0x0001_0000).collect();
        assert_eq!(sizes, [1 << 20, 2 << 20, 1 << 48]);
        assert_eq!(resizable_bar::size_bytes(0x0000_0821), 256 << 20);
        assert_eq!((resizable_bar::count(0x21), resizable_bar::bar_index(0x21)), (1, 1));
        assert_eq!(resizable_bar::size_bytes(0x3F00), 1 << 63);
        assert_eq!(resizable_bar::count(u32::MAX), 6);
    }

    #[test]
    fn an_extended_header_round_trips() {
        let header = ExtendedHeader::from_u32(0x1601_0010);
        assert_eq!(header, ExtendedHeader { id: ExtendedCapabilityId::SR_IOV, version: 1, next: 0x160 });
        assert_eq!(header.to_u32(), 0x1601_0010);
        assert_eq!(ExtendedHeader::from_u32(0xFFFF_FFFF).next, 0xFFC);
    }
}
