//! One function on small hosts: yes, no, unknown, and what goes with it.

use super::*;
use crate::check::Outcome;
use crate::host::collect;
use crate::host::source::fake::{Entry, FakeHost};

const NIC: &str = "/sys/bus/pci/devices/0000:01:00.0";
const GROUP: &str = "/sys/kernel/iommu_groups/7";

/// A NIC with the default route in group 7 behind one VT-d unit.
fn host() -> FakeHost {
    let route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000";
    FakeHost::new(&[
        ("/sys/class/iommu/dmar0/x", Entry::Text("")),
        (&format!("{NIC}/vendor"), Entry::Text("0x8086")),
        (&format!("{NIC}/class"), Entry::Text("0x020000")),
        (&format!("{NIC}/driver"), Entry::Link("../igb")),
        (&format!("{NIC}/iommu_group"), Entry::Link("../../../kernel/iommu_groups/7")),
        (&format!("{GROUP}/devices/0000:01:00.0"), Entry::Link("../x")),
        (&format!("{GROUP}/reserved_regions"), Entry::Text("0x00000000fee00000 0x00000000feefffff msi")),
        ("/sys/class/net/eth0", Entry::Link("../../devices/pci0000:00/0000:01:00.0/net/eth0")),
        ("/sys/devices/pci0000:00/0000:01:00.0/net/eth0/flags", Entry::Text("0x1003")),
        ("/proc/net/route", Entry::Text(route)),
        ("/proc/net/ipv6_route", Entry::Text("")),
        ("/sys/class/block/x", Entry::Text("")),
    ])
}

fn ask(host: &FakeHost, findings: &[Finding]) -> Assignment {
    let facts = collect(&host.source());
    assignment(&facts, facts.device("01:00.0".parse().unwrap()).unwrap(), findings)
}

#[test]
fn a_function_alone_in_its_group_can_go_and_takes_its_interface_along() {
    let answer = ask(&host(), &[]);

    assert_eq!((answer.possible, answer.reasons.as_slice()), (Some(true), &[][..]));
    assert_eq!(answer.iommu_group, Some(7));
    assert_eq!(answer.members.len(), 1);
    let interface = answer.losses.iter().find(|loss| loss.kind == LossKind::NetworkInterface).unwrap();
    assert_eq!(interface.text, "network interface eth0: the default route");
    assert_eq!(interface.in_use, Some(true));
}

#[test]
fn a_failed_check_is_a_no_with_its_words() {
    let failed = Finding { id: "x", title: "x", subject: None, outcome: Outcome::fail("x is broken") };
    let answer = ask(&host(), &[failed]);
    assert_eq!((answer.possible, answer.reasons), (Some(false), vec!["x is broken".to_owned()]));
}

#[test]
fn a_direct_region_is_a_no() {
    let host = host();
    let regions = "0x0000000000000000 0x0000000000000fff direct";
    host.add(&[(&format!("{GROUP}/reserved_regions"), Entry::Text(regions))]);
    assert_eq!(ask(&host, &[]).possible, Some(false));
}

#[test]
fn what_cannot_be_read_of_the_group_leaves_the_answer_open() {
    let facts = collect(&host().source_without(&["reserved_regions"]));
    let answer = assignment(&facts, facts.device("01:00.0".parse().unwrap()).unwrap(), &[]);
    assert_eq!(answer.possible, None);
    assert_eq!(answer.reasons, ["which memory firmware reserves for its group could not be read"]);
}

#[test]
fn members_with_drivers_go_along_and_bridges_stay() {
    let host = host();
    for (address, class, driver) in [
        ("0000:00:02.0", "0x060400", Some("pcieport")),
        ("0000:01:00.1", "0x010000", Some("ahci")),
        ("0000:01:00.2", "0x040300", None),
    ] {
        let directory = format!("/sys/bus/pci/devices/{address}");
        host.add(&[
            (&format!("{directory}/class"), Entry::Text(class)),
            (&format!("{GROUP}/devices/{address}"), Entry::Link("../x")),
        ]);
        if let Some(driver) = driver {
            host.add(&[(&format!("{directory}/driver"), Entry::Link(&format!("../{driver}")))]);
        }
    }
    let roles: Vec<_> =
        ask(&host, &[]).members.into_iter().map(|member| (member.device, member.role)).collect();
    assert_eq!(
        roles,
        [
            ("0000:01:00.0".to_owned(), Role::Asked),
            ("0000:00:02.0".to_owned(), Role::Bridge),
            ("0000:01:00.1".to_owned(), Role::GoesAlong),
            ("0000:01:00.2".to_owned(), Role::Idle),
        ]
    );
}

fn loss(answer: &Assignment, kind: LossKind) -> &Loss {
    answer.losses.iter().find(|loss| loss.kind == kind).unwrap_or_else(|| panic!("{answer:#?}"))
}

#[test]
fn virtual_functions_go_with_their_physical_one_and_the_process_that_holds_one_is_named() {
    let host = host();
    let vf = "/sys/bus/pci/devices/0000:01:10.0";
    host.add(&[
        (&format!("{NIC}/sriov_totalvfs"), Entry::Text("7")),
        (&format!("{NIC}/virtfn0"), Entry::Link("../0000:01:10.0")),
        (&format!("{vf}/class"), Entry::Text("0x020000")),
        (&format!("{vf}/iommu_group"), Entry::Link("../../../kernel/iommu_groups/9")),
        ("/proc/4321/comm", Entry::Text("qemu")),
        ("/proc/4321/fd/7", Entry::Link("/dev/vfio/9")),
    ]);

    let answer = ask(&host, &[]);

    let loss = loss(&answer, LossKind::VirtualFunctions);
    assert_eq!(loss.text, "its 1 virtual function: 0000:01:10.0 is held by qemu (process 4321)");
    assert_eq!(loss.in_use, Some(true));
}

#[test]
fn the_display_of_the_start_is_lost_with_who_draws_on_it() {
    let host = host();
    host.add(&[
        (&format!("{NIC}/class"), Entry::Text("0x030000")),
        (&format!("{NIC}/boot_vga"), Entry::Text("1")),
        ("/proc/iomem", Entry::Text("0-1 : 0000:01:00.0\n  0-1 : simpledrm")),
    ]);
    assert_eq!(
        loss(&ask(&host, &[]), LossKind::Display).text,
        "the display that the machine started with, on which simpledrm draws"
    );
}

#[test]
fn devices_of_a_usb_controller_go_with_it() {
    let host = host();
    let device = "/sys/devices/pci0000:00/0000:01:00.0/usb1/1-2";
    host.add(&[
        (&format!("{device}/product"), Entry::Text("Dongle")),
        ("/sys/bus/usb/devices/1-2", Entry::Link("../../../devices/pci0000:00/0000:01:00.0/usb1/1-2")),
    ]);
    let answer = ask(&host, &[]);
    let loss = loss(&answer, LossKind::UsbDevice);
    assert_eq!((loss.text.as_str(), loss.in_use), ("USB device 1-2 (Dongle)", Some(false)));
}
