//! Huge pages of 2 MiB on the nodes of the host for tests: the kernel makes as many as there is room for, shares what is
//! asked of all nodes among them page by page, and keeps pages in use as surplus.

use std::io;

use super::{FakeKernel, errno};
use crate::host::memory::{node_directory, pool_directory};
use crate::setup::action::hugepages::COMPACT;

const SIZE_BYTES: u64 = 2 << 20;

/// Memory of a node, in huge pages.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::setup) struct Node {
    /// Pages that somebody asked for.
    pub(in crate::setup) asked: u64,
    /// Pages in use.
    pub(in crate::setup) used: u64,
    /// Pages for which there is room.
    pub(in crate::setup) room: u64,
    /// The same, once memory was moved together.
    pub(in crate::setup) room_compacted: u64,
}

/// Whether writing to `path` is about huge pages.
pub(super) fn are_at(path: &str) -> bool {
    path == COMPACT || path.ends_with("/nr_hugepages")
}

impl FakeKernel {
    /// This host with these nodes.
    pub(in crate::setup) fn with_nodes(self, nodes: &[Node]) -> Self {
        self.set_nodes(nodes);
        self
    }

    pub(in crate::setup) fn set_nodes(&self, nodes: &[Node]) {
        let mut sums = [0; 3];
        for (number, node) in (0..).zip(nodes) {
            let total = node.asked.max(node.used);
            let numbers = [total, total - node.used, total - node.asked];
            self.show(&node_directory(number, SIZE_BYTES), numbers);
            sums = std::array::from_fn(|at| sums[at] + numbers[at]);
        }
        self.show(&pool_directory(SIZE_BYTES), sums);
        self.put(&format!("{}/resv_hugepages", pool_directory(SIZE_BYTES)), "0");
        self.inner.lock().unwrap().nodes = nodes.to_vec();
    }

    fn show(&self, directory: &str, numbers: [u64; 3]) {
        for (name, number) in ["nr", "free", "surplus"].into_iter().zip(numbers) {
            self.put(&format!("{directory}/{name}_hugepages"), &number.to_string());
        }
    }

    /// What the kernel does with `value` written to `path`.
    pub(super) fn huge_pages_effect(&self, path: &str, value: &str) -> io::Result<()> {
        let mut nodes = self.inner.lock().unwrap().nodes.clone();
        if path == COMPACT {
            for node in &mut nodes {
                node.room = node.room_compacted;
            }
            self.set_nodes(&nodes);
            return Ok(());
        }
        let count: u64 = value.parse().map_err(|_| errno(libc::EINVAL))?;
        let mut concerned: Vec<&mut Node> = (0..)
            .zip(&mut nodes)
            .filter(|(number, _)| {
                path.starts_with(&pool_directory(SIZE_BYTES))
                    || path.starts_with(&node_directory(*number, SIZE_BYTES))
            })
            .map(|(_, node)| node)
            .collect();
        if concerned.is_empty() {
            return Err(errno(libc::ENOENT));
        }
        let mut turn = 0;
        loop {
            let asked: u64 = concerned.iter().map(|node| node.asked).sum();
            let mut order = (turn..turn + concerned.len()).map(|at| at % concerned.len());
            let next = if asked < count {
                order.find(|at| concerned[*at].asked < concerned[*at].room)
            } else if asked > count {
                let free = order.clone().find(|at| concerned[*at].asked > concerned[*at].used);
                free.or_else(|| order.find(|at| concerned[*at].asked > 0))
            } else {
                None
            };
            let Some(at) = next else { break };
            if asked < count {
                concerned[at].asked += 1;
            } else {
                concerned[at].asked -= 1;
            }
            turn = at + 1;
        }
        self.set_nodes(&nodes);
        Ok(())
    }
}
