//! The kernel resets a function in these ways, and tries them in this order.
//!
//! What the file shows are the ways that are switched on; which others the kernel could use it tells nowhere, and answers
//! `EINVAL` to those that it cannot at this moment: a bus only for a function that is alone on it, without virtual ones. A
//! list that was there before can thus be refused, until those are gone. Without any way the file is empty, and it is made so
//! by a newline.
//! Spec: Linux: Documentation/ABI/testing/sysfs-bus-pci, `reset_method` (since Linux 5.15).

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::bind_driver::VfIndex;
use super::{Act, ActionError, BIND_LIMIT, Footprint, Standing, device_path, present, required, vf_count};
use crate::setup::control::{Control, ControlError};
use crate::spec::pci::PciAddress;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetMethods {
    /// The function. Of a virtual function that is still to be created: where it will be.
    pub function: PciAddress,
    /// Which virtual function of which physical function it is, if it was named so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<VfIndex>,
    /// The ways, as the kernel names them, the first to be tried first.
    pub methods: Vec<String>,
}

/// Ways that are switched on, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodsState {
    methods: Vec<String>,
}

impl ResetMethods {
    /// With the address that a virtual function really got.
    pub(super) fn resolve(self, control: &dyn Control) -> Result<Self, ActionError> {
        let Some(VfIndex { pf, index }) = self.vf else { return Ok(self) };
        Ok(Self { function: vf_count::vf_address(control, pf, index)?, ..self })
    }

    fn path(&self) -> String {
        format!("{}/reset_method", device_path(self.function))
    }

    fn set(&self, methods: &[String], control: &dyn Control) -> Result<(), ActionError> {
        match control.write(&self.path(), &format!("{}\n", methods.join(" ")), BIND_LIMIT) {
            Err(ControlError::Write { source, .. })
                if source.raw_os_error() == Some(Errno::EINVAL as i32) =>
            {
                let mut found = "that the kernel cannot, at least not now".to_owned();
                if methods.iter().any(|method| method.contains("bus")) {
                    found.push_str(
                        "; a bus is reset for a function that is alone on it, without virtual ones: destroy those first",
                    );
                }
                let subject = self.function.to_string();
                Err(ActionError::NotReached {
                    subject,
                    expected: format!("reset by {}", list(methods)),
                    found,
                })
            }
            result => Ok(result?),
        }
    }
}

fn list(methods: &[String]) -> String {
    if methods.is_empty() { "none".to_owned() } else { methods.join(", ") }
}

impl Act for ResetMethods {
    type State = MethodsState;

    fn observe(&self, control: &dyn Control) -> Result<MethodsState, ActionError> {
        present(control, self.function)?;
        let text = required(&self.path(), control.source().text(&self.path()))?;
        Ok(MethodsState { methods: text.split_ascii_whitespace().map(str::to_owned).collect() })
    }

    fn act(&self, _prior: &MethodsState, control: &dyn Control) -> Result<(), ActionError> {
        self.set(&self.methods, control)
    }

    fn revert(&self, prior: &MethodsState, control: &dyn Control) -> Result<(), ActionError> {
        self.set(&prior.methods, control)
    }

    fn standing(&self, prior: &MethodsState, now: &MethodsState) -> Standing {
        if now.methods == self.methods {
            Standing::Applied
        } else if now == prior {
            Standing::Before
        } else {
            Standing::Drifted(format!("reset methods {}", list(&now.methods)))
        }
    }

    fn footprint(&self, _prior: &MethodsState) -> Footprint {
        Footprint { changes: vec![self.function.into()], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        let what = match self.vf {
            Some(VfIndex { pf, index }) => format!("{} (VF {index} of {pf})", self.function),
            None => self.function.to_string(),
        };
        format!("reset {what} by {}", list(&self.methods))
    }

    fn describe_undo(&self, prior: &MethodsState) -> String {
        format!("reset {} by {} again", self.function, list(&prior.methods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::action::{Action, Change};
    use crate::setup::fake::FakeKernel;

    const FILE: &str = "/sys/bus/pci/devices/0000:02:00.0/reset_method";

    fn host() -> FakeKernel {
        let kernel = FakeKernel::usual();
        kernel.put(FILE, "flr bus");
        kernel
    }

    fn change(kernel: &FakeKernel, methods: &[&str]) -> Change {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        let function = "0000:02:00.0".parse().unwrap();
        Action::ResetMethods(ResetMethods { function, vf: None, methods }).observe(kernel).unwrap()
    }

    #[test]
    fn order_and_choice_are_set_and_come_back_even_from_none() {
        for before in ["flr bus", "pm", ""] {
            let kernel = host();
            kernel.put(FILE, before);
            let change = change(&kernel, &["bus", "flr"]);

            change.carry_out(&kernel).unwrap();
            let set = kernel.text(FILE);
            change.take_back(&kernel).unwrap();

            assert_eq!(set.as_deref(), Some("bus flr"));
            assert_eq!(kernel.text(FILE).as_deref(), Some(before));
        }
    }

    #[test]
    fn the_same_order_is_already_so_and_another_is_drift() {
        let kernel = host();
        assert!(change(&kernel, &["flr", "bus"]).is_already_so());
        let change = change(&kernel, &["bus"]);
        change.carry_out(&kernel).unwrap();

        kernel.put(FILE, "pm");

        assert_eq!(change.standing(&kernel).unwrap(), Standing::Drifted("reset methods pm".to_owned()));
    }

    #[test]
    fn a_bus_with_virtual_functions_on_it_is_told() {
        let kernel = FakeKernel::usual();
        let nic = "/sys/bus/pci/devices/0000:01:00.0";
        kernel.put(&format!("{nic}/reset_method"), "flr bus");
        let function = "0000:01:00.0".parse().unwrap();
        let action = ResetMethods { function, vf: None, methods: vec!["flr".to_owned()] };
        let change = Action::ResetMethods(action).observe(&kernel).unwrap();
        change.carry_out(&kernel).unwrap();
        kernel.write(&format!("{nic}/sriov_numvfs"), "1", BIND_LIMIT).unwrap();

        let error = change.take_back(&kernel).unwrap_err().to_string();
        kernel.write(&format!("{nic}/sriov_numvfs"), "0", BIND_LIMIT).unwrap();
        change.take_back(&kernel).unwrap();

        assert!(error.contains("without virtual ones: destroy those first"), "{error}");
    }

    #[test]
    fn a_way_that_the_kernel_does_not_have_fails_and_changes_nothing() {
        let kernel = host();
        let change = change(&kernel, &["acpi"]);
        let error = change.carry_out(&kernel).unwrap_err().to_string();
        assert_eq!(
            error,
            "0000:02:00.0: expected reset by acpi, found that the kernel cannot, at least not now"
        );
        assert_eq!(kernel.text(FILE).as_deref(), Some("flr bus"));
    }
}
