//! Makers are told apart, and each setting leads to the right row.

use super::*;
use crate::host::collect;
use crate::host::source::fake::{Entry, FakeHost};

/// A machine whose processor and DMI strings are these: `(file below /sys/class/dmi/id, text)`.
fn machine(cpu: &str, dmi: &[(&str, &str)]) -> HostFacts {
    let host = FakeHost::new(&[("/proc/cpuinfo", Entry::Text(&format!("processor : 0\nvendor_id : {cpu}")))]);
    for (name, text) in dmi {
        host.add(&[(&format!("/sys/class/dmi/id/{name}"), Entry::Text(text))]);
    }
    collect(&host.source())
}

fn maker_of(dmi: &[(&str, &str)]) -> Option<&'static str> {
    maker(&machine("GenuineIntel", dmi).firmware.dmi).map(|maker| maker.name)
}

#[test]
fn makers_are_known_by_the_spellings_that_are_in_the_field() {
    for (board, product, expected) in [
        ("ASUSTeK COMPUTER INC.", "System Product Name", "ASUS"),
        ("ASUSTeK Computer INC.", "", "ASUS"),
        ("Micro-Star International Co., Ltd.", "MS-7E07", "MSI"),
        ("MICRO-STAR INTERNATIONAL CO.,LTD", "MS-7850", "MSI"),
        ("MSI", "MS-91E2", "MSI industrial"),
        ("Gigabyte Technology Co., Ltd.", "B650 AORUS", "Gigabyte"),
        ("GIGABYTE", "MZ32-AR0-00", "Gigabyte"),
        ("ASRock", "To Be Filled By O.E.M.", "ASRock"),
        ("ASRockRack", "ROMED8-2T", "ASRock"),
        ("Dell Inc.", "PowerEdge R740", "Dell PowerEdge"),
        ("Dell Inc.", "OptiPlex 7080", "Dell"),
        ("HP", "HP EliteDesk 800 G4", "HP"),
        ("HP", "ProLiant DL380 Gen9", "HPE ProLiant"),
        ("HPE", "ProLiant DL380 Gen10", "HPE ProLiant"),
        ("HP", "HP Pavilion Laptop", "HP consumer"),
        ("LENOVO", "ThinkSystem SR650", "Lenovo ThinkSystem"),
        ("Supermicro", "X11DPi-N", "Supermicro"),
        ("Intel Corporation", "NUC8i7BEH", "Intel NUC"),
        ("Framework", "Laptop 13 (AMD Ryzen 7040Series)", "Framework"),
    ] {
        assert_eq!(
            maker_of(&[("board_vendor", board), ("product_name", product)]),
            Some(expected),
            "{board}"
        );
    }
}

#[test]
fn the_board_decides_before_the_system_and_the_system_where_the_board_is_unknown() {
    assert_eq!(maker_of(&[("board_vendor", "Supermicro"), ("sys_vendor", "Dell Inc.")]), Some("Supermicro"));
    assert_eq!(maker_of(&[("board_vendor", "Foxconn"), ("sys_vendor", "HP")]), Some("HP"));
    assert_eq!(
        maker_of(&[("board_vendor", "ASRock"), ("sys_vendor", "System manufacturer")]),
        Some("ASRock")
    );
    assert_eq!(maker_of(&[("sys_vendor", "To Be Filled By O.E.M.")]), None);
    assert_eq!(maker_of(&[]), None);
}

#[test]
fn lenovo_names_the_model_in_the_version_of_the_product() {
    let names = [("board_vendor", "LENOVO"), ("product_name", "20SX001QUS")];
    assert_eq!(
        maker_of(&[names[0], names[1], ("product_version", "ThinkPad X13 Yoga")]),
        Some("Lenovo ThinkPad")
    );
    assert_eq!(maker_of(&names), None);
}

#[test]
fn a_server_board_of_intel_is_known_by_its_chassis() {
    let vendor = ("board_vendor", "Intel Corporation");
    assert_eq!(maker_of(&[vendor, ("chassis_type", "23")]), Some("Intel server board"));
    assert_eq!(maker_of(&[vendor, ("chassis_type", "3")]), None);
}

#[test]
fn the_processor_decides_between_the_rows_of_a_maker() {
    let asus = [("board_vendor", "ASUSTeK COMPUTER INC.")];
    let intel = place(&machine("GenuineIntel", &asus), Setting::Virtualization);
    let amd = place(&machine("AuthenticAMD", &asus), Setting::Virtualization);
    assert_eq!((intel.maker, intel.confidence), (Some("ASUS"), Confidence::High));
    assert!(intel.path.ends_with("Intel (VMX) Virtualization Technology"), "{intel:?}");
    assert!(amd.path.ends_with("SVM Mode"), "{amd:?}");
}

#[test]
fn an_unknown_machine_gets_the_common_wording_with_low_confidence() {
    let facts = machine("AuthenticAMD", &[("board_vendor", "QEMU")]);
    let place = place(&facts, Setting::Iommu);
    assert_eq!((place.maker, place.confidence), (None, Confidence::Low));
    assert!(place.path.ends_with("IOMMU"), "{place:?}");
}

#[test]
fn interrupt_remapping_is_found_in_its_own_row_or_with_the_iommu() {
    let own = place(&machine("GenuineIntel", &[("board_vendor", "Supermicro")]), Setting::InterruptRemapping);
    assert!(own.path.ends_with("> Interrupt Remapping"), "{own:?}");
    let with = place(&machine("GenuineIntel", &[("board_vendor", "Gigabyte")]), Setting::InterruptRemapping);
    assert!(with.path.ends_with("> VT-d"), "{with:?}");
}

#[test]
fn no_row_is_hidden_behind_another() {
    for maker in MAKERS {
        for (index, menu) in maker.menus.iter().enumerate() {
            let before = &maker.menus[..index];
            assert!(
                !before.iter().any(|b| b.setting == menu.setting && (b.cpu.is_none() || b.cpu == menu.cpu)),
                "{}: {}",
                maker.name,
                menu.path
            );
        }
    }
}
