//! A network interface of a function is up or down.
//!
//! A virtual function has no carrier while its physical function is down, so creating VFs for a guest includes bringing
//! the PF up. Spec: Linux: Documentation/ABI/testing/sysfs-class-net, `flags`; `IFF_UP` of netdevice(7).

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, BIND_LIMIT, Footprint, Standing, device_path, optional, present, required};
use crate::host::fact::Fact;
use crate::setup::control::Control;
use crate::spec::pci::PciAddress;

/// `IFF_UP`, netdevice(7).
const IFF_UP: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLink {
    /// The function that the interface belongs to.
    pub function: PciAddress,
    /// Name of the interface.
    pub interface: String,
    /// Up, or down.
    pub up: bool,
}

/// Whether a link is administratively up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    up: bool,
}

impl LinkState {
    /// Whether it is up.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }
}

/// Whether the interface `name` of `function` is up.
pub(super) fn is_up(control: &dyn Control, function: PciAddress, name: &str) -> Result<bool, ActionError> {
    let path = flags_path(function, name);
    Ok(required(&path, flags(control, &path))? & IFF_UP != 0)
}

/// The same; none if there is no interface of that name (any more).
pub(super) fn is_up_if_there(
    control: &dyn Control,
    function: PciAddress,
    name: &str,
) -> Result<Option<bool>, ActionError> {
    let path = flags_path(function, name);
    Ok(optional(&path, flags(control, &path))?.map(|flags| flags & IFF_UP != 0))
}

fn flags_path(function: PciAddress, name: &str) -> String {
    format!("{}/net/{name}/flags", device_path(function))
}

fn flags(control: &dyn Control, path: &str) -> Fact<u32> {
    let text = control.source().text(path);
    text.parse(path, |text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16))
}

impl Act for SetLink {
    type State = LinkState;

    fn observe(&self, control: &dyn Control) -> Result<LinkState, ActionError> {
        present(control, self.function)?;
        Ok(LinkState { up: is_up(control, self.function, &self.interface)? })
    }

    fn act(&self, _prior: &LinkState, control: &dyn Control) -> Result<(), ActionError> {
        Ok(control.set_link(&self.interface, self.up, BIND_LIMIT)?)
    }

    fn revert(&self, prior: &LinkState, control: &dyn Control) -> Result<(), ActionError> {
        Ok(control.set_link(&self.interface, prior.up, BIND_LIMIT)?)
    }

    fn standing(&self, _prior: &LinkState, now: &LinkState) -> Standing {
        if now.up == self.up { Standing::Applied } else { Standing::Before }
    }

    fn footprint(&self, _prior: &LinkState) -> Footprint {
        Footprint { changes: vec![self.function.into()], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("bring {} of {} {}", self.interface, self.function, if self.up { "up" } else { "down" })
    }

    fn describe_undo(&self, prior: &LinkState) -> String {
        Self { up: prior.up, ..self.clone() }.describe()
    }
}
