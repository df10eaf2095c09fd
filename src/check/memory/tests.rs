//! The memory of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::check::{Status, by_id};
use crate::host::collect;
use crate::host::memory::{HUGE_PAGES, KSM, LIMITS, MEMINFO, THP, node_directory};
use crate::host::topology::NODES;

const STATUS: &str = "/proc/self/status";
const SMALL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

fn meminfo(available: u64, swap_free: u64, committed: u64) -> String {
    format!(
        "MemTotal: 33554432 kB\nMemAvailable: {available} kB\nSwapTotal: 8388608 kB\nSwapFree: {swap_free} kB\n\
         CommitLimit: 25165824 kB\nCommitted_AS: {committed} kB\nHugepagesize: 2048 kB"
    )
}

/// What this file's checks need to pass: 32 GiB on two nodes, 4 GiB of them in huge pages of 2 MiB.
pub(in crate::check) fn healthy(host: &FakeHost) {
    write(host, MEMINFO, &meminfo(25_165_824, 8_388_608, 4_194_304));
    write(host, LIMITS, "Max locked memory  unlimited  unlimited  bytes");
    write(host, STATUS, "CapEff:\t0000000000000000");
    write(host, OVERCOMMIT, "0");
    write(host, &format!("{THP}/enabled"), "always [madvise] never");
    write(host, &format!("{THP}/defrag"), "always defer defer+madvise [madvise] never");
    write(host, &format!("{KSM}/run"), "0");
    for (file, count) in [("nr", "2048"), ("free", "1024"), ("resv", "0"), ("surplus", "0")] {
        write(host, &format!("{SMALL}/{file}_hugepages"), count);
        write(host, &format!("{HUGE_PAGES}/hugepages-1048576kB/{file}_hugepages"), "0");
    }
    for node in 0..2 {
        pages(host, node, "1024", "512");
        write(host, &format!("{NODES}/node{node}/cpulist"), if node == 0 { "0-3" } else { "4-7" });
        for file in ["nr", "free", "surplus"] {
            write(host, &format!("{}/{file}_hugepages", node_directory(node, 1 << 30)), "0");
        }
    }
    write(host, &format!("/sys/bus/pci/devices/{SUBJECT}/numa_node"), "0");
}

/// The huge pages of 2 MiB of a node.
fn pages(host: &FakeHost, node: u32, total: &str, free: &str) {
    let directory = node_directory(node, 2 << 20);
    write(host, &format!("{directory}/nr_hugepages"), total);
    write(host, &format!("{directory}/free_hugepages"), free);
    write(host, &format!("{directory}/surplus_hugepages"), "0");
}

