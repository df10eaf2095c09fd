//! Memory: huge pages, NUMA nodes, merging, locking.

use serde::Serialize;

use crate::host::source::Source;

/// Memory of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {}

pub(super) fn collect(_source: &dyn Source) -> Memory {
    Memory {}
}
