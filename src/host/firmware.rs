//! Firmware: how the machine booted, who made it, and what its tables say.

use serde::Serialize;

use crate::host::source::Source;

/// Firmware of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Firmware {}

pub(super) fn collect(_source: &dyn Source) -> Firmware {
    Firmware {}
}
