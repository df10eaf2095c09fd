//! There are at least so many huge pages of one size, on one node or on the whole host.
//!
//! The kernel takes what it finds and reports no error, so the number is read back; once, memory is moved together and
//! it is tried again. A pool that is larger already is already so: nobody knows for whom the others were made.
//!
//! The number means pages that somebody asked for; surplus ones come and go by themselves with those who need them. What
//! is asked of the whole host the kernel spreads over the nodes, so what each node had is part of the state, and put
//! back node by node. Pages in use cannot be taken back: the kernel would report success and keep them as surplus. So
//! it is asked before whether they are. Spec: Linux: Documentation/admin-guide/mm/hugetlbpage.rst.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, Footprint, Object, Standing, optional, required};
use crate::host;
use crate::host::fact::Fact;
use crate::host::memory::{node_directory, pool_directory};
use crate::host::topology::NODES;
use crate::setup::control::Control;
use crate::spec::units::ByteSize;

/// How long a write may take for which the kernel looks for memory and moves it.
const MEMORY_LIMIT: Duration = Duration::from_secs(120);

/// Moves memory together on all nodes (Linux: Documentation/admin-guide/sysctl/vm.rst, `compact_memory`).
pub(in crate::setup) const COMPACT: &str = "/proc/sys/vm/compact_memory";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hugepages {
    /// Size of a page.
    pub size_bytes: u64,
    /// Pages that there should be at least.
    pub count: u64,
    /// The node; the whole host if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
}

/// How many pages there are, without surplus ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// One for each node; one without a node where the kernel knows of no NUMA.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    pages: u64,
}

impl PoolState {
    fn pages(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.pages))
    }

    fn on(&self, node: Option<u32>) -> u64 {
        self.parts.iter().find(|part| part.node == node).map_or(0, |part| part.pages)
    }
}

impl Hugepages {
    /// What this is about.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::HugePages { size_bytes: self.size_bytes, node: self.node }
    }

    fn file(&self, node: Option<u32>, name: &str) -> String {
        let directory = match node {
            Some(node) => node_directory(node, self.size_bytes),
            None => pool_directory(self.size_bytes),
        };
        format!("{directory}/{name}_hugepages")
    }

    fn number(&self, control: &dyn Control, node: Option<u32>, name: &str) -> Result<u64, ActionError> {
        let path = self.file(node, name);
        required(&path, count(control, &path))
    }

    /// The pages of one node, or of the whole host; none if the kernel does not show this pool.
    fn part(&self, control: &dyn Control, node: Option<u32>) -> Result<Option<Part>, ActionError> {
        let path = self.file(node, "nr");
        let Some(total) = optional(&path, count(control, &path))? else { return Ok(None) };
        Ok(Some(Part { node, pages: total.saturating_sub(self.number(control, node, "surplus")?) }))
    }

    /// Writes the number; how many pages there are then.
    fn ask(&self, control: &dyn Control) -> Result<u64, ActionError> {
        control.write(&self.file(self.node, "nr"), &self.count.to_string(), MEMORY_LIMIT)?;
        Ok(self.observe(control)?.pages())
    }

    fn too_few(&self, control: &dyn Control, found: u64) -> ActionError {
        let facts = host::collect(control.source());
        let free = match self.node {
            Some(node) => facts.topology.node(node).and_then(|node| node.free_bytes.known()),
            None => facts.memory.available_bytes.known(),
        };
        let free = free.map_or_else(String::new, |bytes| {
            let whose = if self.node.is_some() { "the node" } else { "the host" };
            format!("; {whose} has {} of free memory left, not in pieces of this size", mebibytes(*bytes))
        });
        let size = ByteSize::from_bytes(self.size_bytes).to_string();
        let node = self.node.map_or_else(String::new, |node| format!("{node}:"));
        ActionError::NotReached {
            subject: self.object().to_string(),
            expected: pages(self.count),
            found: format!(
                "{found}{free}; reserve them early, when memory is still in one piece, by the kernel arguments \
                 `hugepagesz={} hugepages={node}{}`",
                size.trim_end_matches("iB"),
                self.count
            ),
        }
    }
}

