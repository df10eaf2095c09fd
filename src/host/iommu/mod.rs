//! IOMMUs: tables, units, interrupt remapping, and the groups into which units divide the functions.

mod causes;
mod faults;
mod groups;
pub mod isolation;
mod modes;
mod platform;
pub mod prospects;
mod quirks;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::Pci;
use crate::host::source::Source;

use isolation::Rules;

pub use causes::{Cause, CauseKind, Effect, Sign};
pub use faults::Faults;
pub use groups::{Blocker, Group, ReservedRegion};
pub use modes::{NO_IOMMU as NO_IOMMU_MODE, UnsafeInterrupts};
pub use units::{AmdViUnit, LoggedUnit, Unit, UnitKind, VtdUnit};

const GROUPS: &str = "/sys/kernel/iommu_groups";
const UNITS: &str = "/sys/class/iommu";
const TABLES: &str = "/sys/firmware/acpi/tables";
const INTERRUPTS: &str = "/proc/interrupts";

/// The tables in which firmware describes IOMMUs (ACPI 6.5, table 5.6).
const IOMMU_TABLES: [&str; 4] = ["DMAR", "IVRS", "IORT", "VIOT"];

/// IOMMUs of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Iommu {
    /// ACPI tables that describe IOMMUs: firmware offers them, which does not say that they run.
    pub acpi_tables: Fact<Vec<String>>,
    /// Units that the kernel runs.
    pub units: Fact<Vec<Unit>>,
    /// Units that the kernel met at boot, from its log.
    pub logged_units: Vec<LoggedUnit>,
    /// Whether the kernel translates DMA: a unit runs and there is a group behind one.
    pub dma_remapping: Fact<bool>,
    /// Whether the kernel remaps interrupts.
    pub interrupt_remapping: Fact<bool>,
    /// How many groups have each type of default domain.
    pub default_domains: Fact<BTreeMap<String, usize>>,
    /// When the host's own mappings leave the units' caches; absent where no default domain translates.
    pub invalidation: Fact<Invalidation>,
    /// Whether firmware asks the kernel not to use x2APIC (DMAR flag `X2APIC_OPT_OUT`); absent without a DMAR table.
    pub x2apic_opt_out: Fact<bool>,
    /// Whether the chipset's capability register says that it has VT-d; absent where no such register is known.
    pub chipset_has_vtd: Fact<bool>,
    /// Whether this is Xen's first domain, for which Xen itself runs the IOMMU.
    pub xen_initial_domain: Fact<bool>,
    /// Whether VFIO is allowed to hand out functions without any IOMMU; absent where the kernel cannot.
    pub no_iommu_mode: Fact<bool>,
    /// Whether VFIO is allowed to hand out functions without interrupt remapping.
    pub unsafe_interrupts: UnsafeInterrupts,
    /// Accesses that a unit refused, as far as the kernel's log remembers.
    pub faults: Fact<Faults>,
    /// First address behind the host's memory, which an address must reach to get all of it.
    pub end_of_memory: Fact<u64>,
    /// Groups, by number.
    pub groups: Fact<Vec<Group>>,
}

/// When a mapping that the host took back leaves the units' caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalidation {
    /// At once (group type `DMA`).
    Strict,
    /// In batches, some milliseconds later (group type `DMA-FQ`).
    Lazy,
}

/// Reads the IOMMUs of a host. `interrupts` is the content of `/proc/interrupts`.
pub(super) fn collect(
    source: &dyn Source,
    pci: &Pci,
    kernel: &Kernel,
    log: &KernelLog,
    interrupts: &Fact<String>,
) -> Iommu {
    let units = super::list_or_empty(source, UNITS, "/sys/class").map(|names| units::collect(source, names));
    let acpi_tables = acpi_tables(source);
    let groups = groups::collect(source, pci).map(|mut groups| {
        causes::add(pci, &mut groups, &Rules::of(kernel, log, &acpi_tables));
        groups
    });
    let dma_remapping = match (&units, &groups) {
        (Fact::Known(units), _) if units.is_empty() => Fact::Known(false),
        (Fact::Known(_), Fact::Known(groups)) => Fact::Known(groups.iter().any(|group| !group.no_iommu)),
        (Fact::Known(_), unread) => unread.as_ref().map(|_| false),
        (unread, _) => unread.as_ref().map(|_| false),
    };
    let default_domains = groups.as_ref().map(|groups| default_domains(groups));
    Iommu {
        units,
        logged_units: units::logged(log),
        dma_remapping,
        interrupt_remapping: interrupt_remapping(interrupts),
        invalidation: default_domains.as_ref().and_then(invalidation),
        default_domains,
        x2apic_opt_out: platform::x2apic_opt_out(source, &acpi_tables, log),
        acpi_tables,
        chipset_has_vtd: platform::chipset_has_vtd(source),
        xen_initial_domain: platform::xen_initial_domain(source),
        no_iommu_mode: modes::no_iommu(source),
        unsafe_interrupts: modes::unsafe_interrupts(source),
        faults: faults::collect(log),
        end_of_memory: platform::end_of_memory(source),
        groups,
    }
}

/// Types of the groups that have a default domain.
fn default_domains(groups: &[Group]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for kind in groups.iter().filter(|group| !group.no_iommu).filter_map(|group| group.kind.known()) {
        *counts.entry(kind.clone()).or_default() += 1;
    }
    counts
}

fn invalidation(types: &BTreeMap<String, usize>) -> Fact<Invalidation> {
    if types.contains_key("DMA-FQ") {
        Fact::Known(Invalidation::Lazy)
    } else if types.contains_key("DMA") {
        Fact::Known(Invalidation::Strict)
    } else {
        Fact::NotPresent
    }
}

/// Tables are visible by name to everybody. A container hides the directory above them; firmware without ACPI leaves
/// them out of it.
fn acpi_tables(source: &dyn Source) -> Fact<Vec<String>> {
    match source.list(TABLES) {
        Fact::NotPresent => match source.list("/sys/firmware") {
            Fact::Known(names) if !names.is_empty() && !names.iter().any(|name| name == "acpi") => {
                Fact::Known(Vec::new())
            }
            Fact::Denied { source } => Fact::Denied { source },
            _ => Fact::Unreadable {
                source: TABLES.to_owned(),
                reason: "no ACPI tables are shown here, as in a container".to_owned(),
            },
        },
        tables => tables.map(|mut names| {
            names.retain(|name| IOMMU_TABLES.contains(&name.as_str()));
            names
        }),
    }
}

/// On x86 the kernel puts `IR-` before the name of an interrupt chip whose interrupts are remapped. That says yes;
/// chips without it say no; a list without any of these chips says nothing.
fn interrupt_remapping(list: &Fact<String>) -> Fact<bool> {
    list.as_ref().and_then(|text| {
        let mut chips = text.lines().flat_map(|line| {
            line.split_ascii_whitespace().filter(|word| word.contains("IO-APIC") || word.contains("PCI-MSI"))
        });
        let (mut any, mut remapped) = (false, false);
        for chip in &mut chips {
            any = true;
            remapped |= chip.starts_with("IR-");
        }
        if any {
            Fact::Known(remapped)
        } else {
            Fact::Unreadable {
                source: INTERRUPTS.to_owned(),
                reason: "it lists no interrupt of an I/O APIC or by message".to_owned(),
            }
        }
    })
}
