//! What a profile says of guest memory: how much, and what stands behind it on the host. Written as a size, or as a mapping.

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::spec::units::ByteSize;
use crate::vmm::config::{ConfigError, MAX_MEMORY, MIN_MEMORY, ShortForm};

/// Guest memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a size, or a mapping that describes guest memory")]
pub struct MemoryConfig {
    /// How much: 16MiB to 256GiB, a multiple of the page size.
    pub size: ByteSize,
    /// Huge pages of the host that it is made of. They have to be reserved before (`host.hugepages`).
    #[serde(default, skip_serializing_if = "HugePages::is_none")]
    pub hugepages: HugePages,
    /// Whether other processes of the host can be given it. Memory in a file or of huge pages always
    /// can.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
    /// A file that it lies in: made at the start, removed at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Get all of it from the host before the guest starts, instead of page by page as the guest touches it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prefault: bool,
    /// Never let the host swap any of it out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lock: bool,
    /// Let the host merge pages that are equal to those of other machines (KSM).
    #[serde(default, skip_serializing_if = "is_false")]
    pub ksm: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Pages that guest memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum HugePages {
    /// The host's ordinary ones, of 4 KiB.
    #[default]
    #[serde(rename = "none")]
    None,
    /// 2 MiB.
    #[serde(rename = "2MiB")]
    Size2MiB,
    /// 1 GiB.
    #[serde(rename = "1GiB")]
    Size1GiB,
}

impl HugePages {
    fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Bytes of a page.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::None => 4 << 10,
            Self::Size2MiB => 2 << 20,
            Self::Size1GiB => 1 << 30,
        }
    }
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize::from_bytes(self.bytes()).fmt(f)
    }
}

impl ShortForm for MemoryConfig {
    type Value = ByteSize;

    const EXPECTING: &'static str = "a size such as 512MiB or 4GiB, or a mapping that describes guest memory";

    fn from_value(size: ByteSize) -> Self {
        Self {
            size,
            hugepages: HugePages::None,
            shared: false,
            file: None,
            prefault: false,
            lock: false,
            ksm: false,
        }
    }

    fn as_value(&self) -> Option<ByteSize> {
        (*self == Self::from_value(self.size)).then_some(self.size)
    }

    fn value_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<ByteSize>()
    }
}

impl MemoryConfig {
    /// All of it, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.size.bytes()
    }

    /// Whether it lies in a file, so that another process can be given it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared || self.file.is_some() || self.hugepages != HugePages::None
    }

    /// Everything that is wrong, under the key `memory`.
    pub(in crate::vmm) fn check(&self, errors: &mut Vec<ConfigError>) {
        let short = self.as_value().is_some();
        let mut wrong = |key: &str, problem: &str| {
            let setting = if short { "memory".to_owned() } else { format!("memory.{key}") };
            errors.push(ConfigError::new(setting, problem));
        };
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&self.size) {
            wrong("size", &format!("{} is not between {MIN_MEMORY} and {MAX_MEMORY}", self.size));
        } else if !self.bytes().is_multiple_of(self.hugepages.bytes()) {
            wrong("size", &format!("{} is not a multiple of {}", self.size, self.hugepages));
        }
        let huge = self.hugepages != HugePages::None;
        if self.file.is_some() && huge {
            wrong("file", "a file in a hugetlbfs has huge pages by itself; leave `hugepages` out, or `file`");
        }
        if self.ksm && self.is_shared() {
            wrong(
                "ksm",
                "the host merges private memory in ordinary pages only; leave `shared`, `file` and `hugepages` out",
            );
        }
    }
}

impl fmt::Display for MemoryConfig {
    /// How much.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.size.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mebibytes: u64) -> MemoryConfig {
        MemoryConfig::from_value(ByteSize::from_mebibytes(mebibytes))
    }

    fn problems(config: &MemoryConfig) -> Vec<String> {
        let mut errors = Vec::new();
        config.check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sizes_are_whole_pages_whatever_their_size() {
        assert_eq!(problems(&of(16)), [""; 0]);
        assert_eq!(problems(&of(8)), ["memory: 8MiB is not between 16MiB and 256GiB"]);
        let huge = |mebibytes, hugepages| problems(&MemoryConfig { hugepages, ..of(mebibytes) });
        assert_eq!(huge(64, HugePages::Size2MiB), [""; 0]);
        assert_eq!(huge(65, HugePages::Size2MiB), ["memory.size: 65MiB is not a multiple of 2MiB"]);
        assert_eq!(huge(1536, HugePages::Size1GiB), ["memory.size: 1536MiB is not a multiple of 1GiB"]);
    }

    #[test]
    fn what_excludes_each_other_is_told() {
        let file = MemoryConfig { file: Some("/ram".into()), hugepages: HugePages::Size2MiB, ..of(64) };
        assert_eq!(problems(&file).len(), 1);
        let merged = MemoryConfig { ksm: true, ..of(64) };
        assert_eq!(problems(&merged), [""; 0]);
        for wrong in [
            MemoryConfig { shared: true, ..merged.clone() },
            MemoryConfig { file: Some("/ram".into()), ..merged.clone() },
            MemoryConfig { hugepages: HugePages::Size2MiB, ..merged },
        ] {
            assert!(problems(&wrong)[0].starts_with("memory.ksm: "), "{wrong:?}");
        }
    }

    #[test]
    fn both_forms_are_read_and_the_short_one_is_written_where_it_says_all() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Outer {
            #[serde(with = "crate::vmm::config::short_form")]
            memory: MemoryConfig,
        }
        let turned = |text: &str| {
            serde_json::from_str::<Outer>(text).map(|outer| serde_json::to_string(&outer).unwrap())
        };
        assert_eq!(turned(r#"{"memory":"64MiB"}"#).unwrap(), r#"{"memory":"64MiB"}"#);
        assert_eq!(
            turned(r#"{"memory":{"size":67108864,"shared":false}}"#).unwrap(),
            r#"{"memory":"64MiB"}"#
        );
        let long =
            r#"{"memory":{"size":"2GiB","hugepages":"1GiB","shared":true,"prefault":true,"lock":true}}"#;
        assert_eq!(turned(long).unwrap(), long);
        assert!(turned(r#"{"memory":{"hugepages":"2MiB"}}"#).is_err());
        assert!(turned(r#"{"memory":"64MB"}"#).unwrap_err().to_string().contains("`MB` is not a unit"));
    }
}
