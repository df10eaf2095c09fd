//! A source that remembers what another one answered.
//!
//! Every question is put to the host once; who asks again gets the first answer again. So all that is concluded from a
//! recorded source is concluded from one set of answers, and a replay of these concludes the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::answers::{Answer, Answers, CpuidEntry, MsrEntry, Refusal};
use super::bundle::{Bundle, Last, resolve};
use super::recording::{Ask, Recording};
use super::{CpuidLeaf, DeviceNode, Fact, KvmAnswer, Route, Source, VfLinks};

/// Passes questions on to `inner` and remembers the answers, denials and failures included.
pub struct Recorder<'a> {
    inner: &'a dyn Source,
    heard: Mutex<Heard>,
}

impl fmt::Debug for Recorder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// The answers, by question.
#[derive(Debug, Default)]
struct Heard {
    /// By path and limit.
    reads: BTreeMap<(String, u64), Fact<Vec<u8>>>,
    /// As much as was wanted.
    reads_wanted: BTreeMap<String, Fact<Vec<u8>>>,
    lists: BTreeMap<String, Fact<Vec<String>>>,
    links: BTreeMap<String, Fact<String>>,
    /// By leaf and subleaf.
    cpuid: BTreeMap<(u32, u32), Fact<CpuidLeaf>>,
    /// By CPU and register.
    msr: BTreeMap<(u32, u32), Fact<u64>>,
    kvm: BTreeMap<(), Fact<KvmAnswer>>,
    kernel_log: BTreeMap<(), Fact<Vec<String>>>,
    vf_links: BTreeMap<(), Fact<Vec<VfLinks>>>,
    routes: BTreeMap<(), Fact<Vec<Route>>>,
    device_nodes: BTreeMap<String, Fact<DeviceNode>>,
}

impl<'a> Recorder<'a> {
    /// Starts to record `inner`.
    #[must_use]
    pub fn new(inner: &'a dyn Source) -> Self {
        Self { inner, heard: Mutex::default() }
    }

    /// The answer that was heard before, or that `ask` gives now.
    fn once<K: Ord, T: Clone>(
        &self,
        of: impl Fn(&mut Heard) -> &mut BTreeMap<K, Fact<T>>,
        question: K,
        ask: impl FnOnce() -> Fact<T>,
    ) -> Fact<T> {
        let heard = || self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = of(&mut heard()).get(&question) {
            return answer.clone();
        }
        let answer = ask();
        of(&mut heard()).entry(question).or_insert(answer).clone()
    }

    /// Ends the recording.
    #[must_use]
    pub fn into_bundle(self) -> Bundle {
        let heard = self.heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut recording =
            Recording { tool_version: env!("CARGO_PKG_VERSION").to_owned(), ..Recording::default() };
        let mut refused = |ask, path: String, refusal| {
            *recording.refused.entry(path).or_default().of(ask) = Some(refusal);
        };

        let mut links = BTreeMap::new();
        for (path, answer) in heard.links {
            match answer.into() {
                Answer::Given(target) => drop(links.insert(path, target)),
                Answer::Refused(refusal) => refused(Ask::Link, path, refusal),
            }
        }
        let mut read = BTreeMap::new();
        let reads = heard.reads.into_iter().map(|((path, _), answer)| (path, answer));
        for (path, answer) in heard.reads_wanted.into_iter().chain(reads) {
            match answer.into() {
                Answer::Given(bytes) => drop(read.insert(path, bytes)),
                // Under a smaller limit; what was read has the last word.
                Answer::Refused(_) if read.contains_key(&path) => {}
                Answer::Refused(refusal) => refused(Ask::Read, path, refusal),
            }
        }
        for (path, answer) in heard.lists {
            match answer.into() {
                Answer::Given(names) => drop(recording.listed.insert(path, names)),
                Answer::Refused(refusal) => {
                    *recording.refused.entry(path).or_default().of(Ask::List) = Some(refusal);
                }
            }
        }
        for path in read.keys() {
            if let Some(refusals) = recording.refused.get_mut(path) {
                refusals.read = None;
            }
        }

        let links = placed(&links);
        let place = |path: &str| resolve(&links, path, Last::Follow).unwrap_or_else(|| path.to_owned());
        let files = read.into_iter().map(|(path, bytes)| (place(&path), bytes)).collect();
        let answers = Answers {
            cpuid: cpuid(heard.cpuid),
            msr: heard
                .msr
                .into_iter()
                .map(|((cpu, register), value)| MsrEntry { cpu, register, value: value.into() })
                .collect(),
            kvm: heard.kvm.into_values().next().map(Answer::from),
            kernel_log: heard.kernel_log.into_values().next().map(Answer::from),
            vf_links: heard.vf_links.into_values().next().map(Answer::from),
            routes: heard.routes.into_values().next().map(Answer::from),
            device_nodes: heard.device_nodes.into_iter().map(|(path, node)| (path, node.into())).collect(),
            recording: Some(recording),
            ..Answers::default()
        };
        Bundle { files, links, answers }
    }
}

