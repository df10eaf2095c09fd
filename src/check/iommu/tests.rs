//! The IOMMU of the healthy host, and how each check is brought to each answer.

use super::domains;
use crate::check::Status;
use crate::check::fixture::{self, Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::host::collect;
use crate::host::source::answers::Answer;

const GROUPS: &str = "/sys/kernel/iommu_groups";
const DEVICES: &str = "/sys/bus/pci/devices";
const CAP: &str = "/sys/class/iommu/dmar0/intel-iommu/cap";
const ECAP: &str = "/sys/class/iommu/dmar0/intel-iommu/ecap";
const DMAR: &str = "/sys/firmware/acpi/tables/DMAR";
const TYPE1: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
/// The group of [`SUBJECT`].
const GROUP: u32 = 2;

/// What this file's checks need to pass: VT-d of a server (CAP and ECAP of a Xeon), each function in a group.
pub(in crate::check) fn healthy(host: &FakeHost) {
    host.add(&[
        (CAP, Entry::Text("8d2078c106f0466")),
        (ECAP, Entry::Text("f020df")),
        ("/sys/class/iommu/dmar0/intel-iommu/version", Entry::Text("1:0")),
        ("/proc/interrupts", Entry::Text(" 24:  1  IR-PCI-MSI-edge  nvme0q0")),
        ("/proc/cmdline", Entry::Text("quiet intel_iommu=on")),
        ("/proc/zoneinfo", Entry::Text("        spanned  524288\n  start_pfn:           1048576")),
        (TYPE1, Entry::Text("N")),
    ]);
    for (group, (address, class)) in (0..).zip([
        ("0000:00:02.0", "0x060400"),
        ("0000:00:03.0", "0x060400"),
        (SUBJECT, "0x020000"),
        ("0000:02:00.0", "0x010802"),
    ]) {
        let directory = format!("{GROUPS}/{group}");
        host.add(&[
            (&format!("{directory}/type"), Entry::Text("DMA-FQ")),
            (
                &format!("{directory}/reserved_regions"),
                Entry::Text("0x00000000fee00000 0x00000000feefffff msi"),
            ),
            (&format!("{directory}/devices/{address}"), Entry::Directory),
            (&format!("/sys/class/iommu/dmar0/devices/{address}"), Entry::Directory),
            (&format!("{DEVICES}/{address}/class"), Entry::Text(class)),
            (
                &format!("{DEVICES}/{address}/iommu_group"),
                Entry::Link(&format!("../../../kernel/iommu_groups/{group}")),
            ),
        ]);
    }
    if !host.path().join(DMAR.trim_start_matches('/')).exists() {
        host.add(&[(DMAR, Entry::Bytes(&dmar_header(1)))]);
    }
    host.answer(|answers| {
        answers.kernel_log.get_or_insert(Answer::Given(Vec::new()));
    });
}

/// A DMAR table without structures.
fn dmar_header(flags: u8) -> Vec<u8> {
    let mut table = vec![0; 48];
    table[..4].copy_from_slice(b"DMAR");
    table[4] = 48;
    table[36] = 45;
    table[37] = flags;
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

fn write(host: &FakeHost, path: &str, text: &str) {
    host.add(&[(path, Entry::Text(text))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn remove(host: &FakeHost, path: &str) {
    let place = host.path().join(path.trim_start_matches('/'));
    if place.is_symlink() || place.is_file() {
        std::fs::remove_file(place).unwrap();
    } else {
        std::fs::remove_dir_all(place).unwrap();
    }
}

fn log(host: &FakeHost, line: &str) {
    host.answer_log(&[line]);
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "iommu-running",
        pass: nothing,
        fail: |host| {
            remove(host, "/sys/class/iommu/dmar0");
            write(host, "/proc/cmdline", "intel_iommu=off");
        },
        unknown: |host| deny(host, "/sys/class/iommu"),
    },
    Fixture {
        id: "iommu-dma-translation",
        pass: nothing,
        fail: |host| write(host, CAP, "8d2078c106f0066"),
        unknown: |host| deny(host, CAP),
    },
    Fixture {
        id: "iommu-groups",
        pass: nothing,
        fail: |host| remove(host, &format!("{DEVICES}/{SUBJECT}/iommu_group")),
        unknown: |host| deny(host, &format!("{DEVICES}/{SUBJECT}/iommu_group")),
    },
    Fixture {
        id: "iommu-arguments",
        pass: |host| write(host, "/proc/cmdline", "intel_iommu=on iommu=pt"),
        fail: |host| write(host, "/proc/cmdline", "amd_iommu=on iommu=pt"),
        unknown: |host| deny(host, "/proc/cmdline"),
    },
    Fixture {
        id: "iommu-interrupt-remapping",
        pass: nothing,
        fail: |host| write(host, "/proc/interrupts", " 24:  1  PCI-MSI-edge  nvme0q0"),
        unknown: |host| write(host, "/proc/interrupts", ""),
    },
    Fixture {
        id: "iommu-unsafe-interrupts",
        pass: nothing,
        fail: |host| write(host, TYPE1, "Y"),
        unknown: |host| deny(host, TYPE1),
    },
    Fixture {
        id: "iommu-posted-interrupts",
        pass: nothing,
        fail: |host| write(host, CAP, "d2078c106f0466"),
        unknown: |host| deny(host, CAP),
    },
    Fixture {
        id: "iommu-x2apic-opt-out",
        pass: |host| host.add(&[(DMAR, Entry::Bytes(&dmar_header(1)))]),
        fail: |host| host.add(&[(DMAR, Entry::Bytes(&dmar_header(3)))]),
        unknown: |host| deny(host, DMAR),
    },
    Fixture {
        id: "iommu-default-domain",
        pass: nothing,
        fail: |host| write(host, &format!("{GROUPS}/{GROUP}/type"), "identity"),
        unknown: |host| deny(host, GROUPS),
    },
    Fixture {
        id: "iommu-lazy-invalidation",
        pass: nothing,
        fail: |host| {
            for group in 0..4 {
                write(host, &format!("{GROUPS}/{group}/type"), "DMA");
            }
        },
        unknown: |host| deny(host, GROUPS),
    },
    Fixture {
        id: "iommu-address-width",
        pass: nothing,
        fail: |host| write(host, "/proc/zoneinfo", "        spanned  68719476736\n  start_pfn:  1048576"),
        unknown: |host| deny(host, "/proc/zoneinfo"),
    },
    Fixture {
        id: "iommu-snoop-control",
        pass: nothing,
        fail: |host| write(host, ECAP, "f0205f"),
        unknown: |host| deny(host, ECAP),
    },
    Fixture {
        id: "iommu-direct-regions",
        pass: nothing,
        fail: hold_memory,
        unknown: |host| deny(host, &format!("{GROUPS}/{GROUP}/reserved_regions")),
    },
    Fixture {
        id: "iommu-function-direct-region",
        pass: nothing,
        fail: hold_memory,
        unknown: |host| deny(host, &format!("{GROUPS}/{GROUP}/reserved_regions")),
    },
    Fixture {
        id: "iommu-no-iommu-mode",
        pass: nothing,
        fail: |host| write(host, crate::host::iommu::NO_IOMMU_MODE, "Y"),
        unknown: |host| deny(host, crate::host::iommu::NO_IOMMU_MODE),
    },
    Fixture {
        id: "iommu-faults",
        pass: nothing,
        fail: |host| log(host, "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000"),
        unknown: |host| host.answer(|answers| answers.kernel_log = None),
    },
];

fn hold_memory(host: &FakeHost) {
    let regions = format!("{GROUPS}/{GROUP}/reserved_regions");
    write(host, &regions, "0x000000007b800000 0x000000007fffffff direct");
}

#[test]
fn a_type_of_domain_that_nobody_knows_confines_nothing() {
    let host = fixture::healthy();
    write(&host, &format!("{GROUPS}/{GROUP}/type"), "\u{1b}[31mK");
    let outcome = domains::default_domain(&collect(&host.source()));
    assert_eq!(outcome.status, Status::Unknown);
    assert_eq!(outcome.summary, r"`\u{1b}[31mK` is no type of domain that is known");
}
