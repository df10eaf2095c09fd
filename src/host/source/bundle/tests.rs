//! A capture answers as the host did, and no file can make it do anything else.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::host::source::fake::{Entry, FakeHost};
use crate::host::source::recording::Recording;
use crate::host::source::{Recorder, TreeSource};

/// What is asked of a source, whatever becomes of it.
fn everything(source: &dyn Source, paths: &[&str]) -> String {
    let mut said = String::new();
    for path in paths {
        let (read, small) = (source.read(path), source.read_limited(path, 4));
        said += &format!("{path}: {read:?} {small:?} {:?} {:?}\n", source.list(path), source.link(path));
    }
    said + &format!("{:?} {:?} {:?}", source.cpuid(1, 0), source.msr(0, 0x3A), source.kvm())
}

const PATHS: [&str; 16] = [
    "/sys",
    "/sys/class",
    "/sys/class/net",
    "/sys/class/net/eth0",
    "/sys/class/net/eth0/device",
    "/sys/class/net/eth0/device/vendor",
    "/sys/class/net/eth0/operstate",
    "/sys/class/none",
    "/sys/class/none/below",
    "/sys/empty",
    "/sys/binary",
    "/sys/loop",
    "/sys/loop/below",
    "/sys/dangling",
    "/sys/dangling/below",
    "/sys/class/.././binary",
];

fn host() -> FakeHost {
    let host = FakeHost::new(&[
        ("/sys/devices/0000:01:00.0/vendor", Entry::Text("0x8086")),
        ("/sys/devices/0000:01:00.0/net/eth0/operstate", Entry::Text("up")),
        ("/sys/devices/0000:01:00.0/net/eth0/device", Entry::Link("../..")),
        ("/sys/class/net/eth0", Entry::Link("../../devices/0000:01:00.0/net/eth0")),
        ("/sys/binary", Entry::Bytes(&[0, 0xFF, 0x0A, 0])),
        ("/sys/empty", Entry::Bytes(b"")),
        ("/sys/loop", Entry::Link("loop")),
        ("/sys/dangling", Entry::Link("socket:[17]//x/")),
    ]);
    host.answer_cpuid(&[(1, [1, 2, 3, 4])]);
    host
}

fn recorded(source: &dyn Source) -> Bundle {
    let recorder = Recorder::new(source);
    everything(&recorder, &PATHS);
    recorder.into_bundle()
}

fn packed(bundle: &Bundle) -> Vec<u8> {
    let mut bytes = Vec::new();
    bundle.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_replay_answers_as_the_host_did_from_memory_file_and_directory() {
    for source in [&host().source() as &dyn Source, &host().source_without(&["/class/net", "eth0"])] {
        let live = everything(source, &PATHS);
        let bundle = recorded(source);
        assert_eq!(everything(&bundle, &PATHS), live);

        let bytes = packed(&bundle);
        let read = Bundle::read(bytes.as_slice()).unwrap();
        assert_eq!(read, bundle);

        let directory = tempfile::tempdir().unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice())).unpack(directory.path()).unwrap();
        assert_eq!(everything(&TreeSource::open(directory.path()).unwrap(), &PATHS), live);
    }
}

#[test]
fn recording_asks_the_host_once() {
    let host = host();
    let source = host.source();
    let recorder = Recorder::new(&source);
    let before = recorder.text("/sys/class/net/eth0/operstate");
    host.add(&[("/sys/devices/0000:01:00.0/net/eth0/operstate", Entry::Text("down"))]);
    assert_eq!(recorder.text("/sys/class/net/eth0/operstate"), before);
    assert_eq!(recorder.into_bundle().text("/sys/class/net/eth0/operstate"), before);
}

#[test]
fn what_nobody_asked_for_is_unknown_and_not_absent() {
    let host = host();
    let source = host.source();
    let recorder = Recorder::new(&source);
    assert!(recorder.list("/sys").known().is_some());
    let bundle = recorder.into_bundle();
    assert!(bundle.read("/sys/binary").is_unread());
    assert!(bundle.link("/sys/loop").is_unread());
    assert!(bundle.list("/proc").is_unread());
    assert_eq!(bundle.read("/sys/none"), Fact::NotPresent);
}

#[test]
fn long_paths_and_targets_survive() {
    let mut bundle = Bundle::default();
    bundle.answers.recording = Some(Recording::default());
    let long = "/directory".repeat(30);
    bundle.files.insert(long.clone(), b"x".to_vec());
    bundle.links.insert(format!("{long}-link"), format!("..{long}//"));
    assert_eq!(Bundle::read(packed(&bundle).as_slice()).unwrap(), bundle);
}

