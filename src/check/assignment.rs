//! One function, one question: can it be passed through, and what does the host lose?
//!
//! No, if a check failed or the kernel's own conditions are not met; unknown, if one of these could not be read; else
//! yes (Linux: Documentation/driver-api/vfio.rst; drivers/vfio/vfio_iommu_type1.c). That something uses the function is
//! no obstacle here: it is what the host loses. Whether that loss is allowed is for [`crate::setup`] to refuse.

mod losses;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{Finding, Status};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::Group;
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

pub(super) use losses::uses_in_words;
pub use losses::{Loss, LossKind};

/// Whether one function can be passed through.
#[derive(Debug, Clone, Serialize)]
pub struct Assignment {
    /// The function.
    pub address: PciAddress,
    /// What it is; absent where it has no name.
    pub description: Option<String>,
    /// Whether it can be passed through; absent where nobody can say.
    pub possible: Option<bool>,
    /// Why not, or what is not known.
    pub reasons: Vec<String>,
    /// Its IOMMU group; absent if it has none or that could not be read.
    pub iommu_group: Option<u32>,
    /// Members of the group, itself first.
    pub members: Vec<Member>,
    /// What the host loses with it and with those that go along.
    pub losses: Vec<Loss>,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// As the kernel names it: a PCI address, or the name of another device.
    pub device: String,
    /// What it is; absent where it has no name.
    pub description: Option<String>,
    /// The driver that is bound to it; absent if none is, or if that could not be read.
    pub driver: Option<String>,
    /// What becomes of it.
    pub role: Role,
}

/// What becomes of a member of a group from which a function is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is the one that was asked about.
    Asked,
    /// It goes along: the host has to take its driver away.
    GoesAlong,
    /// No driver uses it, and none may while the guest runs.
    Idle,
    /// A bridge stays as it is.
    Bridge,
}

/// What a function is, if its vendor or its class has a name.
pub(super) fn description(function: &PciDevice) -> Option<String> {
    let names: Vec<_> =
        [&function.vendor, &function.device].into_iter().flatten().map(String::as_str).collect();
    match (&function.class_name, names.is_empty()) {
        (Some(class), true) => Some(class.clone()),
        (Some(class), false) => Some(format!("{class}: {}", names.join(" "))),
        (None, false) => Some(names.join(" ")),
        (None, true) => None,
    }
}

/// The answer for `function`, given what the checks found.
pub(super) fn assignment(facts: &HostFacts, function: &PciDevice, findings: &[Finding]) -> Assignment {
    let group = function.iommu_group.known().and_then(|id| facts.group(*id));
    let members = members(facts, function, group);
    let lost = members.iter().filter(|member| matches!(member.role, Role::Asked | Role::GoesAlong));
    let losses = lost
        .filter_map(|member| facts.device(member.device.parse().ok()?))
        .flat_map(|function| losses::of(facts, function))
        .collect();
    let (possible, reasons) = decide(facts, function, group, findings);
    Assignment {
        address: function.address,
        description: description(function),
        possible,
        reasons,
        iommu_group: group.map(|group| group.id),
        members,
        losses,
    }
}

fn decide(
    facts: &HostFacts,
    function: &PciDevice,
    group: Option<&Group>,
    findings: &[Finding],
) -> (Option<bool>, Vec<String>) {
    let failed = findings.iter().filter(|finding| finding.outcome.status == Status::Fail);
    let failed: Vec<_> = failed.map(|finding| finding.outcome.summary.clone()).collect();
    if !failed.is_empty() {
        return (Some(false), failed);
    }
    let mut unmet = Vec::new();
    let mut unknown = Vec::new();
    if function.is_bridge() {
        unmet.push("it is a bridge, and bridges stay with the host".to_owned());
    }
    match &facts.iommu.dma_remapping {
        Fact::Known(true) => {}
        Fact::Known(false) => unmet.push("the kernel runs no IOMMU".to_owned()),
        _ => unknown.push("whether the kernel runs an IOMMU".to_owned()),
    }
    match (&function.iommu_group, group) {
        (Fact::NotPresent, _) => {
            unmet.push("it is in no IOMMU group: no IOMMU translates for it".to_owned());
        }
        (_, Some(group)) => judge_group(group, &mut unmet, &mut unknown),
        (_, None) => unknown.push("its IOMMU group".to_owned()),
    }
    match (unmet.is_empty(), unknown.is_empty()) {
        (false, _) => (Some(false), unmet),
        (true, false) => {
            (None, unknown.into_iter().map(|what| format!("{what} could not be read")).collect())
        }
        (true, true) => (Some(true), Vec::new()),
    }
}

fn judge_group(group: &Group, unmet: &mut Vec<String>, unknown: &mut Vec<String>) {
    if group.no_iommu {
        unmet.push("its group is of VFIO's no-IOMMU mode, in which nothing confines it".to_owned());
    }
    match &group.reserved_regions {
        // Linux: drivers/iommu/iommu.c refuses a group with direct regions to user space since 6.1 (a48ce36e2786).
        Fact::Known(regions) if regions.iter().any(|region| region.kind == "direct") => {
            unmet.push("firmware reserves memory for its group that must stay mapped one to one".to_owned());
        }
        Fact::Known(_) => {}
        _ => unknown.push("which memory firmware reserves for its group".to_owned()),
    }
    if group.devices.known().is_none() {
        unknown.push("who shares its group".to_owned());
    }
}

/// The members of the group, the function itself first; it alone, if there is no group to be read.
pub(super) fn members(facts: &HostFacts, function: &PciDevice, group: Option<&Group>) -> Vec<Member> {
    let own = function.address.to_string();
    let mut members = vec![member(own.clone(), Some(function), Role::Asked)];
    for name in group.and_then(|group| group.devices.known()).into_iter().flatten() {
        if *name == own {
            continue;
        }
        let device = name.parse().ok().and_then(|address| facts.device(address));
        let role = match device {
            Some(device) if device.is_bridge() => Role::Bridge,
            Some(device) if device.driver == Fact::NotPresent => Role::Idle,
            _ => Role::GoesAlong,
        };
        members.push(member(name.clone(), device, role));
    }
    members
}

fn member(device: String, function: Option<&PciDevice>, role: Role) -> Member {
    let driver = function.and_then(|function| function.driver.known().cloned());
    Member { device, description: function.and_then(description), driver, role }
}
