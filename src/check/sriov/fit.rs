//! Whether all virtual functions that drivers offer would fit.

use super::{attribute, physical};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::PciDevice;
use crate::host::sriov::{Memory, Sriov};

/// What the kernel writes when they do not (Linux: drivers/pci/iov.c, `sriov_enable`).
const MESSAGES: [&str; 2] = ["not enough MMIO resources for SR-IOV", "out of range of"];

/// `sriov-fit`
pub(super) fn fit(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether virtual functions fit";
    let physical = match physical(facts, SUBJECT) {
        Ok(physical) => physical,
        Err(outcome) => return outcome,
    };
    let offering = || physical.iter().filter(|(_, sriov)| sriov.total_vfs != Fact::Known(0));
    for (function, sriov) in offering() {
        let (Some(max), Some(total)) = (sriov.fit.max_vfs.known(), sriov.total_vfs.known()) else { continue };
        if max < total {
            return too_many(facts, function, sriov, *max, *total);
        }
    }
    for (_, sriov) in offering() {
        if sriov.fit.max_vfs.known().is_none() {
            return Outcome::unread(&sriov.fit.max_vfs, SUBJECT);
        }
    }
    let pass = Outcome::pass("all virtual functions that are offered fit");
    offering().fold(pass, |outcome, (function, sriov)| told(outcome, function, sriov))
}

/// What is needed and what there is.
fn told(outcome: Outcome, function: &PciDevice, sriov: &Sriov) -> Outcome {
    let mut outcome = outcome;
    if let Some(numbers) = sriov.fit.bus_numbers.known() {
        let needed = numbers.last_needed.map_or_else(|| "beyond ff".to_owned(), |bus| format!("{bus:02x}"));
        outcome = outcome.evidence(
            attribute(function, "sriov_offset"),
            format!(
                "the last one is on bus {needed}, the port leads to buses up to {:02x}",
                numbers.last_available
            ),
        );
    }
    if let Some(memory) = sriov.fit.memory.known() {
        outcome = outcome.evidence(attribute(function, "resource"), bars(memory));
    }
    outcome
}

fn bars(memory: &Memory) -> String {
    let bar = |bar: &crate::host::sriov::VfBar| {
        let size =
            bar.total_bytes.map_or_else(|| "size not kept".to_owned(), |bytes| format!("{bytes:#x} bytes"));
        format!("VF BAR {}: {size}, {}", bar.index, if bar.assigned { "assigned" } else { "no place" })
    };
    match memory.bars.as_slice() {
        [] => "no VF BAR".to_owned(),
        bars => bars.iter().map(bar).collect::<Vec<_>>().join("; "),
    }
}

fn too_many(facts: &HostFacts, function: &PciDevice, sriov: &Sriov, max: u16, total: u16) -> Outcome {
    let address = function.address;
    let outcome = if max == 0 {
        Outcome::fail(format!("no virtual function of {address} fits"))
    } else {
        Outcome::warn(format!("{max} of the {total} virtual functions of {address} fit"))
    };
    let without_memory = sriov.fit.memory.known().is_some_and(|memory| !memory.assigned);
    let outcome = if without_memory {
        outcome
            .cause(
                "the firmware left no room for the memory of virtual functions in the windows of the ports above, and the \
                 kernel found none",
            )
            .remedy(Remedy::firmware(facts, Setting::Sriov))
            .remedy(Remedy::firmware(facts, Setting::Above4g))
            .remedy(Remedy::kernel_argument(facts, "pci=realloc"))
    } else {
        let outcome = outcome
            .cause("virtual functions have requester IDs behind the last bus that the port above leads to")
            .remedy(Remedy::firmware(facts, Setting::Sriov));
        // With ARI forwarding the device may put them all on its own bus.
        let outcome = match sriov.fit.ari.enabled {
            Fact::Known(false) => outcome.remedy(Remedy::firmware(facts, Setting::Ari)),
            _ => outcome,
        };
        outcome.remedy(Remedy::kernel_argument(facts, "pci=assign-busses"))
    };
    let outcome = told(outcome, function, sriov);
    let own = address.to_string();
    match facts.kernel_log.with(&MESSAGES).find(|message| message.contains(&own)) {
        Some(message) => outcome.evidence(KernelLog::SOURCE, message),
        None => outcome,
    }
}
