//! Each rule on a small host, and which of two rules wins.

use super::*;
use crate::host;
use crate::host::source::fake::{Entry, FakeHost};

/// A PC on which firmware describes Intel's IOMMU and the kernel runs none; no hypervisor.
fn intel() -> FakeHost {
    let host = machine(0);
    host.add(&[(&format!("{TABLES}/DMAR"), Entry::Text(""))]);
    host
}

/// A machine without an IOMMU whose leaf 1 of CPUID has `ecx`.
fn machine(ecx: u32) -> FakeHost {
    let host = FakeHost::new(&[
        (COMMAND_LINE, Entry::Text("quiet")),
        (TABLES, Entry::Directory),
        (UNITS, Entry::Directory),
        ("/sys/kernel/iommu_groups", Entry::Directory),
        ("/sys/module", Entry::Directory),
    ]);
    host.answer_cpuid(&[
        (0, [1, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]),
        (1, [0, 0, ecx, 0]),
        (0x4000_0000, [0x4000_0001, 0x4B4D_564B, 0x564B_4D56, 0x4D]),
    ]);
    host
}

const HYPERVISOR: u32 = 1 << 31;

fn judge(host: &FakeHost) -> (Option<bool>, Reason) {
    let verdict = verdict(&host::collect(&host.source()));
    assert!(!verdict.evidence.is_empty(), "{verdict:#?}");
    (verdict.usable, verdict.reason)
}

fn run_unit(host: &FakeHost) {
    host.add(&[
        (&format!("{UNITS}/dmar0"), Entry::Directory),
        ("/sys/kernel/iommu_groups/0/devices/0000:00:00.0", Entry::Directory),
        ("/sys/kernel/iommu_groups/0/type", Entry::Text("DMA-FQ")),
    ]);
}

#[test]
fn a_unit_with_a_group_behind_it_runs_whatever_else_is_said() {
    let host = intel();
    run_unit(&host);
    host.add(&[(COMMAND_LINE, Entry::Text("intel_iommu=off"))]);
    assert_eq!(judge(&host), (Some(true), Reason::Ok));
}

#[test]
fn a_group_of_no_iommu_mode_is_no_iommu() {
    let host = intel();
    host.add(&[
        ("/sys/kernel/iommu_groups/0/devices/0000:00:00.0", Entry::Directory),
        ("/sys/kernel/iommu_groups/0/name", Entry::Text("vfio-noiommu")),
    ]);
    assert_eq!(judge(&host).0, Some(false));
    host.add(&[(&format!("{UNITS}/dmar0"), Entry::Directory)]);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));
}

#[test]
fn under_a_hypervisor_a_missing_table_is_hidden_and_not_absent() {
    assert_eq!(judge(&machine(HYPERVISOR)), (Some(false), Reason::HiddenByHypervisor));
}

#[test]
fn on_bare_metal_a_missing_table_says_nothing_unless_a_register_does() {
    let host = machine(0);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));

    let mut bridge = vec![0; 256];
    bridge[..2].copy_from_slice(&[0x86, 0x80]);
    (bridge[0x06], bridge[0x34], bridge[0xE0]) = (0x10, 0xE0, 0x09);
    let config = "/sys/bus/pci/devices/0000:00:00.0/config";
    host.add(&[(config, Entry::Bytes(&bridge))]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInFirmware));
    bridge[0xE6] = 1 << 7;
    host.add(&[(config, Entry::Bytes(&bridge))]);
    assert_eq!(judge(&host), (Some(false), Reason::NotInHardware));
}

#[test]
fn on_bare_metal_a_live_setting_of_the_firmware_decides() {
    let host = machine(0);
    let setting = "/sys/class/firmware-attributes/thinklmi/attributes/VTdFeature";
    host.add(&[
        (&format!("{setting}/current_value"), Entry::Text("Disable")),
        (&format!("{setting}/possible_values"), Entry::Text("Disable;Enable")),
    ]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInFirmware));
}

#[test]
fn where_the_hypervisor_cannot_be_told_nothing_is_said_about_hiding() {
    let host = FakeHost::new(&[(TABLES, Entry::Directory), (UNITS, Entry::Directory)]);
    host.add(&[("/sys/kernel/iommu_groups", Entry::Directory)]);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));
}

