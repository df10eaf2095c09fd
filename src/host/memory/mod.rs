//! Memory: how much there is, huge pages, what the kernel does with pages behind a guest's back, and how much of it
//! this user may lock.

mod huge_pages;
mod locking;
mod pages;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

pub use huge_pages::{DIRECTORY as HUGE_PAGES, HugePages, NodePool, Pool, node_directory, pool_directory};
pub use locking::{LIMITS, Limit, LockLimit};
pub use pages::{KSM, Merging, Overcommit, Swap, SwapArea, SwapKind, THP, TransparentHugePages};

/// Where the kernel tells how much memory there is.
pub const MEMINFO: &str = "/proc/meminfo";

/// Memory of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// All of it that the kernel uses.
    pub total_bytes: Fact<u64>,
    /// What programs can still be given without swapping (Linux: Documentation/filesystems/proc.rst, `MemAvailable`).
    pub available_bytes: Fact<u64>,
    /// Swap.
    pub swap: Swap,
    /// Huge pages that were set apart.
    pub huge_pages: HugePages,
    /// Huge pages that the kernel makes by itself.
    pub transparent_huge_pages: TransparentHugePages,
    /// Pages of equal content that the kernel keeps once (KSM).
    pub merging: Merging,
    /// How much more is promised than there is.
    pub overcommit: Overcommit,
    /// How much this user may lock, which memory of a guest with a device is.
    pub memlock: LockLimit,
}

/// Reads a host's memory.
pub(super) fn collect(source: &dyn Source) -> Memory {
    let meminfo = parse::required(source.text(MEMINFO), MEMINFO);
    let bytes = |key| parse::kibibytes(&meminfo, MEMINFO, key);
    Memory {
        total_bytes: parse::required(bytes("MemTotal"), MEMINFO),
        available_bytes: bytes("MemAvailable"),
        swap: pages::swap(source, &meminfo),
        huge_pages: huge_pages::collect(source, &meminfo),
        transparent_huge_pages: pages::transparent(source),
        merging: pages::merging(source),
        overcommit: pages::overcommit(source, &meminfo),
        memlock: locking::collect(source),
    }
}
