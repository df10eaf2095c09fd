//! Each rule once where it applies and once where it does not.

mod console;
mod disks;
mod machine;
mod warnings;

use super::*;
use crate::host;
use crate::setup::control::Control;
use crate::setup::fake::{BRIDGE, FakeKernel, Function, NIC, NVME, UPLINK};
use crate::setup::goal::{DeviceGoal, Goal, Selector, SriovGoal};
use crate::setup::plan::{PlanError, plan, release};

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Rules that apply when `functions` are to be bound to vfio-pci, with their severities and subjects.
fn rules_with(kernel: &FakeKernel, functions: &[&str], consents: &Consents) -> Vec<(Rule, Severity, String)> {
    let devices = functions
        .iter()
        .map(|function| DeviceGoal::new(Selector::Address(address(function)), "vfio-pci".to_owned()));
    let goal = Goal { devices: devices.collect(), ..Goal::default() };
    applied(plan(&host::collect(kernel.source()), &goal, consents))
}

fn rules(kernel: &FakeKernel, functions: &[&str]) -> Vec<(Rule, Severity, String)> {
    rules_with(kernel, functions, &Consents::default())
}

fn rules_of_count(kernel: &FakeKernel, count: u16) -> Vec<(Rule, Severity, String)> {
    let pf = Selector::Address(address(NIC.address));
    let sriov = SriovGoal { pf, count, autoprobe: None, vfs: Vec::new() };
    let goal = Goal { sriov: vec![sriov], ..Goal::default() };
    applied(plan(&host::collect(kernel.source()), &goal, &Consents::default()))
}

fn applied<T>(plan: Result<T, PlanError>) -> Vec<(Rule, Severity, String)> {
    match plan {
        Ok(_) => Vec::new(),
        Err(PlanError::Refused(found)) => found
            .into_iter()
            .map(|objection| (objection.rule, objection.severity, objection.subject.to_string()))
            .collect(),
        Err(error) => panic!("{error}"),
    }
}

fn refused(rule: Rule, subject: &str) -> Vec<(Rule, Severity, String)> {
    vec![(rule, Severity::Refuse, subject.to_owned())]
}

fn consentable(rule: Rule, subject: &str) -> Vec<(Rule, Severity, String)> {
    vec![(rule, Severity::NeedsConsent, subject.to_owned())]
}

fn with_disk() -> FakeKernel {
    let kernel = FakeKernel::usual();
    let place = "/sys/bus/pci/devices/0000:02:00.0/nvme/nvme0/nvme0n1";
    for (name, text) in
        [("dev", "259:0"), ("size", "2048"), ("nvme0n1p1/dev", "259:1"), ("nvme0n1p1/partition", "1")]
    {
        kernel.put(&format!("{place}/{name}"), text);
    }
    kernel.link("/sys/class/block/nvme0n1", "../../bus/pci/devices/0000:02:00.0/nvme/nvme0/nvme0n1");
    kernel.link(
        "/sys/class/block/nvme0n1p1",
        "../../bus/pci/devices/0000:02:00.0/nvme/nvme0/nvme0n1/nvme0n1p1",
    );
    kernel
}

/// Another function in the place of [`NVME`].
fn with(function: Function) -> FakeKernel {
    FakeKernel::new(&[function, UPLINK, BRIDGE])
}

fn of_class(class: u32) -> Function {
    Function { class, ids: (0x1234, 0x5678), driver: Some("nvme"), ..NVME }
}

#[test]
fn functions_that_nobody_misses_are_free() {
    let kernel = FakeKernel::usual();
    assert_eq!(rules(&kernel, &[NVME.address, NIC.address]), []);
}

#[test]
fn bridges_are_refused_for_that_alone() {
    assert_eq!(rules(&FakeKernel::usual(), &[BRIDGE.address]), refused(Rule::Bridge, BRIDGE.address));
}

#[test]
fn mounted_partitions_swap_holders_and_open_disks_are_refused() {
    let mounted = with_disk();
    mounted.put("/proc/self/mountinfo", "30 1 259:1 / /mnt rw - ext4 /dev/nvme0n1p1 rw");
    let swap = with_disk();
    swap.put("/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2");
    let held = with_disk();
    held.put("/sys/class/block/nvme0n1p1/holders/dm-0/x", "");
    held.put("/sys/class/block/dm-0/dev", "253:0");
    let open = with_disk();
    open.put("/proc/77/comm", "dd");
    open.link("/proc/77/fd/3", "/dev/nvme0n1");
    for kernel in [mounted, swap, held, open] {
        assert_eq!(rules(&kernel, &[NVME.address]), refused(Rule::DiskInUse, NVME.address));
    }
}

