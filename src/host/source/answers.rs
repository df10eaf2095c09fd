//! What a host answers that is no file: CPUID leaves, model-specific registers, KVM, the kernel's log, its network.
//!
//! A tree may carry these answers in a file [`FILE`] at its root; whatever it leaves out is unread.
//!
//! ```json
//! {
//!   "schema": "thruway.answers",
//!   "schema_version": 1,
//!   "cpuid": [{"leaf": 1, "subleaf": 0, "eax": 10489617, "ebx": 2048, "ecx": 4294435331, "edx": 395049983}],
//!   "msr": [{"cpu": 0, "register": 58, "value": 5}],
//!   "kvm": {"api_version": 12, "creates_vm": true},
//!   "kernel_log": ["DMAR: IOMMU enabled"],
//!   "vf_links": [{"interface": "eth0", "vfs": [{"index": 0, "mac": "02:00:00:00:00:01", "trusted": false}]}],
//!   "routes": [{"interface": "eth0", "table": 254, "default": true}],
//!   "device_nodes": {"/dev/vfio/12": {"mode": 384, "uid": 0, "gid": 0, "may_open": false}}
//! }
//! ```
//!
//! Entries of `msr` and `device_nodes` and each of the others may instead be `"absent"`, `"denied"` or `{"unreadable": "why"}`: denials are
//! answers too, and a replay gives them again. Leaves that a recorded `cpuid` does not list are unread. `denied` lists
//! paths that could not be read for want of permission, each with everything below it. `recording` is what a capture
//! adds ([`super::recording`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::recording::{Ask, Recording};
use super::{CpuidLeaf, DeviceNode, KvmAnswer, Route, VfLinks, msr_name};
use crate::host::fact::Fact;
use crate::host::parse;

/// Name of the file, at the root of a tree.
pub const FILE: &str = "answers.json";
/// `schema` of the file.
pub const SCHEMA: &str = "thruway.answers";
/// `schema_version` that this version reads.
pub const SCHEMA_VERSION: u32 = 1;
/// Most bytes of the file that are read: a capture lists in it every directory that was looked into.
pub(super) const LIMIT_BYTES: u64 = 64 << 20;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The CPUID instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuid: Option<Answer<Vec<CpuidEntry>>>,
    /// Model-specific registers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msr: Vec<MsrEntry>,
    /// /dev/kvm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Answer<KvmAnswer>>,
    /// The kernel's log, as far as it is about virtualization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_log: Option<Answer<Vec<String>>>,
    /// Network interfaces with virtual functions below them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf_links: Option<Answer<Vec<VfLinks>>>,
    /// Routes of all tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Answer<Vec<Route>>>,
    /// Device nodes, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_nodes: BTreeMap<String, Answer<DeviceNode>>,
    /// Paths that may not be read, each with everything below it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied: BTreeSet<String>,
    /// Present in a capture: what is not in the tree was not asked for, unless this says that it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            schema_version: SCHEMA_VERSION,
            cpuid: None,
            msr: Vec::new(),
            kvm: None,
            kernel_log: None,
            vf_links: None,
            routes: None,
            device_nodes: BTreeMap::new(),
            denied: BTreeSet::new(),
            recording: None,
        }
    }
}

/// One answer, or the way in which it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// It was given.
    Given(T),
    /// It was not.
    Refused(Refusal),
}

/// How a question failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The host does not have it.
    Absent,
    /// The user may not ask.
    Denied,
    /// It failed otherwise.
    Unreadable(String),
}

/// One CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidEntry {
    /// EAX before the instruction.
    pub leaf: u32,
    /// ECX before the instruction.
    #[serde(default)]
    pub subleaf: u32,
    /// The registers behind it.
    #[serde(flatten)]
    pub registers: CpuidLeaf,
}

/// One model-specific register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsrEntry {
    /// Number of the CPU.
    pub cpu: u32,
    /// Number of the register.
    pub register: u32,
    /// Its value.
    pub value: Answer<u64>,
}

impl<T> Answer<T> {
    /// The answer as a fact from `source`.
    fn fact(&self, source: &str) -> Fact<&T> {
        match self {
            Self::Given(value) => Fact::Known(value),
            Self::Refused(refusal) => refusal.fact(source),
        }
    }
}

impl<T> From<Fact<T>> for Answer<T> {
    fn from(fact: Fact<T>) -> Self {
        match fact {
            Fact::Known(value) => Self::Given(value),
            Fact::NotPresent => Self::Refused(Refusal::Absent),
            Fact::Denied { .. } => Self::Refused(Refusal::Denied),
            Fact::Unreadable { reason, .. } => Self::Refused(Refusal::Unreadable(reason)),
        }
    }
}

impl Refusal {
    /// The refusal as a fact from `source`.
    pub(super) fn fact<T>(&self, source: &str) -> Fact<T> {
        match self {
            Self::Absent => Fact::NotPresent,
            Self::Denied => Fact::Denied { source: source.to_owned() },
            Self::Unreadable(reason) => {
                Fact::Unreadable { source: source.to_owned(), reason: reason.clone() }
            }
        }
    }
}

