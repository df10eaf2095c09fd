//! What a capture knows beside the files and links that it holds: which directories were listed, and what was refused.
//!
//! A tree that somebody made by hand holds all there is: what is not in it is not there. A capture holds what was asked
//! for. What nobody asked for is unknown, and a later version that asks for more must not take it for absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fact;
use super::answers::{Refusal, unrecorded};

/// Directories and refusals of a capture, by the path that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Version of the tool that made it.
    pub tool_version: String,
    /// Whether names, numbers and addresses that tell this host from others were replaced.
    pub redacted: bool,
    /// Directories with the names in them, sorted.
    pub listed: BTreeMap<String, Vec<String>>,
    /// What was asked for and not given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, Refusals>,
}

/// What was refused at one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Refusal>,
    /// The names in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Refusal>,
    /// Its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Refusal>,
}

/// The three questions about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Read,
    List,
    Link,
}

impl Refusals {
    /// The place of the answer to `ask`.
    pub(super) fn of(&mut self, ask: Ask) -> &mut Option<Refusal> {
        match ask {
            Ask::Read => &mut self.read,
            Ask::List => &mut self.list,
            Ask::Link => &mut self.link,
        }
    }
}

impl Recording {
    /// How `ask` was refused at `path`, if it was.
    pub(super) fn refusal(&self, ask: Ask, path: &str) -> Option<&Refusal> {
        let refusals = self.refused.get(path)?;
        match ask {
            Ask::Read => &refusals.read,
            Ask::List => &refusals.list,
            Ask::Link => &refusals.link,
        }
        .as_ref()
    }

    /// The names in directory `path`.
    pub(super) fn names(&self, path: &str) -> Fact<Vec<String>> {
        match self.listed.get(path) {
            Some(names) => Fact::Known(names.clone()),
            None => self.missing(path),
        }
    }

    /// What is known of a `path` that the capture does not hold: absent, if the directory above it was listed without
    /// it or is itself absent; otherwise nobody asked.
    pub(super) fn missing<T>(&self, path: &str) -> Fact<T> {
        let mut below = path;
        while let Some((above, name)) = below.rsplit_once('/') {
            let directory = if above.is_empty() { "/" } else { above };
            if let Some(names) = self.listed.get(directory) {
                let known = names.iter().any(|entry| entry == name);
                return if known { unrecorded(path.to_owned()) } else { Fact::NotPresent };
            }
            if self.refusal(Ask::List, directory) == Some(&Refusal::Absent) {
                return Fact::NotPresent;
            }
            below = above;
        }
        unrecorded(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_absent_only_where_somebody_looked() {
        let mut recording = Recording::default();
        recording.listed.insert("/sys/class".to_owned(), vec!["net".to_owned(), "tpm".to_owned()]);
        let nothing = Refusals { list: Some(Refusal::Absent), ..Refusals::default() };
        recording.refused.insert("/sys/fs/btrfs".to_owned(), nothing);
        let missing = |path| recording.missing::<()>(path);
        assert_eq!(missing("/sys/class/iommu"), Fact::NotPresent);
        assert_eq!(missing("/sys/class/iommu/dmar0/cap"), Fact::NotPresent);
        assert_eq!(missing("/sys/fs/btrfs/x"), Fact::NotPresent);
        assert!(missing("/sys/class/tpm").is_unread());
        assert!(missing("/sys/class/tpm/tpm0").is_unread());
        assert!(missing("/proc/cpuinfo").is_unread());
        assert!(missing("/").is_unread());
    }
}
