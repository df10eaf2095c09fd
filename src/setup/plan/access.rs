//! Who is to get the VFIO nodes of which functions.

use super::selected::Selected;
use super::{PlanError, Planner, Wanted};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::setup::action::bind_driver::is_vfio;
use crate::setup::action::node_access::Owner;
use crate::setup::action::{Action, NodeAccess};
use crate::setup::goal::Account;
use crate::spec::pci::PciAddress;

/// Whom a node is given to.
type Owners = (Option<Owner>, Option<Owner>);

impl<'a> Planner<'a> {
    pub(super) fn access(&mut self, wanted: &Wanted<'a>) -> Result<(), PlanError> {
        let mut given: Vec<(u32, Owners)> = Vec::new();
        for goal in &wanted.goal.access {
            if let Some(problem) = goal.problem() {
                return Err(PlanError::Invalid(format!("access to {}: {problem}", goal.select)));
            }
            let owners = (number("user", &goal.user)?, number("group", &goal.group)?);
            for selected in wanted.selected(self.facts, &goal.select)? {
                let device = match selected {
                    Selected::Now(device) => device,
                    Selected::Later { function, vf, of } => {
                        has_node(function, of.drivers.get(&vf.index).and_then(Option::as_deref))?;
                        let (user, group) = owners.clone();
                        self.push(
                            Action::NodeAccess(NodeAccess { function, vf: Some(vf), user, group }),
                            None,
                        );
                        continue;
                    }
                };
                if let Some(group) = device.iommu_group.known() {
                    match given.iter().find(|(other, _)| other == group) {
                        Some((_, same)) if *same == owners => continue,
                        Some(_) => {
                            return Err(PlanError::Invalid(format!(
                                "the VFIO node of {} is that of all of IOMMU group {group}, and is asked for twice, for \
                                 different owners",
                                device.address
                            )));
                        }
                        None => given.push((*group, owners.clone())),
                    }
                }
                self.give(wanted, device, owners.clone())?;
            }
        }
        Ok(())
    }

    fn give(&mut self, wanted: &Wanted<'a>, device: &PciDevice, owners: Owners) -> Result<(), PlanError> {
        let address = device.address;
        let now = device.driver.known().map(String::as_str);
        let then = wanted.driver(device).or(now);
        has_node(address, then)?;
        let (user, group) = owners;
        let action = NodeAccess { function: address, vf: None, user, group };
        if then == now && self.is_given(device, &action) {
            self.plan.already.push(format!("the VFIO node of {address} is that of {}", action.whom()));
        } else {
            self.push(Action::NodeAccess(action), Some(device));
        }
        Ok(())
    }

    fn is_given(&self, device: &PciDevice, action: &NodeAccess) -> bool {
        let nodes = self.facts.vfio.nodes.known().into_iter().flatten();
        let mut nodes =
            nodes.filter(|node| node.group.is_some() && node.group.as_ref() == device.iommu_group.known());
        let Some(Fact::Known(node)) = nodes.next().map(|found| &found.node) else { return false };
        let is = |owner: &Option<Owner>, found: u32| owner.as_ref().is_none_or(|owner| owner.number == found);
        is(&action.user, node.uid)
            && is(&action.group, node.gid)
            && node.mode & action.needs() == action.needs()
    }
}

/// Only functions of VFIO drivers have nodes.
fn has_node(function: PciAddress, driver: Option<&str>) -> Result<(), PlanError> {
    let has = match driver {
        Some(driver) if is_vfio(driver) => return Ok(()),
        Some(driver) => format!("it has driver {driver}"),
        None => "it has no driver".to_owned(),
    };
    let reason = format!("{has}, and only functions of a VFIO driver have a node; name it in `devices` too");
    Err(PlanError::Impossible { subject: function.into(), reason })
}

fn number(kind: &str, account: &Option<Account>) -> Result<Option<Owner>, PlanError> {
    let Some(account) = account else { return Ok(None) };
    match account.number() {
        Some(number) => Ok(Some(Owner { number, name: account.to_string() })),
        None => Err(PlanError::Invalid(format!("the number of {kind} `{account}` was not looked up"))),
    }
}
