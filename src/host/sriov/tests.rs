//! Physical functions: their capability, and what their drivers say about the virtual ones.

use super::*;
use crate::host::collect;
use crate::host::source::VfLinks;
use crate::host::source::answers::Answer;
use crate::host::source::fake::{Entry, FakeHost};

const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";

/// The configuration space of a PCI Express function without extended capabilities.
fn express() -> Vec<u8> {
    let mut config = vec![0; 4096];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40] = 0x10;
    config
}

/// A NIC with one virtual function and an interface `eth0`.
fn nic() -> FakeHost {
    let mut config = express();
    config[0x100..0x104].copy_from_slice(&[0x10, 0x00, 0x01, 0x00]);
    config[0x108] = 0x19;
    config[0x10E] = 8;
    config[0x110] = 1;
    config[0x11C] = 0x53;
    config[0x120] = 0x01;
    FakeHost::new(&[
        (&format!("{PF}/sriov_totalvfs"), Entry::Text("7")),
        (&format!("{PF}/sriov_numvfs"), Entry::Text("1")),
        (&format!("{PF}/virtfn0"), Entry::Link("../0000:01:10.0")),
        (&format!("{PF}/config"), Entry::Bytes(&config)),
        ("/sys/class/net/eth0", Entry::Link("../../devices/pci0000:00/0000:01:00.0/net/eth0")),
    ])
}

fn sriov(source: &dyn Source) -> Sriov {
    collect(source).device("0000:01:00.0".parse().unwrap()).unwrap().sriov.clone().unwrap()
}

#[test]
fn the_devices_total_is_told_beside_the_drivers() {
    let sriov = sriov(&nic().source());
    let capability = sriov.capability.known().unwrap();
    assert_eq!((capability.total_vfs, sriov.total_vfs), (8, Fact::Known(7)));
    assert!(capability.enabled && capability.memory_enabled && capability.ari_hierarchy);
    assert_eq!((capability.page_sizes_bytes.len(), capability.page_size_bytes), (4, Some(4096)));
}

#[test]
fn without_privilege_the_capability_is_denied_and_not_absent() {
    let host = nic();
    host.add(&[(&format!("{PF}/config"), Entry::Bytes(&[0; 64]))]);
    assert!(matches!(sriov(&host.source()).capability, Fact::Denied { .. }));
    host.add(&[(&format!("{PF}/config"), Entry::Bytes(&express()))]);
    assert!(matches!(sriov(&host.source()).capability, Fact::Unreadable { .. }));
}

#[test]
fn settings_of_a_virtual_function_come_from_the_interface_of_its_physical_one() {
    let host = nic();
    assert!(sriov(&host.source()).vfs[0].link.is_unread());
    let link = |interface: &str, index| VfLinks {
        interface: interface.to_owned(),
        vfs: vec![VfLink { index, trusted: Some(true), ..VfLink::default() }],
    };
    host.answer(|answers| answers.vf_links = Some(Answer::Given(vec![link("eth0", 0), link("eth1", 0)])));
    assert_eq!(sriov(&host.source()).vfs[0].link.known().unwrap().trusted, Some(true));
    host.answer(|answers| answers.vf_links = Some(Answer::Given(vec![link("eth0", 1)])));
    assert_eq!(sriov(&host.source()).vfs[0].link, Fact::NotPresent);
}
