//! What the kernel does with pages behind a guest's back.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::memory::{KSM, MEMINFO, Memory, SwapKind, THP};

/// `memory-transparent-huge-pages`
pub(super) fn transparent(facts: &HostFacts) -> Outcome {
    let pages = &facts.memory.transparent_huge_pages;
    let place = format!("{THP}/enabled");
    let enabled = match &pages.enabled {
        Fact::Known(enabled) => enabled.as_str(),
        Fact::NotPresent => return Outcome::not_applicable("this kernel makes no huge pages by itself"),
        unread => return Outcome::unread(unread, "for which memory the kernel makes huge pages"),
    };
    match (enabled, &pages.defrag) {
        ("never", _) if facts.memory.huge_pages.reserved_bytes().known().is_some_and(|bytes| *bytes > 0) => {
            Outcome::pass("the kernel makes no huge pages by itself; some are set apart")
                .evidence(place, enabled)
        }
        ("never", _) => Outcome::warn("guests run on pages of 4 KiB: the kernel makes no huge ones")
            .evidence(place, enabled)
            .cause("`transparent_hugepage=never`, a setting of the distribution, or advice for a database")
            .remedy(choose("enabled"))
            .remedy(Remedy::kernel_argument(facts, "transparent_hugepage=madvise")),
        ("always", Fact::Known(defrag)) if defrag == "always" => {
            Outcome::warn("whoever touches memory may wait while the kernel moves pages about")
                .evidence(place, enabled)
                .evidence(format!("{THP}/defrag"), defrag)
                .cause("huge pages are made for all memory, at once and at any price")
                .remedy(choose("defrag"))
        }
        ("always", unread @ (Fact::Denied { .. } | Fact::Unreadable { .. })) => {
            Outcome::unread(unread, "how hard the kernel tries to make huge pages")
        }
        _ => {
            Outcome::pass("the kernel makes huge pages for guests that ask for them").evidence(place, enabled)
        }
    }
}

/// Bytes as they stand in `/proc/meminfo`.
fn kib(bytes: u64) -> String {
    format!("{} kB", bytes >> 10)
}

fn choose(file: &str) -> Remedy {
    Remedy::command(
        format!("echo madvise | sudo tee {THP}/{file}"),
        "until the next boot, for memory that asks for it, as that of QEMU's guests does",
    )
}

/// `memory-merging`
pub(super) fn merging(facts: &HostFacts) -> Outcome {
    let place = format!("{KSM}/run");
    let merging = &facts.memory.merging;
    match &merging.run {
        Fact::Known(1) => {
            let mut warn = Outcome::warn("the kernel merges equal pages of guests").evidence(&place, 1);
            if let Some(pages) = merging.pages_sharing.known() {
                warn = warn.evidence(format!("{KSM}/pages_sharing"), pages);
            }
            warn.cause("KSM runs: ksmtuned, Proxmox or somebody's script started it").remedy(Remedy::command(
                format!("echo 2 | sudo tee {place}"),
                "undoes what was merged, which takes the memory back; stop who starts it, too: \
                 `sudo systemctl disable --now ksmtuned`",
            ))
        }
        Fact::Known(run) => Outcome::pass("the kernel merges no pages").evidence(place, run),
        Fact::NotPresent => Outcome::not_applicable("this kernel cannot merge pages"),
        unread => Outcome::unread(unread, "whether the kernel merges pages"),
    }
}

