//! Resets: is there one, whom does it hit, did one go wrong?

use super::{attribute, names, skip_bridge};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::PciDevice;

/// Methods that reset all that is on a bus.
fn is_of_bus(method: &str) -> bool {
    matches!(method, "bus" | "cxl_bus")
}

/// `pci-reset`
pub(super) fn usable(_: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let file = attribute(function, "reset_method");
    match &function.reset_methods {
        Fact::Known(methods) if !methods.is_empty() => {
            Outcome::pass(format!("the kernel can reset it: {}", methods.join(", else ")))
                .evidence(file, methods.join(" "))
        }
        Fact::Known(_) | Fact::NotPresent => no_reset(function, &file),
        unread => Outcome::unread(unread, "whether it can be reset"),
    }
}

fn no_reset(function: &PciDevice, file: &str) -> Outcome {
    let abilities = &function.config.abilities;
    let mut causes = Vec::new();
    let mut warn = Outcome::warn("nothing resets it alone: its next user gets it as the last one left it")
        .evidence(file, "empty or not there");
    if abilities.function_level_reset == Fact::Known(false) {
        causes.push("it has no Function Level Reset".to_owned());
    }
    if abilities.no_soft_reset == Fact::Known(true) {
        causes.push("it keeps its state through D3hot (No_Soft_Reset)".to_owned());
    }
    let siblings = function.bus_reset_siblings.known().map_or(&[][..], Vec::as_slice);
    if !siblings.is_empty() {
        causes.push(format!("it shares its bus with {}", names(siblings)));
        warn = warn.remedy(Remedy::advice(format!(
            "give {} to the same guest: VFIO then resets the bus for all of them",
            names(siblings)
        )));
    }
    if abilities.function_level_reset == Fact::Known(true) {
        causes.push(
            "it has a Function Level Reset, and somebody or a quirk of the kernel took it out".to_owned(),
        );
        warn = warn.remedy(Remedy::command(
            format!("echo default | sudo tee {file}"),
            "brings back the methods that the kernel trusts, if somebody took them out",
        ));
    }
    if causes.is_empty() {
        causes.push("the kernel found no method that works for it".to_owned());
    }
    warn.cause(causes.join("; ")).remedy(Remedy::advice(
        "let one guest have it for good, and boot the host anew before another one gets it",
    ))
}

/// `pci-reset-siblings`: VFIO resets a bus only if whoever asks holds every group on it (Linux:
/// drivers/vfio/pci/vfio_pci_core.c, `vfio_pci_dev_set_hot_reset`).
pub(super) fn siblings(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if let Some(outcome) = skip_bridge(function) {
        return outcome;
    }
    let file = attribute(function, "reset_method");
    let methods = match &function.reset_methods {
        Fact::Known(methods) => methods.as_slice(),
        Fact::NotPresent => &[],
        unread => return Outcome::unread(unread, "how it is reset"),
    };
    if let Some(own) = methods.iter().find(|method| !is_of_bus(method)) {
        return Outcome::pass(format!("it is reset alone, by {own}")).evidence(file, methods.join(" "));
    }
    let siblings = match &function.bus_reset_siblings {
        Fact::Known(siblings) => siblings,
        Fact::NotPresent => return Outcome::not_applicable("no bridge above it could reset its bus"),
        unread => return Outcome::unread(unread, "who shares its bus"),
    };
    if siblings.is_empty() {
        return Outcome::pass("a reset of its bus hits nobody else").evidence(file, methods.join(" "));
    }
    let is_stranger = |address: &&_| {
        let group = facts.device(**address).map(|sibling| &sibling.iommu_group);
        function.iommu_group.known().is_none() || group != Some(&function.iommu_group)
    };
    let strangers: Vec<_> = siblings.iter().filter(is_stranger).copied().collect();
    let summary = if strangers.is_empty() {
        format!("it is reset only together with its group: {}", names(siblings))
    } else {
        format!("it is reset only together with functions that need not go along: {}", names(&strangers))
    };
    let listed = if methods.is_empty() { "empty or not there".to_owned() } else { methods.join(" ") };
    Outcome::warn(summary)
        .evidence(file, listed)
        .evidence("on its bus", names(siblings))
        .cause(
            "it has no reset of its own, and a reset of its bus hits all that is there; while the host or another \
             guest has one of these, VFIO refuses",
        )
        .remedy(Remedy::advice(format!("give {} to the same guest", names(siblings))))
        .remedy(Remedy::hardware("a slot, or a card, in which it is alone"))
}

/// What the kernel says of a function that does not come back (Linux: drivers/pci/pci.c, `pci_dev_wait`,
/// `pci_power_up`).
const FAILURES: [&str; 4] =
    ["not ready ", "nable to change power state", "efused to change power state", "inaccessible"];

/// `pci-reset-failed`
pub(super) fn failed(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if facts.kernel_log.0.known().is_none() {
        return Outcome::unread(&facts.kernel_log.0, "whether a reset of it went wrong");
    }
    let address = function.address.to_string();
    let messages: Vec<_> =
        facts.kernel_log.with(&FAILURES).filter(|message| message.contains(&address)).collect();
    let Some(last) = messages.last() else {
        return Outcome::pass("the kernel's log remembers no reset of it that went wrong")
            .evidence(KernelLog::SOURCE, "none");
    };
    Outcome::warn("it did not come back in time from a reset or from sleep")
        .evidence(KernelLog::SOURCE, last)
        .cause("its reset does not work with this machine, or it lost power and did not wake up")
        .remedy(Remedy::command(
            format!("echo 0 | sudo tee {}", attribute(function, "d3cold_allowed")),
            "keeps it from losing power, until the next boot; do so before a guest gets it",
        ))
        .remedy(Remedy::advice(
            "switch the machine off and on: a function that reads as all ones stays so through a restart",
        ))
}
