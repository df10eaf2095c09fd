//! AMD I/O Virtualization Technology: the feature words of an IOMMU.
//!
//! AMD I/O Virtualization Technology (IOMMU) Specification 48882, revision 3.07: capability header (capability offset
//! 00h) and Extended Feature Register (MMIO offset 0030h).

/// Extended Feature Register (EFR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// PPRSup, bit 1: devices may ask for pages.
    #[must_use]
    pub const fn page_requests(self) -> bool {
        self.bit(1)
    }

    /// XTSup, bit 2: interrupts can be remapped to x2APIC identifiers.
    #[must_use]
    pub const fn x2apic(self) -> bool {
        self.bit(2)
    }

    /// GTSup, bit 4: guest translation, with identifiers of processes.
    #[must_use]
    pub const fn guest_translation(self) -> bool {
        self.bit(4)
    }

    /// GASup, bit 7, and GAMSup, bits 23:21, of 1: interrupts can be posted to a running virtual CPU (guest virtual APIC
    /// mode).
    #[must_use]
    pub const fn guest_virtual_apic(self) -> bool {
        self.bit(7) && self.0 >> 21 & 0b111 == 0b001
    }

    /// HATS, bits 11:10: width of the host's page tables in bits, for four, five and six levels; 3 is reserved.
    #[must_use]
    pub const fn address_width_bits(self) -> Option<u8> {
        match self.0 >> 10 & 0b11 {
            0b00 => Some(48),
            0b01 => Some(57),
            0b10 => Some(64),
            _ => None,
        }
    }
}

/// IotlbSup, bit 24 of the capability header: devices may have translation caches of their own (ATS).
pub const HEADER_IOTLB: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_a_server_decode() {
        // Linux's log: `AMD-Vi: Extended features (0x58f77ef22294ade): PPR X2APIC NT IA GA PC GA_vAPIC`.
        let zen = Features(0x058F_77EF_2229_4ADE);
        assert!(zen.page_requests() && zen.x2apic() && zen.guest_virtual_apic() && zen.guest_translation());
        assert_eq!(zen.address_width_bits(), Some(64));
    }

    #[test]
    fn a_mode_of_the_virtual_apic_without_support_for_it_is_none() {
        assert!(!Features(1 << 21).guest_virtual_apic());
        assert_eq!(Features(0b11 << 10).address_width_bits(), None);
        assert_eq!(Features(0).address_width_bits(), Some(48));
    }
}
