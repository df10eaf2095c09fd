//! IOMMUs: units, tables, interrupt remapping, and the groups into which they divide the functions.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::pci::{Pci, PciDevice};
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

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
    /// Whether the kernel translates DMA: a unit runs and there is a group behind one.
    pub dma_remapping: Fact<bool>,
    /// Whether the kernel remaps interrupts.
    pub interrupt_remapping: Fact<bool>,
    /// Groups, by number.
    pub groups: Fact<Vec<Group>>,
}

/// An IOMMU that the kernel runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name in sysfs: `dmar0`, `ivhd0`.
    pub name: String,
    /// What it is.
    pub kind: UnitKind,
}

/// Kinds of IOMMU, by the name that their driver gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Intel Virtualization Technology for Directed I/O.
    IntelVtd,
    /// AMD I/O Virtualization Technology.
    AmdVi,
    /// Arm System Memory Management Unit.
    ArmSmmu,
    /// virtio-iommu.
    Virtio,
    /// Something else.
    Other,
}

/// A group of devices that the IOMMU cannot tell apart.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Number; it may differ from boot to boot.
    pub id: u32,
    /// Type of the default domain: `DMA`, `DMA-FQ`, `identity`, ... ; absent before Linux 5.11.
    pub kind: Fact<String>,
    /// Whether the group belongs to VFIO's no-IOMMU mode, which protects nothing.
    pub no_iommu: bool,
    /// Members, as the kernel names them: PCI addresses, or names of other devices.
    pub devices: Fact<Vec<String>>,
    /// Whether the kernel would hand the group to VFIO as it is now: every member has no driver, a VFIO driver or
    /// pci-stub, or is a bridge (Linux: Documentation/driver-api/vfio.rst; drivers/vfio/vfio_main.c).
    pub viable: Fact<bool>,
    /// Members whose drivers keep the group from VFIO.
    pub blockers: Vec<Blocker>,
    /// Ranges of I/O addresses that the group cannot map freely.
    pub reserved_regions: Fact<Vec<ReservedRegion>>,
}

/// A member that keeps its group from being viable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// The member.
    pub device: String,
    /// The driver that is bound to it.
    pub driver: String,
}

/// A range of I/O addresses that is not free (Linux: Documentation/ABI/testing/sysfs-kernel-iommu_groups).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReservedRegion {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// `direct` must stay mapped one to one, which VFIO refuses; others are `direct-relaxable`, `reserved`, `msi`.
    pub kind: String,
}

impl Group {
    /// The members that are PCI functions.
    pub fn functions(&self) -> impl Iterator<Item = PciAddress> {
        self.devices.known().into_iter().flatten().filter_map(|name| name.parse().ok())
    }
}

pub(super) fn collect(source: &dyn Source, pci: &Pci) -> Iommu {
    let units = super::list_or_empty(source, UNITS, "/sys/class").map(units);
    let groups = groups(source, pci);
    let dma_remapping = match (&units, &groups) {
        (Fact::Known(units), _) if units.is_empty() => Fact::Known(false),
        (Fact::Known(_), Fact::Known(groups)) => Fact::Known(groups.iter().any(|group| !group.no_iommu)),
        (Fact::Known(_), unread) => unread.as_ref().map(|_| false),
        (unread, _) => unread.as_ref().map(|_| false),
    };
    Iommu {
        acpi_tables: acpi_tables(source),
        units,
        dma_remapping,
        interrupt_remapping: interrupt_remapping(source),
        groups,
    }
}

/// Tables are visible by name to everybody; a container hides the whole directory.
fn acpi_tables(source: &dyn Source) -> Fact<Vec<String>> {
    match source.list(TABLES) {
        Fact::NotPresent => Fact::Unreadable {
            source: TABLES.to_owned(),
            reason: "no ACPI tables are shown here (a container, or firmware without ACPI)".to_owned(),
        },
        tables => tables.map(|mut names| {
            names.retain(|name| IOMMU_TABLES.contains(&name.as_str()));
            names
        }),
    }
}

