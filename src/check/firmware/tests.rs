//! Firmware of the healthy host, and how each check is brought to each answer.

use crate::check::Status;
use crate::check::fixture::{Entry, FakeHost, Fixture, nothing};
use crate::host::source::answers::{Answer, Refusal};
use crate::host::{self, HostFacts};
use crate::spec::dmar::flags;
use crate::spec::sdt::testing::table;

const DMAR: &str = "/sys/firmware/acpi/tables/DMAR";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const VTD: &str = "/sys/class/firmware-attributes/dell-wmi-sysman/attributes/VtForDirectIo/current_value";
const UNITS: &str = "/sys/class/iommu/dmar0";

/// A hardware unit with its registers at `base` that takes all that is left.
fn unit(base: u64) -> Vec<u8> {
    let mut unit = vec![0, 0, 16, 0, 1, 0, 0, 0];
    unit.extend(base.to_le_bytes());
    unit
}

/// A reserved region of the function at 00:`device`.0.
fn reserved(device: u8) -> Vec<u8> {
    let mut region = vec![1, 0, 32, 0, 0, 0, 0, 0];
    region.extend(0x7B80_0000_u64.to_le_bytes());
    region.extend(0x7FFF_FFFF_u64.to_le_bytes());
    region.extend([1, 8, 0, 0, 0, 0, device, 0]);
    region
}

fn put(host: &FakeHost, flags: u8, records: &[Vec<u8>]) {
    let mut body = vec![45, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend(records.concat());
    host.add(&[(DMAR, Entry::Bytes(&table("DMAR", &body)))]);
}

/// What this file's checks need to pass.
pub(in crate::check) fn healthy(host: &FakeHost) {
    put(host, flags::INTERRUPT_REMAPPING, &[unit(0xFED9_0000)]);
    host.add(&[
        (SECURE_BOOT, Entry::Bytes(&[6, 0, 0, 0, 1])),
        (LOCKDOWN, Entry::Text("none [integrity] confidentiality")),
        (VTD, Entry::Text("Enabled")),
    ]);
    log(host, &[]);
}

fn log(host: &FakeHost, lines: &[&str]) {
    host.answer_log(lines);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn stop_iommu(host: &FakeHost) {
    std::fs::remove_dir_all(host.path().join(UNITS.trim_start_matches('/'))).unwrap();
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "firmware-uefi",
        pass: nothing,
        fail: |host| std::fs::remove_dir_all(host.path().join("sys/firmware/efi")).unwrap(),
        unknown: |host| deny(host, "/sys/firmware"),
    },
    Fixture {
        id: "firmware-lockdown",
        pass: nothing,
        fail: |host| {
            log(
                host,
                &["Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7"],
            );
        },
        unknown: |host| deny(host, LOCKDOWN),
    },
    Fixture {
        id: "firmware-settings",
        pass: nothing,
        fail: |host| host.add(&[(VTD, Entry::Text("Disabled"))]),
        unknown: |host| deny(host, VTD),
    },
    Fixture {
        id: "firmware-iommu-table",
        pass: nothing,
        fail: |host| put(host, 1, &[unit(0xFED9_0000), vec![0, 0, 16, 0]]),
        unknown: |host| deny(host, DMAR),
    },
    Fixture {
        id: "firmware-iommu-units",
        pass: nothing,
        fail: |host| put(host, 1, &[unit(0xFED9_0000), unit(0xFED9_1000)]),
        unknown: |host| deny(host, DMAR),
    },
    Fixture {
        id: "firmware-faults",
        pass: nothing,
        fail: |host| {
            log(
                host,
                &[
                    "DMAR: [Firmware Bug]: No firmware reserved region can cover this RMRR [0x7b800000-0x7fffffff]",
                ],
            );
        },
        unknown: |host| host.answer(|answers| answers.kernel_log = Some(Answer::Refused(Refusal::Denied))),
    },
    Fixture {
        id: "firmware-reserved-memory",
        pass: stop_iommu,
        fail: |host| {
            stop_iommu(host);
            put(host, 1, &[unit(0xFED9_0000), reserved(2)]);
        },
        unknown: |host| {
            stop_iommu(host);
            deny(host, DMAR);
        },
    },
    Fixture {
        id: "firmware-dma-protection",
        pass: |host| put(host, flags::DMA_CONTROL_OPT_IN, &[unit(0xFED9_0000)]),
        fail: |host| {
            stop_iommu(host);
            put(host, flags::DMA_CONTROL_OPT_IN, &[unit(0xFED9_0000)]);
        },
        unknown: |host| deny(host, DMAR),
    },
];

fn facts(change: fn(&FakeHost)) -> HostFacts {
    let host = crate::check::fixture::healthy();
    change(&host);
    host::collect(&host.source())
}

#[test]
fn memory_of_displays_and_usb_controllers_keeps_nothing() {
    let facts = facts(|host| {
        stop_iommu(host);
        put(host, 1, &[unit(0xFED9_0000), reserved(2)]);
        host.add(&[("/sys/bus/pci/devices/0000:00:02.0/class", Entry::Text("0x030000"))]);
    });
    assert_eq!(super::protection::reserved_memory(&facts).status, Status::Pass);
}

#[test]
fn units_that_cannot_be_are_told_each() {
    let facts = facts(|host| put(host, 1, &[unit(0), unit(u64::MAX), unit(0xFED9_0000)]));
    let outcome = super::tables::units(&facts);
    assert_eq!((outcome.status, outcome.evidence.len()), (Status::Warn, 4), "{outcome:#?}");
}

#[test]
fn a_record_of_a_later_standard_is_no_fault() {
    let facts = facts(|host| put(host, 1, &[unit(0xFED9_0000), vec![9, 0, 4, 0]]));
    let outcome = super::tables::well_formed(&facts);
    assert_eq!(outcome.status, Status::Pass);
    assert!(outcome.evidence.iter().any(|evidence| evidence.value.contains("type 0x9")), "{outcome:#?}");
}

#[test]
fn a_setting_that_is_on_and_unseen_waits_for_a_power_off() {
    let facts = facts(|host| std::fs::remove_file(host.path().join(DMAR.trim_start_matches('/'))).unwrap());
    let outcome = super::settings::settings(&facts);
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.remedy[0].text.contains("power"), "{outcome:#?}");
}

#[test]
fn a_lockdown_that_refuses_names_secure_boot_as_its_cause() {
    let facts =
        facts(|host| log(host, &["Lockdown: x: raw MSR access is restricted; see man kernel_lockdown.7"]));
    let outcome = super::boot::lockdown(&facts);
    assert!(outcome.cause.unwrap().contains("Secure Boot"));
}
