//! Which steps come of which goal.

use super::*;
use crate::host;
use crate::setup::action::BIND_LIMIT;
use crate::setup::control::Control;
use crate::setup::fake::{FakeKernel, NIC, NVME, Node};

fn goal(yaml: &str) -> Goal {
    serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap()
}

fn try_plan(kernel: &FakeKernel, yaml: &str) -> Result<Plan, PlanError> {
    plan(&host::collect(kernel.source()), &goal(yaml), &Consents::default())
}

fn texts(kernel: &FakeKernel, yaml: &str) -> Vec<String> {
    try_plan(kernel, yaml).unwrap().steps.into_iter().map(|step| step.text).collect()
}

fn invalid(kernel: &FakeKernel, yaml: &str) -> String {
    match try_plan(kernel, yaml) {
        Err(PlanError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn virtual_functions_for_a_guest_are_made_in_order_and_the_others_stay_with_the_host() {
    let found = texts(
        &FakeKernel::usual(),
        "sriov: [{pf: {address: '01:00.0'}, count: 2, vfs: [{index: 1, driver: vfio-pci}]}]",
    );
    assert_eq!(
        found,
        [
            "bring eth0 of 0000:01:00.0 up",
            "keep the kernel from probing drivers for new virtual functions of 0000:01:00.0",
            "create 2 virtual functions of 0000:01:00.0",
            "let the kernel probe drivers for new virtual functions of 0000:01:00.0",
            "give 0000:01:10.0 (VF 0 of 0000:01:00.0) back to the driver that the kernel chooses",
            "bind 0000:01:10.2 (VF 1 of 0000:01:00.0) to vfio-pci",
        ]
    );
}

#[test]
fn virtual_functions_for_the_host_leave_autoprobe_alone() {
    let found = texts(&FakeKernel::usual(), "sriov: [{pf: {address: '01:00.0'}, count: 1}]");
    assert_eq!(found, ["bring eth0 of 0000:01:00.0 up", "create 1 virtual function of 0000:01:00.0"]);
}

#[test]
fn another_count_goes_through_zero_and_the_same_count_is_dropped() {
    let kernel = FakeKernel::usual();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "2", BIND_LIMIT).unwrap();
    kernel.set_link("eth0", true, BIND_LIMIT).unwrap();

    let other = texts(&kernel, "sriov: [{pf: {address: '01:00.0'}, count: 3}]");
    let same = try_plan(&kernel, "sriov: [{pf: {address: '01:00.0'}, count: 2}]").unwrap();

    assert_eq!(
        other,
        ["destroy the virtual functions of 0000:01:00.0", "create 3 virtual functions of 0000:01:00.0"]
    );
    assert!(same.is_empty(), "{same:?}");
    assert_eq!(same.already, ["eth0 of 0000:01:00.0 is up", "0000:01:00.0 has 2 virtual functions"]);
}

#[test]
fn a_touched_group_names_every_member() {
    let shared =
        |function: crate::setup::fake::Function| crate::setup::fake::Function { group: 5, ..function };
    let kernel = FakeKernel::new(&[shared(NIC), shared(NVME), shared(crate::setup::fake::BRIDGE)]);
    let facts = host::collect(kernel.source());
    let consents = Consents { allow: [NVME.address.parse().unwrap()].into(), ..Consents::default() };

    let plan = plan(&facts, &goal("devices: [{select: {address: '01:00.0'}}]"), &consents).unwrap();

    let [group] = &plan.groups[..] else { panic!("{:?}", plan.groups) };
    let roles: Vec<_> = group.members.iter().map(|member| (member.device.as_str(), member.role)).collect();
    assert_eq!(
        roles,
        [("0000:00:02.0", Role::Bridge), ("0000:01:00.0", Role::Asked), ("0000:02:00.0", Role::Allowed)]
    );
    assert_eq!(plan.consented.len(), 1);
    assert!(plan.warnings[0].contains("0000:02:00.0"), "{:?}", plan.warnings);
}

#[test]
fn goals_that_contradict_themselves_are_named() {
    let kernel = FakeKernel::usual();
    let pf = "pf: {address: '01:00.0'}";
    for (yaml, part) in [
        (format!("sriov: [{{{pf}, count: 1, vfs: [{{index: 1}}]}}]"), "above the count of 1"),
        (format!("sriov: [{{{pf}, count: 1}}, {{{pf}, count: 2}}]"), "stands twice"),
        (
            format!("sriov: [{{{pf}, count: 1, vfs: [{{index: 0, mac: '01:00:5e:00:00:01'}}]}}]"),
            "mac of virtual function 0 of 0000:01:00.0: 01:00:5e:00:00:01 is not the address of one card",
        ),
        (
            format!("sriov: [{{{pf}, count: 1}}]\ndevices: [{{select: {{vf: {{{pf}, index: 4}}}}}}]"),
            "virtual function 4",
        ),
        (
            "devices: [{select: {address: '02:00.0'}}, {select: {address: '02:00.0'}, driver: nvme}]"
                .to_owned(),
            "different drivers",
        ),
        ("devices: [{select: {address: '02:00.0'}, driver: ../../x}]".to_owned(), "not the name of a driver"),
        (
            "hugepages: [{size: 2MiB, count: 1, node: 1}, {size: 2M, count: 2, node: 1}]".to_owned(),
            "pages of 2MiB on node 1 are asked for twice",
        ),
        (
            "hugepages: [{size: 2MiB, count: 1, node: 1}, {size: 2MiB, count: 2}]".to_owned(),
            "on node 1 and of the whole host",
        ),
    ] {
        let text = invalid(&kernel, &yaml);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_host_without_iommu_is_told_what_is_missing() {
    let kernel = FakeKernel::usual();
    std::fs::remove_file(kernel.at("/sys/bus/pci/devices/0000:02:00.0/iommu_group")).unwrap();

    let error = try_plan(&kernel, "devices: [{select: {address: '02:00.0'}}]").unwrap_err();

    std::fs::remove_dir_all(kernel.at("/sys/class/iommu/dmar0")).unwrap();
    let later = try_plan(
        &kernel,
        "sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, driver: vfio-pci}]}]",
    )
    .unwrap_err();

    assert!(matches!(later, PlanError::Impossible { .. }), "{later}");
    assert!(matches!(error, PlanError::Impossible { .. }), "{error}");
    assert!(error.to_string().contains("VT-d or AMD-Vi"), "{error}");
}

#[test]
fn functions_without_virtual_ones_or_a_driver_are_told_apart() {
    let kernel = FakeKernel::usual();
    let none = try_plan(&kernel, "sriov: [{pf: {address: '02:00.0'}, count: 1}]").unwrap_err();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/driver/unbind", NIC.address, BIND_LIMIT).unwrap();
    let driverless = try_plan(&kernel, "sriov: [{pf: {address: '01:00.0'}, count: 1}]").unwrap_err();

    assert!(matches!(none, PlanError::Select(SelectError::NotPhysicalFunction(_))), "{none}");
    assert!(driverless.to_string().contains("has no driver"), "{driverless}");
}

fn with_pages() -> FakeKernel {
    let node = Node { asked: 2, ..Node::default() };
    let kernel = FakeKernel::usual().with_nodes(&[node, node]);
    kernel.put("/proc/meminfo", "MemTotal: 131072 kB\nMemAvailable: 65536 kB");
    for node in 0..2 {
        kernel.put(
            &format!("/sys/devices/system/node/node{node}/meminfo"),
            &format!("Node {node} MemTotal: 24576 kB"),
        );
    }
    kernel
}

#[test]
fn huge_pages_come_first_and_those_that_are_there_already_are_dropped() {
    let plan = try_plan(
        &with_pages(),
        "sriov: [{pf: {address: '01:00.0'}, count: 1}]
hugepages: [{size: 2MiB, count: 1, node: 0}, {size: 2MiB, count: 4, node: 1}]",
    )
    .unwrap();
    assert_eq!(plan.steps[0].text, "raise the pool of 2MiB huge pages on node 1 to 4 pages");
    assert_eq!(plan.steps.len(), 3);
    assert_eq!(plan.already, ["the pool of 2MiB huge pages on node 0 has at least 1"]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn huge_pages_that_take_most_of_memory_are_warned_of_and_more_than_there_is_is_refused() {
    let kernel = with_pages();
    let half = try_plan(&kernel, "hugepages: [{size: 2MiB, count: 20}]").unwrap();
    let more = try_plan(&kernel, "hugepages: [{size: 2MiB, count: 21}]").unwrap();
    let [all, of_node, endless] =
        ["count: 37", "node: 0, count: 15", "count: 18446744073709551615"].map(|pages| {
            let error = try_plan(&kernel, &format!("hugepages: [{{size: 2MiB, {pages}}}]")).unwrap_err();
            assert!(matches!(error, PlanError::Impossible { .. }), "{error}");
            error.to_string()
        });

    assert!(half.warnings.is_empty(), "{:?}", half.warnings);
    assert_eq!(
        more.warnings,
        ["takes 34MiB of memory from the host, more than half of the 64MiB that programs can still have"]
    );
    assert_eq!(all, "the pool of 2MiB huge pages: that takes 66MiB of memory in all, and 64MiB can be had");
    assert!(of_node.contains("on node 0: that takes 26MiB of memory in all, and 24MiB"), "{of_node}");
    assert!(endless.contains("64MiB can be had"), "{endless}");
}

#[test]
fn pools_that_the_host_has_not_are_told_with_those_that_it_has() {
    let kernel = with_pages();
    let refused = |yaml: &str| {
        let error = try_plan(&kernel, &format!("hugepages: [{yaml}]")).unwrap_err();
        assert!(matches!(error, PlanError::Impossible { .. }), "{error}");
        error.to_string()
    };
    kernel.put("/proc/cpuinfo", "processor : 0\nflags : fpu pdpe1gb");
    let kernel_has_none = refused("{size: 1GiB, count: 1}");
    kernel.put("/proc/cpuinfo", "processor : 0\nflags : fpu");
    let processor_has_none = refused("{size: 1GiB, count: 1}");
    let no_such_node = refused("{size: 2MiB, count: 1, node: 7}");
    std::fs::remove_dir_all(kernel.at("/sys/devices/system/node")).unwrap();
    let no_nodes = refused("{size: 2MiB, count: 1, node: 0}");

    assert!(
        kernel_has_none.contains("huge pages of 2MiB only; the processor has pages of 1 GiB (`pdpe1gb`)")
    );
    assert!(processor_has_none.contains("the processor has no pages of 1 GiB"), "{processor_has_none}");
    assert!(no_such_node.contains("nodes with huge pages are 0, 1 only"), "{no_such_node}");
    assert!(no_nodes.contains("knows of no NUMA nodes"), "{no_nodes}");
}

#[test]
fn settings_come_after_their_virtual_functions_and_before_any_driver_reads_them() {
    let found = texts(
        &FakeKernel::usual(),
        "sriov: [{pf: {address: '01:00.0'}, count: 2, vfs: [
            {index: 1, mac: '02:00:00:00:00:01', vlan: 42, trust: false, link_state: enable}]}]",
    );
    assert_eq!(
        found,
        [
            "bring eth0 of 0000:01:00.0 up",
            "keep the kernel from probing drivers for new virtual functions of 0000:01:00.0",
            "create 2 virtual functions of 0000:01:00.0",
            "let the kernel probe drivers for new virtual functions of 0000:01:00.0",
            "set 0000:01:10.2 (VF 1 of 0000:01:00.0) to MAC address 02:00:00:00:00:01, VLAN 42, trust off, link enable",
            "give 0000:01:10.0 (VF 0 of 0000:01:00.0) back to the driver that the kernel chooses",
            "give 0000:01:10.2 (VF 1 of 0000:01:00.0) back to the driver that the kernel chooses",
        ]
    );
}

#[test]
fn settings_that_are_so_already_are_dropped_and_listed() {
    let kernel = FakeKernel::usual();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "1", BIND_LIMIT).unwrap();
    kernel.set_link("eth0", true, BIND_LIMIT).unwrap();
    let goal = |vlan| {
        format!(
            "sriov: [{{pf: {{address: '01:00.0'}}, count: 1, vfs: [{{index: 0, vlan: {vlan}, spoof_check: true}}]}}]"
        )
    };

    let other = try_plan(&kernel, &goal(7)).unwrap();
    let same = try_plan(&kernel, &goal(0)).unwrap();

    assert_eq!(other.steps[0].text, "set 0000:01:10.0 (VF 0 of 0000:01:00.0) to VLAN 7");
    assert_eq!(other.already.last().unwrap(), "0000:01:10.0 (VF 0 of 0000:01:00.0) has spoof check on");
    assert!(same.is_empty(), "{same:?}");
    assert_eq!(
        same.already.last().unwrap(),
        "0000:01:10.0 (VF 0 of 0000:01:00.0) has no VLAN, spoof check on"
    );
}

#[test]
fn settings_of_a_function_that_a_guest_holds_are_left_alone() {
    let kernel = FakeKernel::usual();
    kernel.load_module("vfio-pci").unwrap();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "1", BIND_LIMIT).unwrap();
    for (path, value) in [
        ("/sys/bus/pci/devices/0000:01:10.0/driver_override", "vfio-pci"),
        ("/sys/bus/pci/devices/0000:01:10.0/driver/unbind", "0000:01:10.0"),
        ("/sys/bus/pci/drivers_probe", "0000:01:10.0"),
    ] {
        kernel.write(path, value, BIND_LIMIT).unwrap();
    }
    kernel.open("0000:01:10.0");

    let error =
        try_plan(&kernel, "sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, vlan: 7}]}]")
            .unwrap_err();

    assert!(error.to_string().contains("0000:01:10.0 [vfio-open]"), "{error}");
}

#[test]
fn a_physical_function_without_an_interface_keeps_no_settings() {
    let storage = crate::setup::fake::Function { total_vfs: Some(4), ..NVME };
    let kernel = FakeKernel::new(&[storage]);

    let error =
        try_plan(&kernel, "sriov: [{pf: {address: '02:00.0'}, count: 1, vfs: [{index: 0, vlan: 7}]}]")
            .unwrap_err();

    assert!(matches!(error, PlanError::Impossible { .. }), "{error}");
    assert!(error.to_string().contains("no network interface"), "{error}");
}

#[test]
fn modules_are_loaded_once_and_only_those_that_are_missing() {
    let kernel = FakeKernel::usual();
    kernel.load_module("vfio-pci").unwrap();

    let plan = try_plan(&kernel, "modules: [vhost-net, vfio_pci, vhost_net]").unwrap();

    assert_eq!(
        plan.steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(),
        ["load kernel module vhost-net"]
    );
    assert_eq!(plan.already, ["kernel module vfio_pci is loaded"]);
    assert_eq!(invalid(&kernel, "modules: ['../x']"), "`../x` is not the name of a kernel module");
}

#[test]
fn nodes_are_given_after_their_functions_are_bound_and_only_where_there_will_be_one() {
    let kernel = FakeKernel::usual();
    let found = texts(
        &kernel,
        "sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, driver: vfio-pci}]}]
devices: [{select: {address: '02:00.0'}}]
access: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}, group: 107}, {select: {address: '02:00.0'}, user: 1000, group: 107}]",
    );
    assert_eq!(
        found[found.len() - 2..],
        [
            "let group 107 open the VFIO node of 0000:01:10.0 (VF 0 of 0000:01:00.0)",
            "let user 1000 and group 107 open the VFIO node of 0000:02:00.0",
        ]
    );
    for (yaml, part) in [
        (
            "access: [{select: {address: '02:00.0'}, user: 1000}]",
            "it has driver nvme, and only functions of a VFIO",
        ),
        (
            "sriov: [{pf: {address: '01:00.0'}, count: 1}]
access: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}, user: 1}]",
            "0000:01:10.0: it has no driver",
        ),
    ] {
        let error = try_plan(&kernel, yaml).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for (yaml, part) in [
        ("access: [{select: {address: '02:00.0'}}]", "nobody is named"),
        ("access: [{select: {address: '02:00.0'}, user: x}]", "the number of user `x` was not looked up"),
        (
            "sriov: [{pf: {address: '01:00.0'}, count: 1}]
access: [{select: {vf: {pf: {address: '01:00.0'}, index: 1}}, user: 1}]",
            "virtual function 1 of 0000:01:00.0 is asked for, and 1 in all",
        ),
        (
            "devices: [{select: {address: '02:00.0'}}]
access: [{select: {address: '02:00.0'}, user: 1}, {select: {address: '02:00.0'}, user: 2}]",
            "asked for twice, for different owners",
        ),
    ] {
        let text = invalid(&kernel, yaml);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_node_that_is_given_already_is_left() {
    let kernel = FakeKernel::usual();
    kernel.load_module("vfio-pci").unwrap();
    for (path, value) in [
        ("/sys/bus/pci/devices/0000:02:00.0/driver_override", "vfio-pci"),
        ("/sys/bus/pci/devices/0000:02:00.0/driver/unbind", NVME.address),
        ("/sys/bus/pci/drivers_probe", NVME.address),
    ] {
        kernel.write(path, value, BIND_LIMIT).unwrap();
    }
    kernel.set_owner("/dev/vfio/2", 1000, 0, BIND_LIMIT).unwrap();
    let of = |user| format!("access: [{{select: {{address: '02:00.0'}}, user: {user}}}]");

    let plan = try_plan(&kernel, &of(1000)).unwrap();

    assert!(plan.is_empty());
    assert_eq!(plan.already, ["the VFIO node of 0000:02:00.0 is that of user 1000"]);
    assert_eq!(texts(&kernel, &of(1001)), ["let user 1001 open the VFIO node of 0000:02:00.0"]);
}

#[test]
fn cpus_are_set_apart_where_there_are_enough_and_a_way() {
    let kernel = FakeKernel::new(&[]).with_cpus();
    for (cpu, siblings) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")] {
        kernel.put(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
    }
    let apart = try_plan(&kernel, "isolate_cpus: '2-3'").unwrap();
    let split = try_plan(&kernel, "isolate_cpus: 3").unwrap();
    kernel.put("/sys/devices/system/cpu/isolated", "2");
    let some = texts(&kernel, "isolate_cpus: '2-3'");
    let all = try_plan(&kernel, "isolate_cpus: 2").unwrap();

    let texts: Vec<_> = apart.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["set CPUs 2-3 apart for who is in control group /sys/fs/cgroup/thruway"]);
    assert!(apart.warnings.is_empty(), "{:?}", apart.warnings);
    assert!(split.warnings[0].contains("(cores 2-3)"), "{:?}", split.warnings);
    assert_eq!(some, ["set CPUs 3 apart for who is in control group /sys/fs/cgroup/thruway"]);
    assert!(all.is_empty());
    assert_eq!(all.already, ["CPUs 2 are set apart"]);
}

#[test]
fn cpus_that_cannot_be_set_apart_are_told_with_a_way_out() {
    let kernel = FakeKernel::new(&[]).with_cpus();
    let refused = |yaml: &str, part: &str| {
        let error = try_plan(&kernel, yaml).unwrap_err();
        assert!(matches!(error, PlanError::Impossible { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused("isolate_cpus: 0-3", "no CPU would be left for the host, which has 0-3");
    refused(
        "isolate_cpus: 3-4",
        "CPU 4 is offline; switch it on first: echo 1 >/sys/devices/system/cpu/cpu4/online",
    );
    refused("isolate_cpus: 3,9", "there is no CPU 9 here; this host has 0-3");
    assert!(invalid(&kernel, "isolate_cpus: ''").contains("names no CPU"));
    kernel.put("/sys/fs/cgroup/cgroup.controllers", "cpu memory");
    refused("isolate_cpus: 3", "CONFIG_CPUSETS");
    std::fs::remove_file(kernel.at("/sys/fs/cgroup/cgroup.controllers")).unwrap();
    refused("isolate_cpus: 3", "systemd.unified_cgroup_hierarchy=1");
    std::fs::remove_dir_all(kernel.at("/sys/fs/cgroup")).unwrap();
    std::fs::create_dir(kernel.at("/sys/fs/cgroup")).unwrap();
    refused("isolate_cpus: 3", "mount -t cgroup2");
}

#[test]
fn interrupts_go_to_cpus_that_are_not_set_apart() {
    let kernel = FakeKernel::new(&[]).with_interrupts();
    kernel.put("/sys/devices/system/cpu/isolated", "1");
    let plan = try_plan(&kernel, "irq_affinity: {away_from: '2-3'}").unwrap();
    let Action::IrqAffinity(action) = &plan.steps[0].action else { panic!("{plan:?}") };
    assert_eq!(action.instead.to_string(), "0");
    assert_eq!(plan.steps[0].text, "keep interrupts away from CPUs 2-3");
    assert!(plan.warnings.is_empty());

    std::fs::create_dir_all(kernel.at("/sys/fs/cgroup/system.slice/irqbalance.service")).unwrap();
    let balanced = try_plan(&kernel, "irq_affinity: {away_from: '2-3'}").unwrap();
    assert!(balanced.warnings[0].contains("IRQBALANCE_BANNED_CPULIST=2-3"), "{:?}", balanced.warnings);

    kernel.put("/proc/irq/default_smp_affinity", "3");
    let away = try_plan(&kernel, "irq_affinity: {away_from: '2-3'}").unwrap();
    assert_eq!((away.steps.len(), away.already.len()), (0, 1));
    let error = try_plan(&kernel, "irq_affinity: {away_from: '0-3'}").unwrap_err().to_string();
    assert!(error.contains("no CPU would be left to serve interrupts"), "{error}");
}

#[test]
fn ways_of_resetting_are_chosen_among_those_that_the_kernel_offers() {
    let kernel = FakeKernel::usual();
    let file = "/sys/bus/pci/devices/0000:02:00.0/reset_method";
    kernel.put(file, "flr bus");
    let of = |methods: &str| {
        format!("devices: [{{select: {{address: '02:00.0'}}, driver: nvme, reset_method: {methods}}}]")
    };

    assert_eq!(texts(&kernel, &of("[bus]")), ["reset 0000:02:00.0 by bus"]);
    let same = try_plan(&kernel, &of("[flr, bus]")).unwrap();
    assert!(
        same.is_empty() && same.already.contains(&"0000:02:00.0 is reset by flr, bus".to_owned()),
        "{same:?}"
    );
    let error = try_plan(&kernel, &of("[flr, pm]")).unwrap_err().to_string();
    assert!(error.contains("it can be reset by flr, bus and not by pm"), "{error}");
    assert!(invalid(&kernel, &of("[flr, flr]")).contains("`flr` stands in this list already"));
    std::fs::remove_file(kernel.at(file)).unwrap();
    let none = try_plan(&kernel, &of("[flr]")).unwrap_err().to_string();
    assert!(none.contains("this kernel knows no way to reset it"), "{none}");
}

#[test]
fn a_governor_is_set_where_the_kernel_chooses_frequencies() {
    let kernel = FakeKernel::new(&[]).with_policies();
    assert_eq!(texts(&kernel, "governor: performance"), ["choose CPU frequencies by governor performance"]);
    kernel.put("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil");
    assert!(try_plan(&kernel, "governor: schedutil").unwrap().is_empty());
    assert!(invalid(&kernel, "governor: a/b").contains("is not the name of a governor"));

    let error = try_plan(&FakeKernel::usual(), "governor: performance").unwrap_err().to_string();

    assert!(error.starts_with("the governors of CPU frequencies: not supported here: "), "{error}");
}
