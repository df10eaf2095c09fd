//! Intel Virtualization Technology for Directed I/O: the capability words of a remapping unit.
//!
//! Intel VT-d Architecture Specification 4.1 (March 2023), 11.4.2 (Capability Register, CAP) and 11.4.3 (Extended
//! Capability Register, ECAP).

use serde::Serialize;

/// What a remapping unit can do, from its two capability words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// CAP.
    pub capability: u64,
    /// ECAP.
    pub extended_capability: u64,
}

/// A size of second-stage page above 4 KiB (CAP.SSLPS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SuperPage {
    /// 2 MiB.
    #[serde(rename = "2MiB")]
    Mib2,
    /// 1 GiB.
    #[serde(rename = "1GiB")]
    Gib1,
}

impl Capabilities {
    const fn capability(self, bit: u32) -> bool {
        self.capability >> bit & 1 != 0
    }

    const fn extended(self, bit: u32) -> bool {
        self.extended_capability >> bit & 1 != 0
    }

    /// CAP.ND, bits 2:0: how many domain identifiers; the reserved value 7 counts as 6.
    #[must_use]
    pub const fn domains(self) -> u64 {
        let exponent = self.capability & 0b111;
        1 << (4 + 2 * if exponent < 7 { exponent } else { 6 })
    }

    /// CAP.CM, bit 7: entries that are not present are cached, too, so that software must flush after every map. No
    /// hardware does; emulated units do.
    #[must_use]
    pub const fn caching_mode(self) -> bool {
        self.capability(7)
    }

    /// CAP.SAGAW, bits 12:8: widths of second-stage tables in bits, by bit 1 (39), 2 (48) and 3 (57); the others are
    /// reserved. None: the unit translates no DMA.
    pub fn address_widths_bits(self) -> impl Iterator<Item = u8> {
        [(9, 39), (10, 48), (11, 57)]
            .into_iter()
            .filter(move |(bit, _)| self.capability(*bit))
            .map(|(_, width)| width)
    }

    /// CAP.MGAW, bits 21:16: widest guest address, in bits.
    #[must_use]
    pub const fn maximum_guest_address_width_bits(self) -> u8 {
        let [_, _, field, ..] = self.capability.to_le_bytes();
        (field & 0x3F) + 1
    }

    /// CAP.SSLPS, bits 37:34.
    pub fn super_pages(self) -> impl Iterator<Item = SuperPage> {
        [(34, SuperPage::Mib2), (35, SuperPage::Gib1)]
            .into_iter()
            .filter(move |(bit, _)| self.capability(*bit))
            .map(|(_, size)| size)
    }

    /// CAP.PI, bit 59: interrupts can be posted to a running virtual CPU.
    #[must_use]
    pub const fn posted_interrupts(self) -> bool {
        self.capability(59)
    }

    /// ECAP.C, bit 0: table walks snoop the processor's caches.
    #[must_use]
    pub const fn coherent_walks(self) -> bool {
        self.extended(0)
    }

    /// ECAP.DT, bit 2: devices may have translation caches of their own (ATS).
    #[must_use]
    pub const fn device_tlb(self) -> bool {
        self.extended(2)
    }

    /// ECAP.IR, bit 3: interrupts can be remapped.
    #[must_use]
    pub const fn interrupt_remapping(self) -> bool {
        self.extended(3)
    }

    /// ECAP.EIM, bit 4: interrupts can be remapped to x2APIC identifiers.
    #[must_use]
    pub const fn extended_interrupt_mode(self) -> bool {
        self.extended(4)
    }

    /// ECAP.PT, bit 6: devices can be passed through untranslated.
    #[must_use]
    pub const fn pass_through(self) -> bool {
        self.extended(6)
    }

    /// ECAP.SC, bit 7: software can make a device's accesses snoop the caches, whatever the device asks for.
    #[must_use]
    pub const fn snoop_control(self) -> bool {
        self.extended(7)
    }

    /// ECAP.NEST, bit 26: two stages of translation.
    #[must_use]
    pub const fn nested_translation(self) -> bool {
        self.extended(26)
    }

    /// ECAP.PRS, bit 29: devices may ask for pages.
    #[must_use]
    pub const fn page_requests(self) -> bool {
        self.extended(29)
    }

    /// ECAP.PASID, bit 40: requests may carry the identifier of a process.
    #[must_use]
    pub const fn pasid(self) -> bool {
        self.extended(40)
    }

    /// ECAP.SMTS, bit 43: scalable mode.
    #[must_use]
    pub const fn scalable_mode(self) -> bool {
        self.extended(43)
    }

    /// ECAP.FSTS, bit 47: first-stage translation in scalable mode, which needs no second-stage width.
    #[must_use]
    pub const fn first_stage(self) -> bool {
        self.extended(47)
    }

    /// Whether the unit can translate DMA at all (Linux: drivers/iommu/intel/dmar.c, `alloc_iommu`).
    #[must_use]
    pub fn translates_dma(self) -> bool {
        self.address_widths_bits().next().is_some() || (self.scalable_mode() && self.first_stage())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU 10.0.2 shows with `aw-bits=48,intremap=on`.
    const EMULATED: Capabilities =
        Capabilities { capability: 0x00D2_008C_222F_0686, extended_capability: 0xF0_0F4A };

    #[test]
    fn the_words_of_an_emulated_unit_decode() {
        assert_eq!(EMULATED.domains(), 65_536);
        assert_eq!(EMULATED.address_widths_bits().collect::<Vec<_>>(), [39, 48]);
        assert_eq!(EMULATED.maximum_guest_address_width_bits(), 48);
        assert_eq!(EMULATED.super_pages().collect::<Vec<_>>(), [SuperPage::Mib2, SuperPage::Gib1]);
        assert!(EMULATED.caching_mode() && EMULATED.interrupt_remapping() && EMULATED.pass_through());
        assert!(!EMULATED.snoop_control() && !EMULATED.posted_interrupts() && !EMULATED.device_tlb());
        assert!(!EMULATED.extended_interrupt_mode() && !EMULATED.scalable_mode() && !EMULATED.pasid());
    }

    #[test]
    fn a_server_posts_interrupts_and_controls_snooping() {
        // Linux's log of a Xeon Scalable: `cap 8d2078c106f0466 ecap f020df`.
        let xeon = Capabilities { capability: 0x08D2_078C_106F_0466, extended_capability: 0xF0_20DF };
        assert!(xeon.posted_interrupts() && xeon.snoop_control() && xeon.extended_interrupt_mode());
        assert!(xeon.device_tlb() && !xeon.caching_mode());
        assert_eq!(xeon.maximum_guest_address_width_bits(), 48);
    }

    #[test]
    fn without_a_width_dma_is_not_translated_unless_first_stage_tables_are() {
        let mut none = Capabilities { capability: EMULATED.capability & !(0x1F << 8), ..EMULATED };
        assert!(EMULATED.translates_dma() && !none.translates_dma());
        none.extended_capability |= 1 << 43 | 1 << 47;
        assert!(none.translates_dma());
    }
}
