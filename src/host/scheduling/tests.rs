//! Isolation, power and clocks: as asked for, as they are, and where there are none.

use super::*;
use crate::host::collect;
use crate::host::source::fake::{Entry, FakeHost};

fn list(text: &str) -> CpuList {
    text.parse().unwrap()
}

fn scheduling(entries: &[(&str, Entry<'_>)]) -> Scheduling {
    let host = FakeHost::new(&[(&cpu_file("possible"), Entry::Text("0-15")), ("/run/x", Entry::Directory)]);
    host.add(entries);
    collect(&host.source()).scheduling
}

fn arguments(line: &str) -> IsolationArguments {
    scheduling(&[("/proc/cmdline", Entry::Text(line))]).isolation.arguments
}

#[test]
fn isolation_is_told_as_asked_for_and_as_it_is() {
    let asked = arguments("isolcpus=managed_irq,domain,2-N nohz_full=2-15 rcu_nocbs=all irqaffinity=0,1");
    let isolcpus = asked.isolcpus.known().unwrap();
    assert_eq!((isolcpus.flags.join(" ").as_str(), &isolcpus.cpus), ("managed_irq domain", &list("2-15")));
    assert_eq!(
        (&asked.nohz_full, &asked.rcu_nocbs),
        (&Fact::Known(list("2-15")), &Fact::Known(list("0-15")))
    );
    assert_eq!(asked.irqaffinity, Fact::Known(list("0-1")));
    assert_eq!(arguments("isolcpus=4").isolcpus.known().unwrap().flags, ["domain"]);
    assert_eq!(arguments("quiet").isolcpus, Fact::NotPresent);
    assert!(arguments("isolcpus=domain").isolcpus.is_unread());

    let isolation = scheduling(&[
        (&cpu_file("isolated"), Entry::Text("2-15")),
        (&cpu_file("nohz_full"), Entry::Text("(null)")),
    ])
    .isolation;
    assert_eq!(isolation.isolated_cpus, Fact::Known(list("2-15")));
    assert_eq!(isolation.nohz_full_cpus, Fact::Known(list("")));
    assert!(isolation.arguments.nohz_full.is_unread());
}

#[test]
fn governors_are_told_by_the_cpus_that_they_rule() {
    let frequency = scheduling(&[
        (&cpu_file("cpufreq/policy0/scaling_governor"), Entry::Text("powersave")),
        (&cpu_file("cpufreq/policy0/affected_cpus"), Entry::Text("0 1")),
        (&cpu_file("cpufreq/policy0/scaling_driver"), Entry::Text("intel_pstate")),
        (&cpu_file("cpufreq/policy2/scaling_governor"), Entry::Text("performance")),
        (&cpu_file("cpufreq/policy2/affected_cpus"), Entry::Text("2 3")),
        (&cpu_file("cpufreq/policy4/scaling_governor"), Entry::Text("performance")),
        (&cpu_file("intel_pstate/no_turbo"), Entry::Text("1")),
        (&cpu_file("cpufreq/boost"), Entry::Text("1")),
    ])
    .frequency;
    let governors = frequency.governors.known().unwrap();
    assert_eq!((&governors["powersave"], &governors["performance"]), (&list("0-1"), &list("2-3")));
    assert_eq!(
        (frequency.driver.known().unwrap().as_str(), frequency.boost),
        ("intel_pstate", Fact::Known(false))
    );
}

#[test]
fn a_virtual_machine_has_neither_governors_nor_states() {
    let scheduling = scheduling(&[
        (&cpu_file("cpufreq"), Entry::Directory),
        (&cpu_file("cpuidle/current_driver"), Entry::Text("none")),
    ]);
    assert_eq!(
        (&scheduling.frequency.driver, &scheduling.frequency.governors),
        (&Fact::NotPresent, &Fact::NotPresent)
    );
    assert_eq!((&scheduling.idle.driver, &scheduling.idle.states), (&Fact::NotPresent, &Fact::NotPresent));
}

#[test]
fn the_deepest_state_is_one_that_is_on() {
    let state = |number: u32, name: &str| cpu_file(&format!("cpu0/cpuidle/state{number}/{name}"));
    let idle = scheduling(&[
        (&state(0, "name"), Entry::Text("POLL")),
        (&state(0, "latency"), Entry::Text("0")),
        (&state(1, "name"), Entry::Text("C1")),
        (&state(1, "latency"), Entry::Text("2")),
        (&state(10, "name"), Entry::Text("C6")),
        (&state(10, "latency"), Entry::Text("133")),
        (&state(10, "disable"), Entry::Text("1")),
        (&state(2, "latency"), Entry::Text("fast")),
    ])
    .idle;
    let (deepest, latency_us) = idle.deepest().unwrap();
    assert_eq!((deepest.name.known().unwrap().as_str(), latency_us), ("C1", 2));
    assert_eq!(
        idle.states.known().unwrap().iter().map(|state| state.number).collect::<Vec<_>>(),
        [0, 1, 2, 10]
    );
}

#[test]
fn control_groups_are_told_by_what_is_mounted() {
    const ROOT: &str = "/sys/fs/cgroup";
    let groups = scheduling(&[
        (&format!("{ROOT}/cgroup.controllers"), Entry::Text("cpuset cpu io")),
        (&format!("{ROOT}/cpuset.cpus.isolated"), Entry::Text("4-7")),
    ])
    .control_groups;
    assert_eq!((groups.version, groups.cpuset), (Fact::Known(CgroupVersion::V2), Fact::Known(true)));
    assert_eq!(groups.isolated_cpus, Fact::Known(list("4-7")));
    let groups = scheduling(&[(&format!("{ROOT}/cpuset"), Entry::Directory)]).control_groups;
    assert_eq!((groups.version, groups.cpuset), (Fact::Known(CgroupVersion::V1), Fact::Known(true)));
    assert_eq!(scheduling(&[(ROOT, Entry::Directory)]).control_groups.version, Fact::NotPresent);
}

#[test]
fn services_are_known_by_what_they_leave_and_unknown_where_nothing_is_shown() {
    let slice = "/sys/fs/cgroup/system.slice";
    let with = scheduling(&[
        ("/run/systemd/system", Entry::Directory),
        (&format!("{slice}/irqbalance.service"), Entry::Directory),
    ]);
    assert_eq!((with.systemd, with.irqbalance), (Fact::Known(true), Fact::Known(true)));
    let without = scheduling(&[(&format!("{slice}/cgroup.controllers"), Entry::Text("cpu"))]);
    assert_eq!((without.systemd, without.irqbalance), (Fact::Known(false), Fact::Known(false)));
    assert!(scheduling(&[]).irqbalance.is_unread());
}

#[test]
fn vulnerabilities_stand_in_the_kernels_own_words() {
    let scheduling = scheduling(&[
        (&format!("{VULNERABILITIES}/l1tf"), Entry::Text("Not affected")),
        (&format!("{VULNERABILITIES}/mds"), Entry::Text("Mitigation: Clear CPU buffers; SMT vulnerable")),
        (&format!("{VULNERABILITIES}/itlb_multihit"), Entry::Text("KVM: Vulnerable")),
        (NUMA_BALANCING, Entry::Text("2")),
    ]);
    let known = scheduling.vulnerabilities.known().unwrap();
    assert_eq!((known.len(), known["l1tf"].as_str()), (3, "Not affected"));
    assert_eq!(scheduling.numa_balancing, Fact::Known(true));
    assert_eq!(scheduling.open_vulnerabilities().collect::<Vec<_>>(), [("itlb_multihit", "KVM: Vulnerable")]);
}
