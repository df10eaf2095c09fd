//! All groups of a host: ports and bridges without isolation, and the override.

use super::{endpoints, groups, listed, members_file, on_one_card, seen};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::iommu::isolation::Override;
use crate::host::iommu::{Cause, CauseKind, Effect, Group};
use crate::host::kernel_log::KernelLog;
use crate::host::pci::PciDevice;

const COMMAND_LINE: &str = "/proc/cmdline";

/// `group-ports-isolate`
pub(super) fn ports(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether ports keep devices apart";
    let groups = match groups(facts, SUBJECT) {
        Ok(groups) => groups,
        Err(outcome) => return outcome,
    };
    let found =
        joining(facts, groups, |kind| matches!(kind, CauseKind::PortLacksAcs | CauseKind::AcsBitsOff));
    if !found.is_empty() {
        let ports: Vec<_> = found.iter().filter_map(|(_, cause)| cause.function).collect();
        let warn = Outcome::warn(format!("{} do not keep unrelated devices apart", listed(ports)))
            .cause(
                "these ports have no Access Control Services, or do not use them, so the kernel puts devices of several \
                 slots into one group",
            )
            .remedy(Remedy::firmware(facts, Setting::Acs))
            .remedy(Remedy::command("thruway groups", "shows the groups, and --why ADDR what another slot would give"));
        return told(warn, &found);
    }
    let ports: Vec<_> = facts.pci.functions().iter().filter(|function| function.is_bridge()).collect();
    if let Some(port) = ports.iter().find(|port| port.ports.express.is_unread()) {
        return Outcome::unread(&port.ports.express, SUBJECT);
    }
    if let Some(port) = ports.iter().find(|port| leads_down(port) && port.ports.acs.is_unread()) {
        return Outcome::unread(&port.ports.acs, SUBJECT);
    }
    match ports.iter().find(|port| leads_down(port)) {
        Some(port) => Outcome::pass("no port joins devices of several slots").evidence(
            format!("/sys/bus/pci/devices/{}/config", port.address),
            port.ports.acs.known().map_or_else(
                || "no ACS capability, and one device behind it".to_owned(),
                |acs| format!("ACS enables {}", acs.enabled.short()),
            ),
        ),
        None => Outcome::not_applicable("there is no PCI Express port"),
    }
}

fn leads_down(port: &PciDevice) -> bool {
    port.ports.express.known().is_some_and(|express| express.port_type.leads_down())
}

/// The causes of `kinds` in groups that hold devices of more than one slot.
fn joining<'a>(
    facts: &HostFacts,
    groups: &'a [Group],
    kinds: impl Fn(CauseKind) -> bool,
) -> Vec<(&'a Group, &'a Cause)> {
    let several = |group: &&Group| {
        let mut endpoints = endpoints(facts, group);
        let first = endpoints.next();
        first.is_some_and(|first| endpoints.any(|other| !on_one_card(facts, first, other)))
    };
    groups
        .iter()
        .filter(several)
        .flat_map(|group| group.causes.iter().map(move |cause| (group, cause)))
        .filter(|(_, cause)| cause.effect == Effect::Joins && kinds(cause.kind))
        .collect()
}

/// Adds the members and the registers as evidence.
fn told(outcome: Outcome, found: &[(&Group, &Cause)]) -> Outcome {
    found.iter().fold(outcome, |outcome, (group, cause)| {
        let outcome = seen(outcome, &members_file(group), &listed(group.functions()));
        cause.evidence.iter().fold(outcome, |outcome, sign| seen(outcome, &sign.source, &sign.value))
    })
}

/// `group-conventional-bridge`
pub(super) fn bridges(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether a conventional bus holds devices together";
    let groups = match groups(facts, SUBJECT) {
        Ok(groups) => groups,
        Err(outcome) => return outcome,
    };
    let found = joining(facts, groups, |kind| kind == CauseKind::BridgeNoIsolation);
    if !found.is_empty() {
        let members = found.iter().flat_map(|(_, cause)| cause.members.iter().copied());
        let warn = Outcome::warn(format!(
            "devices on a conventional PCI bus cannot be told apart: {}",
            listed(members)
        ))
        .cause("a bridge to conventional PCI sends their requests under one requester ID")
        .remedy(Remedy::hardware("PCI Express cards in their place, each in a slot of its own"))
        .remedy(Remedy::advice("give all that is behind the bridge to one guest"));
        return told(warn, &found);
    }
    let bridges = || facts.pci.functions().iter().filter(|function| function.is_bridge());
    if let Some(bridge) = bridges().find(|bridge| bridge.ports.express.is_unread()) {
        return Outcome::unread(&bridge.ports.express, SUBJECT);
    }
    if bridges().next().is_none() {
        return Outcome::not_applicable("there is no bridge");
    }
    Outcome::pass("no conventional bus holds several devices together").evidence(
        "/sys/kernel/iommu_groups/*/devices",
        format!(
            "no group with several devices behind one of {}",
            listed(bridges().map(|bridge| bridge.address))
        ),
    )
}

/// `group-acs-override`
pub(super) fn acs_override(facts: &HostFacts) -> Outcome {
    let line = match &facts.kernel.command_line {
        Fact::Known(line) => line,
        unread => return Outcome::unread(unread, "whether the ACS override is asked for"),
    };
    let asked = Override::of(&facts.kernel, &facts.kernel_log);
    if asked.arguments.is_empty() && !asked.logged {
        return Outcome::pass("no override pretends that devices are kept apart")
            .evidence(COMMAND_LINE, line);
    }
    let argument = format!("{}={}", Override::PARAMETER, asked.arguments.join(","));
    let groups = facts.iommu.groups.known().map_or(&[][..], Vec::as_slice);
    let pretended: Vec<_> = groups
        .iter()
        .flat_map(|group| &group.causes)
        .filter(|cause| cause.kind == CauseKind::Override)
        .flat_map(|cause| cause.members.iter().copied())
        .collect();
    let outcome = if asked.logged || !pretended.is_empty() {
        let whom = if pretended.is_empty() { String::new() } else { format!(": {}", listed(pretended)) };
        Outcome::warn(format!("the ACS override is in force: groups look apart and are not{whom}"))
            .cause(
                "a patched kernel was told to believe that ports without ACS keep devices apart; a guest's device can \
                 still reach the devices beside it, past the IOMMU",
            )
            .remedy(Remedy::without_kernel_argument(facts, &argument))
            .remedy(Remedy::advice("keep it for guests only that you trust like the host itself"))
    } else if facts.kernel_log.0.is_unread() {
        return Outcome::unread(&facts.kernel_log.0, "whether the ACS override is in force");
    } else {
        Outcome::warn("the ACS override is asked for and changes nothing")
            .cause(
                "this kernel does not have the patch and ignores the argument, or no function here needs it",
            )
            .remedy(Remedy::without_kernel_argument(facts, &argument))
            .remedy(Remedy::command(
                "thruway groups",
                "shows why the groups are as they are, and what helps really",
            ))
    };
    let outcome = outcome.evidence(COMMAND_LINE, line);
    match facts.kernel_log.first(&[Override::MESSAGE]) {
        Some(message) => outcome.evidence(KernelLog::SOURCE, message),
        None => outcome,
    }
}
