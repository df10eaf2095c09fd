//! SCSI: devices with their generic nodes.

use serde::Serialize;

use crate::host::source::Source;

/// SCSI of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Scsi {}

pub(super) fn collect(_source: &dyn Source) -> Scsi {
    Scsi {}
}
