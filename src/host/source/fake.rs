//! Small hosts for tests: a list of paths and what is there, written to a temporary directory and read as a tree.

use std::fs;
use std::os::unix::fs::symlink;

use super::answers::{Answer, Answers, CpuidEntry, FILE};
use super::{CpuidLeaf, DeviceNode, Fact, KvmAnswer, Route, Source, TreeSource, VfLinks};

/// A temporary directory in memory where there is one: the hosts of the tests have some hundred thousand files.
pub(crate) fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What is at a path of a fake host.
#[derive(Debug, Clone)]
pub(crate) enum Entry<'a> {
    /// A file with this text and a newline.
    Text(&'a str),
    /// A file with these bytes.
    Bytes(&'a [u8]),
    /// A symbolic link with this target.
    Link(&'a str),
    /// A directory.
    Directory,
}

/// A fake host; its directory lives as long as it.
#[derive(Debug)]
pub(crate) struct FakeHost {
    directory: tempfile::TempDir,
}

impl FakeHost {
    /// A host with `entries`, in this order; directories above them are made.
    pub(crate) fn new(entries: &[(&str, Entry<'_>)]) -> Self {
        let host = Self { directory: memory_dir() };
        host.add(entries);
        host
    }

    /// Adds `entries` or puts them in the place of others.
    pub(crate) fn add(&self, entries: &[(&str, Entry<'_>)]) {
        for (path, entry) in entries {
            let place = self.directory.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            if place.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
                fs::remove_file(&place).unwrap();
            }
            match entry {
                Entry::Text(text) => fs::write(place, format!("{text}\n")).unwrap(),
                Entry::Bytes(bytes) => fs::write(place, bytes).unwrap(),
                Entry::Link(target) => symlink(target, place).unwrap(),
                Entry::Directory => fs::create_dir_all(place).unwrap(),
            }
        }
    }

    /// Adds answers to CPUID: leaf and EAX, EBX, ECX, EDX.
    pub(crate) fn answer_cpuid(&self, leaves: &[(u32, [u32; 4])]) {
        self.answer(|answers| {
            let entry = |&(leaf, [eax, ebx, ecx, edx]): &(u32, [u32; 4])| CpuidEntry {
                leaf,
                subleaf: 0,
                registers: CpuidLeaf { eax, ebx, ecx, edx },
            };
            answers.cpuid = Some(Answer::Given(leaves.iter().map(entry).collect()));
        });
    }

    /// Adds KVM's answer.
    pub(crate) fn answer_kvm(&self, answer: Answer<KvmAnswer>) {
        self.answer(|answers| answers.kvm = Some(answer));
    }

    /// Adds lines of the kernel's log.
    pub(crate) fn answer_log(&self, lines: &[&str]) {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.answer(|answers| answers.kernel_log = Some(Answer::Given(lines)));
    }

    /// Changes the answers.
    pub(crate) fn answer(&self, change: impl FnOnce(&mut Answers)) {
        let file = self.directory.path().join(FILE);
        let mut answers = fs::read(&file)
            .map_or_else(|_| Answers::default(), |bytes| serde_json::from_slice(&bytes).unwrap());
        change(&mut answers);
        fs::write(file, serde_json::to_vec(&answers).unwrap()).unwrap();
    }

    /// The directory.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The host as a source of facts.
    pub(crate) fn source(&self) -> TreeSource {
        TreeSource::open(self.directory.path()).unwrap()
    }

    /// The host as a source for a user who may not look at anything whose path contains one of `parts`.
    pub(crate) fn source_without(&self, parts: &'static [&'static str]) -> impl Source {
        Denying { inner: self.source(), parts }
    }
}

/// A source that denies some paths, whoever runs the test.
struct Denying {
    inner: TreeSource,
    parts: &'static [&'static str],
}

impl Denying {
    fn ask<T>(&self, path: &str, ask: impl FnOnce(&TreeSource) -> Fact<T>) -> Fact<T> {
        if self.parts.iter().any(|part| path.contains(part)) {
            return Fact::Denied { source: path.to_owned() };
        }
        ask(&self.inner)
    }
}

impl Source for Denying {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        self.ask(path, |inner| inner.read_limited(path, limit_bytes))
    }
    fn list(&self, path: &str) -> Fact<Vec<String>> {
        self.ask(path, |inner| inner.list(path))
    }
    fn link(&self, path: &str) -> Fact<String> {
        self.ask(path, |inner| inner.link(path))
    }
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        self.inner.cpuid(leaf, subleaf)
    }
    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        self.inner.msr(cpu, register)
    }
    fn kvm(&self) -> Fact<KvmAnswer> {
        self.ask("/dev/kvm", Source::kvm)
    }
    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.ask("/dev/kmsg", Source::kernel_log)
    }
    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        self.ask("rtnetlink", Source::vf_links)
    }
    fn routes(&self) -> Fact<Vec<Route>> {
        self.ask("rtnetlink", Source::routes)
    }
    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        self.ask(path, |inner| inner.device_node(path))
    }
}