/// `links` by where they stand once the links above them are followed. One pass moves a link to where the links that
/// stand right lead; each pass sets those right whose path leads over links that already are.
fn placed(links: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const MOST_PASSES: usize = 16;
    let mut placed = links.clone();
    for _ in 0..MOST_PASSES {
        let next = links
            .iter()
            .filter_map(|(path, target)| Some((resolve(&placed, path, Last::Keep)?, target.clone())))
            .collect();
        if next == placed {
            break;
        }
        placed = next;
    }
    placed
}

/// One answer for the instruction as a whole, if no leaf was given; else the leaves that were.
fn cpuid(heard: BTreeMap<(u32, u32), Fact<CpuidLeaf>>) -> Option<Answer<Vec<CpuidEntry>>> {
    let mut entries = Vec::new();
    let mut refused = None;
    for ((leaf, subleaf), answer) in heard {
        match answer.into() {
            Answer::Given(registers) => entries.push(CpuidEntry { leaf, subleaf, registers }),
            Answer::Refused(refusal) => drop(refused.get_or_insert(refusal)),
        }
    }
    match refused {
        // What a source does not hold of CPUID is unread, and so is a recording that does not hold it either.
        Some(Refusal::Unreadable(_)) | None => (!entries.is_empty()).then_some(Answer::Given(entries)),
        Some(refusal) if entries.is_empty() => Some(Answer::Refused(refusal)),
        Some(_) => Some(Answer::Given(entries)),
    }
}

impl Source for Recorder<'_> {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        let question = (path.to_owned(), limit_bytes);
        self.once(|heard| &mut heard.reads, question, || self.inner.read_limited(path, limit_bytes))
    }

    fn read_wanted(&self, path: &str, wanted: &dyn Fn(&[u8]) -> usize) -> Fact<Vec<u8>> {
        let question = path.to_owned();
        self.once(|heard| &mut heard.reads_wanted, question, || self.inner.read_wanted(path, wanted))
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        self.once(|heard| &mut heard.lists, path.to_owned(), || self.inner.list(path))
    }

    fn link(&self, path: &str) -> Fact<String> {
        self.once(|heard| &mut heard.links, path.to_owned(), || self.inner.link(path))
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        self.once(|heard| &mut heard.cpuid, (leaf, subleaf), || self.inner.cpuid(leaf, subleaf))
    }

    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        self.once(|heard| &mut heard.msr, (cpu, register), || self.inner.msr(cpu, register))
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        self.once(|heard| &mut heard.kvm, (), || self.inner.kvm())
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.once(|heard| &mut heard.kernel_log, (), || self.inner.kernel_log())
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        self.once(|heard| &mut heard.vf_links, (), || self.inner.vf_links())
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        self.once(|heard| &mut heard.routes, (), || self.inner.routes())
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        self.once(|heard| &mut heard.device_nodes, path.to_owned(), || self.inner.device_node(path))
    }
}
