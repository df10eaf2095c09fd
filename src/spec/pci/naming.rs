//! Names of PCI functions beside the address: by what they are, by the card they are on, by the way that leads to them.
//!
//! Addresses hold bus numbers, which firmware hands out anew when a card comes or goes; these names do not, or say less
//! than one function.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::PciAddress;

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {expected}", text.escape_debug())]
pub struct NamingError {
    text: String,
    expected: &'static str,
}

/// Vendor and device ID of a function: `8086:10c9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PciIds {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
}

/// A device with all its functions, which is a card or one of several devices on it: `0000:01:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PciCard {
    function_0: PciAddress,
}

/// The way to a function: one on a root bus, and behind it the device and function number at each bridge:
/// `0000:00:02.0/00.0`. It holds no bus number but that of a root bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PciPath {
    /// Where it starts.
    pub root: PciAddress,
    /// Device and function number at each bridge.
    pub below: Vec<(u8, u8)>,
}

impl PciCard {
    /// Whether the function at `address` is one of its functions.
    #[must_use]
    pub fn has(self, address: PciAddress) -> bool {
        PciAddress { function: 0, ..address } == self.function_0
    }
}

/// A hexadecimal number of at most `most` digits.
fn hex(digits: &str, most: usize) -> Option<u16> {
    let is_number = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

impl FromStr for PciIds {
    type Err = NamingError;

    /// Four hexadecimal digits each.
    fn from_str(text: &str) -> Result<Self, NamingError> {
        let ids = text.split_once(':').filter(|(vendor, device)| (vendor.len(), device.len()) == (4, 4));
        let ids = ids.and_then(|(vendor, device)| Some((hex(vendor, 4)?, hex(device, 4)?)));
        let (vendor, device) = ids.ok_or_else(|| NamingError {
            text: text.to_owned(),
            expected: "vendor and device ID; write four hexadecimal digits each, for example 8086:10c9",
        })?;
        Ok(Self { vendor, device })
    }
}

impl FromStr for PciCard {
    type Err = NamingError;

    /// An address without its function.
    fn from_str(text: &str) -> Result<Self, NamingError> {
        let function_0 = format!("{text}.0").parse().map_err(|_| NamingError {
            text: text.to_owned(),
            expected: "a card; write domain:bus:device in hexadecimal, for example 0000:01:00",
        })?;
        Ok(Self { function_0 })
    }
}

impl FromStr for PciPath {
    type Err = NamingError;

    fn from_str(text: &str) -> Result<Self, NamingError> {
        let number = |digits: &str, most: usize, limit: u8| {
            hex(digits, most).and_then(|number| u8::try_from(number).ok()).filter(|number| *number < limit)
        };
        let step = |part: &str| {
            let (device, function) = part.split_once('.')?;
            Some((number(device, 2, 32)?, number(function, 1, 8)?))
        };
        let (root, below) = text.split_once('/').map_or((text, None), |(root, below)| (root, Some(below)));
        let below = below.into_iter().flat_map(|below| below.split('/')).map(step).collect();
        match (root.parse(), below) {
            (Ok(root), Some(below)) => Ok(Self { root, below }),
            _ => Err(NamingError {
                text: text.to_owned(),
                expected: "a path of bridges; write the address on the root bus, and device.function at each \
                           bridge, for example 0000:00:02.0/00.0",
            }),
        }
    }
}

impl fmt::Display for PciIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl fmt::Display for PciCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, .. } = self.function_0;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}")
    }
}

impl fmt::Display for PciPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)?;
        self.below.iter().try_for_each(|(device, function)| write!(f, "/{device:02x}.{function}"))
    }
}

/// Serde reads and writes these types as the texts that they are.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NamingError;
            fn try_from(text: String) -> Result<Self, NamingError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
as_text!(PciIds, PciCard, PciPath);

#[cfg(test)]
mod tests {
    use super::*;

    fn printed<T: FromStr<Err = NamingError> + fmt::Display>(text: &str) -> Result<String, String> {
        text.parse::<T>().map(|name| name.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_parse_and_print_in_full() {
        assert_eq!(printed::<PciIds>("8086:10C9").unwrap(), "8086:10c9");
        assert_eq!(printed::<PciCard>("1:0").unwrap(), "0000:01:00");
        assert_eq!(printed::<PciCard>("10000:e1:1f").unwrap(), "10000:e1:1f");
        assert_eq!(printed::<PciPath>("00:02.0/0.0/1f.7").unwrap(), "0000:00:02.0/00.0/1f.7");
        assert_eq!(printed::<PciPath>("0000:00:1f.3").unwrap(), "0000:00:1f.3");
    }

    #[test]
    fn malformed_names_are_refused_with_an_example() {
        for text in ["", "8086", "8086:10c", "8086:10c9:1", "+086:10c9", "80860:10c9"] {
            assert!(printed::<PciIds>(text).unwrap_err().contains("for example 8086:10c9"), "{text}");
        }
        for text in ["", "01", "01:00.0", "01:20", "0000:01:00."] {
            assert!(printed::<PciCard>(text).unwrap_err().contains("for example 0000:01:00"), "{text}");
        }
        for text in ["", "/", "00:02.0/", "00:02.0//00.0", "00:02.0/00", "00:02.0/20.0", "00:02.0/00.8"] {
            assert!(printed::<PciPath>(text).unwrap_err().contains("for example"), "{text}");
        }
    }

    #[test]
    fn a_card_has_all_functions_of_its_device() {
        let card: PciCard = "0000:01:00".parse().unwrap();
        for (address, has) in [("01:00.0", true), ("01:00.7", true), ("01:01.0", false), ("1:01:00.0", false)]
        {
            assert_eq!(card.has(address.parse().unwrap()), has, "{address}");
        }
    }
}