/// An archive with the answers of an empty capture and what `add` puts behind them.
fn archive(add: impl FnOnce(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let empty = Answers { recording: Some(Recording::default()), ..Answers::default() };
    let answers = serde_json::to_vec(&empty).unwrap();
    append(&mut builder, EntryType::Regular, "answers.json", &answers);
    add(&mut builder);
    builder.into_inner().unwrap().finish().unwrap()
}

/// Adds an entry under whatever name, which the archiver itself would refuse.
fn append<W: Write>(builder: &mut Builder<W>, kind: EntryType, path: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn refusal(bytes: &[u8]) -> String {
    Bundle::read(bytes).unwrap_err()
}

#[test]
fn names_that_lead_out_and_names_that_come_twice_are_refused() {
    for name in ["/etc/passwd", "../etc/passwd", "sys/../../etc/passwd"] {
        let said = refusal(&archive(|builder| append(builder, EntryType::Regular, name, b"x")));
        assert_eq!(said, format!("`{name}` leads out of it"));
    }
    for (first, second) in [("sys/x", "sys/x"), ("sys/x", "./sys//x"), ("sys/x", "answers.json")] {
        let said = refusal(&archive(|builder| {
            append(builder, EntryType::Regular, first, b"x");
            append(builder, EntryType::Regular, second, b"x");
        }));
        assert!(said.ends_with("is in it twice"), "{said}");
    }
}

#[test]
fn devices_pipes_hard_links_and_sparse_files_are_refused() {
    use EntryType as T;
    for kind in [T::Char, T::Block, T::Fifo, T::Link, T::GNUSparse, T::Continuous, T::new(b'Z')] {
        let said = refusal(&archive(|builder| append(builder, kind, "sys/x", b"")));
        assert!(said.contains("`sys/x`") || said.contains("`/sys/x`") || kind == T::GNUSparse, "{said}");
    }
}

#[test]
fn links_lead_to_places_in_the_bundle_and_never_out_of_it() {
    let bytes = archive(|builder| {
        append(builder, EntryType::Regular, "etc/hostname", b"inside");
        for (name, target) in
            [("absolute", "/etc/hostname"), ("climbing", "../../../etc/hostname"), ("out", "/etc/passwd")]
        {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
    });
    let bundle = Bundle::read(bytes.as_slice()).unwrap();
    assert_eq!(bundle.text("/absolute"), Fact::Known("inside".to_owned()));
    assert_eq!(bundle.text("/climbing"), Fact::Known("inside".to_owned()));
    assert!(bundle.text("/out").is_unread());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = packed(&recorded(&host().source()));
    for length in 0..bytes.len() {
        let said = refusal(&bytes[..length]);
        assert!(!said.is_empty());
    }
    let said = refusal(&bytes[..bytes.len() - 1]);
    assert_eq!(said, "it is truncated");
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let bytes = archive(|builder| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(archive::LIMIT_BYTES + 1);
        let zeros = std::io::repeat(0);
        builder
            .append_data(&mut header, "sys/bomb", std::io::Read::take(zeros, archive::LIMIT_BYTES + 1))
            .unwrap();
    });
    assert_eq!(refusal(&bytes), "it unpacks to more than 256 MiB");
}

#[test]
fn a_size_that_is_a_lie_takes_no_memory() {
    let mut header = Header::new_gnu();
    header.set_path("sys/x").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    let said = refusal(&gzip.finish().unwrap());
    assert!(!said.is_empty());
}

#[test]
fn another_version_and_what_is_no_capture_are_named() {
    let with = |answers: &str| {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        append(&mut builder, EntryType::Regular, "answers.json", answers.as_bytes());
        refusal(&builder.into_inner().unwrap().finish().unwrap())
    };
    let said = with(r#"{"schema": "thruway.answers", "schema_version": 9, "new": 1}"#);
    assert!(
        said.contains("`thruway.answers` version 9; this version reads `thruway.answers` version 1"),
        "{said}"
    );
    assert!(with(r#"{"schema": "thruway.answers", "schema_version": 1}"#).contains("holds no recording"));
    assert!(with("[").starts_with("answers.json: "));
    assert!(refusal(b"plain text, and no archive").contains("gzip"));
    let mut empty = GzEncoder::new(Vec::new(), Compression::fast());
    empty.write_all(&[0; 1024]).unwrap();
    assert_eq!(refusal(&empty.finish().unwrap()), "it holds no answers.json");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        drop(Bundle::read(bytes.as_slice()));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&bytes).unwrap();
        drop(Bundle::read(gzip.finish().unwrap().as_slice()));
    }

    /// What passes the checksum of neither gzip nor tar goes no further; so the change is made below both.
    #[test]
    fn no_changed_header_makes_it_panic(at in 0_usize..4096, byte: u8) {
        let mut tar = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::GzDecoder::new(packed(&recorded(&host().source())).as_slice()),
            &mut tar,
        )
        .unwrap();
        if let Some(place) = tar.get_mut(at) {
            *place = byte;
        }
        for block in tar.chunks_exact_mut(512).filter(|block| block.get(257..262) == Some(b"ustar")) {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        if let Ok(bundle) = Bundle::read(gzip.finish().unwrap().as_slice()) {
            everything(&bundle, &PATHS);
        }
    }
}
