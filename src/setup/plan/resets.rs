//! How functions are to be reset, and whether the kernel can.

use super::selected::Selected;
use super::{PlanError, Planner, Wanted};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::setup::action::{Action, ResetMethods};

/// A function, if it is there, and what is asked of it.
pub(super) struct Reset<'a> {
    device: Option<&'a PciDevice>,
    action: ResetMethods,
}

impl<'a> Planner<'a> {
    /// What is asked of the resets of which functions.
    pub(super) fn resets(&self, wanted: &Wanted<'a>) -> Result<Vec<Reset<'a>>, PlanError> {
        let mut resets: Vec<Reset<'a>> = Vec::new();
        for goal in wanted.goal.devices.iter().filter(|goal| !goal.reset_method.is_empty()) {
            if let Some(problem) = goal.problem() {
                return Err(PlanError::Invalid(format!("reset_method of {}: {problem}", goal.select)));
            }
            for selected in wanted.selected(self.facts, &goal.select)? {
                let (function, vf, device) = match selected {
                    Selected::Now(device) => (device.address, None, Some(device)),
                    Selected::Later { function, vf, .. } => (function, Some(vf), None),
                };
                let methods = goal.reset_method.iter().map(|method| method.name().to_owned()).collect();
                let reset = Reset { device, action: ResetMethods { function, vf, methods } };
                match resets.iter().find(|other| other.action.function == function) {
                    Some(same) if same.action == reset.action => {}
                    Some(_) => {
                        let text = format!("{function} is asked for twice, with different reset methods");
                        return Err(PlanError::Invalid(text));
                    }
                    None => resets.push(reset),
                }
            }
        }
        Ok(resets)
    }

    /// Functions that are there, before they get virtual ones: with those on it too, a bus cannot be reset for one function,
    /// and the kernel takes no list with that, not even the one that was there before.
    pub(super) fn resets_now(&mut self, resets: &[Reset<'a>]) -> Result<(), PlanError> {
        for Reset { device, action } in resets {
            let Some(device) = device else { continue };
            can_reset(device, &action.methods)?;
            if device.reset_methods.known() == Some(&action.methods) {
                let methods = action.methods.join(", ");
                self.plan.already.push(format!("{} is reset by {methods}", action.function));
            } else {
                self.push(Action::ResetMethods(action.clone()), Some(device));
            }
        }
        Ok(())
    }

    /// Virtual functions that are created before.
    pub(super) fn resets_later(&mut self, resets: Vec<Reset<'a>>) {
        for reset in resets.into_iter().filter(|reset| reset.device.is_none()) {
            self.push(Action::ResetMethods(reset.action), None);
        }
    }
}

fn can_reset(device: &PciDevice, methods: &[String]) -> Result<(), PlanError> {
    let address = device.address;
    let reason = match &device.reset_methods {
        Fact::Known(offered) => {
            let Some(other) = methods.iter().find(|method| !offered.contains(method)) else { return Ok(()) };
            format!(
                "it can be reset by {} and not by {other}; if somebody switched that off, `echo default \
                 >/sys/bus/pci/devices/{address}/reset_method` brings it back",
                offered.join(", ")
            )
        }
        Fact::NotPresent => "this kernel knows no way to reset it".to_owned(),
        Fact::Unreadable { .. } => {
            "this kernel does not let the way of resetting be chosen; Linux 5.15 and later do".to_owned()
        }
        Fact::Denied { .. } => "the ways to reset it may not be read; run as root".to_owned(),
    };
    Err(PlanError::Impossible { subject: address.into(), reason })
}
