//! Conventional PCI: addresses, the configuration header, class codes and the capability list.
//!
//! PCI Local Bus Specification 3.0, chapter 6 and appendix D; capability identifiers from the PCI Code and ID
//! Assignment Specification 1.11, chapter 2.

mod address;
pub mod capability_names;
pub mod msi;
pub mod msix;
mod naming;
pub mod walk;

pub use address::{PciAddress, PciAddressError};
pub use naming::{NamingError, PciCard, PciIds, PciPath};

/// Offsets of the type 0 and type 1 configuration header, in bytes (PCI 3.0, 6.1).
pub mod header {
    /// Vendor ID, 16 bits.
    pub const VENDOR_ID: u16 = 0x00;
    /// Device ID, 16 bits.
    pub const DEVICE_ID: u16 = 0x02;
    /// Command register, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// Status register, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// Revision ID, 8 bits; the class code follows.
    pub const REVISION_ID: u16 = 0x08;
    /// Programming interface, 8 bits.
    pub const PROG_IF: u16 = 0x09;
    /// Sub-class, 8 bits.
    pub const SUBCLASS: u16 = 0x0A;
    /// Base class, 8 bits.
    pub const BASE_CLASS: u16 = 0x0B;
    /// Cache line size, 8 bits.
    pub const CACHE_LINE_SIZE: u16 = 0x0C;
    /// Latency timer, 8 bits.
    pub const LATENCY_TIMER: u16 = 0x0D;
    /// Header type, 8 bits: bit 7 is multi-function.
    pub const HEADER_TYPE: u16 = 0x0E;
    /// The layout of the header in [`HEADER_TYPE`], without the multi-function bit.
    pub const LAYOUT: u8 = 0x7F;
    /// First base address register, 32 bits; a type 0 header has six.
    pub const BAR0: u16 = 0x10;
    /// Secondary bus number, 8 bits (type 1): the bus behind the bridge.
    pub const SECONDARY_BUS: u16 = 0x19;
    /// Subordinate bus number, 8 bits (type 1): the last bus behind the bridge.
    pub const SUBORDINATE_BUS: u16 = 0x1A;
    /// Subsystem vendor ID, 16 bits (type 0).
    pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2C;
    /// Subsystem ID, 16 bits (type 0).
    pub const SUBSYSTEM_ID: u16 = 0x2E;
    /// Expansion ROM base address, 32 bits (type 0).
    pub const ROM: u16 = 0x30;
    /// Pointer to the first capability, 8 bits.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line, 8 bits.
    pub const INTERRUPT_LINE: u16 = 0x3C;
    /// Interrupt pin, 8 bits: 1 is INTA#.
    pub const INTERRUPT_PIN: u16 = 0x3D;
    /// First byte behind the header.
    pub const END: u16 = 0x40;
}

/// Registers of a type 1 header, which bridges have (PCIe 6.0, 7.5.1.3), as far as they differ from [`header`].
pub mod bridge {
    pub use super::header::SECONDARY_BUS;

    /// Value of the header type register.
    pub const HEADER_TYPE: u8 = 1;
    /// Primary bus number, 8 bits: the bus that the bridge is on; secondary, subordinate and latency timer follow.
    pub const PRIMARY_BUS: u16 = 0x18;
    /// I/O base, 8 bits: address bits 15:12 in bits 7:4. The limit follows.
    pub const IO_BASE: u16 = 0x1C;
    /// I/O limit, 8 bits.
    pub const IO_LIMIT: u16 = 0x1D;
    /// Memory base, 16 bits: address bits 31:20 in bits 15:4.
    pub const MEMORY_BASE: u16 = 0x20;
    /// Memory limit, 16 bits.
    pub const MEMORY_LIMIT: u16 = 0x22;
    /// Prefetchable memory base, 16 bits, as [`MEMORY_BASE`].
    pub const PREFETCHABLE_BASE: u16 = 0x24;
    /// Prefetchable memory limit, 16 bits.
    pub const PREFETCHABLE_LIMIT: u16 = 0x26;
    /// In the low bits of both: the window may lie above 4 GiB.
    pub const PREFETCHABLE_64: u16 = 1;
    /// Address bits 63:32 of the prefetchable base, 32 bits.
    pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
    /// Address bits 63:32 of the prefetchable limit, 32 bits.
    pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2C;
    /// First byte behind the windows that a bridge with 16 bits of I/O addresses has.
    pub const END_OF_WINDOWS: u16 = 0x30;
    /// Bridge control, 16 bits.
    pub const CONTROL: u16 = 0x3E;
    /// Expansion ROM base address, 32 bits.
    pub const ROM: u16 = 0x38;
    /// Secondary Bus Reset, bit of [`CONTROL`].
    pub const SECONDARY_BUS_RESET: u8 = 1 << 6;
    /// Bits of [`CONTROL`] that a PCI Express bridge keeps: parity, SERR#, ISA, VGA, 16 bits of VGA, bus reset.
    pub const CONTROL_WRITABLE: u16 = 0b101_1111;
}