fn units(names: Vec<String>) -> Vec<Unit> {
    let kind = |name: &str| match name {
        _ if name.starts_with("dmar") => UnitKind::IntelVtd,
        _ if name.starts_with("ivhd") => UnitKind::AmdVi,
        _ if name.starts_with("smmu") => UnitKind::ArmSmmu,
        // virtio-iommu names its unit after the device that carries it.
        _ if name.starts_with("virtio") || name.parse::<PciAddress>().is_ok() => UnitKind::Virtio,
        _ => UnitKind::Other,
    };
    names.into_iter().map(|name| Unit { kind: kind(&name), name }).collect()
}

/// On x86 the kernel puts `IR-` before the name of an interrupt chip whose interrupts are remapped. That says yes;
/// chips without it say no; a list without any of these chips says nothing.
fn interrupt_remapping(source: &dyn Source) -> Fact<bool> {
    source.text(INTERRUPTS).and_then(|text| {
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

fn groups(source: &dyn Source, pci: &Pci) -> Fact<Vec<Group>> {
    super::list_or_empty(source, GROUPS, "/sys/kernel").map(|names| {
        let mut groups: Vec<_> = names
            .iter()
            .filter_map(|name| {
                Some(group(source, pci, name.parse().ok().filter(|id: &u32| id.to_string() == *name)?))
            })
            .collect();
        groups.sort_unstable_by_key(|group| group.id);
        groups
    })
}

fn group(source: &dyn Source, pci: &Pci, id: u32) -> Group {
    let directory = format!("{GROUPS}/{id}");
    let devices = format!("{directory}/devices");
    let devices = parse::required(source.list(&devices), &devices);
    let kind = parse::optional_text(source, &format!("{directory}/type"));
    // Groups of no-IOMMU mode have a name and no domain; the others need not be asked.
    let has_domain = kind.known().is_some_and(|kind| kind.starts_with("DMA") || kind == "identity");
    let named =
        |name| parse::optional_text(source, &format!("{directory}/name")).known().is_some_and(|n| n == name);
    let no_iommu = !has_domain && named("vfio-noiommu");
    let (viable, blockers) = viability(source, pci, &directory, &devices);
    let regions = format!("{directory}/reserved_regions");
    Group {
        id,
        kind,
        no_iommu,
        devices,
        viable,
        blockers,
        reserved_regions: parse::required(source.text(&regions), &regions)
            .parse(&regions, |text| reserved_regions(&text)),
    }
}

fn reserved_regions(text: &str) -> Result<Vec<ReservedRegion>, String> {
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    text.lines()
        .map(|line| {
            let region = || {
                let mut words = line.split_ascii_whitespace();
                let (start, end) = (hex(words.next()?)?, hex(words.next()?)?);
                Some(ReservedRegion { start, end, kind: words.next()?.to_owned() })
            };
            region().ok_or_else(|| format!("`{}` is not a region", parse::excerpt(line)))
        })
        .collect()
}

/// The kernel's rule over all members, and the members that break it.
fn viability(
    source: &dyn Source,
    pci: &Pci,
    directory: &str,
    devices: &Fact<Vec<String>>,
) -> (Fact<bool>, Vec<Blocker>) {
    let members = match devices {
        Fact::Known(members) => members,
        unread => return (unread.as_ref().map(|_| false), Vec::new()),
    };
    let (mut blockers, mut unread) = (Vec::new(), None);
    for member in members {
        let function = member.parse().ok().and_then(|address| pci.device(address));
        match blocking_driver(source, function, &format!("{directory}/devices/{member}/driver")) {
            Fact::Known(driver) => blockers.push(Blocker { device: member.clone(), driver }),
            Fact::NotPresent => {}
            reason => unread = unread.or(Some(reason)),
        }
    }
    let viable = match unread {
        Some(reason) if blockers.is_empty() => reason.map(|_| false),
        _ => Fact::Known(blockers.is_empty()),
    };
    (viable, blockers)
}

/// The driver with which one member keeps its group from VFIO; absent if it does not.
fn blocking_driver(source: &dyn Source, function: Option<&PciDevice>, link: &str) -> Fact<String> {
    let Some(function) = function else { return source.link_name(link) };
    if function.is_bridge() || function.vfio_bound == Fact::Known(true) {
        return Fact::NotPresent;
    }
    match &function.driver {
        Fact::Known(name) if matches!(name.as_str(), "pci-stub" | "pcieport") => Fact::NotPresent,
        driver => driver.clone(),
    }
}
