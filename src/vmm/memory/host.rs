//! What the host has of memory and huge pages, read from its files: enough to refuse what it cannot give, and to explain.
//!
//! Linux: Documentation/admin-guide/mm/hugetlbpage.rst, Documentation/filesystems/proc.rst (meminfo),
//! Documentation/admin-guide/cgroup-v2.rst (memory.max).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::spec::units::ByteSize;

/// The kernel's file systems, under a root that tests replace.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

/// Free huge pages of one size, in all and by node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreePages {
    page_bytes: u64,
    /// Free and not promised to anybody.
    pub free: u64,
    nodes: Vec<(u32, u64)>,
}

impl FreePages {
    /// Their size.
    pub(super) fn page(&self) -> ByteSize {
        ByteSize::from_bytes(self.page_bytes)
    }

    /// Free ones of a node of the host, promised ones among them; none if there is no such node.
    #[must_use]
    pub fn on(&self, node: u32) -> Option<u64> {
        self.nodes.iter().find(|(number, _)| *number == node).map(|(_, free)| *free)
    }
}

impl fmt::Display for FreePages {
    /// `12 are free (node 0: 12, node 1: 0)`; promised ones count for the nodes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are free", self.free)?;
        let nodes: Vec<String> =
            self.nodes.iter().map(|(node, free)| format!("node {node}: {free}")).collect();
        if nodes.len() > 1 { write!(f, " ({})", nodes.join(", ")) } else { Ok(()) }
    }
}

impl Host {
    pub(super) fn live() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn number(&self, path: &Path) -> Option<u64> {
        fs::read_to_string(self.root.join(path)).ok()?.trim().parse().ok()
    }

    /// Whether KSM is on (Linux: Documentation/admin-guide/mm/ksm.rst).
    pub(super) fn merges_pages(&self) -> bool {
        self.number(Path::new("sys/kernel/mm/ksm/run")) == Some(1)
    }

    /// Free huge pages of `page_bytes`; none where the host has no pages of this size.
    pub(super) fn free_pages(&self, page_bytes: u64) -> Option<FreePages> {
        let pool = format!("hugepages-{}kB", page_bytes >> 10);
        let here = Path::new("sys/kernel/mm/hugepages").join(&pool);
        let free = self.number(&here.join("free_hugepages"))?;
        let promised = self.number(&here.join("resv_hugepages")).unwrap_or(0);
        let overcommit = self.number(&here.join("nr_overcommit_hugepages")).unwrap_or(0);
        let surplus = self.number(&here.join("surplus_hugepages")).unwrap_or(0);
        let free = free.saturating_sub(promised).saturating_add(overcommit.saturating_sub(surplus));
        let entries = fs::read_dir(self.root.join("sys/devices/system/node")).into_iter().flatten().flatten();
        let mut nodes: Vec<(u32, u64)> = entries
            .filter_map(|entry| {
                let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
                let path = Path::new("sys/devices/system/node").join(entry.file_name());
                Some((node, self.number(&path.join("hugepages").join(&pool).join("free_hugepages"))?))
            })
            .collect();
        nodes.sort_unstable();
        Some(FreePages { page_bytes, free, nodes })
    }

    /// Bytes that this process can still get: what the host has available, and no more than each control group above us lets
    /// through. `None` if the host does not say.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let host = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
        Some(self.group_rooms().fold(host, u64::min))
    }

    /// What is left below the limit of each control group that this process is in.
    fn group_rooms(&self) -> impl Iterator<Item = u64> {
        let text = fs::read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        let top = self.root.join("sys/fs/cgroup");
        let groups: Vec<PathBuf> = Path::new(&own).ancestors().map(|group| top.join(group)).collect();
        groups.into_iter().filter_map(|group| {
            let read = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
            // `max` is no number: no limit.
            let limit = read("memory.max")?;
            // What the group has cached can be dropped for what it needs.
            let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let cached =
                stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
            Some(limit.saturating_sub(read("memory.current")?).saturating_add(cached.unwrap_or(0)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn free_pages_are_told_with_their_nodes_and_without_those_that_are_promised() {
        let (_root, host) = host(&[
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "12\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "2\n"),
            ("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "4\n"),
            ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "8\n"),
            ("sys/devices/system/node/online", "0-1\n"),
        ]);
        let free = host.free_pages(2 << 20).unwrap();
        assert_eq!(free.to_string(), "10 are free (node 0: 8, node 1: 4)");
        assert_eq!((free.on(1), free.on(2)), (Some(4), None));
        assert_eq!(host.free_pages(1 << 30), None);
    }

    #[test]
    fn merging_is_on_where_the_kernel_says_so() {
        let on = |text: &str| host(&[("sys/kernel/mm/ksm/run", text)]).1.merges_pages();
        let (_root, silent) = host(&[]);
        assert!(!silent.merges_pages() && !on("0\n") && !on("2\n"));
        let (_root, running) = host(&[("sys/kernel/mm/ksm/run", "1\n")]);
        assert!(running.merges_pages());
    }

    #[test]
    fn the_tightest_group_above_us_limits_what_is_available() {
        let meminfo = "MemTotal: 9000 kB\nMemAvailable:    8192 kB\n";
        let (_root, free) = host(&[("proc/meminfo", meminfo)]);
        assert_eq!(free.available_bytes(), Some(8 << 20));
        let (_root, limited) = host(&[
            ("proc/meminfo", meminfo),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "5000000\n"),
            ("sys/fs/cgroup/a/memory.current", "3000000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1000\n"),
        ]);
        assert_eq!(limited.available_bytes(), Some(2_500_000));
        let (_root, silent) = host(&[]);
        assert_eq!(silent.available_bytes(), None);
    }
}
