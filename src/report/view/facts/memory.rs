//! Memory: how much there is, huge pages, what the kernel does with pages, and the limit of what may be locked.

use super::{Text, size, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::memory::{HugePages, Limit, LockLimit, Memory, Merging, Overcommit, Pool, Swap, SwapKind};
use crate::report::style::Tone;
use crate::spec::units::ByteSize;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let memory = &facts.memory;
    text.section("Memory");
    text.line("total", (Tone::Plain, total(memory)));
    text.line("swap", (Tone::Plain, swap(&memory.swap)));
    huge_pages(text, &memory.huge_pages);
    let transparent = &memory.transparent_huge_pages;
    if !matches!(transparent.enabled, Fact::NotPresent) {
        let words = format!(
            "{}; defragmentation {}",
            word(&transparent.enabled, Clone::clone),
            word(&transparent.defrag, Clone::clone)
        );
        text.line("transparent", (Tone::Plain, words));
    }
    text.line("merging (KSM)", (Tone::Plain, merging(&memory.merging)));
    text.line("overcommit", (Tone::Plain, overcommit(&memory.overcommit)));
    text.line("may be locked", (Tone::Plain, lock_limit(&memory.memlock)));
}

fn total(memory: &Memory) -> String {
    let available = memory.available_bytes.known().map(|bytes| format!(", {} available", size(*bytes)));
    word(&memory.total_bytes, |bytes| size(*bytes)) + &available.unwrap_or_default()
}

fn swap(swap: &Swap) -> String {
    let (total, free) = match (&swap.total_bytes, &swap.free_bytes) {
        (Fact::Known(0), _) => return "none".to_owned(),
        (Fact::Known(total), Fact::Known(free)) => (total, free),
        (total, _) => return word(total, |bytes| size(*bytes)),
    };
    let areas: Vec<_> = swap
        .areas
        .known()
        .into_iter()
        .flatten()
        .map(|area| match area.kind {
            SwapKind::CompressedMemory => format!("{} (compressed memory)", area.name),
            SwapKind::Device | SwapKind::File => area.name.clone(),
        })
        .collect();
    format!("{}, {} used: {}", size(*total), size(total.saturating_sub(*free)), areas.join(", "))
}

/// A line for each size of which there are pages.
fn huge_pages(text: &mut Text, huge_pages: &HugePages) {
    let pools = match &huge_pages.pools {
        Fact::Known(pools) => pools,
        Fact::NotPresent => return text.line("huge pages", (Tone::Plain, "not in this kernel".to_owned())),
        unread => return text.line("huge pages", (Tone::Plain, word(unread, |_| String::new()))),
    };
    let set_apart: Vec<_> = pools.iter().filter(|pool| pool.total != Fact::Known(0)).collect();
    if set_apart.is_empty() {
        let sizes: Vec<_> = pools.iter().map(|pool| page(pool.size_bytes)).collect();
        let words = format!("none set apart; sizes: {}", sizes.join(", "));
        return text.line("huge pages", (Tone::Plain, words));
    }
    for pool in set_apart {
        text.line("huge pages", (Tone::Plain, pool_in_words(pool)));
    }
}

/// The size of a page, which is exact.
fn page(bytes: u64) -> String {
    ByteSize::from_bytes(bytes).to_string()
}

fn pool_in_words(pool: &Pool) -> String {
    let number = |fact: &Fact<u64>| word(fact, u64::to_string);
    let nodes: Vec<_> = pool
        .nodes
        .known()
        .into_iter()
        .flatten()
        .map(|node| format!("node {}: {}", node.number, number(&node.total)))
        .collect();
    let nodes = if nodes.len() > 1 { format!(" ({})", nodes.join(", ")) } else { String::new() };
    format!(
        "{} of {}{nodes}, {} free, {} of them promised",
        number(&pool.total),
        page(pool.size_bytes),
        number(&pool.free),
        number(&pool.reserved)
    )
}

fn merging(merging: &Merging) -> String {
    let Fact::Known(run) = &merging.run else { return word(&merging.run, u32::to_string) };
    let number = |fact: &Fact<u64>| word(fact, u64::to_string);
    let run = match run {
        1 => "on",
        2 => "off, and undone",
        _ => "off",
    };
    match merging.pages_sharing.known() {
        Some(0) | None => run.to_owned(),
        Some(_) => format!(
            "{run}; {} pages stand for {} others",
            number(&merging.pages_shared),
            number(&merging.pages_sharing)
        ),
    }
}

fn overcommit(overcommit: &Overcommit) -> String {
    word(&overcommit.mode, |mode| match mode {
        0 => "what is obviously too much is refused (mode 0)".to_owned(),
        1 => "nothing is refused (mode 1)".to_owned(),
        2 => format!(
            "{} of {} promised, more is refused (mode 2)",
            word(&overcommit.committed_bytes, |bytes| size(*bytes)),
            word(&overcommit.limit_bytes, |bytes| size(*bytes))
        ),
        mode => format!("mode {mode}"),
    })
}

fn lock_limit(limit: &LockLimit) -> String {
    if limit.exempt == Fact::Known(true) {
        return "all: this user has CAP_IPC_LOCK".to_owned();
    }
    match &limit.hard_bytes {
        Fact::Known(Limit::Unlimited) => "all: there is no limit".to_owned(),
        Fact::Known(Limit::Bytes(bytes)) => format!("{} by this user", size(*bytes)),
        unread => word(unread, |_| String::new()),
    }
}
