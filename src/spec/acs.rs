//! Access Control Services: whether a port or a function lets requests of one neighbour reach another without the
//! IOMMU.
//!
//! PCI Express Base Specification 6.0, 6.12 and 7.7.11 (ACS Extended Capability).

use crate::spec::pci::walk::{read_u16, read_u32};

/// Offset of the ACS Capability register from the capability's header, in bytes.
const CAPABILITY: u16 = 0x04;
/// Offset of the ACS Control register.
const CONTROL: u16 = 0x06;
/// Offset of the control register in the layout of doublewords.
const CONTROL_OF_DOUBLEWORDS: u16 = 0x08;

bitflags::bitflags! {
    /// What the capability register offers, and what the control register switches on; the bits are the same.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Services: u16 {
        /// Source Validation: a requester ID must be of a bus behind the port.
        const SOURCE_VALIDATION = 1 << 0;
        /// Translation Blocking: no requests that claim to be translated.
        const TRANSLATION_BLOCKING = 1 << 1;
        /// P2P Request Redirect: requests to a peer go up, where the IOMMU is.
        const REQUEST_REDIRECT = 1 << 2;
        /// P2P Completion Redirect.
        const COMPLETION_REDIRECT = 1 << 3;
        /// Upstream Forwarding: what was redirected may come back down.
        const UPSTREAM_FORWARDING = 1 << 4;
        /// P2P Egress Control.
        const EGRESS_CONTROL = 1 << 5;
        /// Direct Translated P2P.
        const DIRECT_TRANSLATED = 1 << 6;
        /// What the specification has not assigned, kept as it is.
        const _ = !0;
    }
}

impl Services {
    /// The services whose names the specification gives, with the short names that `lspci` prints.
    pub const NAMES: [(Self, &'static str, &'static str); 7] = [
        (Self::SOURCE_VALIDATION, "source_validation", "SV"),
        (Self::TRANSLATION_BLOCKING, "translation_blocking", "TB"),
        (Self::REQUEST_REDIRECT, "request_redirect", "RR"),
        (Self::COMPLETION_REDIRECT, "completion_redirect", "CR"),
        (Self::UPSTREAM_FORWARDING, "upstream_forwarding", "UF"),
        (Self::EGRESS_CONTROL, "egress_control", "EC"),
        (Self::DIRECT_TRANSLATED, "direct_translated", "DT"),
    ];

    /// What together keeps peers apart (Linux: drivers/iommu/iommu.c, `REQ_ACS_FLAGS`).
    pub const ISOLATION: Self = Self::SOURCE_VALIDATION
        .union(Self::REQUEST_REDIRECT)
        .union(Self::COMPLETION_REDIRECT)
        .union(Self::UPSTREAM_FORWARDING);

    /// The services in the short names of the specification: `SV RR`.
    #[must_use]
    pub fn short(self) -> String {
        let names = Self::NAMES.iter().filter(|(service, ..)| self.contains(*service));
        names.map(|(_, _, short)| *short).collect::<Vec<_>>().join(" ")
    }

    /// The services' names as a list.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(service, ..)| self.contains(*service)).map(|(_, name, _)| name)
    }
}

/// Whether the registers are words, as the specification has them, or doublewords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Two words.
    Words,
    /// Two doublewords: root ports of Intel's 100 and 200 series chipsets (Intel 332691, erratum 23; 335194, erratum
    /// 22). `lspci` decodes these as words, so that it shows nothing as enabled.
    Doublewords,
}

impl Layout {
    /// The layout of the function with these identifiers.
    #[must_use]
    pub const fn of(vendor_id: u16, device_id: u16) -> Self {
        const INTEL: u16 = 0x8086;
        let is_root_port_of_these_series = matches!(
            device_id,
            0xA110..=0xA11F | 0xA167..=0xA16A | 0xA290..=0xA29F | 0xA2E7..=0xA2EE | 0x9D10..=0x9D1B
        );
        if vendor_id == INTEL && is_root_port_of_these_series { Self::Doublewords } else { Self::Words }
    }
}

/// The registers of the capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// What the function offers.
    pub offered: Services,
    /// What is switched on.
    pub enabled: Services,
}

impl Registers {
    /// Reads the capability whose header is at `start` of `config`; `None` if it is not all there.
    #[must_use]
    pub fn read(config: &[u8], start: u16, layout: Layout) -> Option<Self> {
        let at = |offset: u16| start.checked_add(offset);
        let (offered, enabled) = match layout {
            Layout::Words => (read_u16(config, at(CAPABILITY)?)?, read_u16(config, at(CONTROL)?)?),
            Layout::Doublewords => {
                let low = |value: u32| u16::try_from(value & 0xFFFF).ok();
                (
                    low(read_u32(config, at(CAPABILITY)?)?)?,
                    low(read_u32(config, at(CONTROL_OF_DOUBLEWORDS)?)?)?,
                )
            }
        };
        Some(Self {
            offered: Services::from_bits_retain(offered),
            enabled: Services::from_bits_retain(enabled),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capability at 100h with these bytes behind its header.
    fn config(bytes: &[u8]) -> Vec<u8> {
        let mut config = vec![0; 0x110];
        config[0x100..0x104].copy_from_slice(&[0x0D, 0x00, 0x01, 0x00]);
        config[0x104..0x104 + bytes.len()].copy_from_slice(bytes);
        config
    }

    #[test]
    fn offered_and_enabled_services_are_told_apart() {
        let registers = Registers::read(&config(&[0x5F, 0, 0x1D, 0]), 0x100, Layout::Words).unwrap();
        assert_eq!(
            (registers.offered.short(), registers.enabled.short()),
            ("SV TB RR CR UF DT".to_owned(), "SV RR CR UF".to_owned())
        );
        assert_eq!(registers.enabled, Services::ISOLATION);
        assert_eq!(registers.enabled.names().next(), Some("source_validation"));
    }

    #[test]
    fn registers_of_doublewords_are_where_intel_put_them() {
        let config = config(&[0x0F, 0, 0, 0, 0x0D, 0, 0, 0]);
        let layout = Layout::of(0x8086, 0xA110);
        assert_eq!(Registers::read(&config, 0x100, layout).unwrap().enabled.short(), "SV RR CR");
        assert_eq!(Layout::of(0x8086, 0xA120), Layout::Words);
        assert_eq!(Layout::of(0x1022, 0xA110), Layout::Words);
    }

    #[test]
    fn a_capability_that_is_cut_off_is_none() {
        assert_eq!(Registers::read(&config(&[])[..0x106], 0x100, Layout::Words), None);
        assert_eq!(Registers::read(&config(&[]), 0xFFFC, Layout::Words), None);
    }
}
