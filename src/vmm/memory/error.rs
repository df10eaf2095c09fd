//! Why guest RAM could not be made: what is missing, how much of it, and the way out.

use std::io;
use std::path::PathBuf;

use vm_memory::mmap::MmapRegionError;

use super::host::FreePages;
use crate::spec::units::ByteSize;

/// Why guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel gave no memory file of this size.
    #[error("cannot make a memory file of {size_bytes} bytes for guest RAM")]
    File {
        /// Size asked for.
        size_bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The memory file could not be mapped.
    #[error("cannot map {size_bytes} bytes of guest RAM")]
    Map {
        /// Size asked for.
        size_bytes: u64,
        /// What went wrong.
        #[source]
        source: MmapRegionError,
    },
    /// The file that was named cannot be made.
    #[error("cannot make {} for guest RAM", path.display())]
    NamedFile {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file that was named has something in it.
    #[error(
        "{} is there already and is not an empty file; guest RAM would overwrite it: name another one, or remove it",
        path.display()
    )]
    FileInUse {
        /// Its path.
        path: PathBuf,
    },
    /// The file that was named lies where pages are larger.
    #[error("{} lies in a hugetlbfs with pages of {page}, and guest RAM of {size} is not a multiple of that", path.display())]
    FileGrain {
        /// Its path.
        path: PathBuf,
        /// Bytes of a page there.
        page: ByteSize,
        /// Guest RAM.
        size: ByteSize,
    },
    /// The file system of the file that was named is too full.
    #[error("{} is on a file system with {available} free, and guest RAM needs {needed} of it", path.display())]
    FileRoom {
        /// Its path.
        path: PathBuf,
        /// Guest RAM.
        needed: ByteSize,
        /// What is free.
        available: ByteSize,
    },
    /// No huge pages of this size.
    #[error("this host has no huge pages of {page}; use another size, or leave `hugepages` out")]
    NoHugePages {
        /// Bytes of a page.
        page: ByteSize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More than the processor can address.
    #[error(
        "guest RAM ends at {end:#x}, and this host's processor has {physical_bits} address bits; ask for less"
    )]
    TooHigh {
        /// First guest-physical address above all RAM.
        end: u64,
        /// Address bits.
        physical_bits: u8,
    },
    /// Not enough huge pages.
    #[error(
        "guest RAM needs {needed} huge pages of {}, and {}; reserve more with `host.hugepages` in the profile and \
         `thruway apply`, or with `sysctl vm.nr_hugepages`",
        match node {
            Some(node) => format!("{} on node {node} of the host", free.page()),
            None => free.page().to_string(),
        },
        match node {
            Some(node) => format!("{} are free there", free.on(*node).unwrap_or(0)),
            None => free.to_string(),
        }
    )]
    HugePages {
        /// Pages needed.
        needed: u64,
        /// Where, if that matters.
        node: Option<u32>,
        /// What there is.
        free: FreePages,
    },
    /// Huge pages ran out while they were taken.
    #[error(
        "this host ran out of huge pages: {taken} of {needed} were taken, and {free} now; another program took some \
         meanwhile, or they are on other nodes: reserve more with `host.hugepages` in the profile and `thruway apply`"
    )]
    HugePagesGone {
        /// Pages taken.
        taken: u64,
        /// Pages needed.
        needed: u64,
        /// What there is now.
        free: FreePages,
    },
    /// The host has not enough memory.
    #[error(
        "guest RAM of {needed} does not fit: this host, or the control group of this process, has {available} available; \
         ask for less, or leave `prefault` and `lock` out"
    )]
    HostMemory {
        /// Guest RAM.
        needed: ByteSize,
        /// What there is.
        available: ByteSize,
    },
    /// The host's memory ran out while it was taken.
    #[error(
        "this host ran out of memory when {taken} of {needed} of guest RAM were taken; ask for less, or leave `prefault` \
         and `lock` out"
    )]
    HostMemoryGone {
        /// What was taken.
        taken: ByteSize,
        /// Guest RAM.
        needed: ByteSize,
    },
    /// It could not be taken for another reason.
    #[error("cannot take guest RAM from the host")]
    Prefault(#[source] io::Error),
    /// The limit on locked memory is too low.
    #[error(
        "`lock` needs {needed} of locked memory, but this process may lock only {limit}; raise the limit on locked memory \
         (`host.memlock` in the profile, ulimit -l, or LimitMEMLOCK= of the service), or run as root"
    )]
    Lock {
        /// Guest RAM.
        needed: ByteSize,
        /// RLIMIT_MEMLOCK.
        limit: ByteSize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot merge pages.
    #[error("this host's kernel has no KSM; leave `ksm` out")]
    Ksm(#[source] io::Error),
    /// No such node of the host.
    #[error(
        "this host has no NUMA node {node} with memory that this process may use; `thruway probe memory` lists its nodes"
    )]
    Node {
        /// The node.
        node: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody ended it.
    #[error("interrupted while guest RAM was taken from the host")]
    Interrupted,
}