impl Answers {
    /// Reads the file.
    ///
    /// # Errors
    /// It is no JSON, has keys that are not known, or another schema or version; in words.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The version first: what another version says in its other keys is not for us to judge.
        #[derive(Deserialize)]
        struct Header {
            schema: String,
            schema_version: u32,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if header.schema != SCHEMA || header.schema_version != SCHEMA_VERSION {
            return Err(format!(
                "it is `{}` version {}; this version reads `{SCHEMA}` version {SCHEMA_VERSION}",
                parse::excerpt(&header.schema),
                header.schema_version
            ));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The answer to `ask` about `path`, if it is one that no tree needs to be asked for.
    pub(super) fn refusal<T>(&self, ask: Ask, path: &str) -> Option<Fact<T>> {
        if self.denies(path) {
            return Some(Fact::Denied { source: path.to_owned() });
        }
        Some(self.recording.as_ref()?.refusal(ask, path)?.fact(path))
    }

    /// What is known of a `path` that the tree does not hold.
    pub(super) fn missing<T>(&self, path: &str) -> Fact<T> {
        self.recording.as_ref().map_or(Fact::NotPresent, |recording| recording.missing(path))
    }

    /// The recorded leaf.
    #[must_use]
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        let source = format!("CPUID {leaf:#x}.{subleaf:#x}");
        let Some(cpuid) = &self.cpuid else { return unrecorded(source) };
        cpuid.fact(&source).and_then(|entries| {
            match entries.iter().find(|entry| entry.leaf == leaf && entry.subleaf == subleaf) {
                Some(entry) => Fact::Known(entry.registers),
                None => unrecorded(source.clone()),
            }
        })
    }

    /// The recorded register.
    #[must_use]
    pub fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        let source = msr_name(cpu, register);
        match self.msr.iter().find(|entry| entry.cpu == cpu && entry.register == register) {
            Some(entry) => entry.value.fact(&source).map(|value| *value),
            None => unrecorded(source),
        }
    }

    /// Whether reading `path` was denied: it is listed, or a directory above it is.
    fn denies(&self, path: &str) -> bool {
        let above = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        !self.denied.is_empty() && above.chain([path]).any(|path| self.denied.contains(path))
    }

    /// KVM's recorded answer.
    #[must_use]
    pub fn kvm(&self) -> Fact<KvmAnswer> {
        match &self.kvm {
            Some(answer) => answer.fact("/dev/kvm").map(|answer| *answer),
            None => unrecorded("/dev/kvm".to_owned()),
        }
    }

    /// The recorded log.
    #[must_use]
    pub fn kernel_log(&self) -> Fact<Vec<String>> {
        list(self.kernel_log.as_ref(), "/dev/kmsg")
    }

    /// The recorded virtual functions of interfaces.
    #[must_use]
    pub fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        list(self.vf_links.as_ref(), "rtnetlink")
    }

    /// The recorded routes.
    #[must_use]
    pub fn routes(&self) -> Fact<Vec<Route>> {
        list(self.routes.as_ref(), "rtnetlink")
    }

    /// The recorded device node.
    #[must_use]
    pub fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        if self.denies(path) {
            return Fact::Denied { source: path.to_owned() };
        }
        match self.device_nodes.get(path) {
            Some(answer) => answer.fact(path).map(|node| *node),
            None => unrecorded(path.to_owned()),
        }
    }
}

/// A recorded answer that is a list.
fn list<T: Clone>(answer: Option<&Answer<Vec<T>>>, source: &str) -> Fact<Vec<T>> {
    match answer {
        Some(answer) => answer.fact(source).map(Clone::clone),
        None => unrecorded(source.to_owned()),
    }
}

/// The fact that nobody recorded `source`.
pub(super) fn unrecorded<T>(source: String) -> Fact<T> {
    Fact::Unreadable { source, reason: "not recorded in this tree".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers_and_denials_are_given_again() {
        let answers: Answers = serde_json::from_str(
            r#"{"schema": "thruway.answers", "schema_version": 1,
                "cpuid": [{"leaf": 1, "eax": 1, "ebx": 2, "ecx": 3, "edx": 4}],
                "msr": [{"cpu": 0, "register": 58, "value": 5}, {"cpu": 1, "register": 58, "value": "denied"}],
                "kvm": {"unreadable": "device or resource busy"}}"#,
        )
        .unwrap();
        assert_eq!(answers.cpuid(1, 0), Fact::Known(CpuidLeaf { eax: 1, ebx: 2, ecx: 3, edx: 4 }));
        assert!(answers.cpuid(7, 0).is_unread());
        assert_eq!(answers.msr(0, 58), Fact::Known(5));
        assert!(matches!(answers.msr(1, 58), Fact::Denied { .. }));
        assert!(
            matches!(answers.kvm(), Fact::Unreadable { reason, .. } if reason == "device or resource busy")
        );
    }

    #[test]
    fn a_log_and_a_network_that_nobody_recorded_are_unread() {
        let answers: Answers = serde_json::from_str(
            r#"{"schema": "thruway.answers", "schema_version": 1, "kernel_log": "denied",
                "routes": [{"interface": "eth0", "table": 254, "default": true}]}"#,
        )
        .unwrap();
        assert!(matches!(answers.kernel_log(), Fact::Denied { .. }));
        assert_eq!(answers.routes().known().unwrap()[0].interface, "eth0");
        assert!(answers.vf_links().is_unread());
    }

    #[test]
    fn denial_holds_for_everything_below_and_nothing_beside() {
        let answers = Answers { denied: ["/proc/1".to_owned()].into(), ..Answers::default() };
        assert!(answers.denies("/proc/1") && answers.denies("/proc/1/fd/3"));
        assert!(!answers.denies("/proc/10") && !answers.denies("/proc"));
    }

    #[test]
    fn a_host_without_kvm_differs_from_one_that_nobody_asked() {
        let absent = Answers { kvm: Some(Answer::Refused(Refusal::Absent)), ..Answers::default() };
        assert_eq!(absent.kvm(), Fact::NotPresent);
        assert!(Answers::default().kvm().is_unread());
    }
}
