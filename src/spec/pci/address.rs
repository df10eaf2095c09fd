//! The address of a PCI function as Linux writes it: `dddd:bb:dd.f`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Domain, bus, device and function. Prints `0000:01:10.0`; a domain may be wider than four digits (Intel VMD
/// numbers its domains from 0x10000, Linux: drivers/pci/controller/vmd.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// PCI domain (segment), 0 on most machines.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

/// Why a text is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a PCI address; write domain:bus:device.function in hexadecimal, for example 0000:01:00.0"
)]
pub struct PciAddressError(pub String);

impl PciAddress {
    /// The address within its domain as a requester ID: bus, device and function in 16 bits (PCIe 6.0, 2.2.6.2).
    #[must_use]
    pub fn requester_id(self) -> u16 {
        u16::from(self.bus) << 8 | u16::from(self.device) << 3 | u16::from(self.function)
    }

    /// The address of requester ID `rid` in `domain`.
    #[must_use]
    pub fn from_requester_id(domain: u32, rid: u16) -> Self {
        let [bus, devfn] = rid.to_be_bytes();
        Self { domain, bus, device: devfn >> 3, function: devfn & 7 }
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    /// Accepts `dddd:bb:dd.f` and, for domain 0, `bb:dd.f`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || PciAddressError(text.to_owned());
        let hex = |digits: &str, most: usize| {
            (!digits.is_empty() && digits.len() <= most && digits.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u32::from_str_radix(digits, 16).ok())
                .flatten()
                .ok_or_else(error)
        };
        let (front, function) = text.rsplit_once('.').ok_or_else(error)?;
        let (front, device) = front.rsplit_once(':').ok_or_else(error)?;
        let (domain, bus) = front.rsplit_once(':').unwrap_or(("0", front));
        let (device, function) = (hex(device, 2)?, hex(function, 1)?);
        if device > 31 || function > 7 {
            return Err(error());
        }
        let byte = |value: u32| u8::try_from(value).map_err(|_| error());
        Ok(Self {
            domain: hex(domain, 8)?,
            bus: byte(hex(bus, 2)?)?,
            device: byte(device)?,
            function: byte(function)?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for PciAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PciAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The address of a PCI function, domain:bus:device.function in hexadecimal",
            "type": "string",
            "pattern": "^([0-9a-fA-F]{1,8}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\\.[0-7]$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_short_and_wide_domain_addresses_parse() {
        for (text, printed) in [
            ("0000:01:10.0", "0000:01:10.0"),
            ("01:1f.7", "0000:01:1f.7"),
            ("10000:E1:00.3", "10000:e1:00.3"),
        ] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "01",
            "01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:100:00.0",
            "g:00.0",
            "0000:01:00.0 ",
            "+1:00.0",
            "1:2:3:4.5",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn requester_id_round_trips() {
        let address: PciAddress = "0000:a5:1e.6".parse().unwrap();
        assert_eq!(address.requester_id(), 0xA5F6);
        assert_eq!(PciAddress::from_requester_id(0, 0xA5F6), address);
    }
}
