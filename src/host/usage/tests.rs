//! Who uses a function: followed through everything that can stand between.

use super::*;
use crate::host::source::Route;
use crate::host::source::answers::Answer;
use crate::host::source::fake::{Entry, FakeHost};
use crate::host::{HostFacts, collect as collect_host};

const NIC: &str = "/sys/bus/pci/devices/0000:01:00.0";
const DISK: &str = "/sys/bus/pci/devices/0000:02:00.0";

/// A host with a NIC `eth0` and an NVMe controller with `nvme0n1`, quiet.
fn host() -> FakeHost {
    FakeHost::new(&[
        (&format!("{NIC}/class"), Entry::Text("0x020000")),
        ("/sys/class/net/eth0", Entry::Link("../../devices/pci0000:00/0000:01:00.0/virtio0/net/eth0")),
        ("/sys/devices/pci0000:00/0000:01:00.0/virtio0/net/eth0/flags", Entry::Text("0x1003")),
        (&format!("{DISK}/class"), Entry::Text("0x010802")),
        ("/sys/class/block/nvme0n1", Entry::Link("../../devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1")),
        ("/sys/devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1/dev", Entry::Text("259:0")),
        ("/proc/self/mountinfo", Entry::Text("22 1 0:21 / / rw - overlay overlay rw")),
        ("/proc/swaps", Entry::Text("Filename Type Size Used Priority")),
        ("/proc/net/route", Entry::Text("Iface Destination Gateway Flags RefCnt Use Metric Mask")),
        ("/proc/net/ipv6_route", Entry::Text("")),
    ])
}

fn usage(facts: &HostFacts, address: &str) -> Usage {
    facts.device(address.parse().unwrap()).unwrap().usage.clone()
}

fn interface(host: &FakeHost) -> Interface {
    usage(&collect_host(&host.source()), "01:00.0").interfaces.known().unwrap()[0].clone()
}

fn uses(host: &FakeHost) -> Fact<Vec<BlockUse>> {
    usage(&collect_host(&host.source()), "02:00.0").disks.known().unwrap()[0].uses.clone()
}

#[test]
fn a_quiet_host_uses_nothing_and_says_so() {
    let host = host();
    let quiet = interface(&host);
    assert_eq!(
        (quiet.up, quiet.default_route, quiet.routes),
        (Fact::Known(true), Fact::Known(false), Fact::Known(false))
    );
    assert_eq!(uses(&host), Fact::Known(vec![]));
}

#[test]
fn the_speed_of_a_link_is_known_while_it_is_up_and_the_driver_says() {
    let host = host();
    let leaf = |leaf: &str| format!("/sys/devices/pci0000:00/0000:01:00.0/virtio0/net/eth0/{leaf}");
    for (state, speed, expected) in [
        ("up", "25000", Fact::Known(25_000)),
        ("up", "-1", Fact::NotPresent),
        ("down", "25000", Fact::NotPresent),
    ] {
        host.add(&[(&leaf("operstate"), Entry::Text(state)), (&leaf("speed"), Entry::Text(speed))]);
        assert_eq!(interface(&host).speed_mbps, expected, "{state} {speed}");
    }
}

#[test]
fn a_default_route_of_either_protocol_counts() {
    let host = host();
    host.add(&[(
        "/proc/net/ipv6_route",
        Entry::Text(
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             fe800000000000000000000000000002 00000400 00000001 00000000 00450003     eth0",
        ),
    )]);
    assert_eq!(interface(&host).default_route, Fact::Known(true));
}

#[test]
fn a_default_route_of_a_table_that_procfs_does_not_show_counts() {
    let host = host();
    let route = Route { interface: "eth0".to_owned(), table: 100, default: true };
    host.answer(|answers| answers.routes = Some(Answer::Given(vec![route])));
    assert_eq!(interface(&host).default_route, Fact::Known(true));
    host.answer(|answers| answers.routes = Some(Answer::Given(vec![])));
    assert_eq!(interface(&host).default_route, Fact::Known(false));
}

#[test]
fn routes_that_every_interface_has_and_rejections_do_not_count() {
    let host = host();
    host.add(&[(
        "/proc/net/ipv6_route",
        Entry::Text(
            "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
             00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 ffffffff 00000001 00000000 00200200     eth0",
        ),
    )]);
    assert_eq!(interface(&host).routes, Fact::Known(false));
}

