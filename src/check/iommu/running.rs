//! Whether the IOMMU runs, can translate, has every function behind it, and obeys its arguments.

use super::{COMMAND_LINE, UNITS, command_line, units};
use crate::check::kernel::without_effect;
use crate::check::{Outcome, Remedy, verdicts};
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::iommu::VtdUnit;
use crate::host::kernel::Subject;
use crate::host::kernel_log::KernelLog;
use crate::spec::pci::ClassCode;

/// `iommu-running`: the verdict as a check.
pub(super) fn running(facts: &HostFacts) -> Outcome {
    let verdict = verdicts(facts).iommu;
    let mut outcome = match verdict.usable {
        Some(true) => Outcome::pass(verdict.explanation),
        Some(false) => Outcome::fail("no IOMMU runs: no device can be passed through")
            .cause(verdict.explanation)
            .remedies(remedies(facts, verdict.reason)),
        None => Outcome::unread(&facts.iommu.dma_remapping, "whether an IOMMU runs"),
    };
    outcome.evidence.extend(verdict.evidence);
    outcome
}

fn remedies(facts: &HostFacts, reason: Reason) -> Vec<Remedy> {
    let is_described = facts.iommu.acpi_tables.known().is_some_and(|tables| !tables.is_empty());
    match reason {
        Reason::HiddenByHypervisor => vec![Remedy::advice(
            "give this virtual machine an IOMMU on its host (QEMU: `-device intel-iommu,intremap=on` with a split \
             irqchip; libvirt: `<iommu model='intel'>`), or use a machine that is not virtual",
        )],
        Reason::NotInHardware => {
            vec![Remedy::hardware("a processor and a board with VT-d or AMD-Vi that translates DMA")]
        }
        Reason::NoDriver => {
            vec![Remedy::command("modprobe virtio_iommu", "loads the driver of virtio-iommu")]
        }
        Reason::OffInKernel => off_in_kernel(facts),
        _ if is_described => {
            vec![Remedy::kernel_argument(facts, "intel_iommu=on"), Remedy::firmware(facts, Setting::Iommu)]
        }
        _ => vec![Remedy::firmware(facts, Setting::Iommu)],
    }
}

/// Takes the argument out that is in the way; where none is, asks for the IOMMU.
fn off_in_kernel(facts: &HostFacts) -> Vec<Remedy> {
    let in_the_way: Vec<String> = ["intel_iommu", "amd_iommu", "iommu"]
        .into_iter()
        .flat_map(|name| {
            let values = facts.kernel.parameter(name);
            values
                .filter(|value| value.split(',').any(|word| word == "off"))
                .map(move |value| format!("{name}={value}"))
        })
        .collect();
    if in_the_way.is_empty() {
        return vec![Remedy::kernel_argument(facts, "intel_iommu=on")];
    }
    vec![Remedy::without_kernel_argument(facts, &in_the_way.join(" "))]
}

/// `iommu-dma-translation`: the capability words, of units that run or that the log names.
pub(super) fn dma_translation(facts: &HostFacts) -> Outcome {
    let cannot = |source: &str, value: String| {
        Outcome::fail("the IOMMU cannot translate DMA")
            .evidence(source, value)
            .cause("its capability word offers no width for page tables: it remaps interrupts at most")
            .remedy(Remedy::hardware(
                "a machine whose IOMMU translates DMA; no setting gives this one the ability",
            ))
    };
    if let Some(unit) = facts.iommu.logged_units.iter().find(|unit| !unit.vtd.translates_dma) {
        return cannot(KernelLog::SOURCE, unit.message.clone());
    }
    let units = match units(facts, "whether the IOMMU can translate DMA") {
        Ok(units) => units,
        Err(outcome) => return outcome,
    };
    let mut words = Vec::new();
    for unit in units {
        let path = format!("{UNITS}/{}/intel-iommu/cap", unit.name);
        match &unit.vtd {
            Fact::Known(vtd) if !vtd.translates_dma => return cannot(&path, word(vtd)),
            Fact::Known(vtd) => words.push((path, word(vtd))),
            Fact::NotPresent => words.push((format!("{UNITS}/{}", unit.name), "runs".to_owned())),
            unread => return Outcome::unread(unread, "what the IOMMU can do"),
        }
    }
    let pass = Outcome::pass("the IOMMU can translate DMA");
    words.into_iter().fold(pass, |outcome, (source, value)| outcome.evidence(source, value))
}

fn word(vtd: &VtdUnit) -> String {
    format!("{:x}", vtd.capability)
}

/// `iommu-groups`: functions that no IOMMU stands before.
pub(super) fn groups(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "whether every function is in a group";
    if let Err(outcome) = units(facts, SUBJECT) {
        return outcome;
    }
    let Fact::Known(functions) = &facts.pci.devices else {
        return Outcome::unread(&facts.pci.devices, SUBJECT);
    };
    // AMD's IOMMU is a function itself, and stands before nobody's DMA but its own.
    const IOMMU_CLASS: (u8, u8) = (0x08, 0x06);
    let is_iommu = |class: &u32| {
        let class = ClassCode::from_u24(*class);
        (class.base, class.sub) == IOMMU_CLASS
    };
    let relevant = || functions.iter().filter(|function| !function.class.known().is_some_and(is_iommu));
    if let Some(unread) = relevant().find(|function| function.iommu_group.is_unread()) {
        return Outcome::unread(&unread.iommu_group, SUBJECT);
    }
    let without: Vec<_> = relevant().filter(|function| function.iommu_group == Fact::NotPresent).collect();
    if without.is_empty() {
        let summary = format!("all {} functions are in groups", relevant().count());
        return Outcome::pass(summary).evidence("/sys/bus/pci/devices/*/iommu_group", "all there");
    }
    let names: Vec<_> = without.iter().map(|function| function.address.to_string()).collect();
    let warn = Outcome::warn(format!("{} functions are in no group: {}", names.len(), names.join(", ")))
        .cause(
            "no unit of the IOMMU stands before them: firmware left them out of its table, or an argument took them \
             out (`intel_iommu=igfx_off`), or their driver was not there when the IOMMU's came",
        )
        .remedy(Remedy::advice(
            "pass through other functions; a newer firmware may describe these, and `igfx_off` can be taken out",
        ));
    names.iter().fold(warn, |outcome, name| {
        outcome.evidence(format!("/sys/bus/pci/devices/{name}/iommu_group"), "not there")
    })
}

/// `iommu-arguments`: what is asked for on the command line against what runs.
pub(super) fn arguments(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which arguments the kernel has";
    let Fact::Known(line) = &facts.kernel.command_line else {
        return Outcome::unread(&facts.kernel.command_line, SUBJECT);
    };
    if facts.iommu.dma_remapping.is_unread() {
        return Outcome::unread(&facts.iommu.dma_remapping, "whether an IOMMU runs");
    }
    let (arguments, reasons) = without_effect(facts.kernel.parameters_about(Subject::Iommu));
    if arguments.is_empty() {
        return Outcome::pass("no argument about the IOMMU is without effect").evidence(COMMAND_LINE, line);
    }
    Outcome::warn(format!("without effect: {}", arguments.join(", ")))
        .evidence(COMMAND_LINE, command_line(facts))
        .cause(reasons.join("; "))
        .remedy(Remedy::without_kernel_argument(facts, &arguments.join(" ")))
}