#[test]
fn disks_with_partitions_need_consent_by_name() {
    let kernel = with_disk();
    let allow = |address_: &str| Consents { allow: [address(address_)].into(), ..Consents::default() };

    assert_eq!(rules(&kernel, &[NVME.address]), consentable(Rule::DiskWithData, NVME.address));
    assert_eq!(rules_with(&kernel, &[NVME.address], &allow(NIC.address)).len(), 1);
    assert_eq!(rules_with(&kernel, &[NVME.address], &allow(NVME.address)), []);
}

#[test]
fn consent_does_not_help_where_the_rule_refuses() {
    let kernel = with_disk();
    kernel.put("/proc/self/mountinfo", "30 1 259:1 / /mnt rw - ext4 /dev/nvme0n1p1 rw");
    let consents = Consents { allow: [address(NVME.address)].into(), ..Consents::default() };

    assert_eq!(rules_with(&kernel, &[NVME.address], &consents), refused(Rule::DiskInUse, NVME.address));
}

#[test]
fn a_way_to_remote_files_is_refused_if_it_is_the_only_one_and_needs_consent_else() {
    const ROOT: &str = "1 0 0:22 / / rw - nfs4 host:/root rw";
    const DATA: &str = "1 0 0:22 / /srv rw - nfs4 host:/srv rw";
    let routes = |of: &[&str]| {
        let lines = of.iter().map(|name| format!("\n{name} 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0"));
        format!("Iface Destination Gateway Flags RefCnt Use Metric Mask{}", lines.collect::<String>())
    };
    let rule = |mounts: &str, of: &[&str]| {
        let kernel = FakeKernel::usual();
        kernel.put("/proc/self/mountinfo", mounts);
        kernel.put("/proc/net/route", &routes(of));
        rules(&kernel, &[NIC.address])
    };

    assert_eq!(rule(ROOT, &["eth0"]), refused(Rule::RemoteStorage, NIC.address));
    assert_eq!(rule(ROOT, &["eth0", "eth1"]), consentable(Rule::RemoteStorage, NIC.address));
    assert_eq!(rule(DATA, &["eth0"]), consentable(Rule::RemoteStorage, NIC.address));
    assert_eq!(rule(ROOT, &["eth1"]), []);

    let unread = FakeKernel::usual();
    unread.put("/proc/net/route", &routes(&["eth0"]));
    std::fs::remove_file(unread.at("/proc/self/mountinfo")).unwrap();
    assert!(rules(&unread, &[NIC.address]).contains(&consentable(Rule::Unseen, NIC.address)[0]));
}

#[test]
fn the_only_default_route_is_refused_and_one_of_two_needs_consent() {
    const TABLE: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth1 00000000 0202000A 0003 0 0 0 00000000\neth0 00000000 0203000A 0003 0 0 9 00000000";
    let one = FakeKernel::usual();
    let two = FakeKernel::usual();
    two.put("/proc/net/route", TABLE);

    assert_eq!(rules(&one, &[UPLINK.address]), refused(Rule::OnlyDefaultRoute, UPLINK.address));
    assert_eq!(rules(&two, &[UPLINK.address]), consentable(Rule::DefaultRoute, UPLINK.address));
    // Each would be the other's way out, and both go.
    let both = rules(&two, &[UPLINK.address, NIC.address]);
    assert_eq!(
        both,
        [refused(Rule::OnlyDefaultRoute, NIC.address), refused(Rule::OnlyDefaultRoute, UPLINK.address)]
            .concat()
    );
}

#[test]
fn a_bond_lends_its_route_to_the_functions_below_it() {
    let kernel = FakeKernel::usual();
    kernel.put(
        "/proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask\nbond0 00000000 0202000A 0003 0 0 0 00000000",
    );
    kernel.link("/sys/bus/pci/devices/0000:01:00.0/net/eth0/master", "../../../../../../class/net/bond0");
    kernel.put("/sys/class/net/bond0/flags", "0x1003");

    assert_eq!(rules(&kernel, &[NIC.address]), refused(Rule::OnlyDefaultRoute, NIC.address));
}

#[test]
fn the_way_of_a_remote_session_is_kept() {
    let kernel = FakeKernel::usual();
    kernel.put(
        "/proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth1 0002000A 00000000 0001 0 0 0 00FFFFFF",
    );
    let remote = Consents { remote_session: true, ..Consents::default() };

    assert_eq!(rules(&kernel, &[UPLINK.address]), []);
    assert_eq!(rules_with(&kernel, &[UPLINK.address], &remote), refused(Rule::SessionPath, UPLINK.address));
    assert_eq!(rules_with(&kernel, &[NIC.address], &remote), []);
}

