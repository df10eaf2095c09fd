//! Huge pages: set apart, spread over the nodes, left over, and of use.

use super::bytes;
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::memory::{HUGE_PAGES, NodePool, Pool, node_directory};
use crate::host::pci::PciDevice;

const GIB: u64 = 1 << 30;

/// The pools in which there are pages, or the answer where there are none or nobody can say.
fn filled<'a>(facts: &'a HostFacts, subject: &str) -> Result<Vec<&'a Pool>, Outcome> {
    let huge_pages = &facts.memory.huge_pages;
    if matches!(huge_pages.pools, Fact::NotPresent) {
        return Err(Outcome::not_applicable("this kernel has no huge pages to set apart"));
    }
    match huge_pages.reserved_bytes() {
        Fact::Known(0) => Err(Outcome::not_applicable("no huge pages are set apart")),
        Fact::Known(_) => Ok(huge_pages.pools().iter().filter(|pool| pool.total != Fact::Known(0)).collect()),
        unread => Err(Outcome::unread(&unread, subject)),
    }
}

/// How many pages there are in a pool, as evidence.
fn total(pool: &Pool) -> u64 {
    pool.total.known().copied().unwrap_or(0)
}

/// `memory-huge-pages`
pub(super) fn set_apart(facts: &HostFacts) -> Outcome {
    let huge_pages = &facts.memory.huge_pages;
    if matches!(huge_pages.pools, Fact::NotPresent) {
        return Outcome::not_applicable("this kernel has no huge pages to set apart");
    }
    let evidence = |outcome: Outcome| {
        huge_pages.pools().iter().fold(outcome, |outcome, pool| {
            outcome.evidence(format!("{}/nr_hugepages", pool.directory()), total(pool))
        })
    };
    match huge_pages.reserved_bytes() {
        Fact::Known(0) => evidence(Outcome::warn("no huge pages are set apart for guests"))
            .cause("nobody asked for them since this boot")
            .remedies(reserve(facts)),
        Fact::Known(reserved) => {
            evidence(Outcome::pass(format!("huge pages of {} are set apart", bytes(reserved))))
        }
        unread => Outcome::unread(&unread, "how many huge pages are set apart"),
    }
}

/// How pages for a guest of some GiB are set apart: at most 4, and at most half of memory.
fn reserve(facts: &HostFacts) -> Vec<Remedy> {
    let huge_pages = &facts.memory.huge_pages;
    let half = facts.memory.total_bytes.known().map_or(4, |total| total / 2 / GIB);
    let gibibytes = half.clamp(1, 4);
    let mut remedies = Vec::new();
    let small = huge_pages.pools().iter().find(|pool| pool.size_bytes < GIB);
    if let Some(pool) = small {
        let pages = gibibytes * GIB / pool.size_bytes.max(1);
        let is_numa = facts.topology.nodes().len() > 1;
        let directory = if is_numa { node_directory(0, pool.size_bytes) } else { pool.directory() };
        let node = if is_numa { ", here on node 0: take the node of the guest's device" } else { "" };
        remedies.push(Remedy::command(
            format!("echo {pages} | sudo tee {directory}/nr_hugepages"),
            format!(
                "{gibibytes} GiB until the next boot{node}; read the file back, because the kernel takes what it \
                 finds and reports no error; early after a boot it finds most"
            ),
        ));
    }
    if huge_pages.pools().iter().any(|pool| pool.size_bytes == GIB) {
        remedies.push(Remedy::kernel_argument(facts, &format!("hugepagesz=1G hugepages={gibibytes}")));
    }
    if remedies.is_empty() {
        remedies.push(Remedy::advice("a kernel that offers a size of huge pages"));
    }
    remedies
}

