//! How functions are to be reset, and whether the kernel can.

use super::selected::Selected;
use super::{PlanError, Planner, Wanted};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::setup::action::{Action, ResetMethods};
use crate::spec::pci::PciAddress;

impl<'a> Planner<'a> {
    pub(super) fn resets(&mut self, wanted: &Wanted<'a>) -> Result<(), PlanError> {
        let mut given: Vec<(PciAddress, Vec<String>)> = Vec::new();
        for goal in wanted.goal.devices.iter().filter(|goal| !goal.reset_method.is_empty()) {
            if let Some(problem) = goal.problem() {
                return Err(PlanError::Invalid(format!("reset_method of {}: {problem}", goal.select)));
            }
            let methods: Vec<String> =
                goal.reset_method.iter().map(|method| method.name().to_owned()).collect();
            for selected in wanted.selected(self.facts, &goal.select)? {
                let (function, vf, device) = match selected {
                    Selected::Now(device) => (device.address, None, Some(device)),
                    Selected::Later { function, vf, .. } => (function, Some(vf), None),
                };
                match given.iter().find(|(other, _)| *other == function) {
                    Some((_, same)) if *same == methods => continue,
                    Some(_) => {
                        let text = format!("{function} is asked for twice, with different reset methods");
                        return Err(PlanError::Invalid(text));
                    }
                    None => given.push((function, methods.clone())),
                }
                if let Some(device) = device {
                    can_reset(device, &methods)?;
                    if device.reset_methods.known() == Some(&methods) {
                        self.plan.already.push(format!("{function} is reset by {}", methods.join(", ")));
                        continue;
                    }
                }
                let methods = methods.clone();
                self.push(Action::ResetMethods(ResetMethods { function, vf, methods }), device);
            }
        }
        Ok(())
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
