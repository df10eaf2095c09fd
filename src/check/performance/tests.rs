//! The processors of the healthy host, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::check::{Outcome, Status, run};
use crate::host::collect;
use crate::host::scheduling::{CLOCK, NUMA_BALANCING, VULNERABILITIES};
use crate::host::topology::{CPUS, NODES};

const CGROUPS: &str = "/sys/fs/cgroup/cgroup.controllers";

fn cpu(name: &str) -> String {
    format!("{CPUS}/{name}")
}

/// What this file's checks need to pass: two sockets of two cores with two threads each, a node for each.
pub(in crate::check) fn healthy(host: &FakeHost) {
    for (name, text) in [
        ("possible", "0-7"),
        ("online", "0-7"),
        ("offline", ""),
        ("isolated", ""),
        ("nohz_full", ""),
        ("smt/control", "on"),
        ("smt/active", "1"),
        ("cpufreq/policy0/scaling_governor", "performance"),
        ("cpufreq/policy0/affected_cpus", "0 1 2 3 4 5 6 7"),
        ("cpufreq/policy0/scaling_driver", "acpi-cpufreq"),
        ("cpu0/cpuidle/state0/name", "POLL"),
        ("cpu0/cpuidle/state0/latency", "0"),
        ("cpu0/cpuidle/state1/name", "C1"),
        ("cpu0/cpuidle/state1/latency", "2"),
    ] {
        write(host, &cpu(name), text);
    }
    for number in 0..8_u32 {
        let (core, node) = (number % 4, number % 4 / 2);
        let siblings = format!("{core},{}", core + 4);
        write(host, &cpu(&format!("cpu{number}/topology/thread_siblings_list")), &siblings);
        write(host, &cpu(&format!("cpu{number}/topology/physical_package_id")), &node.to_string());
    }
    for (node, cpus) in ["0-1,4-5", "2-3,6-7"].iter().enumerate() {
        write(host, &format!("{NODES}/node{node}/cpulist"), cpus);
        write(host, &format!("{NODES}/node{node}/meminfo"), "Node 0 MemTotal: 16777216 kB");
        write(host, &format!("{NODES}/node{node}/distance"), if node == 0 { "10 21" } else { "21 10" });
    }
    write(host, &format!("/sys/bus/pci/devices/{SUBJECT}/numa_node"), "0");
    write(host, &format!("{CLOCK}/current_clocksource"), "tsc");
    write(host, &format!("{CLOCK}/available_clocksource"), "tsc hpet acpi_pm");
    write(host, &format!("{VULNERABILITIES}/l1tf"), "Not affected");
    write(host, &format!("{VULNERABILITIES}/spectre_v2"), "Mitigation: Enhanced IBRS");
    write(host, NUMA_BALANCING, "1");
    write(host, CGROUPS, "cpuset cpu io memory pids");
}