fn count(control: &dyn Control, path: &str) -> Fact<u64> {
    control.source().text(path).parse(path, |text| text.trim().parse::<u64>())
}

/// A size that needs not be exact.
pub(in crate::setup) fn mebibytes(bytes: u64) -> ByteSize {
    ByteSize::from_mebibytes(bytes >> 20)
}

fn pages(count: u64) -> String {
    format!("{count} page{}", if count == 1 { "" } else { "s" })
}

impl Act for Hugepages {
    type State = PoolState;

    fn observe(&self, control: &dyn Control) -> Result<PoolState, ActionError> {
        let mut parts = Vec::new();
        if self.node.is_none() {
            let names = optional(NODES, control.source().list(NODES))?.unwrap_or_default();
            let mut nodes: Vec<u32> =
                names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
            nodes.sort_unstable();
            for node in nodes {
                parts.extend(self.part(control, Some(node))?);
            }
        }
        if parts.is_empty() {
            parts.extend(self.part(control, self.node)?);
        }
        if parts.is_empty() { Err(ActionError::Gone(self.object())) } else { Ok(PoolState { parts }) }
    }

    fn act(&self, _prior: &PoolState, control: &dyn Control) -> Result<(), ActionError> {
        let mut found = self.ask(control)?;
        if found < self.count {
            match control.write(COMPACT, "1", MEMORY_LIMIT) {
                Ok(()) => found = self.ask(control)?,
                Err(error) if error.pending_pid().is_some() => return Err(error.into()),
                // This kernel cannot (CONFIG_COMPACTION), so asking again would change nothing.
                Err(error) => tracing::debug!(%error, "memory was not moved together"),
            }
        }
        if found < self.count { Err(self.too_few(control, found)) } else { Ok(()) }
    }

    fn may_revert(&self, prior: &PoolState, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        let (mut going, mut held) = (0_u64, 0_u64);
        for part in &prior.parts {
            let lost = now.on(part.node).saturating_sub(part.pages);
            if lost > 0 {
                going = going.saturating_add(lost);
                let free = self.number(control, part.node, "free")?;
                held = held.saturating_add(lost.saturating_sub(free));
            }
        }
        // Pages that are promised to somebody count as free, and only those of the whole host are told.
        let (free, promised) = (self.number(control, None, "free")?, self.number(control, None, "resv")?);
        let held = held.max(going.saturating_sub(free.saturating_sub(promised)));
        if held == 0 {
            return Ok(());
        }
        let by = format!(
            "a process, or a file in a hugetlbfs, has {held} of the {} that would go (`grep -lE '_Hugetlb: +[1-9]' \
             /proc/[0-9]*/smaps` lists the processes)",
            pages(going)
        );
        Err(ActionError::InUse { subject: self.object(), by })
    }

    fn revert(&self, prior: &PoolState, control: &dyn Control) -> Result<(), ActionError> {
        self.may_revert(prior, control)?;
        let now = self.observe(control)?;
        for part in prior.parts.iter().filter(|part| now.on(part.node) != part.pages) {
            control.write(&self.file(part.node, "nr"), &part.pages.to_string(), MEMORY_LIMIT)?;
        }
        Ok(())
    }

    fn standing(&self, prior: &PoolState, now: &PoolState) -> Standing {
        let found = now.pages();
        if found == self.count {
            Standing::Applied
        } else if (prior.pages()..self.count).contains(&found) {
            // The kernel found fewer, or a node has not its number back yet.
            Standing::Between
        } else {
            Standing::Drifted(pages(found))
        }
    }

    fn already(&self, prior: &PoolState) -> bool {
        prior.pages() >= self.count
    }

    fn footprint(&self, _prior: &PoolState) -> Footprint {
        Footprint { changes: vec![self.object()], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("raise {} to {}", self.object(), pages(self.count))
    }

    fn describe_undo(&self, prior: &PoolState) -> String {
        format!("lower {} to {}", self.object(), pages(prior.pages()))
    }
}

#[cfg(test)]
mod tests;
