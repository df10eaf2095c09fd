//! Whether the kernel probes drivers for virtual functions that it creates.
//!
//! It is switched off before virtual functions are created for a guest, so that no host driver (and no network manager
//! behind it) takes them for a moment, and back to what it was right afterwards: while it is off, `drivers_probe` and
//! `bind` claim no virtual function. Spec: Linux: Documentation/ABI/testing/sysfs-bus-pci, `sriov_drivers_autoprobe`.

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, BIND_LIMIT, Footprint, Standing, device_path, number, present};
use crate::setup::control::Control;
use crate::spec::pci::PciAddress;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfAutoprobe {
    /// The physical function.
    pub pf: PciAddress,
    /// On, or off.
    pub on: bool,
}

/// Content of `sriov_drivers_autoprobe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoprobeState {
    on: bool,
}

/// Reads `sriov_drivers_autoprobe` of `pf`.
pub(super) fn is_on(control: &dyn Control, pf: PciAddress) -> Result<bool, ActionError> {
    Ok(number::<u8>(control, pf, "sriov_drivers_autoprobe")? != 0)
}

/// Writes `sriov_drivers_autoprobe` of `pf`.
pub(super) fn set(control: &dyn Control, pf: PciAddress, on: bool) -> Result<(), ActionError> {
    let path = format!("{}/sriov_drivers_autoprobe", device_path(pf));
    Ok(control.write(&path, if on { "1" } else { "0" }, BIND_LIMIT)?)
}

impl Act for VfAutoprobe {
    type State = AutoprobeState;

    fn observe(&self, control: &dyn Control) -> Result<AutoprobeState, ActionError> {
        present(control, self.pf)?;
        Ok(AutoprobeState { on: is_on(control, self.pf)? })
    }

    fn act(&self, _prior: &AutoprobeState, control: &dyn Control) -> Result<(), ActionError> {
        set(control, self.pf, self.on)
    }

    fn revert(&self, prior: &AutoprobeState, control: &dyn Control) -> Result<(), ActionError> {
        set(control, self.pf, prior.on)
    }

    fn standing(&self, _prior: &AutoprobeState, now: &AutoprobeState) -> Standing {
        if now.on == self.on { Standing::Applied } else { Standing::Before }
    }

    fn footprint(&self, _prior: &AutoprobeState) -> Footprint {
        Footprint { changes: vec![self.pf.into()], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        let verb = if self.on { "let the kernel" } else { "keep the kernel from" };
        let rest = if self.on { "probe drivers for" } else { "probing drivers for" };
        format!("{verb} {rest} new virtual functions of {}", self.pf)
    }

    fn describe_undo(&self, prior: &AutoprobeState) -> String {
        Self { on: prior.on, ..self.clone() }.describe()
    }
}
