//! The hosts of `tests/hosts`, unfolded into directories.
//!
//! Most are captures (`NAME.tar.gz`, made by `lab::captures`). Those that no emulated host can show are written by hand: a
//! text file (`NAME.tree`), one entry a line: `PATH = TEXT`, `PATH -> TARGET`, `PATH/` (a directory), `PATH :` with its
//! lines below behind `| `, and `PATH [SIZE] OFFSET:HEX ..` for bytes, zero where nothing is said.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::{Run, program, root, run};
use thruway::host::source::TreeSource;

/// Hosts that were captured.
pub(crate) const CAPTURED: [&str; 13] = [
    "amdvi",
    "many-kinds",
    "no-iommu",
    "shared-group",
    "software-kvm",
    "svm-off",
    "virtio",
    "vtd-igb",
    "vtd-no-dma-translation",
    "vtd-no-interrupt-remapping",
    "vtd-nvme",
    "vtd-off-in-kernel",
    "vtd-reserved-memory",
];

/// Hosts that were written by hand.
pub(crate) const WRITTEN: [&str; 4] = ["container", "intel-off", "malformed", "no-pci"];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    CAPTURED.into_iter().chain(WRITTEN)
}

/// A host of `tests/hosts`, unfolded into a directory.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) directory: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new(name: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if CAPTURED.contains(&name) {
            let file = fs::File::open(root().join(format!("tests/hosts/{name}.tar.gz"))).unwrap();
            tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(directory.path()).unwrap();
            return Self { name, directory };
        }
        let text = fs::read_to_string(root().join(format!("tests/hosts/{name}.tree"))).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with('#') {
                continue;
            }
            let mut block = Vec::new();
            while let Some(line) = lines.next_if(|next| next.starts_with('|')) {
                block.push(line.get(2..).unwrap_or_default());
            }
            unfold(directory.path(), line, &block);
        }
        Self { name, directory }
    }

    /// Runs the program with `arguments` and this host as `--root`, for a terminal of `width` columns.
    pub(crate) fn ask(&self, width: u16, arguments: &[&str]) -> Run {
        let columns = width.to_string();
        run(program().env("COLUMNS", columns).args(arguments).arg("--root").arg(self.directory.path()), b"")
    }

    pub(crate) fn probe(&self, width: u16, format: &str) -> Run {
        let run = self.ask(width, &["probe", "--format", format]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{}", self.name);
        run
    }

    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.probe(100, "json").stdout).unwrap()
    }

    /// The value at `pointer` below `data`.
    pub(crate) fn fact(&self, pointer: &str) -> Value {
        self.document().pointer(&format!("/data{pointer}")).unwrap_or_else(|| panic!("no {pointer}")).clone()
    }
}

fn unfold(root: &Path, line: &str, block: &[&str]) {
    let (path, rest) = line.split_once(' ').unwrap_or((line, ""));
    let place = root.join(path.trim_start_matches('/').trim_end_matches('/'));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    let (kind, content) = rest.split_once(' ').unwrap_or((rest, ""));
    match kind {
        "" => fs::create_dir_all(place).unwrap(),
        "=" => fs::write(place, format!("{content}\n")).unwrap(),
        ":" => fs::write(place, block.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap(),
        "->" => symlink(content, place).unwrap(),
        size => fs::write(place, bytes(size, content)).unwrap(),
    }
}

fn bytes(size: &str, content: &str) -> Vec<u8> {
    let mut bytes = vec![0; size.trim_matches(['[', ']']).parse().unwrap()];
    for run in content.split_whitespace() {
        let (offset, hex) = run.split_once(':').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for (index, digits) in hex.as_bytes().chunks(2).enumerate() {
            let digits = std::str::from_utf8(digits).unwrap();
            bytes[offset + index] = u8::from_str_radix(digits, 16).unwrap();
        }
    }
    bytes
}

#[test]
fn what_uses_a_function_is_told_alone_as_among_all() {
    for host in CAPTURED.map(Host::new) {
        let source = TreeSource::open(host.directory.path()).unwrap();
        for device in thruway::host::collect(&source).pci.functions() {
            let alone = thruway::host::function(&source, device.address).unwrap();
            assert_eq!(alone.usage, device.usage, "{} of {}", device.address, host.name);
            assert_eq!(alone.driver, device.driver, "{} of {}", device.address, host.name);
        }
        assert!(thruway::host::function(&source, "0000:7f:1f.7".parse().unwrap()).is_none(), "{}", host.name);
    }
}
