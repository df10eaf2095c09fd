//! IOMMU groups: members, default domain, viability, reserved regions.

use serde::Serialize;

use super::GROUPS;
use super::causes::Cause;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::pci::{Pci, PciDevice};
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

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
    /// Why the group holds what it holds; none where a function is alone as its registers say.
    pub causes: Vec<Cause>,
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

/// Reads all groups; their causes are added by [`super::causes`].
pub(super) fn collect(source: &dyn Source, pci: &Pci) -> Fact<Vec<Group>> {
    crate::host::list_or_empty(source, GROUPS, "/sys/kernel").map(|names| {
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
        causes: Vec::new(),
    }
}

pub(super) fn reserved_regions(text: &str) -> Result<Vec<ReservedRegion>, String> {
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
