//! VFIO: its modules, their parameters, its device nodes.

use serde::Serialize;

use crate::host::source::Source;

/// VFIO of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Vfio {}

pub(super) fn collect(_source: &dyn Source) -> Vfio {
    Vfio {}
}
