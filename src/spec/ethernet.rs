//! Ethernet addresses (IEEE 802-2014, 8.2) and the numbers of VLANs (IEEE 802.1Q-2018, 9.6).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number of a VLAN; 4095 is reserved.
pub const MAX_VLAN: u32 = 4094;

/// A MAC address. Parses and prints `52:54:00:12:34:56`; prints lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// A text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a MAC address; write six bytes in hexadecimal, for example 02:00:00:12:34:56", .0.escape_debug())]
pub struct MacAddressError(String);

impl MacAddress {
    /// All zeros: no address.
    pub const ZERO: Self = Self([0; 6]);

    /// The address of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Its bytes, in the order in which they are sent.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether it can be that of one card: it is not zero, and does not have the group bit.
    #[must_use]
    pub const fn is_of_one_card(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a & 1 == 0 && (a | b | c | d | e | f) != 0
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MacAddressError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            let part = parts.next().filter(is_byte).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_none() { Ok(Self(bytes)) } else { Err(wrong()) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for MacAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MacAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A MAC address: `02:00:00:12:34:56`",
            "type": "string",
            "pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_pairs_of_digits_and_print_in_lower_case() {
        let address: MacAddress = "02:00:00:AB:cd:0f".parse().unwrap();
        assert_eq!(address.bytes(), [2, 0, 0, 0xAB, 0xCD, 0x0F]);
        assert_eq!(address.to_string(), "02:00:00:ab:cd:0f");
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn groups_and_zero_are_not_addresses_of_one_card() {
        let is_of_one_card = |text: &str| text.parse::<MacAddress>().unwrap().is_of_one_card();
        assert!(is_of_one_card("02:00:00:00:00:00") && is_of_one_card("00:00:00:00:00:01"));
        assert!(!is_of_one_card("01:00:5e:00:00:01") && !is_of_one_card("00:00:00:00:00:00"));
        assert!(!is_of_one_card("ff:ff:ff:ff:ff:ff"));
    }
}
