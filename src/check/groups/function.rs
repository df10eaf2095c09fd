//! The group of one function.

use super::remedies::remedies;
use super::{endpoints, group_of, listed, members_file, on_one_card, seen};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{CauseKind, Effect, Group};
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

/// `group-function-alone`
pub(super) fn alone(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let group = match group_of(facts, function) {
        Ok(group) => group,
        Err(outcome) => return outcome,
    };
    let names = || group.devices.known().into_iter().flatten();
    let others: Vec<_> = endpoints(facts, group).filter(|other| *other != function.address).collect();
    let strangers = names().any(|name| name.parse::<PciAddress>().is_err());
    let evidence = names().cloned().collect::<Vec<_>>().join(", ");
    if others.is_empty() && !strangers {
        return Outcome::pass("the function's group holds no other device")
            .evidence(members_file(group), evidence);
    }
    let is_chipset = group.causes.iter().any(|cause| cause.kind == CauseKind::RootComplexIntegrated);
    let is_card = others.iter().all(|other| on_one_card(facts, *other, function.address));
    if is_card && !is_chipset && !strangers {
        return Outcome::pass(format!("the function's group holds its own card only: {}", listed(others)))
            .evidence(members_file(group), evidence);
    }
    let warn = Outcome::warn(format!("the function shares its group with other devices: {evidence}"))
        .cause(causes(group))
        .evidence(members_file(group), evidence)
        .remedies(remedies(facts, function, group));
    let signs =
        group.causes.iter().filter(|cause| cause.effect == Effect::Joins).flat_map(|cause| &cause.evidence);
    signs.fold(warn, |outcome, sign| seen(outcome, &sign.source, &sign.value))
}

/// What joins the members of `group`, in words.
pub(super) fn causes(group: &Group) -> String {
    let joins: Vec<_> = group
        .causes
        .iter()
        .filter(|cause| cause.effect == Effect::Joins)
        .map(|cause| cause.summary.as_str())
        .collect();
    if joins.is_empty() { "why the kernel made it so is not known".to_owned() } else { joins.join("; ") }
}

/// `group-function-viable`
pub(super) fn viable(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let group = match group_of(facts, function) {
        Ok(group) => group,
        Err(outcome) => return outcome,
    };
    let own = function.address.to_string();
    let offenders: Vec<_> = group.blockers.iter().filter(|blocker| blocker.device != own).collect();
    if offenders.is_empty() {
        // One driver that is known to be in the way leaves the others open.
        let unread = endpoints(facts, group)
            .filter(|other| *other != function.address)
            .filter_map(|other| facts.device(other))
            .find(|other| other.driver.is_unread());
        if let Some(other) = unread {
            return Outcome::unread(&other.driver, "which drivers the group's members have");
        }
        return match &group.viable {
            Fact::Known(_) => Outcome::pass("no other driver keeps the function's group from VFIO")
                .evidence(members_file(group), "no other member has a driver of the host"),
            unread => Outcome::unread(unread, "which drivers the group's members have"),
        };
    }
    let named: Vec<_> =
        offenders.iter().map(|blocker| format!("{} ({})", blocker.device, blocker.driver)).collect();
    let summary =
        format!("drivers of other members keep the function's group from VFIO: {}", named.join(", "));
    let is_function = |name: &str| name.parse::<PciAddress>().is_ok();
    let outcome = if offenders.iter().all(|blocker| is_function(&blocker.device)) {
        let all: Vec<_> = offenders.iter().map(|blocker| blocker.device.as_str()).collect();
        Outcome::warn(summary)
            .cause("the kernel opens a group only when no member has a driver of the host; `doctor --for` each of \
                    them tells what the host would lose")
            .remedy(Remedy::command(
                format!("thruway bind {own} {} --dry-run", all.join(" ")),
                "takes their drivers away, after it has shown what uses them",
            ))
    } else {
        Outcome::fail(summary)
            .cause(
                "a member is no PCI function, so VFIO cannot have it, and its driver keeps the group closed",
            )
            .remedy(Remedy::advice("unbind the driver of that device by hand, if the host can do without it"))
    };
    offenders.iter().fold(outcome, |outcome, blocker| {
        outcome.evidence(format!("{}/{}/driver", members_file(group), blocker.device), &blocker.driver)
    })
}
