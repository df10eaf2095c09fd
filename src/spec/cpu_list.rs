//! Lists of CPUs as the kernel writes and reads them: `0-3,8`, and the masks of `/proc/irq`.
//!
//! Linux: Documentation/admin-guide/kernel-parameters.rst, "Cpu lists"; lib/bitmap-str.c.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One more than the highest number that is taken for a CPU's: eight times what the kernel can be built for (8192,
/// Linux: arch/x86/Kconfig, NR_CPUS).
const MOST_CPUS: u32 = 1 << 16;

/// A set of CPUs. Prints, serialises and parses as the kernel's notation, which its parameters and files take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuList(BTreeSet<u32>);

/// Why a text is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of CPUs such as 0-3,8")]
pub struct CpuListError(String);

impl CpuList {
    /// A list as it stands on the kernel's command line, where `N` is `last`, `all` is everybody, and
    /// `0-15:2/4` takes two of every four.
    ///
    /// # Errors
    /// It is no such list.
    pub fn parse_argument(text: &str, last: u32) -> Result<Self, CpuListError> {
        let malformed = || CpuListError(text.chars().take(40).collect());
        let number = |word: &str| match word {
            "N" => Ok(last),
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|cpu| *cpu < MOST_CPUS).ok_or_else(malformed)
            }
            _ => Err(malformed()),
        };
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (range, pattern) =
                part.split_once(':').map_or((part, None), |(range, pattern)| (range, Some(pattern)));
            let (first, end) = match range.split_once('-') {
                None if range.eq_ignore_ascii_case("all") => (0, last),
                Some((first, end)) => (number(first)?, number(end)?),
                None => (number(range)?, number(range)?),
            };
            let (used, of) = match pattern {
                Some(pattern) => {
                    let (used, of) = pattern.split_once('/').ok_or_else(malformed)?;
                    (number(used)?, number(of)?)
                }
                None => (1, 1),
            };
            if first > end || used == 0 || used > of {
                return Err(malformed());
            }
            cpus.extend((first..=end).filter(|cpu| (cpu - first) % of < used));
        }
        Ok(Self(cpus))
    }

    /// A mask as in `/proc/irq/*/smp_affinity`: hexadecimal words of 32 bits with commas between, the highest first.
    ///
    /// # Errors
    /// It is no such mask.
    pub fn parse_mask(text: &str) -> Result<Self, CpuListError> {
        let malformed = || CpuListError(text.chars().take(40).collect());
        let mut cpus = BTreeSet::new();
        let mut first = 0;
        for word in text.trim().rsplit(',') {
            let word = u32::from_str_radix(word, 16).map_err(|_| malformed())?;
            if first >= MOST_CPUS {
                return Err(malformed());
            }
            cpus.extend((0..32).filter(|bit| word >> bit & 1 == 1).map(|bit| first + bit));
            first += 32;
        }
        Ok(Self(cpus))
    }

    /// As a mask that `/proc/irq/default_smp_affinity` takes; see [`Self::parse_mask`].
    #[must_use]
    pub fn to_mask(&self) -> String {
        let words = self.last().unwrap_or(0) / 32 + 1;
        let word = |number: u32| {
            let first = number * 32;
            self.0.range(first..first + 32).fold(0_u32, |word, cpu| word | 1 << (cpu - first))
        };
        // The highest word needs no zeros in front.
        let mut text = format!("{:x}", word(words - 1));
        for number in (0..words - 1).rev() {
            text.push_str(&format!(",{:08x}", word(number)));
        }
        text
    }

    /// The CPUs in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Those that are in this list and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    /// A list as the kernel's files show it. An empty one is a list without CPUs.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(['N', 'a', 'A', ':']) {
            return Err(CpuListError(text.chars().take(40).collect()));
        }
        Self::parse_argument(text, 0)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut end = first;
            while let Some(next) = cpus.next_if_eq(&(end + 1)) {
                end = next;
            }
            write!(f, "{comma}{first}")?;
            if end > first {
                write!(f, "-{end}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = CpuList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of CPUs such as 0-3,8")
            }
            // YAML takes a single CPU for a number.
            fn visit_u64<E: serde::de::Error>(self, cpu: u64) -> Result<CpuList, E> {
                self.visit_str(&cpu.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, cpu: i64) -> Result<CpuList, E> {
                self.visit_str(&cpu.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CpuList, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for CpuList {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CpuList".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "CPUs: a number, or numbers and ranges with commas between, as in `2-3,6`",
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": MOST_CPUS - 1 },
                { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_print_as_the_kernel_writes_them() {
        for (text, printed) in
            [("0-3,8", "0-3,8"), ("", ""), ("8,3,2,1,0\n", "0-3,8"), ("0,1", "0-1"), ("5", "5")]
        {
            assert_eq!(list(text).to_string(), printed);
        }
        assert_eq!((list("0-3,8").count(), list("0-3,8").last()), (5, Some(8)));
    }

    #[test]
    fn arguments_may_count_from_the_end_and_take_some_of_each_group() {
        let argument = |text| CpuList::parse_argument(text, 15).unwrap().to_string();
        assert_eq!(argument("2-N"), "2-15");
        assert_eq!(argument("all"), "0-15");
        assert_eq!(argument("0-11:2/4,N"), "0-1,4-5,8-9,15");
    }

    #[test]
    fn masks_have_their_highest_word_first() {
        let mask = |text| CpuList::parse_mask(text).unwrap().to_string();
        for (cpus, mask) in [("0-1", "3"), ("31-32", "1,80000000"), ("64", "1,00000000,00000000"), ("", "0")]
        {
            assert_eq!(list(cpus).to_mask(), mask);
            assert_eq!(CpuList::parse_mask(mask).unwrap(), list(cpus));
        }
        assert_eq!(mask("3"), "0-1");
        assert_eq!(mask("00000001,80000000\n"), "31-32");
        assert!(CpuList::parse_mask("").is_err() && CpuList::parse_mask("x").is_err());
        assert!(CpuList::parse_mask(&"0,".repeat(5000)).is_err());
    }

    #[test]
    fn what_is_no_list_is_refused_and_sizes_are_bounded() {
        for text in ["a", "1-", "-1", "3-1", "0-65536", "1:2/1", "+1", "0-3:0/2", "N", "1;2", "4294967296"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
        assert!(
            CpuList::parse_argument("0-3:0/2", 3).is_err() && CpuList::parse_argument("0-3:3", 3).is_err()
        );
    }

    #[test]
    fn one_cpu_may_be_written_as_a_number_and_what_is_read_prints_again() {
        for (json, printed) in [("3", "3"), ("\"2-3,6\"", "2-3,6")] {
            let read: CpuList = serde_json::from_str(json).unwrap();
            assert_eq!(read.to_string(), printed);
            assert_eq!(serde_json::to_value(&read).unwrap(), printed);
        }
        for json in ["-1", "\"all\"", "[1]", "99999"] {
            assert!(serde_json::from_str::<CpuList>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn sets_are_compared_as_sets() {
        let (a, b) = (list("0-3"), list("2-5"));
        assert_eq!((a.intersection(&b), a.without(&b), a.union(&b)), (list("2-3"), list("0-1"), list("0-5")));
        assert!(a.contains(3) && !a.contains(4) && list("").is_empty());
    }
}
