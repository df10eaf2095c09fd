//! What a function is among ports: kind of port, slot, Access Control Services, routing of function numbers.
//!
//! Without privilege the kernel gives the first 64 bytes of the configuration space only. All of this but the
//! multi-function bit is then denied: "no ACS" is never said of registers that nobody could read.

use serde::{Serialize, Serializer};

use super::config::ConfigSpace;
use crate::host::fact::Fact;
use crate::spec::acs::{self, Services};
use crate::spec::pci::walk::read_u16;
use crate::spec::pci::{CapabilityId, header};
use crate::spec::pcie::ExtendedCapabilityId;
use crate::spec::port::{self, PortType};

/// What a function is among ports.
#[derive(Debug, Clone, Serialize)]
pub struct Ports {
    /// Whether its header says that other functions may be in its slot (bit 7 of the header type).
    pub multifunction: Fact<bool>,
    /// What it is in the PCI Express fabric; absent on conventional functions.
    pub express: Fact<Express>,
    /// Access Control Services; absent where it has no such capability.
    pub acs: Fact<Acs>,
    /// Alternative routing IDs; absent where it has no such capability.
    pub ari: Fact<Ari>,
}

/// What a function is in the PCI Express fabric (PCIe 6.0, 7.5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Express {
    /// Kind of port or device.
    #[serde(serialize_with = "port_type")]
    pub port_type: PortType,
    /// The slot below a port; absent where nothing can be plugged in.
    pub slot: Option<Slot>,
    /// Whether function numbers above 7 get through a port; absent on what is no port.
    pub ari_forwarding: Option<AriForwarding>,
}

/// The slot below a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its number, as printed beside it where the maker took the trouble; 0 where it has none.
    pub number: u16,
    /// Whether the port says that it senses a card in it. Some say so of no card.
    pub card_detected: bool,
}

/// ARI forwarding of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AriForwarding {
    /// The port can.
    pub supported: bool,
    /// The port does.
    pub enabled: bool,
}

/// Access Control Services (PCIe 6.0, 7.7.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acs {
    /// What the function offers.
    #[serde(serialize_with = "services")]
    pub offered: Services,
    /// What is switched on.
    #[serde(serialize_with = "services")]
    pub enabled: Services,
    /// Where the capability is, in bytes.
    pub offset: u16,
}

/// Alternative routing IDs of a device (PCIe 6.0, 7.8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ari {
    /// Number of the next function, 0 at the last.
    pub next_function: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn port_type<S: Serializer>(kind: &PortType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(kind)
}

/// The names of services, for machines.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(in crate::host) fn services<S: Serializer>(
    services: &Services,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(services.names())
}

/// The capability `what` begins within the bytes that were read and ends behind them.
fn cut_off<T>(what: &str, source: &str) -> Fact<T> {
    Fact::Unreadable { source: source.to_owned(), reason: format!("the {what} capability is cut off") }
}

impl Ports {
    /// Decodes `bytes`, which were read from the file at `source` and whose lists are in `config`.
    pub(super) fn read(bytes: &Fact<Vec<u8>>, config: &ConfigSpace, source: &str) -> Self {
        let bytes = bytes.known().map_or(&[][..], Vec::as_slice);
        let express = config.capabilities.as_ref().and_then(|list| {
            match list.iter().find(|capability| capability.id == CapabilityId::EXPRESS) {
                None => Fact::NotPresent,
                Some(found) => port::Registers::read(bytes, found.offset).map_or_else(
                    || cut_off("PCI Express", source),
                    |registers| Fact::Known(registers.into()),
                ),
            }
        });
        let extended = |id: ExtendedCapabilityId| {
            config.extended_capabilities.as_ref().and_then(|list| {
                list.iter()
                    .find(|capability| capability.id == id.0)
                    .map_or(Fact::NotPresent, |found| Fact::Known(found.offset))
            })
        };
        let layout = acs::Layout::of(
            read_u16(bytes, header::VENDOR_ID).unwrap_or_default(),
            read_u16(bytes, header::DEVICE_ID).unwrap_or_default(),
        );
        Self {
            multifunction: config
                .header_type
                .as_ref()
                .map(|_| bytes.get(usize::from(header::HEADER_TYPE)).is_some_and(|kind| kind & 0x80 != 0)),
            express,
            acs: extended(ExtendedCapabilityId::ACS).and_then(|offset| {
                acs::Registers::read(bytes, offset, layout).map_or_else(
                    || cut_off("ACS", source),
                    |acs::Registers { offered, enabled }| Fact::Known(Acs { offered, enabled, offset }),
                )
            }),
            ari: extended(ExtendedCapabilityId::ARI).and_then(|offset| {
                port::ari_next_function(bytes, offset).map_or_else(
                    || cut_off("ARI", source),
                    |next_function| Fact::Known(Ari { next_function }),
                )
            }),
        }
    }
}

