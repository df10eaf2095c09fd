//! Functions named in every way, on hosts that have them once, twice or not at all.

use super::*;
use crate::host::collect;
use crate::host::pci::ports::testing::Config;
use crate::host::source::fake::{Entry, FakeHost};

const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";

fn host() -> HostFacts {
    let at = |name: &str| format!("{PF}/{name}");
    let host = FakeHost::new(&[
        (&at("vendor"), Entry::Text("0x8086")),
        (&at("sriov_totalvfs"), Entry::Text("7")),
        (&at("sriov_numvfs"), Entry::Text("1")),
        (&at("virtfn0"), Entry::Link("../0000:01:10.0")),
        ("/sys/bus/pci/devices/0000:01:10.0/vendor", Entry::Text("0x8086")),
    ]);
    collect(&host.source())
}

fn address(text: &str) -> Selector {
    Selector::Address(text.parse().unwrap())
}

fn vf(pf: &str, index: u16) -> Selector {
    Selector::Vf(VfSelector { pf: Box::new(address(pf)), index })
}

#[test]
fn addresses_and_existing_virtual_functions_resolve() {
    let facts = host();
    assert_eq!(resolve(&facts, &address("01:00.0")), Ok("0000:01:00.0".parse().unwrap()));
    assert_eq!(resolve(&facts, &vf("01:00.0", 0)), Ok("0000:01:10.0".parse().unwrap()));
}

#[test]
fn what_is_missing_says_in_which_way() {
    let facts = host();
    let pf: PciAddress = "01:00.0".parse().unwrap();
    let vf_address: PciAddress = "01:10.0".parse().unwrap();
    let absent: PciAddress = "02:00.0".parse().unwrap();
    assert_eq!(resolve(&facts, &address("02:00.0")), Err(SelectError::NoSuchFunction(absent)));
    assert_eq!(resolve(&facts, &vf("01:00.0", 6)), Err(SelectError::VfAbsent { pf, index: 6 }));
    assert_eq!(
        resolve(&facts, &vf("01:00.0", 7)),
        Err(SelectError::IndexTooLarge { pf, index: 7, total: 7 })
    );
    assert_eq!(resolve(&facts, &vf("01:10.0", 0)), Err(SelectError::NotPhysicalFunction(vf_address)));
}

/// A port in slot 3 with a card of two functions, one of them a NIC with a VF, and two equal NVMe controllers elsewhere.
fn cards() -> FakeHost {
    let host = FakeHost::new(&[]);
    let add = |address: &str, name: &str, entry: Entry<'_>| {
        host.add(&[(&format!("/sys/bus/pci/devices/0000:{address}/{name}"), entry)]);
    };
    let port = Config::express(4).buses(1, 1).slot(3, true);
    add("00:02.0", "vendor", Entry::Text("0x1b36"));
    add("00:02.0", "device", Entry::Text("0x000c"));
    add("00:02.0", "config", Entry::Bytes(port.bytes()));
    for (address, ids) in [
        ("01:00.0", ("0x8086", "0x10c9")),
        ("01:00.1", ("0x8086", "0x10ca")),
        ("01:10.0", ("0x8086", "0x10ed")),
    ] {
        add(address, "vendor", Entry::Text(ids.0));
        add(address, "device", Entry::Text(ids.1));
        add(address, "config", Entry::Bytes(Config::express(0).bytes()));
    }
    add("01:10.0", "physfn", Entry::Link("../0000:01:00.0"));
    for address in ["05:00.0", "06:00.0"] {
        add(address, "vendor", Entry::Text("0x144d"));
        add(address, "device", Entry::Text("0xa80a"));
        add(address, "config", Entry::Bytes(Config::express(0).bytes()));
    }
    let below = "../../devices/pci0000:00/0000:00:02.0";
    host.add(&[
        ("/sys/class/net/eth0", Entry::Link(&format!("{below}/0000:01:00.0/net/eth0"))),
        ("/sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/net/eth0/upper_bond0", Entry::Link("../bond0")),
        ("/sys/class/net/eth0/upper_bond0", Entry::Link("../bond0")),
        ("/sys/class/block/nvme0n1", Entry::Link("../../devices/pci0000:00/0000:05:00.0/nvme/nvme0/nvme0n1")),
        ("/sys/devices/pci0000:00/0000:05:00.0/nvme/nvme0/nvme0n1/dev", Entry::Text("259:0")),
        ("/sys/devices/pci0000:00/0000:05:00.0/nvme/nvme0/nvme0n1/nvme0n1p1/partition", Entry::Text("1")),
        (
            "/sys/class/block/nvme0n1p1",
            Entry::Link("../../devices/pci0000:00/0000:05:00.0/nvme/nvme0/nvme0n1/nvme0n1p1"),
        ),
    ]);
    host
}

