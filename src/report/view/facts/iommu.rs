//! The IOMMU: tables, units, what they do.

use super::{Text, switch, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::{Unit, UnitKind};
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let iommu = &facts.iommu;
    text.section("IOMMU");
    let list = |names: &Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    text.line("ACPI tables", (Tone::Plain, word(&iommu.acpi_tables, list)));
    let names = |units: &Vec<Unit>| list(&units.iter().map(unit).collect());
    text.line("units that run", (Tone::Plain, word(&iommu.units, names)));
    let mut dma = switch(&iommu.dma_remapping, ["on", "off"]);
    if iommu.dma_remapping == Fact::Known(false)
        && let Some(tables) = iommu.acpi_tables.known().filter(|tables| !tables.is_empty())
    {
        dma.1 = format!(
            "off: firmware describes an IOMMU ({}), and the kernel does not run it",
            tables.join(", ")
        );
    }
    text.line("DMA remapping", dma);
    text.line("interrupt remapping", switch(&iommu.interrupt_remapping, ["on", "off"]));
}

fn unit(unit: &Unit) -> String {
    let kind = match unit.kind {
        UnitKind::IntelVtd => "Intel VT-d",
        UnitKind::AmdVi => "AMD-Vi",
        UnitKind::ArmSmmu => "Arm SMMU",
        UnitKind::Virtio => "virtio-iommu",
        UnitKind::Other => return unit.name.clone(),
    };
    format!("{} ({kind})", unit.name)
}