/// `memory-huge-pages-nodes`
pub(super) fn on_every_node(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how huge pages are spread over the nodes";
    if facts.topology.nodes.is_unread() {
        return Outcome::unread(&facts.topology.nodes, SUBJECT);
    }
    if facts.topology.nodes().len() < 2 {
        return Outcome::not_applicable("there is one node");
    }
    let pools = match filled(facts, SUBJECT) {
        Ok(pools) => pools,
        Err(outcome) => return outcome,
    };
    let mut pass = Outcome::pass("every node with CPUs has its part of the huge pages");
    for pool in pools {
        let nodes = match &pool.nodes {
            Fact::Known(nodes) => nodes.iter().filter(|node| has_cpus(facts, node.number)),
            unread => return Outcome::unread(unread, SUBJECT),
        };
        let mut counts = Vec::new();
        for node in nodes {
            match &node.total {
                Fact::Known(total) => counts.push((*total, node)),
                unread => return Outcome::unread(unread, SUBJECT),
            }
        }
        let most = counts.iter().map(|(total, _)| *total).max().unwrap_or(0);
        // Half of another node's part may be a choice; less is what a node without enough free memory got.
        let short = counts.iter().find(|(total, _)| *total < most / 2);
        if let Some((count, node)) = short {
            return uneven(pool, node, *count, most, &counts);
        }
        pass = evidence(pass, pool, &counts);
    }
    pass
}

fn has_cpus(facts: &HostFacts, node: u32) -> bool {
    let cpus = facts.topology.node(node).and_then(|node| node.cpus.known());
    cpus.is_none_or(|cpus| !cpus.is_empty())
}

fn evidence(outcome: Outcome, pool: &Pool, counts: &[(u64, &NodePool)]) -> Outcome {
    counts.iter().fold(outcome, |outcome, (count, node)| {
        outcome.evidence(format!("{}/nr_hugepages", node_directory(node.number, pool.size_bytes)), count)
    })
}

fn uneven(pool: &Pool, node: &NodePool, count: u64, most: u64, counts: &[(u64, &NodePool)]) -> Outcome {
    let warn = Outcome::warn(format!(
        "node {} has {count} huge pages of {}, another node has {most}",
        node.number,
        bytes(pool.size_bytes)
    ));
    evidence(warn, pool, counts)
        .cause("they were asked for on one node, or this one had too little free memory in one piece")
        .remedy(Remedy::command(
            format!("echo {most} | sudo tee {}/nr_hugepages", node_directory(node.number, pool.size_bytes)),
            "until the next boot; read it back; on the command line `hugepages=0:N,1:N` names each node (Linux 5.16)",
        ))
}

/// `memory-huge-pages-free`
pub(super) fn left(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how many huge pages are left";
    let pools = match filled(facts, SUBJECT) {
        Ok(pools) => pools,
        Err(outcome) => return outcome,
    };
    let mut left = 0_u64;
    let mut evidence = Vec::new();
    for pool in pools {
        let Some(unclaimed) = pool.unclaimed() else {
            let unread = if pool.free.known().is_none() { &pool.free } else { &pool.reserved };
            return Outcome::unread(unread, SUBJECT);
        };
        left = left.saturating_add(unclaimed.saturating_mul(pool.size_bytes));
        for (file, count) in [("free_hugepages", &pool.free), ("resv_hugepages", &pool.reserved)] {
            evidence.push((format!("{}/{file}", pool.directory()), count.known().copied().unwrap_or(0)));
        }
    }
    let outcome = if left == 0 {
        Outcome::warn("every huge page that is set apart is in use or promised")
            .cause("guests or other programs hold them")
            .remedy(Remedy::command(
                "sudo grep -l -E '^[0-9a-f]+-.*hugepage' /proc/[0-9]*/maps",
                "lists who maps them; end who is not needed, or set more apart",
            ))
    } else {
        Outcome::pass(format!("{} of huge pages are left", bytes(left)))
    };
    evidence.into_iter().fold(outcome, |outcome, (path, count)| outcome.evidence(path, count))
}

