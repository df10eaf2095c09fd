//! What would take a function out of a group with others.

use super::{endpoints, listed};
use crate::check::Remedy;
use crate::host::HostFacts;
use crate::host::firmware::Setting;
use crate::host::iommu::isolation::Rules;
use crate::host::iommu::prospects::{Prospect, prospects};
use crate::host::iommu::{CauseKind, Effect, Group};
use crate::host::pci::PciDevice;
use crate::spec::port::PortType;

/// How many slots are named.
const SLOTS: usize = 3;

/// What the override does, for people who were told to use it.
const OVERRIDE: &str = "guides suggest the ACS override patch (`pcie_acs_override=`): it splits the group on paper only. \
                        The devices can still reach each other past the IOMMU, so use it for no guest that you do not \
                        trust like the host";

/// The ways to change the group of `function`, the likeliest first.
pub(super) fn remedies(facts: &HostFacts, function: &PciDevice, group: &Group) -> Vec<Remedy> {
    let has = |kind| group.causes.iter().any(|cause| cause.kind == kind && cause.effect == Effect::Joins);
    let mut remedies = Vec::new();
    if has(CauseKind::AcsBitsOff) {
        let rules = Rules::of(&facts.kernel, &facts.kernel_log, &facts.iommu.acpi_tables);
        remedies.extend(
            rules.acs_arguments.iter().map(|argument| Remedy::without_kernel_argument(facts, argument)),
        );
    }
    if has(CauseKind::Unknown) {
        remedies.push(Remedy::command(
            format!("sudo thruway groups --why {}", function.address),
            "root may read the registers that decide",
        ));
    }
    if firmware_may_help(facts, group) {
        remedies.push(Remedy::firmware(facts, Setting::Acs));
    }
    if has(CauseKind::RootComplexIntegrated) {
        remedies.push(Remedy::hardware(
            "a card in a slot in its place: parts of the chipset and of the processor cannot be moved",
        ));
    } else {
        remedies.push(Remedy::hardware(another_slot(&prospects(facts, function.address))));
    }
    // Parts of the chipset are no guest's: the host itself runs on what is beside them.
    if !has(CauseKind::RootComplexIntegrated) {
        let all: Vec<_> = endpoints(facts, group).map(|function| function.to_string()).collect();
        remedies.push(Remedy::command(
            format!("thruway bind {} --dry-run", all.join(" ")),
            "hands the whole group to one guest; the host loses all of it",
        ));
    }
    if has(CauseKind::PortLacksAcs) || has(CauseKind::FunctionsShareSlot) {
        remedies.push(Remedy::advice(OVERRIDE));
    }
    remedies
}

/// Firmware can show or hide the capability of root ports. That of a switch is soldered.
fn firmware_may_help(facts: &HostFacts, group: &Group) -> bool {
    let is_root_port = |cause: &crate::host::iommu::Cause| {
        let port = cause.function.and_then(|function| facts.device(function));
        port.and_then(|port| port.ports.express.known())
            .is_some_and(|express| express.port_type == PortType::ROOT_PORT)
    };
    group.causes.iter().any(|cause| {
        matches!(cause.kind, CauseKind::PortLacksAcs | CauseKind::AcsBitsOff)
            && cause.effect == Effect::Joins
            && is_root_port(cause)
    })
}

/// Where the card would be alone.
fn another_slot(prospects: &[Prospect]) -> String {
    let good: Vec<_> =
        prospects.iter().filter(|prospect| prospect.slot.is_some() && prospect.alone == Some(true)).collect();
    let (free, taken): (Vec<_>, Vec<_>) =
        good.into_iter().partition(|prospect| prospect.occupied_by.is_empty());
    let name = |prospect: &&Prospect| {
        let number = prospect.slot.as_ref().map_or(0, |slot| slot.number);
        let slot = if number == 0 { "the slot".to_owned() } else { format!("slot {number}") };
        match prospect.occupied_by.is_empty() {
            true => format!("{slot} of port {}", prospect.port),
            false => {
                format!(
                    "{slot} of port {} (now {})",
                    prospect.port,
                    listed(prospect.occupied_by.iter().copied())
                )
            }
        }
    };
    let chosen: Vec<_> = free.iter().chain(&taken).take(SLOTS).map(name).collect();
    match (chosen.as_slice(), prospects.iter().any(|prospect| prospect.alone.is_none())) {
        ([], true) => {
            "another slot, if it is a card: what the other slots would give could not be read".to_owned()
        }
        ([], false) => "another machine: no slot of this one would put it into a group of its own".to_owned(),
        (slots, _) => format!("another slot, if it is a card: alone in {}", slots.join(", or ")),
    }
}
