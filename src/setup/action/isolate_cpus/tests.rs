//! CPUs that are set apart, given back, used and refused.

use super::*;
use crate::setup::action::{Action, Change};
use crate::setup::fake::FakeKernel;

fn host() -> FakeKernel {
    FakeKernel::new(&[]).with_cpus()
}

fn change(kernel: &FakeKernel, cpus: &str) -> Change {
    Action::IsolateCpus(IsolateCpus { cpus: cpus.parse().unwrap() }).observe(kernel).unwrap()
}

fn applied(kernel: &FakeKernel, cpus: &str) -> Change {
    let change = change(kernel, cpus);
    change.carry_out(kernel).unwrap();
    change
}

fn isolated(kernel: &FakeKernel) -> Option<String> {
    kernel.text("/sys/fs/cgroup/cpuset.cpus.isolated")
}

#[test]
fn more_cpus_join_those_that_are_set_apart_and_go_alone() {
    let kernel = host();
    let before = kernel.snapshot();

    let first = applied(&kernel, "2");
    let second = applied(&kernel, "3");
    assert_eq!(isolated(&kernel).as_deref(), Some("2-3"));
    assert!(change(&kernel, "2-3").is_already_so());

    second.take_back(&kernel).unwrap();
    assert_eq!(isolated(&kernel).as_deref(), Some("2"));
    first.take_back(&kernel).unwrap();
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn a_partition_that_the_kernel_does_not_take_is_an_error_with_its_words() {
    let kernel = host();
    kernel.put("/sys/devices/system/cpu/isolated", "2");
    let before = kernel.snapshot();
    let change = change(&kernel, "2-3");

    let error = change.carry_out(&kernel).unwrap_err().to_string();
    change.take_back(&kernel).unwrap();

    assert_eq!(
        error,
        "the isolated CPUs (control group /sys/fs/cgroup/thruway): expected CPUs 2-3 to be set apart, found that the \
         kernel does not take the partition: partition config conflicts with housekeeping setup"
    );
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn cpus_of_other_groups_are_left_to_them_and_the_groups_named() {
    let kernel = host();
    let theirs = |name: &str, value: &str| {
        kernel.write(&format!("/sys/fs/cgroup/{name}"), value, GROUP_LIMIT).unwrap();
    };
    theirs("cgroup.subtree_control", "+cpuset");
    theirs("system.slice/cpuset.cpus", "1-2");
    let before = kernel.snapshot();
    let member = change(&kernel, "2-3");

    let shared = member.carry_out(&kernel).unwrap_err().to_string();
    member.take_back(&kernel).unwrap();
    assert_eq!(kernel.snapshot(), before);
    theirs("system.slice/cpuset.cpus.partition", "root");
    let before = kernel.snapshot();
    let taken = change(&kernel, "2-3").carry_out(&kernel).unwrap_err().to_string();

    let part = "not exclusive; /sys/fs/cgroup/system.slice was given CPUs 2 too";
    assert!(shared.ends_with(part), "{shared}");
    assert!(taken.contains("/sys/fs/cgroup/system.slice has CPUs 2 in a partition"), "{taken}");
    // Not even for a moment: their partition would cease to be valid.
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn the_group_stays_while_somebody_is_in_it() {
    let kernel = host();
    let change = applied(&kernel, "2-3");
    kernel.put("/sys/fs/cgroup/thruway/cgroup.procs", "4711\n4712");
    kernel.put("/proc/4711/comm", "qemu");

    let in_use = [change.may_take_back(&kernel), change.take_back(&kernel)]
        .map(|result| result.unwrap_err().to_string());
    kernel.put("/sys/fs/cgroup/thruway/cgroup.procs", "");
    kernel.put("/sys/fs/cgroup/thruway/cgroup.stat", "nr_descendants 2");
    let below = change.may_take_back(&kernel).unwrap_err().to_string();

    for error in in_use {
        assert!(error.contains("in use: process 4711 (qemu) is in the group"), "{error}");
    }
    assert!(below.contains("it has 2 groups below it"), "{below}");
    assert_eq!(isolated(&kernel).as_deref(), Some("2-3"));
}

#[test]
fn a_controller_that_others_came_to_use_stays() {
    let kernel = host();
    let change = applied(&kernel, "2-3");
    kernel.write("/sys/fs/cgroup/system.slice/cpuset.cpus", "0", GROUP_LIMIT).unwrap();

    change.take_back(&kernel).unwrap();

    assert_eq!(kernel.text("/sys/fs/cgroup/cgroup.subtree_control").as_deref(), Some("cpuset cpu memory"));
    assert_eq!(kernel.text("/sys/fs/cgroup/system.slice/cpuset.cpus").as_deref(), Some("0"));
    assert!(!kernel.at(GROUP).exists());
}

#[test]
fn nobody_takes_the_controller_away_from_above() {
    let kernel = host();
    let change = applied(&kernel, "2-3");
    let error = kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset", GROUP_LIMIT).unwrap_err();
    assert!(matches!(error, ControlError::Write { .. }), "{error}");
    assert_eq!(change.standing(&kernel).unwrap(), Standing::Applied);
}

#[test]
fn what_others_did_to_the_group_is_drift() {
    let kernel = host();
    let change = applied(&kernel, "2-3");

    kernel.write("/sys/fs/cgroup/system.slice/cpuset.cpus", "3", GROUP_LIMIT).unwrap();
    let invalid = change.standing(&kernel).unwrap();
    kernel.write("/sys/fs/cgroup/system.slice/cpuset.cpus", "", GROUP_LIMIT).unwrap();
    kernel.write("/sys/fs/cgroup/thruway/cpuset.cpus", "1-2", GROUP_LIMIT).unwrap();
    let other = change.standing(&kernel).unwrap();

    let drifted = |text: &str| Standing::Drifted(text.to_owned());
    assert_eq!(
        invalid,
        drifted("partition `isolated` of CPUs 2-3, not valid (Cpu list in cpuset.cpus not exclusive)")
    );
    assert_eq!(other, drifted("partition `isolated` of CPUs 1-2"));
}
