//! What capabilities are called, by identifier.
//!
//! PCI Code and ID Assignment Specification 1.11, chapters 2 and 3; PCIe 6.0, 7.9 for the newer ones. The short names
//! are those that the specifications use in headings.

use super::CapabilityId;

/// Name of a capability in the conventional list; `None` if the identifier is not assigned.
#[must_use]
pub const fn conventional(id: CapabilityId) -> Option<&'static str> {
    Some(match id.0 {
        0x01 => "Power Management",
        0x02 => "AGP",
        0x03 => "VPD",
        0x04 => "Slot Identification",
        0x05 => "MSI",
        0x06 => "CompactPCI Hot Swap",
        0x07 => "PCI-X",
        0x08 => "HyperTransport",
        0x09 => "Vendor-Specific",
        0x0A => "Debug Port",
        0x0B => "CompactPCI Central Resource Control",
        0x0C => "PCI Hot-Plug",
        0x0D => "Bridge Subsystem Vendor ID",
        0x0E => "AGP 8x",
        0x0F => "Secure Device",
        0x10 => "PCI Express",
        0x11 => "MSI-X",
        0x12 => "SATA",
        0x13 => "Advanced Features",
        0x14 => "Enhanced Allocation",
        0x15 => "Flattening Portal Bridge",
        _ => return None,
    })
}

/// Name of a capability in the extended list; `None` if the identifier is not assigned.
#[must_use]
pub const fn extended(id: u16) -> Option<&'static str> {
    Some(match id {
        0x01 | 0x14 => "Advanced Error Reporting",
        0x02 | 0x09 => "Virtual Channel",
        0x03 => "Device Serial Number",
        0x04 => "Power Budgeting",
        0x05 => "Root Complex Link Declaration",
        0x06 => "Root Complex Internal Link Control",
        0x07 => "Root Complex Event Collector",
        0x08 => "Multi-Function Virtual Channel",
        0x0A => "Root Complex Register Block",
        0x0B => "Vendor-Specific Extended",
        0x0C => "Configuration Access Correlation",
        0x0D => "ACS",
        0x0E => "ARI",
        0x0F => "ATS",
        0x10 => "SR-IOV",
        0x11 => "MR-IOV",
        0x12 => "Multicast",
        0x13 => "PRI",
        0x15 => "Resizable BAR",
        0x16 => "Dynamic Power Allocation",
        0x17 => "TPH Requester",
        0x18 => "LTR",
        0x19 => "Secondary PCI Express",
        0x1A => "PMUX",
        0x1B => "PASID",
        0x1C => "LN Requester",
        0x1D => "DPC",
        0x1E => "L1 PM Substates",
        0x1F => "PTM",
        0x20 => "M-PCIe",
        0x21 => "FRS Queueing",
        0x22 => "Readiness Time Reporting",
        0x23 => "Designated Vendor-Specific",
        0x24 => "VF Resizable BAR",
        0x25 => "Data Link Feature",
        0x26 => "Physical Layer 16.0 GT/s",
        0x27 => "Lane Margining at the Receiver",
        0x28 => "Hierarchy ID",
        0x29 => "NPEM",
        0x2A => "Physical Layer 32.0 GT/s",
        0x2B => "Alternate Protocol",
        0x2C => "SFI",
        0x2D => "Shadow Functions",
        0x2E => "DOE",
        0x2F => "Device 3",
        0x30 => "IDE",
        0x31 => "Physical Layer 64.0 GT/s",
        0x32 => "Flit Logging",
        0x33 => "Flit Performance Measurement",
        0x34 => "Flit Error Injection",
        0x35 => "Streamlined Virtual Channel",
        0x36 => "MMIO Register Block Locator",
        _ => return None,
    })
}