/// What a text names on the host of [`cards`], or why it names nothing.
fn named(text: &str) -> Result<Vec<String>, String> {
    let selector: Selector = text.parse().unwrap();
    let found = resolve_all(&collect(&cards().source()), &selector).map_err(|error| error.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[test]
fn every_way_of_naming_finds_its_functions() {
    for (text, found) in [
        ("01:00.0", &["0000:01:00.0"][..]),
        ("00:02.0/00.1", &["0000:01:00.1"]),
        ("01:00", &["0000:01:00.0", "0000:01:00.1"]),
        ("8086:10ca", &["0000:01:00.1"]),
        ("eth0", &["0000:01:00.0"]),
        ("/dev/nvme0n1", &["0000:05:00.0"]),
        ("slot=3", &["0000:01:00.0", "0000:01:00.1"]),
    ] {
        assert_eq!(named(text).unwrap(), found, "{text}");
    }
}

#[test]
fn what_is_named_by_nothing_says_what_there_is() {
    for (text, reason) in [
        ("00:02.0/01.0", "there is no function 01.0 right behind 0000:00:02.0"),
        ("00:02.0/10.0", "there is no function 10.0 right behind"), // a virtual function has no place of its own
        ("00:03.0/00.0", "there is no function 0000:00:03.0"),
        ("07:00", "card 0000:07:00 is no PCI function of this host"),
        ("8086:ffff", "8086:ffff is no PCI function of this host"),
        ("eth1", "those that are: eth0"),
        ("bond0", "it stands on eth0: name that"),
        ("/dev/sda", "disks that are: nvme0n1"),
        ("/dev/nvme0n1p1", "it is a partition of nvme0n1: name that"),
        ("slot=4", "slots that are: 3"),
    ] {
        let error = named(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn what_is_named_twice_is_refused_with_both() {
    let error = named("144d:a80a").unwrap_err();
    assert!(error.contains("144d:a80a is 2 functions: 0000:05:00.0, 0000:06:00.0"), "{error}");
    let card: Selector = "01:00".parse().unwrap();
    let one = resolve(&collect(&cards().source()), &card);
    assert!(matches!(one, Err(SelectError::Several { found, .. }) if found.len() == 2));
}

#[test]
fn texts_are_told_apart_by_their_shape() {
    let pf = Box::new(address("01:00.0"));
    assert_eq!("01:00.0/vf3".parse(), Ok(Selector::Vf(VfSelector { pf, index: 3 })));
    assert_eq!(
        "eno1/vf0".parse::<Selector>().unwrap().to_string(),
        "virtual function 0 of network interface eno1"
    );
    for text in ["", "slot=x", "01:00.0/vfx", "a/b", "no such name of 16", "80:86:10:c9"] {
        let error = text.parse::<Selector>().unwrap_err().to_string();
        assert!(error.contains("names no PCI function; write an address"), "{text}: {error}");
    }
}

#[test]
fn a_host_without_sysfs_is_unread_and_not_empty() {
    let facts = collect(&FakeHost::new(&[]).source());
    assert!(matches!(resolve(&facts, &address("01:00.0")), Err(SelectError::Unread { .. })));
}