/// `memory-gibibyte-pages`
pub(super) fn gibibyte(facts: &HostFacts) -> Outcome {
    let huge_pages = &facts.memory.huge_pages;
    let pools = match &huge_pages.pools {
        Fact::Known(pools) => pools,
        Fact::NotPresent => return Outcome::not_applicable("this kernel has no huge pages to set apart"),
        unread => return Outcome::unread(unread, "which sizes of huge pages there are"),
    };
    let sizes: Vec<_> = pools.iter().map(|pool| bytes(pool.size_bytes)).collect();
    let sizes = if sizes.is_empty() { "none".to_owned() } else { sizes.join(", ") };
    if pools.iter().any(|pool| pool.size_bytes == GIB) {
        return Outcome::pass("pages of 1 GiB can be used").evidence(HUGE_PAGES, sizes);
    }
    let warn = || Outcome::warn("pages of 1 GiB cannot be used").evidence(HUGE_PAGES, &sizes);
    match &facts.cpu.gigabyte_pages {
        Fact::Known(false) => {
            let warn = warn().evidence("CPUID 0x80000001, EDX", "bit 26 is clear");
            if facts.cpu.hypervisor.present == Fact::Known(true) {
                warn.cause("the hypervisor below us does not offer them").remedy(Remedy::advice(
                    "let the hypervisor offer `pdpe1gb` to this machine (QEMU: `-cpu host`, or `pdpe1gb=on`)",
                ))
            } else {
                warn.cause("the processor has none").remedy(Remedy::hardware("a later processor"))
            }
        }
        Fact::Known(true) => {
            let warn = warn().evidence("CPUID 0x80000001, EDX", "bit 26 is set");
            if facts.kernel.parameter("nogbpages").next().is_some() {
                warn.cause("`nogbpages` on the kernel's command line switches them off")
                    .remedy(Remedy::without_kernel_argument(facts, "nogbpages"))
            } else {
                warn.cause("the kernel was built without them")
                    .remedy(Remedy::advice("a kernel with CONFIG_HUGETLBFS and CONFIG_X86_DIRECT_GBPAGES"))
            }
        }
        unread => Outcome::unread(unread, "whether the processor has pages of 1 GiB"),
    }
}

/// `memory-function-huge-pages`
pub(super) fn on_node_of(facts: &HostFacts, function: &PciDevice) -> Outcome {
    const SUBJECT: &str = "how many huge pages are left on the function's node";
    if facts.topology.nodes().len() < 2 {
        return Outcome::not_applicable("there is one node, or none that is known");
    }
    let node = match &function.numa_node {
        Fact::Known(node) => *node,
        Fact::NotPresent => {
            return Outcome::not_applicable("firmware does not say on which node the function is");
        }
        unread => return Outcome::unread(unread, "the function's node"),
    };
    let pools = match filled(facts, SUBJECT) {
        Ok(pools) => pools,
        Err(outcome) => return outcome,
    };
    let (mut here, mut elsewhere) = (0_u64, 0_u64);
    let mut evidence = Vec::new();
    for pool in pools {
        let nodes = match &pool.nodes {
            Fact::Known(nodes) => nodes,
            unread => return Outcome::unread(unread, SUBJECT),
        };
        for one in nodes {
            let free = match &one.free {
                Fact::Known(free) => free.saturating_mul(pool.size_bytes),
                unread => return Outcome::unread(unread, SUBJECT),
            };
            if one.number == node {
                here = here.saturating_add(free);
                let place = format!("{}/free_hugepages", node_directory(node, pool.size_bytes));
                evidence.push((place, free / pool.size_bytes.max(1), pool.size_bytes));
            } else {
                elsewhere = elsewhere.saturating_add(free);
            }
        }
    }
    let outcome = match (here, elsewhere) {
        (0, 0) => return Outcome::not_applicable("no huge page is free anywhere"),
        (0, _) => {
            let size = evidence.first().map_or(2 << 20, |(_, _, size)| *size);
            Outcome::warn(format!(
                "no huge page is free on node {node}, where the function is; elsewhere {} are",
                bytes(elsewhere)
            ))
            .cause("they were set apart on other nodes, or are in use")
            .remedy(Remedy::command(
                format!(
                    "echo {} | sudo tee {}/nr_hugepages",
                    4 * GIB / size.max(1),
                    node_directory(node, size)
                ),
                "4 GiB on that node until the next boot; read it back",
            ))
        }
        (here, _) => Outcome::pass(format!("{} of huge pages are free on node {node}", bytes(here))),
    };
    evidence.into_iter().fold(outcome, |outcome, (place, count, _)| outcome.evidence(place, count))
}
