//! IOMMUs: tables, units with what they can do, remapping, default domains, modes without protection.

use super::{Text, switch, why, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{AmdViUnit, Faults, Invalidation, Iommu, Unit, UnitKind, VtdUnit};
use crate::report::style::Tone;

/// The section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let iommu = &facts.iommu;
    text.section("IOMMU");
    text.line("ACPI tables", (Tone::Plain, word(&iommu.acpi_tables, |names| list(names))));
    text.line("DMA remapping", dma_remapping(iommu));
    text.line("interrupt remapping", switch(&iommu.interrupt_remapping, ["on", "off"]));
    units(text, &iommu.units);
    default_domains(text, iommu);
    if iommu.no_iommu_mode == Fact::Known(true) {
        text.line(
            "no-IOMMU mode",
            (Tone::Bad, "allowed: VFIO may hand out functions unprotected".to_owned()),
        );
    }
    for (path, allowed) in iommu.unsafe_interrupts.parameters() {
        if *allowed == Fact::Known(true) {
            text.line("unsafe interrupts", (Tone::Bad, format!("allowed by {path}")));
        }
    }
    if let Some(faults) = iommu.faults.known().filter(|faults| faults.count > 0) {
        text.line("refused accesses", (Tone::Notice, faults_in_words(faults)));
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn dma_remapping(iommu: &Iommu) -> (Tone, String) {
    let (tone, mut words) = switch(&iommu.dma_remapping, ["on", "off"]);
    let tables = iommu.acpi_tables.known().filter(|tables| !tables.is_empty());
    if iommu.dma_remapping == Fact::Known(false)
        && let Some(tables) = tables
    {
        words = format!(
            "off: firmware describes an IOMMU ({}), and the kernel does not run it",
            tables.join(", ")
        );
    }
    (tone, words)
}

/// One line for each unit that runs; units of one kind that can do the same share one.
fn units(text: &mut Text, units: &Fact<Vec<Unit>>) {
    let units = match units {
        Fact::Known(units) if !units.is_empty() => units,
        units => return text.line("units that run", (Tone::Plain, word(units, |_| "none".to_owned()))),
    };
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    for unit in units {
        let described = described(unit);
        match kinds.iter_mut().find(|(known, _)| *known == described) {
            Some((_, names)) => names.push(&unit.name),
            None => kinds.push((described, vec![&unit.name])),
        }
    }
    for (described, names) in kinds {
        text.line("units that run", (Tone::Plain, format!("{} ({described})", names.join(", "))));
    }
}

/// What a unit is and can do.
fn described(unit: &Unit) -> String {
    let kind = match unit.kind {
        UnitKind::IntelVtd => "Intel VT-d",
        UnitKind::AmdVi => "AMD-Vi",
        UnitKind::ArmSmmu => "Arm SMMU",
        UnitKind::Virtio => "virtio-iommu",
        UnitKind::Other => "of unknown kind",
    };
    let words = match (&unit.vtd, &unit.amdvi) {
        (Fact::Known(vtd), _) => vtd_words(vtd),
        (_, Fact::Known(amdvi)) => amdvi_words(amdvi),
        (vtd, amdvi) => {
            return match why(vtd).or_else(|| why(amdvi)) {
                Some(why) => format!("{kind}; capabilities unknown: {why}"),
                None => kind.to_owned(),
            };
        }
    };
    let width = unit.address_width_bits().map(|bits| format!("{bits}-bit addresses"));
    let words = width.into_iter().chain(words.into_iter().map(str::to_owned));
    format!("{kind}; {}", words.collect::<Vec<_>>().join(", "))
}

fn vtd_words(vtd: &VtdUnit) -> Vec<&'static str> {
    chosen(&[
        (!vtd.translates_dma, "cannot translate DMA"),
        (vtd.caching_mode, "caching mode (emulated)"),
        (vtd.interrupt_remapping, "interrupt remapping"),
        (vtd.extended_interrupt_mode, "x2APIC"),
        (vtd.posted_interrupts, "posted interrupts"),
        (vtd.pass_through, "pass-through"),
        (vtd.snoop_control, "snoop control"),
        (vtd.device_tlb, "device TLB"),
        (vtd.page_requests, "page requests"),
        (vtd.pasid, "PASID"),
        (vtd.scalable_mode, "scalable mode"),
        (vtd.nested_translation, "nesting"),
    ])
}

fn amdvi_words(amdvi: &AmdViUnit) -> Vec<&'static str> {
    chosen(&[
        (amdvi.x2apic, "x2APIC"),
        (amdvi.guest_virtual_apic, "posted interrupts (guest virtual APIC)"),
        (amdvi.device_tlb == Fact::Known(true), "device TLB"),
        (amdvi.page_requests, "page requests"),
        (amdvi.guest_translation, "guest translation"),
    ])
}

fn chosen(words: &[(bool, &'static str)]) -> Vec<&'static str> {
    words.iter().filter(|(has, _)| *has).map(|(_, word)| *word).collect()
}

fn default_domains(text: &mut Text, iommu: &Iommu) {
    let Some(types) = iommu.default_domains.known().filter(|types| !types.is_empty()) else { return };
    let counts: Vec<_> = types.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
    let invalidation = match iommu.invalidation.known() {
        Some(Invalidation::Strict) => "; unmapped pages are flushed at once",
        Some(Invalidation::Lazy) => "; unmapped pages are flushed in batches",
        None => "",
    };
    text.line("default domains", (Tone::Plain, format!("{}{invalidation}", counts.join(", "))));
}

fn faults_in_words(faults: &Faults) -> String {
    let first = faults.messages.first().map_or("", String::as_str);
    format!("{} in the kernel's log, first: {first}", faults.count)
}
