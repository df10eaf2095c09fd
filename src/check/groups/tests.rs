//! How each check is brought to each answer: ports with and without ACS, a shared group, an override.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::check::groups::{explain, pair};
use crate::host::collect;
use crate::host::pci::ports::testing::Config;

const GROUPS: &str = "/sys/kernel/iommu_groups";
const DEVICES: &str = "/sys/bus/pci/devices";
const PORT: &str = "0000:00:02.0";
const OTHER_PORT: &str = "0000:00:03.0";
const NEIGHBOUR: &str = "0000:02:00.0";

/// What this file's checks need to pass: nothing beyond the groups.
pub(in crate::check) fn healthy(_host: &FakeHost) {}

fn config(host: &FakeHost, address: &str, config: &Config) {
    host.add(&[(&format!("{DEVICES}/{address}/config"), Entry::Bytes(config.bytes()))]);
}

fn root_port(bus: u8) -> Config {
    Config::express(4).buses(bus, bus).multifunction().slot(bus.into(), true)
}

/// Both ports keep their slots apart.
fn apart(host: &FakeHost) {
    config(host, PORT, &root_port(1).acs(0x1D, 0x1D));
    config(host, OTHER_PORT, &root_port(2).acs(0x1D, 0x1D));
    endpoints(host);
}

fn endpoints(host: &FakeHost) {
    config(host, SUBJECT, &Config::express(0));
    config(host, NEIGHBOUR, &Config::express(0));
}

/// Puts `address` into group `group`, and nowhere else.
fn put(host: &FakeHost, address: &str, group: u32) {
    for old in 0..8 {
        let _ =
            std::fs::remove_dir(host.path().join(format!("sys/kernel/iommu_groups/{old}/devices/{address}")));
    }
    host.add(&[
        (&format!("{GROUPS}/{group}/devices/{address}"), Entry::Directory),
        (&format!("{DEVICES}/{address}/iommu_group"), Entry::Link(&format!("../../../..{GROUPS}/{group}"))),
    ]);
}

/// One switch without ACS holds both slots together.
fn together(host: &FakeHost) {
    config(host, PORT, &Config::express(4).buses(1, 2).slot(1, true));
    config(host, OTHER_PORT, &Config::express(4).buses(3, 3).slot(3, false).acs(0x1D, 0x1D));
    endpoints(host);
    for address in [PORT, SUBJECT, NEIGHBOUR] {
        put(host, address, 2);
    }
}

fn conventional(host: &FakeHost) {
    together(host);
    config(host, PORT, &Config::conventional().buses(1, 2));
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "group-ports-isolate",
        pass: apart,
        fail: together,
        unknown: |host| {
            apart(host);
            deny(host, &format!("{DEVICES}/{PORT}/config"));
        },
    },
    Fixture {
        id: "group-conventional-bridge",
        pass: apart,
        fail: conventional,
        unknown: |host| deny(host, GROUPS),
    },
    Fixture {
        id: "group-acs-override",
        pass: nothing,
        fail: |host| {
            host.add(&[("/proc/cmdline", Entry::Text("intel_iommu=on pcie_acs_override=downstream"))]);
        },
        unknown: |host| deny(host, "/proc/cmdline"),
    },
    Fixture {
        id: "group-function-alone",
        pass: nothing,
        fail: together,
        unknown: |host| deny(host, &format!("{GROUPS}/2/devices")),
    },
    Fixture {
        id: "group-function-viable",
        pass: nothing,
        fail: |host| {
            together(host);
            let driver = format!("{DEVICES}/{NEIGHBOUR}/driver");
            host.add(&[(&driver, Entry::Link("../../../bus/pci/drivers/nvme"))]);
        },
        unknown: |host| {
            together(host);
            let driver = format!("{DEVICES}/{NEIGHBOUR}/driver");
            host.add(&[(&driver, Entry::Link("../../../bus/pci/drivers/nvme"))]);
            deny(host, &driver);
        },
    },
];

#[test]
fn the_remedies_name_the_slot_where_it_would_be_alone() {
    let host = crate::check::fixture::healthy();
    together(&host);
    let facts = collect(&host.source());
    let told = explain(&facts, facts.device(SUBJECT.parse().unwrap()).unwrap());
    let remedies: Vec<_> = told.remedies.iter().map(|remedy| remedy.text.as_str()).collect();
    assert!(remedies[1].contains("slot 3 of port 0000:00:03.0"), "{remedies:#?}");
    assert!(remedies.iter().any(|text| text.contains("on paper only")), "{remedies:#?}");
    assert_eq!(told.path, [PORT, SUBJECT].map(|address| address.parse().unwrap()));
    assert!(told.summary.contains("0000:00:02.0 has no Access Control Services"), "{}", told.summary);
}

#[test]
fn two_functions_are_told_what_joins_them_or_keeps_them_apart() {
    let host = crate::check::fixture::healthy();
    apart(&host);
    let ask = |host: &FakeHost| {
        let facts = collect(&host.source());
        let device = |address: &str| facts.device(address.parse().unwrap()).unwrap();
        pair(&facts, device(SUBJECT), device(NEIGHBOUR))
    };
    let told = ask(&host);
    assert_eq!((told.together, told.causes.len()), (Some(false), 0));
    assert!(told.summary.contains("shared by both"), "{}", told.summary);
    together(&host);
    let told = ask(&host);
    assert_eq!((told.together, told.causes.len()), (Some(true), 1));
}