#[test]
fn functions_that_a_guest_holds_are_refused() {
    let kernel = FakeKernel::usual();
    kernel
        .write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "2", super::super::action::BIND_LIMIT)
        .unwrap();
    kernel.load_module("vfio-pci").unwrap();
    kernel.put("/sys/bus/pci/devices/0000:01:10.0/driver_override", "vfio-pci");
    kernel.open("0000:01:10.0");

    assert_eq!(rules(&kernel, &["0000:01:10.0"]), refused(Rule::VfioOpen, "0000:01:10.0"));
    assert_eq!(rules(&kernel, &["0000:01:10.2"]), []);
    assert_eq!(rules(&kernel, &[NIC.address]), refused(Rule::PfWithVfs, NIC.address));
    assert_eq!(rules_of_count(&kernel, 0), refused(Rule::VfInUse, "0000:01:10.0"));
    assert_eq!(rules_of_count(&kernel, 3), refused(Rule::VfInUse, "0000:01:10.0"));
    kernel.close("0000:01:10.0");
    assert_eq!(rules_of_count(&kernel, 0), []);
}

#[test]
fn more_virtual_functions_than_there_are_is_refused() {
    let kernel = FakeKernel::usual();
    assert_eq!(rules_of_count(&kernel, 7), []);
    assert_eq!(rules_of_count(&kernel, 8), refused(Rule::VfCountMax, NIC.address));
}

#[test]
fn members_of_the_group_that_the_host_uses_need_consent_each() {
    let shared = |function: Function| Function { group: 5, ..function };
    let kernel = FakeKernel::new(&[shared(NIC), shared(NVME), shared(BRIDGE), UPLINK]);
    let consents = Consents { allow: [address(NVME.address)].into(), ..Consents::default() };

    assert_eq!(rules(&kernel, &[NIC.address]), consentable(Rule::GroupMember, NVME.address));
    assert_eq!(rules_with(&kernel, &[NIC.address], &consents), []);
    assert_eq!(rules(&kernel, &[NIC.address, NVME.address]), []);
}

#[test]
fn reserved_memory_interrupts_without_remapping_and_no_reset_need_consent() {
    let reserved = FakeKernel::usual();
    reserved
        .put("/sys/kernel/iommu_groups/2/reserved_regions", "0x00000000000e0000 0x00000000000effff direct");
    let relaxable = FakeKernel::usual();
    relaxable.put(
        "/sys/kernel/iommu_groups/2/reserved_regions",
        "0x00000000000e0000 0x00000000000effff direct-relaxable",
    );
    let unmapped = FakeKernel::usual();
    unmapped.put("/proc/interrupts", " 1: 5 IO-APIC 1-edge\n 2: 9 PCI-MSI 2-edge");
    let stubborn = FakeKernel::usual();
    std::fs::remove_file(stubborn.at("/sys/bus/pci/devices/0000:02:00.0/reset_method")).unwrap();

    assert_eq!(rules(&reserved, &[NVME.address]), consentable(Rule::ReservedRegion, NVME.address));
    assert_eq!(rules(&relaxable, &[NVME.address]), []);
    assert_eq!(rules(&unmapped, &[NVME.address]), consentable(Rule::InterruptRemapping, NVME.address));
    assert_eq!(rules(&stubborn, &[NVME.address]), consentable(Rule::NoReset, NVME.address));
}

#[test]
fn what_cannot_be_seen_needs_consent() {
    let kernel = with_disk();
    std::fs::remove_file(kernel.at("/proc/self/mountinfo")).unwrap();
    std::fs::remove_file(kernel.at("/proc/interrupts")).unwrap();

    let found = rules(&kernel, &[NVME.address]);

    let seen = found.iter().map(|(rule, severity, _)| (*rule, *severity)).collect::<Vec<_>>();
    assert_eq!(
        seen,
        [(Rule::Unseen, Severity::NeedsConsent), (Rule::Unseen, Severity::NeedsConsent)],
        "{found:?}"
    );
}

#[test]
fn a_function_is_not_given_back_under_a_guest() {
    let kernel = FakeKernel::usual();
    kernel.load_module("vfio-pci").unwrap();
    for (path, value) in [
        ("/sys/bus/pci/devices/0000:02:00.0/driver_override", "vfio-pci"),
        ("/sys/bus/pci/devices/0000:02:00.0/driver/unbind", NVME.address),
        ("/sys/bus/pci/drivers_probe", NVME.address),
    ] {
        kernel.write(path, value, super::super::action::BIND_LIMIT).unwrap();
    }
    let give_back = || {
        applied(release(
            &host::collect(kernel.source()),
            &[Selector::Address(address(NVME.address))],
            &Consents::default(),
        ))
    };
    assert_eq!(give_back(), []);
    kernel.open(NVME.address);
    assert_eq!(give_back(), refused(Rule::VfioOpen, NVME.address));
}
