//! VFIO of small hosts.

use super::*;
use crate::host;
use crate::host::source::DeviceNode;
use crate::host::source::answers::Answer;
use crate::host::source::fake::{Entry, FakeHost};

fn vfio(host: &FakeHost) -> Vfio {
    host::collect(&host.source()).vfio
}

fn function<'a>(address: &str, device: &'a str) -> Vec<(String, Entry<'a>)> {
    let path = |name: &str| format!("/sys/bus/pci/devices/{address}/{name}");
    vec![
        (path("vendor"), Entry::Text("0x10de")),
        (path("device"), Entry::Text(device)),
        (path("class"), Entry::Text("0x030000")),
    ]
}

/// Two equal functions and another one.
fn cards() -> FakeHost {
    let host = FakeHost::new(&[("/proc/cmdline", Entry::Text("quiet"))]);
    for (address, device) in
        [("0000:01:00.0", "0x2204"), ("0000:02:00.0", "0x2204"), ("0000:03:00.0", "0x1aef")]
    {
        for (path, entry) in function(address, device) {
            host.add(&[(&path, entry)]);
        }
    }
    host
}

#[test]
fn ids_are_matched_and_the_last_list_wins() {
    let host = cards();
    host.add(&[
        ("/etc/modprobe.d/vfio.conf", Entry::Text("options vfio-pci ids=10de:1aef")),
        ("/proc/cmdline", Entry::Text("vfio_pci.ids=10de:2204,8086:1,nonsense")),
    ]);
    let vfio = vfio(&host);
    let told: Vec<_> = vfio
        .ids_in_effect()
        .map(|(list, id)| (list.source.as_str(), id.text.as_str(), id.valid, id.functions.len()))
        .collect();
    assert_eq!(
        told,
        [
            ("/proc/cmdline", "10de:2204", true, 2),
            ("/proc/cmdline", "8086:1", true, 0),
            ("/proc/cmdline", "nonsense", false, 0)
        ]
    );
    assert!(!vfio.requested.known().unwrap()[0].in_effect);
}

#[test]
fn options_do_not_reach_a_driver_that_is_built_in() {
    let host = cards();
    host.add(&[
        ("/proc/sys/kernel/osrelease", Entry::Text("6.1")),
        ("/lib/modules/6.1/modules.builtin", Entry::Text("kernel/drivers/vfio/pci/vfio-pci.ko")),
        ("/etc/modprobe.d/vfio.conf", Entry::Text("options vfio-pci ids=10de:1aef")),
    ]);
    let vfio = vfio(&host);
    assert_eq!(vfio.ids_in_effect().count(), 0);
    assert_eq!(vfio.requested.known().unwrap().len(), 1);
}

#[test]
fn nodes_are_told_with_their_owners() {
    let host = FakeHost::new(&[
        ("/dev/vfio/vfio", Entry::Bytes(b"")),
        ("/dev/vfio/12", Entry::Bytes(b"")),
        ("/dev/vfio/noiommu-0", Entry::Bytes(b"")),
        ("/dev/vfio/devices/vfio0", Entry::Bytes(b"")),
        ("/dev/vfio/other", Entry::Bytes(b"")),
    ]);
    let node = DeviceNode { mode: 0o600, uid: 0, gid: 0, may_open: false };
    host.answer(|answers| {
        answers.device_nodes.insert("/dev/vfio/12".to_owned(), Answer::Given(node));
    });
    let nodes = vfio(&host).nodes.known().unwrap().clone();
    let kinds: Vec<_> = nodes.iter().map(|node| (node.kind, node.group)).collect();
    assert_eq!(
        kinds,
        [
            (NodeKind::Group, Some(12)),
            (NodeKind::Device, None),
            (NodeKind::NoIommuGroup, Some(0)),
            (NodeKind::Container, None)
        ]
    );
    assert_eq!(nodes[0].node, Fact::Known(node));
    assert!(nodes[1].node.is_unread());
    assert_eq!(vfio(&FakeHost::new(&[])).nodes, Fact::Known(Vec::new()));
}

#[test]
fn modules_for_the_start_are_found_in_each_file() {
    let host = FakeHost::new(&[
        ("/etc/initramfs-tools/modules", Entry::Text("# vfio_none\nvfio\nvfio_pci ids=1:2 # vfio_no")),
        ("/etc/mkinitcpio.conf", Entry::Text("MODULES=(vfio-pci vfio_virqfd)")),
        ("/etc/dracut.conf.d/vfio", Entry::Text("force_drivers+=\" vfio_pci \"")),
    ]);
    let found = vfio(&host).early_modules.known().unwrap().clone();
    let told: Vec<_> =
        found.iter().map(|early| (early.file.as_str(), early.module.as_str(), early.is_read)).collect();
    assert_eq!(
        told,
        [
            ("/etc/initramfs-tools/modules", "vfio", true),
            ("/etc/initramfs-tools/modules", "vfio_pci", true),
            ("/etc/mkinitcpio.conf", "vfio_pci", true),
            ("/etc/mkinitcpio.conf", "vfio_virqfd", true),
            ("/etc/dracut.conf.d/vfio", "vfio_pci", false),
        ]
    );
}

#[test]
fn drivers_of_driverctl_are_told_by_address() {
    let host = FakeHost::new(&[
        ("/etc/driverctl.d/pci-0000:01:00.0", Entry::Text("vfio-pci")),
        ("/etc/driverctl.d/pci-0000:02:00.0", Entry::Text("")),
        ("/etc/driverctl.d/README", Entry::Text("x")),
    ]);
    let found = vfio(&host).overrides.known().unwrap().clone();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].driver, Fact::Known("vfio-pci".to_owned()));
    assert_eq!(found[1].driver, Fact::NotPresent);
}
