//! The kernel chooses the frequency of CPUs by this governor.
//!
//! CPUs that share a clock are one policy. A policy whose CPUs are all offline says nothing of itself and is left out, and
//! one that comes later is nobody's drift. Spec: Linux: Documentation/admin-guide/pm/cpufreq.rst, "Policy Interface in
//! sysfs".

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, BIND_LIMIT, Footprint, Object, Standing, optional, required};
use crate::host::fact::Fact;
use crate::setup::control::Control;

/// Where policies are.
pub(in crate::setup) const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governor {
    /// Name, as `scaling_available_governors` lists it.
    pub governor: String,
}

/// The governors of all policies whose CPUs run, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GovernorsState {
    policies: Vec<Policy>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Policy {
    /// Number of its first CPU.
    number: u32,
    governor: String,
}

fn file(policy: u32, name: &str) -> String {
    format!("{POLICIES}/policy{policy}/{name}")
}

fn text(control: &dyn Control, policy: u32, name: &str) -> Result<String, ActionError> {
    let path = file(policy, name);
    Ok(required(&path, control.source().text(&path))?.trim().to_owned())
}

impl Governor {
    /// The policies of `prior` that have another governor, each with that and what it has in `now`; those that are gone
    /// are left out.
    fn others<'a>(
        &'a self,
        prior: &'a GovernorsState,
        now: &'a GovernorsState,
    ) -> impl Iterator<Item = (&'a Policy, &'a str)> {
        let others = prior.policies.iter().filter(|policy| policy.governor != self.governor);
        others.filter_map(|policy| {
            let now = now.policies.iter().find(|now| now.number == policy.number)?;
            Some((policy, now.governor.as_str()))
        })
    }

    fn is_offered(&self, control: &dyn Control, policy: u32) -> Result<(), ActionError> {
        let offered = text(control, policy, "scaling_available_governors")?;
        if offered.split_ascii_whitespace().any(|name| name == self.governor) {
            return Ok(());
        }
        Err(ActionError::NotReached {
            subject: Object::Governors.to_string(),
            expected: format!("`{}`", self.governor),
            found: format!("that policy {policy} can only have: {offered}"),
        })
    }
}

impl Act for Governor {
    type State = GovernorsState;

    fn observe(&self, control: &dyn Control) -> Result<GovernorsState, ActionError> {
        let names = optional(POLICIES, control.source().list(POLICIES))?.unwrap_or_default();
        let mut policies = Vec::new();
        for number in names.iter().filter_map(|name| name.strip_prefix("policy")?.parse().ok()) {
            let cpus = control.source().text(&file(number, "affected_cpus"));
            if matches!(cpus, Fact::Known(cpus) if !cpus.trim().is_empty()) {
                policies.push(Policy { number, governor: text(control, number, "scaling_governor")? });
            }
        }
        policies.sort_unstable();
        if policies.is_empty() {
            Err(ActionError::Gone(Object::Governors))
        } else {
            Ok(GovernorsState { policies })
        }
    }

    fn act(&self, prior: &GovernorsState, control: &dyn Control) -> Result<(), ActionError> {
        let others = || self.others(prior, prior).map(|(policy, _)| policy.number);
        others().try_for_each(|policy| self.is_offered(control, policy))?;
        for policy in others() {
            control.write(&file(policy, "scaling_governor"), &self.governor, BIND_LIMIT)?;
        }
        Ok(())
    }

    fn revert(&self, prior: &GovernorsState, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        for (policy, now) in self.others(prior, &now) {
            if now != policy.governor {
                control.write(&file(policy.number, "scaling_governor"), &policy.governor, BIND_LIMIT)?;
            }
        }
        Ok(())
    }

    fn standing(&self, prior: &GovernorsState, now: &GovernorsState) -> Standing {
        let (mut done, mut open) = (0, 0);
        for (policy, now) in self.others(prior, now) {
            if now == self.governor {
                done += 1;
            } else if now == policy.governor {
                open += 1;
            } else {
                return Standing::Drifted(format!("governor {now} of policy {}", policy.number));
            }
        }
        match (done, open) {
            (_, 0) => Standing::Applied,
            (0, _) => Standing::Before,
            _ => Standing::Between,
        }
    }

    fn footprint(&self, _prior: &GovernorsState) -> Footprint {
        Footprint { changes: vec![Object::Governors], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("choose CPU frequencies by governor {}", self.governor)
    }

    fn describe_undo(&self, prior: &GovernorsState) -> String {
        let mut names: Vec<_> =
            self.others(prior, prior).map(|(policy, _)| policy.governor.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        format!("choose CPU frequencies by governor {} again", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::action::{Action, Change};
    use crate::setup::fake::FakeKernel;

    fn host() -> FakeKernel {
        FakeKernel::new(&[]).with_policies()
    }

    fn change(kernel: &FakeKernel, governor: &str) -> Change {
        Action::Governor(Governor { governor: governor.to_owned() }).observe(kernel).unwrap()
    }

    fn governors(kernel: &FakeKernel) -> Vec<String> {
        [0, 2].map(|policy| kernel.text(&file(policy, "scaling_governor")).unwrap()).to_vec()
    }

    #[test]
    fn each_policy_gets_its_own_governor_back() {
        let kernel = host();
        let change = change(&kernel, "performance");
        assert!(!change.is_already_so());

        change.carry_out(&kernel).unwrap();
        let set = governors(&kernel);
        change.take_back(&kernel).unwrap();

        assert_eq!(set, ["performance", "performance"]);
        assert_eq!(governors(&kernel), ["powersave", "schedutil"]);
    }

    #[test]
    fn a_governor_that_a_policy_cannot_have_changes_none() {
        let kernel = host();
        let error = change(&kernel, "ondemand").carry_out(&kernel).unwrap_err().to_string();
        assert_eq!(
            error,
            "the governors of CPU frequencies: expected `ondemand`, found that policy 2 can only have: performance schedutil"
        );
        assert!(kernel.log().is_empty());
    }

    #[test]
    fn policies_that_sleep_are_left_out_and_what_somebody_else_chose_is_drift() {
        let kernel = host();
        kernel.put(&file(4, "affected_cpus"), "");
        let change = change(&kernel, "performance");
        change.carry_out(&kernel).unwrap();
        kernel.put(&file(2, "affected_cpus"), "");
        assert_eq!(change.standing(&kernel).unwrap(), Standing::Applied);

        kernel.put(&file(0, "scaling_governor"), "powersave");
        kernel.put(&file(2, "affected_cpus"), "2 3");
        let between = change.standing(&kernel).unwrap();
        kernel.put(&file(0, "scaling_governor"), "userspace");
        let drifted = change.standing(&kernel).unwrap();

        assert_eq!(between, Standing::Between);
        assert_eq!(drifted, Standing::Drifted("governor userspace of policy 0".to_owned()));
    }
}
