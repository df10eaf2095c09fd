//! Units, remapping and groups: yes, no, and not to be told.

use super::groups::reserved_regions;
use super::*;
use crate::host::collect as collect_host;
use crate::host::source::fake::{Entry, FakeHost};

const DEVICES: &str = "/sys/bus/pci/devices";

fn remapping(interrupts: &str) -> Fact<bool> {
    let host = FakeHost::new(&[(INTERRUPTS, Entry::Text(interrupts))]);
    collect_host(&host.source()).iommu.interrupt_remapping
}

#[test]
fn the_prefix_of_the_interrupt_chip_tells_remapping() {
    assert_eq!(remapping(" 24:  1  IR-PCI-MSI-edge  nvme0q0"), Fact::Known(true));
    assert_eq!(remapping(" 24:  1  IR-PCI-MSIX-0000:02:00.0  0-edge  nvme0q0"), Fact::Known(true));
    assert_eq!(
        remapping("  9:  0  IR-IO-APIC  9-fasteoi  acpi\n 26: 1 DMAR-MSI 0-edge dmar0"),
        Fact::Known(true)
    );
    assert_eq!(remapping("  9:  0  IO-APIC  9-fasteoi  acpi"), Fact::Known(false));
    assert_eq!(remapping(" 26:  1  DMAR-MSI 0-edge dmar0\n 27: 0 PCI-MSI-edge x"), Fact::Known(false));
    assert!(remapping(" 26: 0 GICv3 27 Level arch_timer").is_unread());
    assert!(remapping("").is_unread());
}

/// A group with one member at 0000:01:00.0 whose directory holds `entries`.
fn group_of(entries: &[(&str, Entry<'_>)]) -> Group {
    let host = FakeHost::new(&[
        (&format!("{DEVICES}/0000:01:00.0/class"), Entry::Text("0x020000")),
        (
            &format!("{GROUPS}/5/devices/0000:01:00.0"),
            Entry::Link("../../../../bus/pci/devices/0000:01:00.0"),
        ),
        (&format!("{GROUPS}/5/type"), Entry::Text("DMA")),
        (&format!("{GROUPS}/5/reserved_regions"), Entry::Text("0x00000000fee00000 0x00000000feefffff msi")),
    ]);
    for (name, entry) in entries {
        host.add(&[(&format!("{DEVICES}/0000:01:00.0/{name}"), entry.clone())]);
    }
    collect_host(&host.source()).group(5).unwrap().clone()
}

#[test]
fn drivers_that_leave_dma_to_vfio_keep_a_group_viable() {
    assert_eq!(group_of(&[]).viable, Fact::Known(true));
    for driver in ["vfio-pci", "pci-stub", "pcieport"] {
        let target = format!("../../drivers/{driver}");
        assert_eq!(group_of(&[("driver", Entry::Link(&target))]).viable, Fact::Known(true), "{driver}");
    }
    let variant =
        group_of(&[("driver", Entry::Link("../../drivers/nvgrace")), ("vfio-dev/vfio0", Entry::Directory)]);
    assert_eq!(variant.viable, Fact::Known(true));
}

#[test]
fn any_other_driver_is_named_as_the_blocker() {
    let group = group_of(&[("driver", Entry::Link("../../drivers/igb"))]);
    assert_eq!(group.viable, Fact::Known(false));
    let blocker = Blocker { device: "0000:01:00.0".to_owned(), driver: "igb".to_owned() };
    assert_eq!(group.blockers, [blocker]);
}

#[test]
fn a_bridge_does_not_count_whatever_drives_it() {
    let driver = ("driver", Entry::Link("../../drivers/shpchp"));
    assert_eq!(group_of(&[("class", Entry::Text("0x060400")), driver.clone()]).viable, Fact::Known(true));
    let mut header = [0; 64];
    header[0x0E] = 0x81;
    assert_eq!(group_of(&[("config", Entry::Bytes(&header)), driver]).viable, Fact::Known(true));
}

#[test]
fn a_driver_that_cannot_be_read_leaves_viability_open() {
    let host = FakeHost::new(&[
        (&format!("{DEVICES}/0000:01:00.0/driver"), Entry::Link("../../drivers/igb")),
        (&format!("{GROUPS}/5/devices/0000:01:00.0"), Entry::Directory),
    ]);
    let facts = collect_host(&host.source_without(&["/driver"]));
    assert!(facts.group(5).unwrap().viable.is_unread());
}

#[test]
fn reserved_regions_are_numbers_with_a_kind() {
    let region = ReservedRegion { start: 0xFEE0_0000, end: 0xFEEF_FFFF, kind: "msi".to_owned() };
    assert_eq!(group_of(&[]).reserved_regions, Fact::Known(vec![region]));
    assert!(reserved_regions("0x0 0x1").is_err() && reserved_regions("1 2 msi").is_err());
    assert_eq!(reserved_regions(""), Ok(vec![]));
}

#[test]
fn a_table_is_no_unit_and_groups_of_no_iommu_mode_are_no_remapping() {
    let host = FakeHost::new(&[
        (&format!("{TABLES}/DMAR"), Entry::Text("")),
        (UNITS, Entry::Directory),
        (&format!("{GROUPS}/0/name"), Entry::Text("vfio-noiommu")),
        (&format!("{GROUPS}/0/devices"), Entry::Directory),
    ]);
    let facts = collect_host(&host.source());
    assert_eq!(facts.iommu.acpi_tables, Fact::Known(vec!["DMAR".to_owned()]));
    assert_eq!((&facts.iommu.units, &facts.iommu.dma_remapping), (&Fact::Known(vec![]), &Fact::Known(false)));
    assert!(facts.group(0).unwrap().no_iommu);
}
