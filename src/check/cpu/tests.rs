//! The processor of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, nothing};
use crate::check::{Remedy, RemedyKind, Status};
use crate::host::source::answers::Answer;
use crate::host::source::answers::{MsrEntry, Refusal};
use crate::host::{self, HostFacts};
use crate::spec::cpuid::{
    EXTENDED_ECX_SVM, EXTENDED_EDX_1GIB_PAGES, FEATURES_ECX_HYPERVISOR, FEATURES_ECX_VMX, LEAF_ADDRESS_SIZES,
    LEAF_EXTENDED, LEAF_EXTENDED_FEATURES, LEAF_FEATURES, LEAF_HYPERVISOR, LEAF_VENDOR,
};

const CPUINFO: &str = "/proc/cpuinfo";
const INTEL: [u32; 4] = [0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69];
const AMD: [u32; 4] = [0x10, 0x6874_7541, 0x444D_4163, 0x6974_6E65];
const FLAGS: &str = "fpu vmx pdpe1gb";
const VMX_FLAGS: &str = "posted_intr ept_1gb ept vpid unrestricted_guest vapic_reg vid";

/// What this file's checks need to pass: a Xeon with VT-x in use.
pub(in crate::check) fn healthy(host: &FakeHost) {
    write(host, FLAGS, VMX_FLAGS, "0x2b000603");
    answer(host, FEATURES_ECX_VMX, EXTENDED_EDX_1GIB_PAGES);
    host.add(&[
        ("/proc/sys/kernel/osrelease", Entry::Text("6.12.0")),
        ("/sys/module/kvm_intel/parameters/ept", Entry::Text("Y")),
        ("/sys/kernel", Entry::Directory),
    ]);
}

/// Two CPUs with these flags, of which the second runs this microcode; no line of flags of VMX where there are none.
fn write(host: &FakeHost, flags: &str, vmx_flags: &str, microcode: &str) {
    let vmx_flags = if vmx_flags.is_empty() { String::new() } else { format!("vmx flags\t: {vmx_flags}\n") };
    let cpu = |number: u8, microcode: &str| {
        format!("processor\t: {number}\nmicrocode\t: {microcode}\nflags\t\t: {flags}\n{vmx_flags}")
    };
    let text = format!("{}\n{}", cpu(0, "0x2b000603"), cpu(1, microcode));
    host.add(&[(CPUINFO, Entry::Text(&text))]);
}

