//! Memory: huge pages, merging, swap, promises, and how much of it may be locked.

mod huge_pages;
mod locking;
mod pages;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Purpose, Question};
use crate::spec::units::ByteSize;

const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "memory-huge-pages",
        title: "huge pages are set apart for guests",
        purposes: SPEED,
        why: "With pages of 4 KiB the processor walks tables of the guest and of the host for every miss of its \
              translation cache. Huge pages make misses rare and walks short, and what is set apart for guests cannot \
              be taken by the host or go to swap.",
        refs: &["Linux: Documentation/admin-guide/mm/hugetlbpage.rst"],
        run: Question::Host(huge_pages::set_apart),
    },
    Check {
        id: "memory-huge-pages-nodes",
        title: "huge pages are on every node",
        purposes: SPEED,
        why: "A guest whose CPUs are on one node and whose pages are on another reaches its memory through the link \
              between them. The kernel takes pages where it finds them, without a word when a node has too few.",
        refs: &["Linux: Documentation/admin-guide/mm/hugetlbpage.rst, per node attributes"],
        run: Question::Host(huge_pages::on_every_node),
    },
    Check {
        id: "memory-huge-pages-free",
        title: "huge pages are left for another guest",
        purposes: SPEED,
        why: "Pages that are set apart and in use, or promised, are not there for the next guest: it does not start, or \
              gets small pages.",
        refs: &["Linux: Documentation/admin-guide/mm/hugetlbpage.rst, resv_hugepages"],
        run: Question::Host(huge_pages::left),
    },
    Check {
        id: "memory-gibibyte-pages",
        title: "pages of 1 GiB can be used",
        purposes: SPEED,
        why: "Pages of 1 GiB make a guest's translation shortest, and the IOMMU's tables for its devices smallest. The \
              processor must have them and the kernel must offer them.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, gbpages, hugepagesz"],
        run: Question::Host(huge_pages::gibibyte),
    },
    Check {
        id: "memory-transparent-huge-pages",
        title: "guests without huge pages of their own get some",
        purposes: SPEED,
        why: "Transparent huge pages back guests that ask for none. Off, those guests run on pages of 4 KiB; with \
              `defrag` always on, a guest that touches memory waits while the kernel moves pages about.",
        refs: &["Linux: Documentation/admin-guide/mm/transhuge.rst"],
        run: Question::Host(pages::transparent),
    },
    Check {
        id: "memory-merging",
        title: "equal pages of guests stay apart",
        purposes: &[Purpose::Performance, Purpose::Kvm],
        why: "KSM keeps equal pages once. It costs a CPU, breaks huge pages up, and lets a guest measure whether \
              another one holds a page: writing to a merged page is slower. Memory of a guest with a device is pinned, \
              and gains nothing.",
        refs: &["Linux: Documentation/admin-guide/mm/ksm.rst"],
        run: Question::Host(pages::merging),
    },
    Check {
        id: "memory-swap",
        title: "the host does not live on swap",
        purposes: SPEED,
        why: "A guest whose memory was swapped out waits for a disk in the middle of an instruction. Memory of guests \
              with devices cannot be swapped, so the rest of the host must give way.",
        refs: &["Linux: Documentation/filesystems/proc.rst, MemAvailable"],
        run: Question::Host(pages::swap),
    },
    Check {
        id: "memory-overcommit",
        title: "memory is promised with care",
        purposes: &[Purpose::Kvm],
        why: "A kernel that refuses nothing kills a guest later, when the memory is not there. A kernel that promises no \
              more than it has refuses a guest whose memory it counts twice.",
        refs: &["Linux: Documentation/mm/overcommit-accounting.rst"],
        run: Question::Host(pages::overcommit),
    },
    Check {
        id: "memory-lock-limit",
        title: "this user may lock a guest's memory",
        purposes: &[Purpose::Vfio],
        why: "A device writes to memory at any time, so VFIO locks all memory of a guest that has one. Without the \
              capability CAP_IPC_LOCK the limit RLIMIT_MEMLOCK holds, and beyond it mapping fails with ENOMEM.",
        refs: &["Linux: drivers/vfio/vfio_iommu_type1.c, vfio_lock_acct", "setrlimit(2), RLIMIT_MEMLOCK"],
        run: Question::Host(locking::limit),
    },
    Check {
        id: "memory-function-huge-pages",
        title: "huge pages are free on the function's node",
        purposes: SPEED,
        why: "A guest is fastest on the node of its device. When the huge pages of that node are gone, its memory comes \
              from another one, and every transfer of the device crosses the link.",
        refs: &["Linux: Documentation/admin-guide/mm/hugetlbpage.rst, per node attributes"],
        run: Question::Function(huge_pages::on_node_of),
    },
];

/// Bytes as evidence: exact.
fn bytes(bytes: u64) -> String {
    ByteSize::from_bytes(bytes).to_string()
}