fn write(host: &FakeHost, path: &str, text: &str) {
    host.add(&[(path, Entry::Text(text))]);
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

/// `cpus` isolated, as the kernel tells it.
fn isolate(host: &FakeHost, cpus: &str) {
    write(host, &cpu("isolated"), cpus);
    write(host, &cpu("nohz_full"), cpus);
}

fn bare_metal(host: &FakeHost) {
    host.answer_cpuid(&[(0, [1, 0, 0, 0]), (1, [0; 4])]);
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "performance-governor",
        pass: nothing,
        fail: |host| write(host, &cpu("cpufreq/policy0/scaling_governor"), "schedutil"),
        unknown: |host| deny(host, &cpu("cpufreq/policy0/scaling_governor")),
    },
    Fixture {
        id: "performance-idle-states",
        pass: nothing,
        fail: |host| write(host, &cpu("cpu0/cpuidle/state1/latency"), "133"),
        unknown: |host| deny(host, &cpu("cpu0/cpuidle/state1/latency")),
    },
    Fixture {
        id: "performance-clock",
        pass: nothing,
        fail: |host| write(host, &format!("{CLOCK}/current_clocksource"), "hpet"),
        unknown: |host| deny(host, CLOCK),
    },
    Fixture {
        id: "performance-isolation",
        pass: |host| isolate(host, "4-7"),
        fail: |host| write(host, &cpu("isolated"), "4-7"),
        unknown: |host| deny(host, &cpu("isolated")),
    },
    Fixture {
        id: "performance-isolated-cpus-run",
        pass: |host| write(host, "/proc/cmdline", "isolcpus=managed_irq,domain,4-7 nohz_full=4-7"),
        fail: |host| write(host, "/proc/cmdline", "isolcpus=4-15"),
        unknown: |host| deny(host, "/proc/cmdline"),
    },
    Fixture {
        id: "performance-isolated-cores",
        pass: |host| isolate(host, "2-3,6-7"),
        fail: |host| isolate(host, "4-7"),
        unknown: |host| {
            isolate(host, "4-7");
            deny(host, &cpu("cpu0/topology"));
        },
    },
    Fixture {
        id: "performance-cpuset",
        pass: nothing,
        fail: |host| write(host, CGROUPS, "cpu io memory"),
        unknown: |host| deny(host, CGROUPS),
    },
    Fixture {
        id: "performance-sibling-threads",
        pass: nothing,
        fail: |host| {
            write(host, &format!("{VULNERABILITIES}/mds"), "Mitigation: Clear CPU buffers; SMT vulnerable");
        },
        unknown: |host| deny(host, &cpu("smt")),
    },
    Fixture {
        id: "performance-vulnerabilities",
        pass: nothing,
        fail: |host| {
            write(
                host,
                &format!("{VULNERABILITIES}/mds"),
                "Vulnerable: Clear CPU buffers attempted, no microcode",
            );
        },
        unknown: |host| deny(host, VULNERABILITIES),
    },
    Fixture {
        id: "performance-mitigations",
        pass: nothing,
        fail: |host| {
            let text = "Mitigation: PTE Inversion; VMX: conditional cache flushes, SMT disabled";
            write(host, &format!("{VULNERABILITIES}/l1tf"), text);
        },
        unknown: |host| deny(host, VULNERABILITIES),
    },
    Fixture {
        id: "performance-node-interleaving",
        pass: nothing,
        fail: |host| {
            bare_metal(host);
            std::fs::remove_dir_all(host.path().join("sys/devices/system/node/node1")).unwrap();
        },
        unknown: |host| deny(host, NODES),
    },
    Fixture {
        id: "performance-numa-balancing",
        pass: nothing,
        fail: |host| isolate(host, "4-7"),
        unknown: |host| deny(host, NUMA_BALANCING),
    },
    Fixture {
        id: "performance-function-node",
        pass: nothing,
        fail: |host| write(host, &format!("/sys/bus/pci/devices/{SUBJECT}/numa_node"), "-1"),
        unknown: |host| deny(host, &format!("/sys/bus/pci/devices/{SUBJECT}/numa_node")),
    },
];

fn outcome(id: &str, change: impl FnOnce(&FakeHost)) -> Outcome {
    let host = crate::check::fixture::healthy();
    change(&host);
    let findings = run(&collect(&host.source()), None);
    findings.into_iter().find(|finding| finding.id == id).unwrap().outcome
}

#[test]
fn hardware_that_prefers_performance_is_fast_whatever_its_governor_is_called() {
    let with = |preference: &'static str| {
        outcome("performance-governor", |host| {
            write(host, &cpu("cpufreq/policy0/scaling_governor"), "powersave");
            write(host, &cpu("cpufreq/policy0/scaling_driver"), "intel_pstate");
            write(host, &cpu("cpufreq/policy0/energy_performance_preference"), preference);
        })
    };
    assert_eq!(with("performance").status, Status::Pass);
    assert!(with("balance_power").cause.unwrap().contains("`balance_power`"));
}