#[test]
fn without_a_route_table_the_default_route_is_unknown() {
    let host = host();
    let facts = collect_host(&host.source_without(&["/proc/net/ipv6_route"]));
    assert!(usage(&facts, "01:00.0").interfaces.known().unwrap()[0].default_route.is_unread());
}

#[test]
fn what_the_host_hibernates_to_is_in_use() {
    let host = host();
    host.add(&[("/sys/power/resume", Entry::Text("0:0"))]);
    assert_eq!(uses(&host), Fact::Known(vec![]));
    host.add(&[("/sys/power/resume", Entry::Text("259:0"))]);
    assert_eq!(uses(&host), Fact::Known(vec![BlockUse::Resume { device: "nvme0n1".to_owned() }]));
}

#[test]
fn a_namespace_of_multipath_nvme_belongs_to_its_controllers() {
    let host = host();
    host.add(&[
        (
            "/sys/class/block/nvme0n1",
            Entry::Link("../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"),
        ),
        ("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev", Entry::Text("259:7")),
        (
            "/sys/class/block/nvme0c0n1",
            Entry::Link("../../devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0c0n1"),
        ),
        ("/sys/class/nvme-subsystem/nvme-subsys0/nvme0", Entry::Directory),
        ("/sys/class/nvme/nvme0", Entry::Link("../../devices/pci0000:00/0000:02:00.0/nvme/nvme0")),
        ("/proc/self/mountinfo", Entry::Text("22 1 259:7 / /data rw - ext4 /dev/nvme0n1 rw")),
    ]);
    let facts = collect_host(&host.source());
    let disks = usage(&facts, "02:00.0").disks.known().unwrap().clone();
    assert_eq!(disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["nvme0n1"]);
    let mounted = BlockUse::Mounted { device: "nvme0n1".to_owned(), at: "/data".to_owned() };
    assert_eq!(disks[0].uses, Fact::Known(vec![mounted]));
}

#[test]
fn members_of_btrfs_and_of_an_imported_zfs_pool_are_in_use() {
    let host = host();
    host.add(&[
        ("/sys/fs/btrfs/0aa1/devices/nvme0n1", Entry::Directory),
        ("/run/udev/data/b259:0", Entry::Text("E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank")),
    ]);
    let btrfs = BlockUse::Member { device: "nvme0n1".to_owned(), of: "btrfs 0aa1".to_owned() };
    assert_eq!(uses(&host), Fact::Known(vec![btrfs.clone()]));
    host.add(&[("/proc/spl/kstat/zfs/tank", Entry::Directory)]);
    let zfs = BlockUse::Member { device: "nvme0n1".to_owned(), of: "zfs pool tank".to_owned() };
    assert_eq!(uses(&host), Fact::Known(vec![btrfs, zfs]));
}

#[test]
fn a_process_that_holds_the_disk_is_a_use() {
    let host = host();
    host.add(&[
        ("/proc/42/fd/3", Entry::Link("/dev/nvme0n1")),
        ("/proc/42/fd/4", Entry::Link("/dev/nvme0n1")),
        ("/proc/42/comm", Entry::Text("qemu")),
    ]);
    let process = Process { pid: 42, name: Some("qemu".to_owned()) };
    assert_eq!(uses(&host), Fact::Known(vec![BlockUse::Open { device: "nvme0n1".to_owned(), process }]));
}

#[test]
fn without_mounts_a_disk_is_not_called_unused() {
    let host = host();
    for part in [&["/proc/self/mountinfo"], &["/proc/swaps"]] {
        let facts = collect_host(&host.source_without(part));
        assert!(usage(&facts, "02:00.0").disks.known().unwrap()[0].uses.is_unread(), "{part:?}");
    }
}

#[test]
fn who_holds_a_group_holds_its_functions_and_who_cannot_be_asked_is_unknown() {
    let host = host();
    host.add(&[
        (&format!("{NIC}/driver"), Entry::Link("../../../drivers/vfio-pci")),
        (&format!("{NIC}/iommu_group"), Entry::Link("../../../kernel/iommu_groups/9")),
        ("/proc/1/fd/0", Entry::Link("/dev/null")),
        ("/proc/77/fd/9", Entry::Link("/dev/vfio/9")),
    ]);
    let holder = Process { pid: 77, name: None };
    let facts = collect_host(&host.source());
    assert_eq!(usage(&facts, "01:00.0").vfio_users, Fact::Known(vec![holder]));
    assert_eq!(usage(&facts, "02:00.0").vfio_users, Fact::Known(vec![]));
    let facts = collect_host(&host.source_without(&["/proc/77/fd"]));
    assert!(usage(&facts, "01:00.0").vfio_users.is_unread());
}

