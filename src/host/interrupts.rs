//! Interrupts: the ways in which they can reach a guest on this host.

use serde::Serialize;

use crate::host::source::Source;

/// Interrupts of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Interrupts {}

pub(super) fn collect(_source: &dyn Source) -> Interrupts {
    Interrupts {}
}
