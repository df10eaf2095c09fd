//! Hosts on which nothing is as it should be: files that are gone, empty, huge, no text or no files, and whole hosts with
//! random damage. Nothing panics or hangs, and what cannot be read fails no check.
//!
//! Bad ACPI tables, capability chains and captures have tests beside their decoders (`spec::dmar`, `spec::ivrs`,
//! `spec::pci::walk`, `host::source::bundle`); real denials are in `lab::in_use`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::hosts::{self, Host};
use thruway::check::{Asked, Diagnosis, Status, diagnose};
use thruway::host::{collect, source};
use thruway::report::document;

/// What a file of a host is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Gone,
    Empty,
    /// 1 MiB, as much as is read of any file.
    Huge,
    /// More than that.
    Larger,
    NotUtf8,
    /// A line of digits where there was something else, and the other way round.
    OtherKind,
    /// A FIFO that nobody writes to.
    Fifo,
    Directory,
    LinkToItself,
    LinkOutside,
    /// Cut off in its middle.
    Half,
}

const DAMAGES: [Damage; 11] = [
    Damage::Gone,
    Damage::Empty,
    Damage::Huge,
    Damage::Larger,
    Damage::NotUtf8,
    Damage::OtherKind,
    Damage::Fifo,
    Damage::Directory,
    Damage::LinkToItself,
    Damage::LinkOutside,
    Damage::Half,
];

impl Damage {
    fn happens_to(self, path: &Path) {
        let bytes = fs::read(path).unwrap_or_default();
        fs::remove_file(path).unwrap();
        match self {
            Self::Gone => {}
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Huge => File::create(path).unwrap().set_len(1 << 20).unwrap(),
            Self::Larger => File::create(path).unwrap().set_len((1 << 20) + 1).unwrap(),
            Self::NotUtf8 => fs::write(path, b"\xFF\xFE\n\xC3(\n").unwrap(),
            Self::OtherKind if bytes.first().is_some_and(u8::is_ascii_digit) => {
                fs::write(path, "\u{1b}[31mnone of it:\n\n = -1 Ä\n").unwrap();
            }
            Self::OtherKind => fs::write(path, "18446744073709551616\n").unwrap(),
            Self::Fifo => mkfifo(path, Mode::S_IRWXU).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::LinkToItself => symlink(path.file_name().unwrap(), path).unwrap(),
            Self::LinkOutside => symlink("/proc/self/environ", path).unwrap(),
            Self::Half => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        }
    }
}

/// The files below `directory`, sorted; what they say about the tree itself is not among them.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => directories.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.retain(|file| !file.ends_with("answers.json"));
    files.sort();
    files
}

/// What is said of the host at `root`; `None` if it cannot be used as a whole. Everything that is printed is made, too.
fn diagnosis(root: &Path) -> Option<Diagnosis> {
    let began = Instant::now();
    let facts = collect(source::open(root).ok()?.as_ref());
    let everything = diagnose(&facts, Asked::Host);
    for function in facts.pci.functions().iter().take(3) {
        document("function", 1, &diagnose(&facts, Asked::Function(function))).unwrap();
    }
    document("facts", 1, &facts).unwrap();
    document("diagnosis", 1, &everything).unwrap();
    // Far more than it takes on a machine that has other things to do, and far less than for ever.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    Some(everything)
}

fn statuses(diagnosis: &Diagnosis) -> BTreeMap<&'static str, Status> {
    diagnosis.findings.iter().map(|finding| (finding.id, finding.outcome.status)).collect()
}

/// What happened to every file, and whether a check then fails that did not, or a verdict says no that did not.
#[test]
fn what_cannot_be_read_fails_no_check() {
    use Damage::{Directory, Fifo, Gone, Larger, LinkToItself, NotUtf8};
    for name in ["vtd-igb", "amdvi"] {
        let sound = diagnosis(Host::new(name).directory.path()).unwrap();
        for damage in [Gone, Larger, NotUtf8, Fifo, Directory, LinkToItself] {
            let host = Host::new(name);
            files(host.directory.path()).iter().for_each(|file| damage.happens_to(file));
            let damaged = diagnosis(host.directory.path()).unwrap();
            for (id, status) in statuses(&damaged) {
                let fails_anew = status == Status::Fail && statuses(&sound)[id] != Status::Fail;
                assert!(!fails_anew, "{name}, {damage:?}: {id}");
            }
            for (before, after) in [
                (&sound.verdicts.kvm, &damaged.verdicts.kvm),
                (&sound.verdicts.iommu, &damaged.verdicts.iommu),
            ] {
                let says_no = after.usable == Some(false) && before.usable != Some(false);
                assert!(!says_no, "{name}, {damage:?}: {after:?}");
            }
        }
    }
}

#[test]
fn every_damage_to_every_file_is_survived() {
    for name in ["vtd-igb", "amdvi", "many-kinds"] {
        for damage in DAMAGES {
            let host = Host::new(name);
            files(host.directory.path()).iter().for_each(|file| damage.happens_to(file));
            diagnosis(host.directory.path()).unwrap();
        }
    }
}

#[test]
fn a_machine_without_pci_has_no_functions_and_no_faults() {
    let host = Host::new("no-pci");
    assert_eq!(host.fact("/pci/devices"), serde_json::json!([]));
    let probe = host.ask(100, &["probe", "pci", "sriov"]);
    assert!(probe.stdout.contains("nothing of this kind here"), "{}", probe.stdout);
    let topology = host.ask(100, &["topology"]);
    assert_eq!((topology.code, topology.stderr.as_str()), (Some(0), ""));
    let doctor = diagnosis(host.directory.path()).unwrap();
    assert_eq!(statuses(&doctor)["sriov-offered"], Status::NotApplicable);
}

/// Damage to some files: which, and how. A number is a byte that changes.
#[derive(Debug, Clone)]
enum Change {
    Whole(Damage),
    Byte(Index, u8),
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let how = prop_oneof![
        select(&DAMAGES).prop_map(Change::Whole),
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Change::Byte(place, byte)),
    ];
    (any::<Index>(), how)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_is_survived(
        name in select(hosts::all().collect::<Vec<_>>()),
        changes in proptest::collection::vec(change(), 1..40),
    ) {
        let host = Host::new(name);
        // Its answers, too: CPUID, the recording.
        let mut files = files(host.directory.path());
        files.push(host.directory.path().join("answers.json"));
        for (which, change) in changes {
            let file = which.get(&files);
            match change {
                // Something else already; behind a link would be a file of this machine.
                _ if !file.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) => {}
                Change::Whole(damage) => damage.happens_to(file),
                Change::Byte(place, byte) => {
                    let mut bytes = fs::read(file).unwrap();
                    if !bytes.is_empty() {
                        let place = place.index(bytes.len());
                        bytes[place] = byte;
                        fs::write(file, bytes).unwrap();
                    }
                }
            }
        }
        diagnosis(host.directory.path());
    }
}