/// Leaf 1 ECX and leaf 80000001h EDX of a processor of Intel with 46-bit addresses.
fn answer(host: &FakeHost, features: u32, extended: u32) {
    host.answer_cpuid(&[
        (LEAF_VENDOR, INTEL),
        (LEAF_FEATURES, [0x0008_06F8, 0, features, 0]),
        (LEAF_HYPERVISOR, [LEAF_HYPERVISOR + 1, 0x4B4D_564B, 0x564B_4D56, 0x4D]),
        (LEAF_EXTENDED, [LEAF_ADDRESS_SIZES, 0, 0, 0]),
        (LEAF_EXTENDED_FEATURES, [0, 0, 0, extended]),
        (LEAF_ADDRESS_SIZES, [0x392E, 0, 0, 0]),
    ]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn deny_cpuid(host: &FakeHost) {
    host.answer(|answers| answers.cpuid = Some(Answer::Refused(Refusal::Denied)));
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "cpu-virtualization",
        pass: nothing,
        fail: |host| write(host, "fpu", "", "0x2b000603"),
        unknown: |host| deny(host, CPUINFO),
    },
    Fixture {
        id: "cpu-second-level-paging",
        pass: nothing,
        fail: |host| write(host, FLAGS, "vpid", "0x2b000603"),
        unknown: |host| write(host, FLAGS, "", "0x2b000603"),
    },
    Fixture {
        id: "cpu-tagged-tlb",
        pass: nothing,
        fail: |host| write(host, FLAGS, "ept", "0x2b000603"),
        unknown: |host| write(host, FLAGS, "", "0x2b000603"),
    },
    Fixture {
        id: "cpu-unrestricted-guest",
        pass: nothing,
        fail: |host| write(host, FLAGS, "ept", "0x2b000603"),
        unknown: |host| write(host, FLAGS, "", "0x2b000603"),
    },
    Fixture {
        id: "cpu-address-width",
        pass: nothing,
        fail: |host| {
            let zones = "        spanned  17179607040\n  start_pfn:           1048576";
            host.add(&[("/proc/zoneinfo", Entry::Text(zones))]);
        },
        unknown: |host| deny_cpuid(host),
    },
    Fixture {
        id: "cpu-same-features",
        pass: nothing,
        fail: |host| {
            let text = "processor\t: 0\nflags\t: fpu vmx\n\nprocessor\t: 1\nflags\t: fpu";
            host.add(&[(CPUINFO, Entry::Text(text))]);
        },
        unknown: |host| deny(host, CPUINFO),
    },
    Fixture {
        id: "cpu-same-microcode",
        pass: nothing,
        fail: |host| write(host, FLAGS, VMX_FLAGS, "0x2b000590"),
        unknown: |host| deny(host, CPUINFO),
    },
    Fixture {
        id: "cpu-bare-metal",
        pass: nothing,
        fail: |host| answer(host, FEATURES_ECX_VMX | FEATURES_ECX_HYPERVISOR, EXTENDED_EDX_1GIB_PAGES),
        unknown: |host| {
            deny_cpuid(host);
            deny(host, CPUINFO);
        },
    },
];

fn facts(change: fn(&FakeHost)) -> HostFacts {
    let host = crate::check::fixture::healthy();
    change(&host);
    host::collect(&host.source())
}

/// Kind and text of the first remedy for the extension.
fn first_remedy(facts: &HostFacts) -> (Status, RemedyKind, String) {
    let outcome = super::extension::virtualization(facts);
    let Remedy { kind, text, .. } = outcome.remedy[0].clone();
    (outcome.status, kind, text)
}

#[test]
fn each_way_to_lack_the_extension_has_a_cure_of_its_own() {
    let off_in_firmware = facts(|host| {
        write(host, "fpu", "", "0x2b000603");
        host.answer_kvm(Answer::Refused(Refusal::Absent));
        host.add(&[("/sys/class/dmi/id/board_vendor", Entry::Text("ASUSTeK COMPUTER INC."))]);
    });
    let (status, kind, text) = first_remedy(&off_in_firmware);
    assert_eq!((status, kind), (Status::Fail, RemedyKind::Firmware));
    assert!(text.contains("Intel (VMX) Virtualization Technology"), "{text}");

    let off_in_kernel = facts(|host| {
        write(host, "fpu", "", "0x2b000603");
        host.answer_kvm(Answer::Refused(Refusal::Absent));
        host.add(&[("/proc/cmdline", Entry::Text("quiet clearcpuid=vmx"))]);
    });
    let (status, kind, text) = first_remedy(&off_in_kernel);
    assert_eq!((status, kind), (Status::Fail, RemedyKind::KernelArgument));
    assert!(text.contains("clearcpuid=vmx"), "{text}");

    let not_in_silicon = facts(|host| {
        write(host, "fpu", "", "0x2b000603");
        answer(host, 0, 0);
        host.answer_kvm(Answer::Refused(Refusal::Absent));
    });
    assert_eq!(first_remedy(&not_in_silicon).1, RemedyKind::Hardware);

    let hidden = facts(|host| {
        write(host, "fpu", "", "0x2b000603");
        answer(host, FEATURES_ECX_HYPERVISOR, 0);
        host.answer_kvm(Answer::Refused(Refusal::Absent));
    });
    let (status, kind, text) = first_remedy(&hidden);
    assert_eq!((status, kind), (Status::Fail, RemedyKind::Advice));
    assert!(text.contains("host-passthrough"), "{text}");

    let denied = facts(|host| deny(host, CPUINFO));
    let (status, kind, text) = first_remedy(&denied);
    assert_eq!((status, kind, text.as_str()), (Status::Unknown, RemedyKind::Command, "sudo thruway doctor"));
}

#[test]
fn kvm_in_software_makes_a_missing_extension_a_warning() {
    let software = facts(|host| {
        write(host, "fpu", "", "0x2b000603");
        answer(host, FEATURES_ECX_HYPERVISOR, 0);
    });
    assert_eq!(first_remedy(&software).0, Status::Warn);
}

#[test]
fn the_register_that_switches_it_off_is_evidence() {
    let locked = facts(|host| {
        host.answer_kvm(Answer::Refused(Refusal::Absent));
        host.answer(|answers| {
            answers.msr.push(MsrEntry { cpu: 0, register: 0x3A, value: Answer::Given(0x1) });
        });
    });
    let outcome = super::extension::virtualization(&locked);
    assert_eq!(outcome.status, Status::Fail);
    assert!(
        outcome
            .evidence
            .iter()
            .any(|evidence| evidence.source == "MSR 0x3a of CPU 0" && evidence.value == "0x1")
    );
}

#[test]
fn amd_has_no_word_for_unrestricted_guests() {
    let amd = facts(|host| {
        host.answer_cpuid(&[
            (LEAF_VENDOR, AMD),
            (LEAF_FEATURES, [0; 4]),
            (LEAF_EXTENDED, [LEAF_ADDRESS_SIZES, 0, 0, 0]),
            (LEAF_EXTENDED_FEATURES, [0, 0, EXTENDED_ECX_SVM, 0]),
        ]);
    });
    assert_eq!(super::abilities::unrestricted_guest(&amd).status, Status::NotApplicable);
}
