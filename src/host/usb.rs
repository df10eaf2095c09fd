//! USB: devices by controller.

use serde::Serialize;

use crate::host::source::Source;

/// USB of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Usb {}

pub(super) fn collect(_source: &dyn Source) -> Usb {
    Usb {}
}