impl From<port::Registers> for Express {
    fn from(registers: port::Registers) -> Self {
        Self {
            port_type: registers.port_type,
            slot: registers.slot.map(|slot| Slot { number: slot.number, card_detected: slot.occupied }),
            ari_forwarding: registers
                .ari_forwarding
                .map(|port::AriForwarding { supported, enabled }| AriForwarding { supported, enabled }),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Configuration spaces of ports and endpoints, for tests that build hosts.

    /// A PCI Express function with its capability at 40h and, behind it, the extended capabilities that are added.
    pub(crate) struct Config(Vec<u8>);

    impl Config {
        /// A function of device/port type `kind`.
        pub(crate) fn express(kind: u8) -> Self {
            let mut config = Self::conventional();
            config.0[0x06] = 0x10;
            config.0[0x34] = 0x40;
            config.0[0x40] = 0x10;
            config.0[0x42] = kind << 4 | 2;
            config
        }

        /// A function without capabilities.
        pub(crate) fn conventional() -> Self {
            let mut bytes = vec![0; 4096];
            bytes[..4].copy_from_slice(&[0x36, 0x1B, 0x01, 0x00]);
            Self(bytes)
        }

        /// Bridge to the buses from `secondary` to `subordinate`.
        pub(crate) fn buses(mut self, secondary: u8, subordinate: u8) -> Self {
            self.0[0x0E] |= 0x01;
            self.0[0x19] = secondary;
            self.0[0x1A] = subordinate;
            self
        }

        /// One of several functions.
        pub(crate) fn multifunction(mut self) -> Self {
            self.0[0x0E] |= 0x80;
            self
        }

        /// A slot with this number.
        pub(crate) fn slot(mut self, number: u16, occupied: bool) -> Self {
            self.0[0x43] |= 0x01;
            self.0[0x54..0x58].copy_from_slice(&(u32::from(number) << 19).to_le_bytes());
            self.0[0x5A] = u8::from(occupied) << 6;
            self
        }

        /// ACS with these registers.
        pub(crate) fn acs(self, offered: u8, enabled: u8) -> Self {
            self.extended(0x0D, &[offered, 0, enabled, 0])
        }

        /// ARI forwarding of a port, supported and on or off.
        pub(crate) fn ari_forwarding(mut self, enabled: bool) -> Self {
            self.0[0x64] |= 0x20;
            self.0[0x68] = u8::from(enabled) << 5;
            self
        }

        /// An extended capability `id` with `registers` behind its header, the only one.
        pub(crate) fn extended(mut self, id: u8, registers: &[u8]) -> Self {
            self.0[0x100..0x104].copy_from_slice(&[id, 0x00, 0x01, 0x00]);
            self.0[0x104..0x104 + registers.len()].copy_from_slice(registers);
            self
        }

        /// The bytes.
        pub(crate) fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Config;
    use super::*;

    fn read(config: &[u8]) -> Ports {
        let bytes = Fact::Known(config.to_vec());
        Ports::read(&bytes, &ConfigSpace::from_bytes(bytes.clone(), "config"), "config")
    }

    #[test]
    fn a_root_port_tells_its_slot_and_its_services() {
        let port =
            read(Config::express(4).buses(1, 1).slot(3, true).ari_forwarding(true).acs(0x1D, 0x1D).bytes());
        assert_eq!(port.multifunction, Fact::Known(false));
        let express = port.express.known().unwrap();
        assert_eq!(
            (express.port_type, &express.slot),
            (PortType::ROOT_PORT, &Some(Slot { number: 3, card_detected: true }))
        );
        assert_eq!(express.ari_forwarding, Some(AriForwarding { supported: true, enabled: true }));
        assert_eq!(port.acs.known().unwrap().enabled, Services::ISOLATION);
        assert_eq!(port.ari, Fact::NotPresent);
    }

    #[test]
    fn without_privilege_nothing_is_said_to_be_missing() {
        let ports = read(&Config::express(0).multifunction().bytes()[..64]);
        assert_eq!(ports.multifunction, Fact::Known(true));
        for denied in [ports.express.is_unread(), ports.acs.is_unread(), ports.ari.is_unread()] {
            assert!(denied, "{ports:?}");
        }
    }

    #[test]
    fn a_conventional_function_has_none_of_it() {
        let ports = read(&Config::conventional().bytes()[..256]);
        assert_eq!((ports.express, ports.acs), (Fact::NotPresent, Fact::NotPresent));
        assert_eq!(ports.multifunction, Fact::Known(false));
    }

    #[test]
    fn a_capability_at_the_end_of_the_bytes_is_unread() {
        let mut config = Config::express(4).bytes()[..256].to_vec();
        config[0x34] = 0xFC;
        config.copy_within(0x40..0x44, 0xFC);
        assert!(matches!(read(&config).express, Fact::Unreadable { .. }));
    }
}
