//! A capture in memory: what one host answered, given again.
//!
//! Files and links stand where they stand on the host once every link above them is followed, so the archive unpacks
//! into a tree that [`super::TreeSource`] reads. Nothing of a bundle is ever written to disk to be read, and its links
//! lead nowhere but to other places in it.

mod archive;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::answers::Answers;
use super::recording::Ask;
use super::{CpuidLeaf, DeviceNode, Fact, KvmAnswer, Route, Source, VfLinks, too_large};
pub use archive::BundleError;

/// Most links that are followed on the way to one file (Linux: include/linux/namei.h, MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// A capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Contents by path. No part of a path is a link.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Targets by path. No part of a path but the last is a link.
    pub(super) links: BTreeMap<String, String>,
    /// What is no file, and what was refused.
    pub(super) answers: Answers,
}

/// Whether a link at the end of a path is followed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// Where `path` leads when the `links` on it are followed, inside the root of all paths. `None` where it never ends.
pub(super) fn resolve(links: &BTreeMap<String, String>, path: &str, last: Last) -> Option<String> {
    let mut resolved = String::new();
    let mut ahead: Vec<&str> = path.split('/').rev().collect();
    let mut followed = 0;
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => continue,
            ".." => {
                resolved.truncate(resolved.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let above = resolved.len();
        resolved.push('/');
        resolved.push_str(part);
        let is_last = ahead.iter().all(|part| matches!(*part, "" | "."));
        if is_last && last == Last::Keep {
            continue;
        }
        if let Some(target) = links.get(&resolved) {
            followed += 1;
            if followed > MOST_LINKS {
                return None;
            }
            resolved.truncate(if target.starts_with('/') { 0 } else { above });
            ahead.extend(target.split('/').rev());
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    Some(resolved)
}

impl Bundle {
    /// What is at `path`, if anything is.
    fn at<'a, T>(&self, map: &'a BTreeMap<String, T>, path: &str, last: Last) -> Option<&'a T> {
        map.get(&resolve(&self.links, path, last)?)
    }

    /// Replaces the content of the file at `path`, if it is there.
    pub(crate) fn abridge(&mut self, path: &str, abridge: impl FnOnce(&[u8]) -> Vec<u8>) {
        if let Some(bytes) =
            resolve(&self.links, path, Last::Follow).and_then(|path| self.files.get_mut(&path))
        {
            *bytes = abridge(bytes);
        }
    }

    /// Number of files and links in it.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.files.len() + self.links.len()
    }
}

impl Source for Bundle {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        if let Some(refusal) = self.answers.refusal(Ask::Read, path) {
            return refusal;
        }
        match self.at(&self.files, path, Last::Follow) {
            Some(bytes) if bytes.len() as u64 > limit_bytes => too_large(path, limit_bytes),
            Some(bytes) => Fact::Known(bytes.clone()),
            None => self.answers.missing(path),
        }
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        if let Some(refusal) = self.answers.refusal(Ask::List, path) {
            return refusal;
        }
        match &self.answers.recording {
            Some(recording) => recording.names(path),
            None => self.answers.missing(path),
        }
    }

    fn link(&self, path: &str) -> Fact<String> {
        if let Some(refusal) = self.answers.refusal(Ask::Link, path) {
            return refusal;
        }
        match self.at(&self.links, path, Last::Keep) {
            Some(target) => Fact::Known(target.clone()),
            None => self.answers.missing(path),
        }
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        self.answers.cpuid(leaf, subleaf)
    }

    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        self.answers.msr(cpu, register)
    }

    fn is_redacted(&self) -> bool {
        self.answers.recording.as_ref().is_some_and(|recording| recording.redacted)
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        self.answers.kvm()
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.answers.kernel_log()
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        self.answers.vf_links()
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        self.answers.routes()
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        self.answers.device_node(path)
    }
}