/// `memory-swap`: a twentieth of memory in swap, or less than a tenth of it left, is little room for guests.
pub(super) fn swap(facts: &HostFacts) -> Outcome {
    let memory = &facts.memory;
    let (total, available) = match (&memory.total_bytes, &memory.available_bytes) {
        (Fact::Known(total), Fact::Known(available)) => (*total, *available),
        (Fact::Known(_), unread) | (unread, _) => {
            return Outcome::unread(unread, "how much memory is left");
        }
    };
    let (swap, free) = match (&memory.swap.total_bytes, &memory.swap.free_bytes) {
        (Fact::Known(total), Fact::Known(free)) => (*total, *free),
        (Fact::Known(_), unread) | (unread, _) => return Outcome::unread(unread, "how much of swap is used"),
    };
    let used = swap.saturating_sub(free);
    let evidence = |outcome: Outcome| {
        outcome
            .evidence(MEMINFO, format!("MemTotal {}, MemAvailable {}", kib(total), kib(available)))
            .evidence(MEMINFO, format!("SwapTotal {}, SwapFree {}", kib(swap), kib(free)))
    };
    if used > total / 20 {
        return evidence(Outcome::warn("a part of the host's memory is in swap"))
            .cause(if is_compressed(memory) {
                "memory ran short; what is in compressed memory (zram) still takes room there"
            } else {
                "memory ran short: guests, huge pages and programs want more than there is"
            })
            .remedy(Remedy::command(
                "grep VmSwap /proc/[0-9]*/status | sort -k2 -n | tail",
                "names who is in swap; give guests less memory, or set fewer huge pages apart",
            ));
    }
    if available < total / 10 {
        return evidence(Outcome::warn("less than a tenth of memory is left"))
            .cause("guests, huge pages and programs hold the rest")
            .remedy(Remedy::command(
                "ps -eo rss,pid,comm --sort=-rss | head",
                "names who holds most, in KiB; give guests less memory, or set fewer huge pages apart",
            ));
    }
    evidence(Outcome::pass("memory is left, and little of it is in swap"))
}

fn is_compressed(memory: &Memory) -> bool {
    let areas = memory.swap.areas.known().filter(|areas| !areas.is_empty());
    areas.is_some_and(|areas| areas.iter().all(|area| area.kind == SwapKind::CompressedMemory))
}

/// `memory-overcommit`
pub(super) fn overcommit(facts: &HostFacts) -> Outcome {
    const PLACE: &str = "/proc/sys/vm/overcommit_memory";
    let overcommit = &facts.memory.overcommit;
    let remedy = || {
        Remedy::command(
            "sudo sysctl vm.overcommit_memory=0",
            "until the next boot; to keep it, put `vm.overcommit_memory = 0` into /etc/sysctl.d",
        )
    };
    match &overcommit.mode {
        Fact::Known(0) => {
            Outcome::pass("what is obviously too much is refused, the rest is promised").evidence(PLACE, 0)
        }
        Fact::Known(1) => Outcome::warn("the kernel promises any amount of memory")
            .evidence(PLACE, 1)
            .cause("vm.overcommit_memory is 1, as guides for Redis ask: a guest that is too large starts, and is killed later")
            .remedy(remedy()),
        Fact::Known(2) => {
            let (limit, committed) = match (&overcommit.limit_bytes, &overcommit.committed_bytes) {
                (Fact::Known(limit), Fact::Known(committed)) => (*limit, *committed),
                (Fact::Known(_), unread) | (unread, _) => {
                    return Outcome::unread(unread, "how much memory is promised");
                }
            };
            let left = limit.saturating_sub(committed);
            let told = format!("CommitLimit {}, Committed_AS {}", kib(limit), kib(committed));
            if left < limit / 4 {
                Outcome::warn("the kernel will promise little more memory")
                    .evidence(PLACE, 2)
                    .evidence(MEMINFO, told)
                    .cause("vm.overcommit_memory is 2: a guest that asks for more than what is left does not start")
                    .remedy(remedy())
            } else {
                Outcome::pass("the kernel promises no more than it has, and much is left")
                    .evidence(PLACE, 2)
                    .evidence(MEMINFO, told)
            }
        }
        Fact::Known(mode) => Outcome::unknown(format!("the kernel promises memory in mode {mode}, which is not known"))
            .evidence(PLACE, mode),
        unread => Outcome::unread(unread, "how the kernel promises memory"),
    }
}
