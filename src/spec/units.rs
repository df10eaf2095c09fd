//! Quantities as people write them: sizes in bytes.
//!
//! IEC prefixes are powers of two (IEC 80000-13): `512MiB`, `4GiB`. The short forms `512M` and `4G` mean the
//! same, as in QEMU and on the kernel command line. A bare number is bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size in bytes. Parses `4096`, `512MiB`, `512M`, `4GiB`; prints the largest exact IEC unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// Not `<digits><unit>`.
    #[error("`{0}` is not a size; write for example 4096, 512MiB or 4GiB")]
    Malformed(String),
    /// The digits are fine, the unit is not.
    #[error("`{unit}` is not a unit of size; use B, KiB, MiB, GiB or TiB")]
    UnknownUnit {
        /// What stood behind the digits.
        unit: String,
    },
    /// Larger than 2^64 - 1 bytes.
    #[error("`{0}` does not fit in 64 bits")]
    TooLarge(String),
}

const UNITS: [(&str, u32); 6] = [("EiB", 60), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl ByteSize {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `mebibytes` MiB (2^20 bytes); saturates.
    #[must_use]
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes.saturating_mul(1 << 20))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        if digits.is_empty() {
            return Err(ByteSizeError::Malformed(text.to_owned()));
        }
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            "E" | "EiB" => 60,
            other => {
                return Err(ByteSizeError::UnknownUnit { unit: other.to_owned() });
            }
        };
        let too_large = || ByteSizeError::TooLarge(text.to_owned());
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        number.checked_mul(1u64 << shift).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = UNITS
            .into_iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or(("B", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 512MiB or 4GiB")
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                Err(E::custom(ByteSizeError::Malformed(bytes.to_string())))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A size in bytes: a number, or digits with B, KiB, MiB, GiB, TiB (K, M, G, T mean the same)",
            "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ ?(B|K|KiB|M|MiB|G|GiB|T|TiB|E|EiB)?$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iec_and_short_units_mean_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512MiB", 512 << 20),
            ("512M", 512 << 20),
            ("4 GiB", 4 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn malformed_unknown_and_overflowing_sizes_are_told_apart() {
        assert!(matches!("-1".parse::<ByteSize>(), Err(ByteSizeError::Malformed(_))));
        assert!(matches!("".parse::<ByteSize>(), Err(ByteSizeError::Malformed(_))));
        assert!(matches!("4GB".parse::<ByteSize>(), Err(ByteSizeError::UnknownUnit { .. })));
        assert!(matches!("16EiB".parse::<ByteSize>(), Err(ByteSizeError::TooLarge(_))));
    }

    #[test]
    fn display_round_trips_through_the_largest_exact_unit() {
        for text in ["0B", "1B", "4KiB", "1536MiB", "4GiB", "1EiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
