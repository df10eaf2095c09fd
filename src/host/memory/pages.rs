//! What the kernel does with pages behind a guest's back: it makes them huge, keeps equal ones once, writes them to
//! swap, and promises more than there are.
//!
//! Linux: Documentation/admin-guide/mm/{transhuge,ksm}.rst; Documentation/admin-guide/sysctl/vm.rst; proc_swaps(5).

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::memory::MEMINFO;
use crate::host::parse;
use crate::host::source::Source;

/// Where the kernel shows the huge pages that it makes by itself.
pub const THP: &str = "/sys/kernel/mm/transparent_hugepage";
/// Where the kernel shows pages that it keeps once.
pub const KSM: &str = "/sys/kernel/mm/ksm";
const VM: &str = "/proc/sys/vm";
const SWAPS: &str = "/proc/swaps";

/// Huge pages that the kernel makes by itself; absent where it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransparentHugePages {
    /// For which memory: `always`, `madvise`, `never`.
    pub enabled: Fact<String>,
    /// How hard it tries: `always`, `defer`, `defer+madvise`, `madvise`, `never`.
    pub defrag: Fact<String>,
    /// For which shared memory: `always`, `within_size`, `advise`, `never`, `deny`, `force`.
    pub shared_memory: Fact<String>,
}

/// Pages of equal content that the kernel keeps once (KSM); absent where it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merging {
    /// What it does: 0 stands still, 1 looks for pages, 2 undoes what it did.
    pub run: Fact<u32>,
    /// Pages that are kept for several others.
    pub pages_shared: Fact<u64>,
    /// How many others.
    pub pages_sharing: Fact<u64>,
    /// Whether pages of different nodes may become one.
    pub merge_across_nodes: Fact<bool>,
}

/// Swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Swap {
    /// All of it.
    pub total_bytes: Fact<u64>,
    /// What of it is free.
    pub free_bytes: Fact<u64>,
    /// How much rather the kernel swaps than drops files from its cache, 0 to 200.
    pub swappiness: Fact<u32>,
    /// What it consists of.
    pub areas: Fact<Vec<SwapArea>>,
}

/// A part of swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwapArea {
    /// The file or device.
    pub name: String,
    /// What it is.
    pub kind: SwapKind,
    /// Its size.
    pub size_bytes: u64,
}

/// Kinds of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapKind {
    /// A block device.
    Device,
    /// A file.
    File,
    /// Memory itself, compressed (zram).
    CompressedMemory,
}

/// How much more is promised than there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overcommit {
    /// 0 refuses what is obviously too much, 1 refuses nothing, 2 promises no more than the limit.
    pub mode: Fact<u32>,
    /// The limit, which holds in mode 2.
    pub limit_bytes: Fact<u64>,
    /// What is promised.
    pub committed_bytes: Fact<u64>,
}

/// The word in brackets: `always [madvise] never`.
fn chosen(source: &dyn Source, path: &str) -> Fact<String> {
    source.text(path).parse(path, |text| {
        let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        word.map(|(word, _)| word.to_owned())
            .ok_or_else(|| format!("`{}` marks no choice", parse::excerpt(&text)))
    })
}

pub(super) fn transparent(source: &dyn Source) -> TransparentHugePages {
    let choice = |name: &str| chosen(source, &format!("{THP}/{name}"));
    TransparentHugePages {
        enabled: choice("enabled"),
        defrag: choice("defrag"),
        shared_memory: choice("shmem_enabled"),
    }
}

pub(super) fn merging(source: &dyn Source) -> Merging {
    let path = |name: &str| format!("{KSM}/{name}");
    Merging {
        run: parse::number(source, &path("run"), 10),
        pages_shared: parse::number(source, &path("pages_shared"), 10),
        pages_sharing: parse::number(source, &path("pages_sharing"), 10),
        merge_across_nodes: parse::flag(source, &path("merge_across_nodes")),
    }
}

pub(super) fn overcommit(source: &dyn Source, meminfo: &Fact<String>) -> Overcommit {
    let path = format!("{VM}/overcommit_memory");
    Overcommit {
        mode: parse::required(parse::number(source, &path, 10), &path),
        limit_bytes: parse::kibibytes(meminfo, MEMINFO, "CommitLimit"),
        committed_bytes: parse::kibibytes(meminfo, MEMINFO, "Committed_AS"),
    }
}

pub(super) fn swap(source: &dyn Source, meminfo: &Fact<String>) -> Swap {
    let bytes = |key| parse::kibibytes(meminfo, MEMINFO, key);
    Swap {
        total_bytes: bytes("SwapTotal"),
        free_bytes: bytes("SwapFree"),
        swappiness: parse::number(source, &format!("{VM}/swappiness"), 10),
        areas: source.text(SWAPS).map(|text| text.lines().skip(1).filter_map(area).collect()),
    }
}

/// `Filename Type Size Used Priority`, sizes in KiB. Blanks in names are escaped.
fn area(line: &str) -> Option<SwapArea> {
    let mut words = line.split_ascii_whitespace();
    let (name, kind, size) = (words.next()?, words.next()?, words.next()?);
    Some(SwapArea {
        kind: match kind {
            _ if name.starts_with("/dev/zram") => SwapKind::CompressedMemory,
            "file" => SwapKind::File,
            _ => SwapKind::Device,
        },
        size_bytes: size.parse::<u64>().ok()?.checked_mul(1024)?,
        name: name.to_owned(),
    })
}