#[test]
fn what_a_virtual_machine_does_not_decide_does_not_arise() {
    let virtual_machine = |host: &FakeHost| {
        host.answer_cpuid(&[(0, [1, 0, 0, 0]), (1, [0, 0, 1 << 31, 0])]);
        for directory in ["sys/devices/system/cpu/cpufreq", "sys/devices/system/cpu/cpu0/cpuidle"] {
            std::fs::remove_dir_all(host.path().join(directory)).unwrap();
        }
        std::fs::remove_dir_all(host.path().join("sys/devices/system/node/node1")).unwrap();
        write(host, &format!("{CLOCK}/current_clocksource"), "kvm-clock");
    };
    for id in [
        "performance-governor",
        "performance-idle-states",
        "performance-clock",
        "performance-node-interleaving",
        "performance-numa-balancing",
    ] {
        assert_eq!(outcome(id, virtual_machine).status, Status::NotApplicable, "{id}");
    }
}

#[test]
fn a_tick_and_tasks_are_told_apart_and_name_the_other_argument() {
    let only = |name: &'static str| outcome("performance-isolation", |host| write(host, &cpu(name), "4-7"));
    assert!(only("isolated").remedy[0].text.contains("nohz_full=4-7"));
    assert!(only("nohz_full").remedy[0].text.contains("isolcpus=4-7"));
    assert_eq!(outcome("performance-isolation", |_| {}).status, Status::NotApplicable);
}

#[test]
fn a_split_core_is_made_whole_by_the_remedy() {
    let outcome = outcome("performance-isolated-cores", |host| isolate(host, "3,7,6"));
    assert!(outcome.summary.contains("CPUs 2,6 share a core"), "{}", outcome.summary);
    assert!(outcome.remedy[0].text.contains("isolcpus=2-3,6-7"), "{:?}", outcome.remedy);
}

#[test]
fn flags_of_isolcpus_stay_when_its_list_is_mended() {
    let outcome = outcome("performance-isolated-cpus-run", |host| {
        write(host, "/proc/cmdline", "isolcpus=managed_irq,domain,4-15");
    });
    let text = &outcome.remedy[0].text;
    assert!(
        text.starts_with("replace `isolcpus=managed_irq,domain,4-15` by `isolcpus=managed_irq,domain,4-7`"),
        "{text}"
    );
}

#[test]
fn mitigations_switched_off_are_the_cause_and_going_back_is_the_remedy() {
    let outcome = outcome("performance-vulnerabilities", |host| {
        write(host, "/proc/cmdline", "mitigations=off");
        write(host, &format!("{VULNERABILITIES}/itlb_multihit"), "KVM: Vulnerable");
    });
    assert!(outcome.summary.contains("itlb_multihit"));
    assert!(
        outcome.remedy[0].text.contains("mitigations=off")
            && outcome.cause.unwrap().contains("mitigations=off")
    );
}

#[test]
fn no_remedy_says_to_switch_mitigations_off() {
    let outcome = outcome("performance-mitigations", |host| {
        write(host, &format!("{VULNERABILITIES}/itlb_multihit"), "KVM: Mitigation: Split huge pages");
    });
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.remedy.iter().all(|remedy| !remedy.text.contains("off")), "{:?}", outcome.remedy);
}

#[test]
fn control_groups_of_version_1_are_told_how_to_become_version_2() {
    let outcome = outcome("performance-cpuset", |host| {
        std::fs::remove_file(host.path().join(CGROUPS.trim_start_matches('/'))).unwrap();
        write(host, "/proc/cmdline", "systemd.unified_cgroup_hierarchy=0");
    });
    assert_eq!(outcome.status, Status::Warn);
    assert!(outcome.remedy[0].text.contains("systemd.unified_cgroup_hierarchy=0"));
}