#[test]
fn uppers_that_form_a_ring_are_each_named_once() {
    let host = host();
    let eth0 = "/sys/devices/pci0000:00/0000:01:00.0/virtio0/net/eth0";
    host.add(&[
        (&format!("{eth0}/master"), Entry::Link("../br0")),
        (&format!("{eth0}/upper_br0"), Entry::Link("../br0")),
        ("/sys/class/net/br0/upper_eth0", Entry::Link("../eth0")),
        ("/sys/class/net/br0/upper_br0", Entry::Link("../br0")),
    ]);
    assert_eq!(interface(&host).uppers, ["br0"]);
}

#[test]
fn partitions_of_the_firmware_and_lines_of_fstab_are_told() {
    let host = host();
    let disk = "/sys/devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1";
    host.add(&[
        (
            "/sys/class/block/nvme0n1p1",
            Entry::Link("../../devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1/nvme0n1p1"),
        ),
        (&format!("{disk}/nvme0n1p1/dev"), Entry::Text("259:1")),
        (
            "/run/udev/data/b259:1",
            Entry::Text(
                "S:disk/by-id/x-part1\nE:ID_FS_UUID=AB12-CD34\nE:ID_PART_ENTRY_TYPE=c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            ),
        ),
        (
            "/etc/fstab",
            Entry::Text("# comment\nUUID=ab12-cd34 /boot/efi vfat\n/dev/nvme0n1 /data ext4\n/dev/disk/by-id/x-part1 /x\n/dev/sda1 / ext4"),
        ),
    ]);
    let disk = usage(&collect_host(&host.source()), "02:00.0").disks.known().unwrap()[0].clone();
    let entry = |device: &str, at: &str| FstabEntry { device: device.to_owned(), at: at.to_owned() };
    assert_eq!(disk.efi_system_partitions, ["nvme0n1p1"]);
    let expected = vec![entry("nvme0n1", "/data"), entry("nvme0n1p1", "/boot/efi"), entry("nvme0n1p1", "/x")];
    assert_eq!(disk.fstab, Fact::Known(expected));
    assert_eq!(disk.uses, Fact::Known(vec![]));

    let denied = collect_host(&host.source_without(&["/etc/fstab"]));
    assert!(usage(&denied, "02:00.0").disks.known().unwrap()[0].fstab.is_unread());
}

#[test]
fn who_holds_a_display_is_told_by_its_device_file() {
    let host = host();
    host.add(&[
        ("/sys/class/drm/card0", Entry::Link("../../devices/pci0000:00/0000:01:00.0/drm/card0")),
        (
            "/sys/class/sound/pcmC0D0p",
            Entry::Link("../../devices/pci0000:00/0000:02:00.0/sound/card0/pcmC0D0p"),
        ),
        ("/proc/driver/nvidia/gpus/0000:02:00.0/information", Entry::Text("Model: x\nDevice Minor: \t 3")),
        ("/proc/7/fd/3", Entry::Link("/dev/dri/card0")),
        ("/proc/8/fd/3", Entry::Link("/dev/nvidia3")),
        ("/proc/8/fd/4", Entry::Link("/dev/snd/pcmC0D0p")),
    ]);
    let paths = |facts: &HostFacts, address| {
        let nodes = usage(facts, address).open_nodes;
        nodes.map(|nodes| nodes.iter().map(|node| (node.path.clone(), node.process.pid)).collect::<Vec<_>>())
    };
    let facts = collect_host(&host.source());
    assert_eq!(paths(&facts, "01:00.0"), Fact::Known(vec![("/dev/dri/card0".to_owned(), 7)]));
    let held = vec![("/dev/nvidia3".to_owned(), 8), ("/dev/snd/pcmC0D0p".to_owned(), 8)];
    assert_eq!(paths(&facts, "02:00.0"), Fact::Known(held));
    let facts = collect_host(&host.source_without(&["/proc/7/fd"]));
    assert!(paths(&facts, "01:00.0").is_unread());
}
