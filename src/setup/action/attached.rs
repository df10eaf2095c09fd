//! What hangs on a network interface and goes with its driver: addresses, and the bridge or bond that it is a port of.

use serde::{Deserialize, Serialize};

use super::{ActionError, BIND_LIMIT, optional};
use crate::setup::control::{Control, InterfaceAddress};

/// An interface that has any of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Name of the interface.
    pub(super) interface: String,
    /// Its lasting addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<InterfaceAddress>,
    /// Name of the bridge or bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
}

impl Attached {
    /// Reads it; none if nothing hangs on the interface `name`.
    pub(super) fn observe(control: &dyn Control, name: &str) -> Result<Option<Self>, ActionError> {
        let addresses = control.addresses(name)?;
        let controller = controller(control, name)?;
        let has_any = !addresses.is_empty() || controller.is_some();
        Ok(has_any.then(|| Self { interface: name.to_owned(), addresses, controller }))
    }

    /// Whether everything of `wanted` is so here.
    pub(super) fn has(&self, wanted: &Self) -> bool {
        self.interface == wanted.interface
            && (wanted.controller.is_none() || self.controller == wanted.controller)
            && wanted.addresses.iter().all(|address| self.addresses.contains(address))
    }

    /// Makes it a port again of what it was a port of.
    pub(super) fn restore_controller(&self, control: &dyn Control) -> Result<(), ActionError> {
        let Some(wanted) = &self.controller else { return Ok(()) };
        if controller(control, &self.interface)?.as_ref() == Some(wanted) {
            return Ok(());
        }
        Ok(control.set_controller(&self.interface, wanted, BIND_LIMIT)?)
    }

    /// Gives it its addresses again.
    pub(super) fn restore_addresses(&self, control: &dyn Control) -> Result<(), ActionError> {
        let now = control.addresses(&self.interface)?;
        for address in self.addresses.iter().filter(|address| !now.contains(address)) {
            control.add_address(&self.interface, address, BIND_LIMIT)?;
        }
        Ok(())
    }
}

/// Linux: Documentation/ABI/testing/sysfs-class-net, `master`.
fn controller(control: &dyn Control, interface: &str) -> Result<Option<String>, ActionError> {
    let path = format!("/sys/class/net/{interface}/master");
    optional(&path, control.source().link_name(&path))
}
