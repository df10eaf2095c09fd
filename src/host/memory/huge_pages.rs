//! Huge pages that were set apart, by size and by node.
//!
//! Linux: Documentation/admin-guide/mm/hugetlbpage.rst.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::memory::MEMINFO;
use crate::host::parse;
use crate::host::source::Source;
use crate::host::topology::NODES;

/// Where the kernel shows the pools of the whole host.
pub const DIRECTORY: &str = "/sys/kernel/mm/hugepages";

/// Huge pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// The size that is meant where none is named; absent if the kernel has no huge pages.
    pub default_size_bytes: Fact<u64>,
    /// One for each size that this kernel offers, the smallest first; absent if it offers none.
    pub pools: Fact<Vec<Pool>>,
}

/// Pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Size of a page.
    pub size_bytes: u64,
    /// Pages that there are.
    pub total: Fact<u64>,
    /// Of these, pages that nobody uses.
    pub free: Fact<u64>,
    /// Of the free ones, pages that are promised to somebody.
    pub reserved: Fact<u64>,
    /// Of all, pages beyond the number that was asked for, made when somebody needed them.
    pub surplus: Fact<u64>,
    /// Most pages that may be made so.
    pub overcommit: Fact<u64>,
    /// The same on each node, by its number; absent if the kernel knows of no NUMA.
    pub nodes: Fact<Vec<NodePool>>,
}

/// Pages of one size on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodePool {
    /// The node's number.
    pub number: u32,
    /// Pages that there are.
    pub total: Fact<u64>,
    /// Of these, pages that nobody uses.
    pub free: Fact<u64>,
    /// Of all, pages beyond the number that was asked for.
    pub surplus: Fact<u64>,
}

/// Where the pages of `size_bytes` of the whole host are shown.
#[must_use]
pub fn pool_directory(size_bytes: u64) -> String {
    format!("{DIRECTORY}/hugepages-{}kB", size_bytes >> 10)
}

/// Where the pages of `size_bytes` of node `number` are shown.
#[must_use]
pub fn node_directory(number: u32, size_bytes: u64) -> String {
    format!("{NODES}/node{number}/hugepages/hugepages-{}kB", size_bytes >> 10)
}

/// Reads the pools.
pub(super) fn collect(source: &dyn Source, meminfo: &Fact<String>) -> HugePages {
    let nodes = source.list(NODES).map(|names| {
        let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        numbers
    });
    let pools = source.list(DIRECTORY).map(|names| {
        let sizes = names.iter().filter_map(|name| {
            let kibibytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            kibibytes.checked_mul(1024)
        });
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort_unstable();
        sizes.into_iter().map(|size| pool(source, size, &nodes)).collect()
    });
    HugePages { default_size_bytes: parse::kibibytes(meminfo, MEMINFO, "Hugepagesize"), pools }
}

fn pool(source: &dyn Source, size_bytes: u64, nodes: &Fact<Vec<u32>>) -> Pool {
    let directory = pool_directory(size_bytes);
    let number = |name: &str| parse::number(source, &format!("{directory}/{name}"), 10);
    Pool {
        size_bytes,
        total: number("nr_hugepages"),
        free: number("free_hugepages"),
        reserved: number("resv_hugepages"),
        surplus: number("surplus_hugepages"),
        overcommit: number("nr_overcommit_hugepages"),
        nodes: nodes
            .as_ref()
            .map(|nodes| nodes.iter().map(|node| node_pool(source, *node, size_bytes)).collect()),
    }
}

fn node_pool(source: &dyn Source, node: u32, size_bytes: u64) -> NodePool {
    let directory = node_directory(node, size_bytes);
    let number = |name: &str| parse::number(source, &format!("{directory}/{name}"), 10);
    NodePool {
        number: node,
        total: number("nr_hugepages"),
        free: number("free_hugepages"),
        surplus: number("surplus_hugepages"),
    }
}

impl HugePages {
    /// The pools that were read; none where the kernel has no huge pages.
    #[must_use]
    pub fn pools(&self) -> &[Pool] {
        self.pools.known().map_or(&[], Vec::as_slice)
    }

    /// Bytes that are set apart in all pools; unread if one of them is.
    #[must_use]
    pub fn reserved_bytes(&self) -> Fact<u64> {
        self.pools.as_ref().and_then(|pools| {
            let mut bytes = 0_u64;
            for pool in pools {
                match &pool.total {
                    Fact::Known(total) => {
                        bytes = bytes.saturating_add(total.saturating_mul(pool.size_bytes));
                    }
                    unknown => return unknown.as_ref().map(|_| 0),
                }
            }
            Fact::Known(bytes)
        })
    }
}

impl Pool {
    /// Where it is shown.
    #[must_use]
    pub fn directory(&self) -> String {
        pool_directory(self.size_bytes)
    }

    /// Free pages that are promised to nobody.
    #[must_use]
    pub fn unclaimed(&self) -> Option<u64> {
        Some(self.free.known()?.saturating_sub(*self.reserved.known()?))
    }
}
