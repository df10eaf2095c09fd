//! The NIC of the healthy host with one virtual function, and how each check is brought to each answer.

use crate::check::fixture::{Entry, FakeHost, Fixture, SUBJECT, nothing};
use crate::host::pci::ports::testing::Config;
use crate::host::source::answers::Answer;
use crate::host::source::{VfLink, VfLinks};

const DEVICES: &str = "/sys/bus/pci/devices";
const PORT: &str = "0000:00:02.0";
const NET: &str = "/sys/class/net/enp1s0";
const FLAGS: &str = "/sys/class/net/enp1s0/flags";

fn attribute(name: &str) -> String {
    format!("{DEVICES}/{SUBJECT}/{name}")
}

/// What this file's checks need to pass.
pub(in crate::check) fn healthy(host: &FakeHost) {
    for (name, text) in [
        ("sriov_totalvfs", "7"),
        ("sriov_numvfs", "1"),
        ("sriov_drivers_autoprobe", "1"),
        ("class", "0x020000"),
    ] {
        host.add(&[(&attribute(name), Entry::Text(text))]);
    }
    host.add(&[
        (&attribute("driver"), Entry::Link("../../../bus/pci/drivers/igb")),
        (&attribute("virtfn0"), Entry::Link("../0000:01:10.0")),
        (&format!("{NET}/device"), Entry::Link(&format!("../../../{SUBJECT}"))),
        (FLAGS, Entry::Text("0x1003")),
        (&format!("{NET}/operstate"), Entry::Text("up")),
    ]);
    answer(host, VfLink { spoof_check: Some(true), trusted: Some(false), ..VfLink::default() });
}

fn answer(host: &FakeHost, link: VfLink) {
    let links = vec![VfLinks { interface: "enp1s0".to_owned(), vfs: vec![link] }];
    host.answer(|answers| answers.vf_links = Some(Answer::Given(links)));
}

fn remove(host: &FakeHost, path: &str) {
    std::fs::remove_file(host.path().join(path.trim_start_matches('/'))).unwrap();
}

fn deny(host: &FakeHost, path: &str) {
    host.answer(|answers| {
        answers.denied.insert(path.to_owned());
    });
}

/// A configuration space with the SR-IOV capability and nothing else.
fn config() -> Vec<u8> {
    let mut config = vec![0; 4096];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    config[0x40] = 0x10;
    config[0x100..0x104].copy_from_slice(&[0x10, 0x00, 0x01, 0x00]);
    config
}

/// A port that leads to buses up to `last`, and a VF BAR with these flags.
fn room(host: &FakeHost, last: u8, flags: &str) {
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".repeat(7);
    let resources = format!("{none}0x00000000fe840000 0x00000000fe85ffff {flags}");
    host.add(&[
        (&format!("{DEVICES}/{PORT}/config"), Entry::Bytes(Config::express(4).buses(1, last).bytes())),
        (&attribute("sriov_offset"), Entry::Text("128")),
        (&attribute("sriov_stride"), Entry::Text("2")),
        (&attribute("resource"), Entry::Text(&resources)),
    ]);
}

#[test]
fn virtual_functions_beyond_the_last_bus_are_counted() {
    let host = crate::check::fixture::healthy();
    room(&host, 1, "0x0000000000140204");
    host.add(&[
        (&attribute("sriov_offset"), Entry::Text("200")),
        (&attribute("sriov_stride"), Entry::Text("32")),
    ]);
    let facts = crate::host::collect(&host.source());
    let outcome = super::fit::fit(&facts);
    assert_eq!(outcome.status, crate::check::Status::Warn);
    assert!(outcome.summary.starts_with("2 of the 7 virtual functions"), "{}", outcome.summary);
}

/// How each check is brought to each answer.
pub(in crate::check) const FIXTURES: &[Fixture] = &[
    Fixture {
        id: "sriov-offered",
        pass: nothing,
        fail: |host| {
            remove(host, &attribute("sriov_totalvfs"));
            host.add(&[(&attribute("config"), Entry::Bytes(&config()))]);
        },
        unknown: |host| deny(host, &attribute("sriov_totalvfs")),
    },
    Fixture {
        id: "sriov-driver",
        pass: nothing,
        fail: |host| remove(host, &attribute("driver")),
        unknown: |host| {
            remove(host, &attribute("virtfn0"));
            host.add(&[(&attribute("driver"), Entry::Link("../../../bus/pci/drivers/somebodys"))]);
        },
    },
    Fixture {
        id: "sriov-fit",
        pass: |host| room(host, 1, "0x0000000000140204"),
        fail: |host| room(host, 1, "0x0000000020140204"),
        unknown: |host| {
            room(host, 1, "0x0000000000140204");
            deny(host, &attribute("resource"));
        },
    },
    Fixture {
        id: "sriov-autoprobe",
        pass: nothing,
        fail: |host| host.add(&[(&attribute("sriov_drivers_autoprobe"), Entry::Text("0"))]),
        unknown: |host| deny(host, &attribute("sriov_drivers_autoprobe")),
    },
    Fixture {
        id: "sriov-physical-link",
        pass: nothing,
        fail: |host| host.add(&[(FLAGS, Entry::Text("0x1002"))]),
        unknown: |host| deny(host, FLAGS),
    },
    Fixture {
        id: "sriov-protection",
        pass: nothing,
        fail: |host| answer(host, VfLink { trusted: Some(true), ..VfLink::default() }),
        unknown: |host| host.answer(|answers| answers.vf_links = None),
    },
];
