//! Somebody may open the VFIO node of a function, `/dev/vfio/N`: its user, its group, or both own it.
//!
//! The node is that of the function's IOMMU group. It appears when a VFIO driver takes a member of the group and goes with
//! the last one, so what is done to it ends with the binding. udev, where it runs, sets owner and mode of a new node by its
//! own rules some time after it appeared, so that is waited for. Permission bits are only added: a group gets what its
//! owner has, and what somebody else was given by a rule stays. The node for iommufd (`/dev/vfio/devices`) is not touched.
//! Spec: Linux: Documentation/driver-api/vfio.rst; udev(7).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bind_driver::{VfIndex, await_vfio_node};
use super::{
    Act, ActionError, BETWEEN_TRIES, BIND_LIMIT, Footprint, Object, Standing, TRIES, device_path, optional,
    present, required, vf_count,
};
use crate::setup::control::Control;
use crate::spec::pci::PciAddress;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAccess {
    /// The function. Of a virtual function that is still to be created: where it will be.
    pub function: PciAddress,
    /// Which virtual function of which physical function it is, if it was named so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<VfIndex>,
    /// The user that should own the node; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
    /// The group that should own the node; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Its number.
    pub number: u32,
    /// As the user of this program calls it.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A node, as far as it says who may open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The IOMMU group whose node it is.
    group: u32,
    uid: u32,
    gid: u32,
    /// Permission bits.
    mode: u32,
}

/// `rw-------` and `rw-rw----`.
const OF_USER: u32 = 0o600;
const OF_GROUP: u32 = 0o660;

impl NodeAccess {
    /// With the address that a virtual function really got, once its node is there and udev has done its part.
    pub(super) fn resolve(self, control: &dyn Control) -> Result<Self, ActionError> {
        let function = match self.vf {
            Some(VfIndex { pf, index }) => vf_count::vf_address(control, pf, index)?,
            None => self.function,
        };
        await_vfio_node(control, function)?;
        await_udev(control, group_of(control, function)?)?;
        Ok(Self { function, ..self })
    }

    /// Permission bits that the node needs.
    #[must_use]
    pub fn needs(&self) -> u32 {
        if self.group.is_some() { OF_GROUP } else { OF_USER }
    }

    /// What should be so of a node that was `prior`.
    fn wanted(&self, prior: &NodeState) -> NodeState {
        NodeState {
            group: prior.group,
            uid: self.user.as_ref().map_or(prior.uid, |user| user.number),
            gid: self.group.as_ref().map_or(prior.gid, |group| group.number),
            mode: prior.mode | self.needs(),
        }
    }

    /// Makes the node `wanted`, as far as it is not.
    fn set(&self, wanted: &NodeState, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        if now.group != wanted.group {
            return Err(ActionError::Gone(Object::VfioNode(wanted.group)));
        }
        let path = path(now.group);
        if (now.uid, now.gid) != (wanted.uid, wanted.gid) {
            control.set_owner(&path, wanted.uid, wanted.gid, BIND_LIMIT)?;
        }
        if now.mode != wanted.mode {
            control.set_mode(&path, wanted.mode, BIND_LIMIT)?;
        }
        Ok(())
    }

    /// Who may open it, in words.
    #[must_use]
    pub fn whom(&self) -> String {
        match (&self.user, &self.group) {
            (Some(user), Some(group)) => format!("user {user} and group {group}"),
            (Some(user), None) => format!("user {user}"),
            (None, Some(group)) => format!("group {group}"),
            (None, None) => "nobody else".to_owned(),
        }
    }
}

fn path(group: u32) -> String {
    format!("/dev/vfio/{group}")
}

fn group_of(control: &dyn Control, function: PciAddress) -> Result<u32, ActionError> {
    let link = format!("{}/iommu_group", device_path(function));
    required(&link, control.source().link_name(&link).parse(&link, |name| name.parse()))
}

/// Waits until udev has set up the node of `group`. It writes down what it knows of a device when it is done with it
/// (systemd: sd-device, `/run/udev/data/cMAJOR:MINOR`); where it never does, there is nothing to wait for.
fn await_udev(control: &dyn Control, group: u32) -> Result<(), ActionError> {
    let names = optional("/run/udev", control.source().list("/run/udev"))?.unwrap_or_default();
    let number = format!("/sys/class/vfio/{group}/dev");
    let Some(number) = optional(&number, control.source().text(&number))? else { return Ok(()) };
    if !names.iter().any(|name| name == "control") {
        return Ok(()); // udev does not run
    }
    let known = format!("/run/udev/data/c{}", number.trim());
    for _ in 0..TRIES {
        if optional(&known, control.source().text(&known))?.is_some() {
            return Ok(());
        }
        control.pause(BETWEEN_TRIES);
    }
    tracing::debug!(group, "udev did not say that it is done with the node");
    Ok(())
}

impl Act for NodeAccess {
    type State = NodeState;

    fn observe(&self, control: &dyn Control) -> Result<NodeState, ActionError> {
        present(control, self.function)?;
        let group = group_of(control, self.function)?;
        let path = path(group);
        let node = optional(&path, control.source().device_node(&path))?;
        let node = node.ok_or(ActionError::Gone(Object::VfioNode(group)))?;
        Ok(NodeState { group, uid: node.uid, gid: node.gid, mode: node.mode })
    }

    fn act(&self, prior: &NodeState, control: &dyn Control) -> Result<(), ActionError> {
        self.set(&self.wanted(prior), control)
    }

    fn revert(&self, prior: &NodeState, control: &dyn Control) -> Result<(), ActionError> {
        self.set(prior, control)
    }

    fn standing(&self, prior: &NodeState, now: &NodeState) -> Standing {
        let wanted = self.wanted(prior);
        if now.group != prior.group {
            return Standing::Gone; // the function is in another group now, and that has another node
        }
        if *now == wanted {
            return Standing::Applied;
        }
        if now == prior {
            return Standing::Before;
        }
        let ours = |now: u32, prior: u32, wanted: u32| now == prior || now == wanted;
        if ours(now.uid, prior.uid, wanted.uid)
            && ours(now.gid, prior.gid, wanted.gid)
            && ours(now.mode, prior.mode, wanted.mode)
        {
            return Standing::Between;
        }
        let NodeState { group, uid, gid, mode } = now;
        Standing::Drifted(format!("{} with user {uid}, group {gid} and mode {mode:04o}", path(*group)))
    }

    fn footprint(&self, prior: &NodeState) -> Footprint {
        Footprint { changes: vec![Object::VfioNode(prior.group)], needs: vec![self.function.into()] }
    }

    fn describe(&self) -> String {
        let what = match self.vf {
            Some(VfIndex { pf, index }) => format!("{} (VF {index} of {pf})", self.function),
            None => self.function.to_string(),
        };
        format!("let {} open the VFIO node of {what}", self.whom())
    }

    fn describe_undo(&self, prior: &NodeState) -> String {
        let NodeState { group, uid, gid, mode } = prior;
        format!("give {} back to user {uid} and group {gid}, mode {mode:04o}", path(*group))
    }
}

#[cfg(test)]
mod tests;