/// Size of the conventional configuration space, in bytes.
pub const CONFIG_SPACE_SIZE: u16 = 0x100;
/// Size of the PCI Express configuration space, in bytes (PCIe 6.0, 7.2.2).
pub const EXTENDED_CONFIG_SPACE_SIZE: u16 = 0x1000;
/// Base address registers of a type 0 header.
pub const BAR_COUNT: usize = 6;
/// Index behind those of the base address registers: that of the expansion ROM, as Linux and VFIO count.
pub const ROM_BAR: usize = BAR_COUNT;

bitflags::bitflags! {
    /// The command register (PCI 3.0, 6.2.2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Command: u16 {
        /// The function answers I/O space accesses.
        const IO = 1 << 0;
        /// The function answers memory space accesses.
        const MEMORY = 1 << 1;
        /// The function may act as bus master (DMA, MSI).
        const BUS_MASTER = 1 << 2;
        /// Parity error response.
        const PARITY = 1 << 6;
        /// SERR# enable.
        const SERR = 1 << 8;
        /// The function must not assert INTx.
        const INTX_DISABLE = 1 << 10;
    }
}

bitflags::bitflags! {
    /// The status register (PCI 3.0, 6.2.3).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Status: u16 {
        /// INTx is pending inside the function.
        const INTERRUPT = 1 << 3;
        /// The function has a capability list.
        const CAPABILITIES = 1 << 4;
    }
}

/// Low bits of a base address register (PCI 3.0, 6.2.5.1).
pub mod bar {
    /// Set in an I/O BAR.
    pub const IO: u32 = 1 << 0;
    /// Type field of a memory BAR: 64 bits wide.
    pub const MEMORY_64: u32 = 0b10 << 1;
    /// Memory BAR: prefetchable.
    pub const PREFETCHABLE: u32 = 1 << 3;
    /// Address bits of an I/O BAR.
    pub const IO_MASK: u32 = !0b11;
    /// Address bits of a memory BAR.
    pub const MEMORY_MASK: u32 = !0b1111;
    /// The expansion ROM is decoded, too, where memory is (6.2.5.2).
    pub const ROM_ENABLE: u32 = 1 << 0;
    /// Address bits of an expansion ROM's register (6.2.5.2).
    pub const ROM_MASK: u32 = !0x7FF;
}

/// A capability's identifier in the conventional list. Unknown values are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapabilityId(pub u8);

impl CapabilityId {
    /// PCI Power Management.
    pub const POWER_MANAGEMENT: Self = Self(0x01);
    /// Vital Product Data.
    pub const VPD: Self = Self(0x03);
    /// Message Signalled Interrupts.
    pub const MSI: Self = Self(0x05);
    /// Vendor specific.
    pub const VENDOR: Self = Self(0x09);
    /// Bridge subsystem vendor.
    pub const BRIDGE_SUBSYSTEM: Self = Self(0x0D);
    /// PCI Express.
    pub const EXPRESS: Self = Self(0x10);
    /// MSI-X.
    pub const MSI_X: Self = Self(0x11);
    /// Serial ATA.
    pub const SATA: Self = Self(0x12);
    /// Advanced Features (conventional FLR).
    pub const ADVANCED_FEATURES: Self = Self(0x13);
}

/// A function's class code: base class, sub-class and programming interface (PCI Code and ID 1.11, chapter 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassCode {
    /// Base class.
    pub base: u8,
    /// Sub-class.
    pub sub: u8,
    /// Programming interface.
    pub prog_if: u8,
}

impl ClassCode {
    /// From the 24-bit number of sysfs `class` (`0x010802`).
    #[must_use]
    pub const fn from_u24(value: u32) -> Self {
        let [_, base, sub, prog_if] = value.to_be_bytes();
        Self { base, sub, prog_if }
    }

    /// A host, PCI-to-PCI or other bridge (base class 06h).
    #[must_use]
    pub const fn is_bridge(self) -> bool {
        self.base == 0x06
    }

    /// A display controller (base class 03h).
    #[must_use]
    pub const fn is_display(self) -> bool {
        self.base == 0x03
    }

    /// A PCI-to-PCI bridge or host bridge, which VFIO ignores when it judges a group.
    #[must_use]
    pub const fn is_pci_bridge(self) -> bool {
        self.base == 0x06 && matches!(self.sub, 0x00 | 0x04 | 0x09)
    }
}
