//! Memory as files show it, and where they are missing, denied or nonsense.

use super::*;
use crate::host::source::fake::{Entry, FakeHost};
use crate::host::topology::NODES;

const MIB: u64 = 1 << 20;

fn memory(entries: &[(&str, Entry<'_>)]) -> Memory {
    collect(&FakeHost::new(entries).source())
}

#[test]
fn sizes_of_meminfo_are_bytes() {
    let text = "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\nSwapTotal: 1024 kB\nSwapFree: 0 kB\n\
                CommitLimit: 2048 kB\nCommitted_AS: many";
    let memory = memory(&[(MEMINFO, Entry::Text(text))]);
    assert_eq!(
        (&memory.total_bytes, &memory.available_bytes),
        (&Fact::Known(16 << 30), &Fact::Known(8 << 30))
    );
    assert_eq!((&memory.swap.total_bytes, &memory.swap.free_bytes), (&Fact::Known(MIB), &Fact::Known(0)));
    assert_eq!(memory.overcommit.limit_bytes, Fact::Known(2 * MIB));
    assert!(memory.overcommit.committed_bytes.is_unread() && memory.overcommit.mode.is_unread());
}

#[test]
fn huge_pages_are_told_by_size_and_node() {
    let pool = format!("{HUGE_PAGES}/hugepages-2048kB");
    let host = FakeHost::new(&[
        (&format!("{pool}/nr_hugepages"), Entry::Text("100")),
        (&format!("{pool}/free_hugepages"), Entry::Text("60")),
        (&format!("{pool}/resv_hugepages"), Entry::Text("10")),
        (&format!("{HUGE_PAGES}/hugepages-1048576kB/nr_hugepages"), Entry::Text("2")),
        (&format!("{HUGE_PAGES}/hugepages-18446744073709551615kB"), Entry::Directory),
        (&format!("{}/nr_hugepages", node_directory(1, 2 * MIB)), Entry::Text("100")),
        (&format!("{NODES}/node0"), Entry::Directory),
    ]);
    let huge_pages = collect(&host.source()).huge_pages;
    let [small, large] = huge_pages.pools() else { panic!("{huge_pages:?}") };
    assert_eq!((small.size_bytes, large.size_bytes, small.unclaimed()), (2 * MIB, 1024 * MIB, Some(50)));
    let nodes = small.nodes.known().unwrap();
    assert_eq!((nodes[0].total.clone(), nodes[1].total.clone()), (Fact::NotPresent, Fact::Known(100)));
    assert_eq!(huge_pages.reserved_bytes(), Fact::Known(100 * 2 * MIB + 2048 * MIB));
    let denied = collect(&host.source_without(&["hugepages-2048kB/nr"])).huge_pages;
    assert!(denied.reserved_bytes().is_unread());
}

#[test]
fn choices_stand_in_brackets() {
    let thp = memory(&[
        (&format!("{THP}/enabled"), Entry::Text("always [madvise] never")),
        (&format!("{THP}/defrag"), Entry::Text("always defer")),
    ])
    .transparent_huge_pages;
    assert_eq!(thp.enabled, Fact::Known("madvise".to_owned()));
    assert!(thp.defrag.is_unread());
    assert_eq!(thp.shared_memory, Fact::NotPresent);
}

#[test]
fn swap_in_memory_is_told_from_swap_on_a_disk() {
    let text = "Filename Type Size Used Priority\n/dev/zram0 partition 1024 0 100\n/dev/sda2 partition 2048 0 -2\n\
                /swap\\040file file 4096 0 -3\nnonsense";
    let areas = memory(&[("/proc/swaps", Entry::Text(text))]).swap.areas;
    let areas: Vec<_> = areas.known().unwrap().iter().map(|area| (area.kind, area.size_bytes)).collect();
    assert_eq!(
        areas,
        [(SwapKind::CompressedMemory, MIB), (SwapKind::Device, 2 * MIB), (SwapKind::File, 4 * MIB)]
    );
}

#[test]
fn the_limit_of_locked_memory_is_a_number_or_none() {
    let limit = |limits: &str, capabilities: &str| {
        memory(&[(LIMITS, Entry::Text(limits)), ("/proc/self/status", Entry::Text(capabilities))]).memlock
    };
    let user = limit(
        "Limit     Soft Limit  Hard Limit  Units\nMax locked memory         8388608     unlimited   bytes",
        "Name: x\nCapEff:\t0000000000000000",
    );
    assert_eq!((&user.soft_bytes, &user.exempt), (&Fact::Known(Limit::Bytes(8 * MIB)), &Fact::Known(false)));
    assert_eq!(user.hard_bytes, Fact::Known(Limit::Unlimited));
    assert!(Limit::Bytes(u64::MAX) < Limit::Unlimited);
    let root = limit("Max locked memory much", "CapEff:\t000001ffffffffff");
    assert!(root.soft_bytes.is_unread());
    assert_eq!(root.exempt, Fact::Known(true));
    assert!(memory(&[]).memlock.hard_bytes.is_unread());
}

#[test]
fn numbers_of_merging_and_modes_are_checked() {
    let memory = memory(&[
        (&format!("{KSM}/run"), Entry::Text("1")),
        (&format!("{KSM}/pages_sharing"), Entry::Text("-1")),
        ("/proc/sys/vm/overcommit_memory", Entry::Text("2")),
    ]);
    assert_eq!((&memory.merging.run, &memory.overcommit.mode), (&Fact::Known(1), &Fact::Known(2)));
    assert!(memory.merging.pages_sharing.is_unread());
    assert_eq!(memory.merging.pages_shared, Fact::NotPresent);
}