fn write(host: &FakeHost, path: &str, text: &str) {
    host.add(&[(path, Entry::Text(text))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn remove(host: &FakeHost, path: &str) {
    std::fs::remove_dir_all(host.path().join(path.trim_start_matches('/'))).unwrap();
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "memory-huge-pages",
        pass: nothing,
        fail: |host| write(host, &format!("{SMALL}/nr_hugepages"), "0"),
        unknown: |host| deny(host, &format!("{SMALL}/nr_hugepages")),
    },
    Fixture {
        id: "memory-huge-pages-nodes",
        pass: nothing,
        fail: |host| pages(host, 1, "511", "0"),
        unknown: |host| deny(host, &node_directory(1, 2 << 20)),
    },
    Fixture {
        id: "memory-huge-pages-free",
        pass: nothing,
        fail: |host| write(host, &format!("{SMALL}/resv_hugepages"), "1024"),
        unknown: |host| deny(host, &format!("{SMALL}/free_hugepages")),
    },
    Fixture {
        id: "memory-gibibyte-pages",
        pass: nothing,
        fail: |host| {
            remove(host, &format!("{HUGE_PAGES}/hugepages-1048576kB"));
            host.answer_cpuid(&[(0x8000_0000, [0x8000_0008, 0, 0, 0]), (0x8000_0001, [0; 4])]);
        },
        unknown: |host| deny(host, HUGE_PAGES),
    },
    Fixture {
        id: "memory-transparent-huge-pages",
        pass: nothing,
        fail: |host| {
            write(host, &format!("{SMALL}/nr_hugepages"), "0");
            write(host, &format!("{THP}/enabled"), "always madvise [never]");
        },
        unknown: |host| deny(host, THP),
    },
    Fixture {
        id: "memory-merging",
        pass: nothing,
        fail: |host| write(host, &format!("{KSM}/run"), "1"),
        unknown: |host| deny(host, KSM),
    },
    Fixture {
        id: "memory-swap",
        pass: nothing,
        fail: |host| write(host, MEMINFO, &meminfo(25_165_824, 4_194_304, 0)),
        unknown: |host| deny(host, MEMINFO),
    },
    Fixture {
        id: "memory-overcommit",
        pass: nothing,
        fail: |host| write(host, OVERCOMMIT, "1"),
        unknown: |host| deny(host, OVERCOMMIT),
    },
    Fixture {
        id: "memory-lock-limit",
        pass: nothing,
        fail: |host| write(host, LIMITS, "Max locked memory  8388608  8388608  bytes"),
        unknown: |host| deny(host, LIMITS),
    },
    Fixture {
        id: "memory-function-huge-pages",
        pass: nothing,
        fail: |host| pages(host, 0, "1024", "0"),
        unknown: |host| deny(host, &node_directory(0, 2 << 20)),
    },
];

fn status(id: &str, change: impl FnOnce(&FakeHost)) -> Status {
    let host = crate::check::fixture::healthy();
    change(&host);
    let facts = collect(&host.source());
    let findings = crate::check::run(&facts, None);
    assert!(by_id(id).is_some());
    findings.into_iter().find(|finding| finding.id == id).unwrap().outcome.status
}

#[test]
fn a_kernel_that_promises_no_more_than_it_has_warns_when_that_is_nearly_all() {
    let with = |committed| {
        status("memory-overcommit", |host| {
            write(host, OVERCOMMIT, "2");
            write(host, MEMINFO, &meminfo(25_165_824, 8_388_608, committed));
        })
    };
    assert_eq!((with(4_194_304), with(24_000_000)), (Status::Pass, Status::Warn));
}

#[test]
fn little_memory_warns_without_swap_too() {
    let with =
        |available| status("memory-swap", |host| write(host, MEMINFO, &meminfo(available, 8_388_608, 0)));
    assert_eq!((with(3_500_000), with(3_000_000)), (Status::Pass, Status::Warn));
}

#[test]
fn root_may_lock_whatever_its_limit_is() {
    let with = |capabilities| {
        status("memory-lock-limit", |host| {
            write(host, LIMITS, "Max locked memory  8388608  8388608  bytes");
            write(host, STATUS, capabilities);
        })
    };
    assert_eq!(with("CapEff:\t000001ffffffffff"), Status::Pass);
    assert_eq!(with("Name: x"), Status::Unknown);
}

#[test]
fn huge_pages_of_their_own_make_transparent_ones_needless() {
    let never = |host: &FakeHost| write(host, &format!("{THP}/enabled"), "always madvise [never]");
    assert_eq!(status("memory-transparent-huge-pages", never), Status::Pass);
    let at_any_price = |host: &FakeHost| {
        write(host, &format!("{THP}/enabled"), "[always] madvise never");
        write(host, &format!("{THP}/defrag"), "[always] defer madvise never");
    };
    assert_eq!(status("memory-transparent-huge-pages", at_any_price), Status::Warn);
}

#[test]
fn a_processor_that_has_them_may_be_told_not_to_use_pages_of_a_gibibyte() {
    let host = crate::check::fixture::healthy();
    remove(&host, &format!("{HUGE_PAGES}/hugepages-1048576kB"));
    write(&host, "/proc/cmdline", "nogbpages");
    host.answer_cpuid(&[(0x8000_0000, [0x8000_0008, 0, 0, 0]), (0x8000_0001, [0, 0, 0, 1 << 26])]);
    let outcome = super::huge_pages::gibibyte(&collect(&host.source()));
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.cause.unwrap().contains("`nogbpages`"));
}
