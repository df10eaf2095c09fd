//! PCI Express ports: what kind of port or device a function is, its slot, and how function numbers are routed.
//!
//! PCI Express Base Specification 6.0, 7.5.3 (PCI Express Capability), 7.8.8 (ARI Extended Capability).

use std::fmt;

use crate::spec::pci::walk::{read_u16, read_u32};
use crate::spec::pcie::express;

/// Device/Port Type, bits 7:4 of the capabilities register (PCIe 6.0, 7.5.3.2). Unknown values are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortType(pub u8);

impl PortType {
    /// PCI Express endpoint.
    pub const ENDPOINT: Self = Self(0x0);
    /// Legacy PCI Express endpoint.
    pub const LEGACY_ENDPOINT: Self = Self(0x1);
    /// Root port of a root complex.
    pub const ROOT_PORT: Self = Self(0x4);
    /// Upstream port of a switch.
    pub const UPSTREAM_PORT: Self = Self(0x5);
    /// Downstream port of a switch.
    pub const DOWNSTREAM_PORT: Self = Self(0x6);
    /// Bridge from PCI Express to PCI or PCI-X.
    pub const BRIDGE_TO_PCI: Self = Self(0x7);
    /// Bridge from PCI or PCI-X to PCI Express.
    pub const BRIDGE_FROM_PCI: Self = Self(0x8);
    /// Endpoint that is part of the root complex.
    pub const ROOT_COMPLEX_ENDPOINT: Self = Self(0x9);
    /// Event collector of the root complex.
    pub const ROOT_COMPLEX_EVENT_COLLECTOR: Self = Self(0xA);

    /// Whether it is a port that has a link below it: a root port, or a downstream port of a switch.
    #[must_use]
    pub const fn leads_down(self) -> bool {
        matches!(self, Self::ROOT_PORT | Self::DOWNSTREAM_PORT)
    }
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::ENDPOINT => "endpoint",
            Self::LEGACY_ENDPOINT => "legacy_endpoint",
            Self::ROOT_PORT => "root_port",
            Self::UPSTREAM_PORT => "upstream_port",
            Self::DOWNSTREAM_PORT => "downstream_port",
            Self::BRIDGE_TO_PCI => "bridge_to_pci",
            Self::BRIDGE_FROM_PCI => "bridge_from_pci",
            Self::ROOT_COMPLEX_ENDPOINT => "root_complex_endpoint",
            Self::ROOT_COMPLEX_EVENT_COLLECTOR => "root_complex_event_collector",
            Self(other) => return write!(f, "type_{other:x}"),
        })
    }
}

/// What the PCI Express capability says of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Kind of port or device.
    pub port_type: PortType,
    /// The slot below a port; absent where the link leads to something that is soldered on, or to nothing.
    pub slot: Option<Slot>,
    /// ARI forwarding of a port; absent on version 1 structures, which cannot.
    pub ari_forwarding: Option<AriForwarding>,
}

/// A slot (PCIe 6.0, 7.5.3.9 and 7.5.3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Physical Slot Number, 0 where nobody gave it one.
    pub number: u16,
    /// Presence Detect State: whether a card is in it.
    pub occupied: bool,
}

/// ARI forwarding: whether function numbers above 7 get through (PCIe 6.0, 7.5.3.15 and 7.5.3.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AriForwarding {
    /// The port can.
    pub supported: bool,
    /// The port does.
    pub enabled: bool,
}

impl Registers {
    /// Slot Implemented, bit of the capabilities register.
    const SLOT_IMPLEMENTED: u16 = 1 << 8;
    /// Slot Status.
    const SLOT_STATUS: u16 = 0x1A;
    /// Presence Detect State, bit of the slot status.
    const PRESENT: u16 = 1 << 6;
    /// ARI Forwarding Supported, bit of Device Capabilities 2, and ARI Forwarding Enable, bit of Device Control 2.
    const ARI: u16 = 1 << 5;