#[test]
fn an_argument_switches_it_off_and_the_last_one_counts() {
    for (table, line, off) in [
        ("DMAR", "intel_iommu=off", true),
        ("DMAR", "intel_iommu=on,sm_on intel_iommu=off", true),
        ("DMAR", "intel_iommu=off intel_iommu=on", false),
        ("DMAR", "iommu=off", true),
        ("DMAR", "amd_iommu=off", false),
        ("IVRS", "amd_iommu=off", true),
        ("IVRS", "amd_iommu=on iommu=pt", false),
        ("IVRS", "iommu=pt,off", true),
    ] {
        let host = machine(HYPERVISOR);
        host.add(&[(&format!("{TABLES}/{table}"), Entry::Text("")), (COMMAND_LINE, Entry::Text(line))]);
        let expected = if off { Reason::OffInKernel } else { Reason::Unknown };
        assert_eq!(judge(&host), (Some(false), expected), "{table} {line}");
    }
}

#[test]
fn a_unit_that_cannot_translate_is_nearer_to_the_hardware_than_an_argument() {
    let host = intel();
    host.add(&[(COMMAND_LINE, Entry::Text("intel_iommu=off"))]);
    let said = "DMAR: dmar0: No supported address widths. Not attempting DMA translation.";
    for log in [&["DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c222f0086 ecap f00f4a"][..], &[said]]
    {
        host.answer_log(log);
        assert_eq!(judge(&host), (Some(false), Reason::NotInHardware), "{log:?}");
    }
    let able = "DMAR: dmar1: reg_base_addr fed91000 ver 1:0 cap d2008c222f0686 ecap f00f4a";
    host.answer_log(&[
        "DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c222f0086 ecap f00f4a",
        able,
        said,
    ]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInKernel));
}

#[test]
fn a_table_that_points_nowhere_is_firmwares_doing() {
    let host = intel();
    host.answer_log(&[
        "DMAR: [Firmware Bug]: Your BIOS is broken; DMAR reported at address fed90000 returns all ones!",
    ]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInFirmware));
}

#[test]
fn a_kernel_that_was_not_told_to_use_it_is_known_by_its_log() {
    let host = intel();
    host.answer_log(&["DMAR: Host address width 39"]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInKernel));
    host.answer_log(&["DMAR: Host address width 39", "DMAR: IOMMU enabled", "DMAR: Initialization failed"]);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));
    host.answer_log(&["DMAR: IOMMU disabled"]);
    assert_eq!(judge(&host), (Some(false), Reason::OffInKernel));
    host.answer_log(&[]);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));
}

#[test]
fn virtio_iommu_without_its_module_has_no_driver() {
    let host = machine(HYPERVISOR);
    host.add(&[(&format!("{TABLES}/VIOT"), Entry::Text(""))]);
    assert_eq!(judge(&host), (Some(false), Reason::NoDriver));
    host.add(&[("/sys/module/virtio_iommu", Entry::Directory)]);
    assert_eq!(judge(&host), (Some(false), Reason::Unknown));
}

#[test]
fn in_a_container_that_hides_the_tables_nothing_is_called_absent() {
    let host = FakeHost::new(&[(UNITS, Entry::Directory), ("/sys/kernel/iommu_groups", Entry::Directory)]);
    assert_eq!(judge(&host), (None, Reason::Unknown));
    let denied = verdict(&host::collect(&host.source_without(&["/sys/firmware"])));
    assert_eq!((denied.usable, denied.reason), (None, Reason::NoPermission));
    let denied = verdict(&host::collect(&host.source_without(&["/sys/class/iommu"])));
    assert_eq!((denied.usable, denied.reason), (None, Reason::NoPermission));
    assert_eq!(verdict(&host::collect(&FakeHost::new(&[]).source())).usable, None);
}

#[test]
fn firmware_without_acpi_is_a_table_that_is_not_there() {
    let host = machine(HYPERVISOR);
    std::fs::remove_dir(host.path().join(&TABLES[1..])).unwrap();
    std::fs::remove_dir(host.path().join("sys/firmware/acpi")).unwrap();
    host.add(&[("/sys/firmware/memmap", Entry::Directory)]);
    assert_eq!(judge(&host), (Some(false), Reason::HiddenByHypervisor));
}

#[test]
fn xens_first_domain_has_its_iommu_under_xen() {
    let host = machine(HYPERVISOR);
    host.add(&[
        ("/sys/hypervisor/type", Entry::Text("xen")),
        ("/proc/xen/capabilities", Entry::Text("control_d")),
    ]);
    let verdict = verdict(&host::collect(&host.source()));
    assert_eq!((verdict.usable, verdict.reason), (Some(false), Reason::HiddenByHypervisor));
    assert!(verdict.explanation.starts_with("Xen"), "{}", verdict.explanation);
}
