//! Functions as a whole: errors that the kernel remembers, NUMA nodes that firmware did not tell.

use std::collections::BTreeSet;

use super::{attribute, names};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;
use crate::host::topology::Node;
use crate::spec::pci::PciAddress;

/// Messages shown as evidence: errors come by the thousand.
const SHOWN: usize = 5;

/// `pci-errors` (Linux: drivers/pci/pcie/aer.c, `aer_print_error`)
pub(super) fn errors(facts: &HostFacts) -> Outcome {
    if facts.kernel_log.0.known().is_none() {
        return Outcome::unread(&facts.kernel_log.0, "whether errors of PCI Express were reported");
    }
    let of_link = || facts.kernel_log.with(&["PCIe Bus Error: severity="]);
    let count = of_link().count();
    if count == 0 {
        return Outcome::pass("the kernel's log remembers no error of PCI Express")
            .evidence(KernelLog::SOURCE, "none");
    }
    let grave = of_link().filter(|message| message.contains("severity=Uncorrect")).count();
    let summary = match grave {
        0 => format!("PCI Express corrected errors: {count} in the kernel's log"),
        _ => format!("PCI Express could not correct errors: {grave} of {count} in the kernel's log"),
    };
    let warn = Outcome::warn(summary)
        .cause("a card that does not sit well, a riser, a weak signal, or power saving of the link that an end gets wrong")
        .remedy(Remedy::hardware("take the card out and put it in again, without a riser, or use another slot"))
        .remedy(Remedy::kernel_argument(facts, "pcie_aspm=off"));
    of_link().take(SHOWN).fold(warn, |outcome, message| outcome.evidence(KernelLog::SOURCE, message))
}

/// `pci-numa-nodes`: several nodes exist where several have CPUs, where functions are on several, or where the table of
/// IOMMUs says so.
pub(super) fn numa_nodes(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which NUMA nodes functions are on";
    let functions = match &facts.pci.devices {
        Fact::Known(functions) => functions,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    if let Some(function) = functions.iter().find(|function| function.numa_node.is_unread()) {
        return Outcome::unread(&function.numa_node, SUBJECT);
    }
    let nodes: BTreeSet<_> = functions.iter().filter_map(|function| function.numa_node.known()).collect();
    let affinity = facts.firmware.dmar.known().into_iter().flat_map(|dmar| &dmar.numa_affinity);
    let domains: BTreeSet<_> = affinity.map(|affinity| affinity.proximity_domain).collect();
    let has_cpus = |node: &&Node| node.cpus.known().is_some_and(|cpus| cpus.count() > 0);
    let with_cpus = facts.topology.nodes().iter().filter(has_cpus).count();
    if nodes.len() < 2 && domains.len() < 2 && with_cpus < 2 {
        if facts.topology.nodes.is_unread() {
            return Outcome::unread(&facts.topology.nodes, SUBJECT);
        }
        return Outcome::not_applicable("all that is known is on one NUMA node");
    }
    let homeless: Vec<PciAddress> = functions
        .iter()
        .filter(|function| function.numa_node == Fact::NotPresent && !function.is_bridge())
        .map(|function| function.address)
        .collect();
    let Some(first) = homeless.first().and_then(|address| facts.device(*address)) else {
        return Outcome::pass("the NUMA node of every function is known")
            .evidence("/sys/bus/pci/devices/*/numa_node", format!("{} nodes", nodes.len()));
    };
    Outcome::warn(format!("firmware does not tell the NUMA node of {}", names(&homeless)))
        .evidence(attribute(first, "numa_node"), -1)
        .cause("its ACPI tables lack a proximity (_PXM) for them: a guest may get memory and CPUs of the far node")
        .remedy(Remedy::advice(
            "update the firmware; until then take the node from the board's manual: which slot hangs on which socket",
        ))
}