    /// Reads the capability whose header is at `start` of `config`; `None` if it is not all there.
    #[must_use]
    pub fn read(config: &[u8], start: u16) -> Option<Self> {
        let word = |offset: u16| read_u16(config, start.checked_add(offset)?);
        let capabilities = word(express::CAPABILITIES)?;
        let port_type = PortType(u8::try_from((capabilities & express::TYPE_MASK) >> 4).ok()?);
        let slot = if capabilities & Self::SLOT_IMPLEMENTED != 0 && port_type.leads_down() {
            let slot = read_u32(config, start.checked_add(express::SLOT)?)?;
            let number = u16::try_from(slot >> 19).ok()?;
            Some(Slot { number, occupied: word(Self::SLOT_STATUS)? & Self::PRESENT != 0 })
        } else {
            None
        };
        let ari_forwarding = if capabilities & express::VERSION_MASK >= 2 && port_type.leads_down() {
            Some(AriForwarding {
                supported: word(express::DEVICE_CAPABILITIES_2)? & Self::ARI != 0,
                enabled: word(express::DEVICE_CONTROL_2)? & Self::ARI != 0,
            })
        } else {
            None
        };
        Some(Self { port_type, slot, ari_forwarding })
    }
}

/// The number of the next function of a device that numbers its functions by ARI, 0 at the last (PCIe 6.0, 7.8.8.2);
/// `start` is where the capability's header is.
#[must_use]
pub fn ari_next_function(config: &[u8], start: u16) -> Option<u8> {
    const CAPABILITY: u16 = 0x04;
    let [_, next] = read_u16(config, start.checked_add(CAPABILITY)?)?.to_le_bytes();
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 2 root port at 40h in slot 5, with a card, ARI forwarding on.
    fn root_port() -> Vec<u8> {
        let mut config = vec![0; 0x80];
        config[0x40..0x44].copy_from_slice(&[0x10, 0x00, 0x42, 0x01]);
        config[0x54..0x58].copy_from_slice(&(5_u32 << 19).to_le_bytes());
        config[0x5A] = 0x40;
        config[0x64] = 0x20;
        config[0x68] = 0x20;
        config
    }

    #[test]
    fn a_root_port_tells_its_slot_and_its_forwarding() {
        let port = Registers::read(&root_port(), 0x40).unwrap();
        assert_eq!(port.port_type, PortType::ROOT_PORT);
        assert_eq!(port.slot, Some(Slot { number: 5, occupied: true }));
        assert_eq!(port.ari_forwarding, Some(AriForwarding { supported: true, enabled: true }));
    }

    #[test]
    fn an_endpoint_has_neither_whatever_its_bits_say() {
        let mut endpoint = root_port();
        endpoint[0x42] = 0x02;
        let endpoint = Registers::read(&endpoint, 0x40).unwrap();
        assert_eq!(
            (endpoint.port_type, endpoint.slot, endpoint.ari_forwarding),
            (PortType::ENDPOINT, None, None)
        );
    }

    #[test]
    fn a_version_1_port_ends_before_its_second_half() {
        let mut port = root_port();
        port[0x42] = 0x41;
        port.truncate(0x60);
        assert_eq!(Registers::read(&port, 0x40).unwrap().ari_forwarding, None);
        assert_eq!(Registers::read(&port[..0x55], 0x40), None);
    }

    #[test]
    fn types_that_are_not_assigned_print() {
        assert_eq!(
            (PortType(4).to_string(), PortType(0xF).to_string()),
            ("root_port".to_owned(), "type_f".to_owned())
        );
    }

    #[test]
    fn the_next_function_is_the_high_byte() {
        let mut config = vec![0; 0x108];
        config[0x105] = 3;
        assert_eq!(ari_next_function(&config, 0x100), Some(3));
        assert_eq!(ari_next_function(&config, 0x108), None);
    }
}
