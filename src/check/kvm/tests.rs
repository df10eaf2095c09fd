//! KVM of the healthy host, and how each check is brought to each answer.

use crate::check::Status;
use crate::check::fixture::{Entry, FakeHost, Fixture, nothing};
use crate::host::source::KvmAnswer;
use crate::host::source::answers::{Answer, Refusal};
use crate::host::{self, HostFacts};

const PARAMETERS: &str = "/sys/module/kvm_intel/parameters";
const IGNORE_MSRS: &str = "/sys/module/kvm/parameters/ignore_msrs";
const WORKS: KvmAnswer = KvmAnswer { api_version: 12, creates_vm: true, busy: false };

/// What this file's checks need to pass.
pub(in crate::check) fn healthy(host: &FakeHost) {
    host.answer_kvm(Answer::Given(WORKS));
    for (name, value) in [("ept", "Y"), ("enable_apicv", "Y"), ("nested", "1")] {
        host.add(&[(&format!("{PARAMETERS}/{name}"), Entry::Text(value))]);
    }
    host.add(&[(IGNORE_MSRS, Entry::Text("N")), ("/sys/class/misc/kvm", Entry::Directory)]);
}

fn refuse(host: &FakeHost, refusal: Refusal) {
    host.answer_kvm(Answer::Refused(refusal));
}

fn set(host: &FakeHost, name: &str, value: &str) {
    host.add(&[(&format!("{PARAMETERS}/{name}"), Entry::Text(value))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

fn remove(host: &FakeHost, directory: &str) {
    std::fs::remove_dir_all(host.path().join(directory.trim_start_matches('/'))).unwrap();
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "kvm-usable",
        pass: nothing,
        fail: |host| {
            refuse(host, Refusal::Absent);
            remove(host, "/sys/class/misc/kvm");
            remove(host, "/sys/module/kvm_intel");
        },
        unknown: |host| refuse(host, Refusal::Denied),
    },
    Fixture {
        id: "kvm-hardware",
        pass: nothing,
        fail: |host| {
            remove(host, "/sys/module/kvm_intel");
            host.add(&[("/sys/module/kvm_pvm", Entry::Directory)]);
        },
        unknown: |host| deny(host, "/proc/cpuinfo"),
    },
    Fixture {
        id: "kvm-module",
        pass: nothing,
        fail: |host| remove(host, "/sys/module/kvm_intel"),
        unknown: |host| deny(host, "/sys/module"),
    },
    Fixture {
        id: "kvm-permission",
        pass: nothing,
        fail: |host| refuse(host, Refusal::Denied),
        unknown: |host| refuse(host, Refusal::Unreadable("input/output error".to_owned())),
    },
    Fixture {
        id: "kvm-alone",
        pass: nothing,
        fail: |host| host.answer_kvm(Answer::Given(KvmAnswer { creates_vm: false, busy: true, ..WORKS })),
        unknown: |host| deny(host, "/sys/module"),
    },
    Fixture {
        id: "kvm-second-level-paging",
        pass: nothing,
        fail: |host| set(host, "ept", "N"),
        unknown: |host| deny(host, &format!("{PARAMETERS}/ept")),
    },
    Fixture {
        id: "kvm-virtual-apic",
        pass: nothing,
        fail: |host| set(host, "enable_apicv", "0"),
        unknown: |host| deny(host, &format!("{PARAMETERS}/enable_apicv")),
    },
    Fixture {
        id: "kvm-nested",
        pass: nothing,
        fail: |host| set(host, "nested", "N"),
        unknown: |host| deny(host, &format!("{PARAMETERS}/nested")),
    },
    Fixture {
        id: "kvm-ignored-msrs",
        pass: nothing,
        fail: |host| host.add(&[(IGNORE_MSRS, Entry::Text("Y"))]),
        unknown: |host| deny(host, IGNORE_MSRS),
    },
];

fn facts(change: fn(&FakeHost)) -> HostFacts {
    let host = crate::check::fixture::healthy();
    change(&host);
    host::collect(&host.source())
}

#[test]
fn an_argument_that_keeps_the_module_out_is_what_is_taken_out() {
    let facts = facts(|host| {
        remove(host, "/sys/module/kvm_intel");
        host.add(&[("/proc/cmdline", Entry::Text("quiet modprobe.blacklist=kvm_intel"))]);
    });
    let outcome = super::usable::module(&facts);
    assert_eq!(outcome.status, Status::Fail);
    assert!(outcome.remedy[0].text.contains("modprobe.blacklist=kvm_intel"), "{outcome:#?}");
}

#[test]
fn a_parameter_on_the_command_line_is_what_is_taken_out() {
    let facts = facts(|host| {
        set(host, "ept", "N");
        host.add(&[("/proc/cmdline", Entry::Text("kvm-intel.ept=0"))]);
    });
    let outcome = super::options::second_level_paging(&facts);
    assert!(outcome.remedy[0].text.contains("kvm-intel.ept=0") && outcome.remedy[0].reboot, "{outcome:#?}");
}

#[test]
fn a_container_without_the_device_is_told_from_a_host_without_kvm() {
    let container = facts(|host| refuse(host, Refusal::Absent));
    assert_eq!(super::usable::permission(&container).status, Status::Warn);
    let without = facts(|host| {
        refuse(host, Refusal::Absent);
        remove(host, "/sys/class/misc/kvm");
    });
    assert_eq!(super::usable::permission(&without).status, Status::NotApplicable);
}

#[test]
fn a_rival_that_is_only_loaded_is_a_warning() {
    let facts = facts(|host| host.add(&[("/sys/module/vboxdrv", Entry::Directory)]));
    let outcome = super::usable::alone(&facts);
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.remedy[0].text.contains("vboxdrv"), "{outcome:#?}");
}
