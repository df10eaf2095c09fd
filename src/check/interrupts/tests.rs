//! The interrupts of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::check::{Status, run};
use crate::host::collect;
use crate::host::interrupts::{DEFAULT_AFFINITY, POSTING_PARAMETERS};
use crate::host::source::answers::{Answer, MsrEntry};

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const PARTITIONS: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";
const SLICE: &str = "/sys/fs/cgroup/system.slice";
const EFFECTIVE: &str = "/proc/irq/45/effective_affinity_list";
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// What this file's checks need to pass: APICv in use, and CPUs 0 to 7 that serve interrupts.
pub(in crate::check) fn healthy(host: &FakeHost) {
    let [(apicv, _), _] = POSTING_PARAMETERS;
    write(host, apicv, "Y");
    write(host, DEFAULT_AFFINITY, "ff");
    write(host, &format!("{SLICE}/cgroup.controllers"), "cpu");
}

fn write(host: &FakeHost, path: &str, text: &str) {
    host.add(&[(path, Entry::Text(text))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

/// CPUs 4 to 7 isolated at boot, and a guest with [`SUBJECT`] whose interrupt goes to `cpu`.
fn isolate(host: &FakeHost, cpu: &str) {
    write(host, ISOLATED, "4-7");
    write(host, DEFAULT_AFFINITY, "f");
    write(host, EFFECTIVE, cpu);
    write(
        host,
        "/proc/interrupts",
        &format!(" 45:  6  IR-PCI-MSIX-{SUBJECT}    1-edge      vfio-msix[1]({SUBJECT})"),
    );
}

/// More CPUs than 8 bits of identifier reach, and IA32_APIC_BASE.
fn many_cpus(host: &FakeHost, register: Option<u64>) {
    write(host, POSSIBLE, "0-511");
    host.answer_cpuid(&[(0, [1, 0, 0, 0]), (1, [0, 0, 1 << 21, 0])]);
    host.answer(|answers| {
        answers.msr.retain(|entry| entry.register != 0x1B);
        answers.msr.extend(register.map(|value| MsrEntry {
            cpu: 0,
            register: 0x1B,
            value: Answer::Given(value),
        }));
    });
}

fn partition(host: &FakeHost) {
    write(host, PARTITIONS, "6-7");
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "interrupts-virtual-controllers",
        pass: nothing,
        fail: |host| write(host, POSTING_PARAMETERS[0].0, "N"),
        unknown: |host| deny(host, POSTING_PARAMETERS[0].0),
    },
    Fixture {
        id: "interrupts-msi",
        pass: nothing,
        fail: |host| write(host, "/proc/cmdline", "quiet pci=nomsi"),
        unknown: |host| deny(host, "/proc/cmdline"),
    },
    Fixture {
        id: "interrupts-x2apic",
        pass: |host| many_cpus(host, Some(0xFEE0_0D00)),
        fail: |host| many_cpus(host, Some(0xFEE0_0900)),
        unknown: |host| many_cpus(host, None),
    },
    Fixture {
        id: "interrupts-default-affinity",
        pass: |host| isolate(host, "0"),
        fail: |host| {
            isolate(host, "0");
            write(host, DEFAULT_AFFINITY, "ff");
        },
        unknown: |host| {
            isolate(host, "0");
            deny(host, DEFAULT_AFFINITY);
        },
    },
    Fixture {
        id: "interrupts-of-guests",
        pass: |host| isolate(host, "0"),
        fail: |host| isolate(host, "5"),
        unknown: |host| {
            isolate(host, "5");
            deny(host, EFFECTIVE);
        },
    },
    Fixture {
        id: "interrupts-balancing",
        pass: partition,
        fail: |host| {
            partition(host);
            host.add(&[(&format!("{SLICE}/irqbalance.service"), Entry::Directory)]);
        },
        unknown: |host| {
            partition(host);
            deny(host, SLICE);
        },
    },
];

fn outcome(id: &str, change: impl FnOnce(&FakeHost)) -> crate::check::Outcome {
    let host = crate::check::fixture::healthy();
    change(&host);
    let findings = run(&collect(&host.source()), None);
    findings.into_iter().find(|finding| finding.id == id).unwrap().outcome
}

#[test]
fn messages_fail_only_those_who_have_nothing_else() {
    let line = |host: &FakeHost| write(host, "/proc/cmdline", "pci=realloc,nomsi");
    let with_virtual_functions = outcome("interrupts-msi", line);
    assert_eq!(with_virtual_functions.status, Status::Fail);
    assert!(with_virtual_functions.remedy[0].text.contains("by `pci=realloc`"));
    let without = outcome("interrupts-msi", |host| {
        line(host);
        let directory = host.path().join(format!("sys/bus/pci/devices/{SUBJECT}"));
        std::fs::remove_file(directory.join("sriov_totalvfs")).unwrap();
    });
    assert_eq!(without.status, Status::Warn);
}

#[test]
fn an_argument_that_names_isolated_cpus_is_the_cause() {
    let outcome = outcome("interrupts-default-affinity", |host| {
        isolate(host, "0");
        write(host, DEFAULT_AFFINITY, "3f");
        write(host, "/proc/cmdline", "isolcpus=4-7 irqaffinity=0-5");
    });
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.cause.unwrap().contains("`irqaffinity=`"));
    assert!(outcome.remedy[0].text.contains("irqaffinity=0-3"), "{:?}", outcome.remedy);
}

#[test]
fn an_option_on_the_command_line_is_the_cause_of_emulated_controllers() {
    let outcome = outcome("interrupts-virtual-controllers", |host| {
        write(host, POSTING_PARAMETERS[0].0, "N");
        write(host, "/proc/cmdline", "kvm-intel.enable_apicv=0");
    });
    assert!(outcome.cause.unwrap().contains("kvm_intel.enable_apicv=0"));
}

#[test]
fn what_was_isolated_at_boot_is_known_to_irqbalance() {
    let outcome = outcome("interrupts-balancing", |host| {
        partition(host);
        write(host, ISOLATED, "6-7");
        host.add(&[(&format!("{SLICE}/irqbalance.service"), Entry::Directory)]);
    });
    assert_eq!(outcome.status, Status::NotApplicable);
}
