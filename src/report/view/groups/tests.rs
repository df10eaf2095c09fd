//! Groups and their causes as people see them.

use super::*;
use crate::check::groups::explain;
use crate::host::collect;
use crate::host::pci::ports::testing::Config;
use crate::host::source::fake::{Entry, FakeHost};

const DEVICES: &str = "/sys/bus/pci/devices";

/// A port without ACS, two functions behind it, and an empty slot that is better.
fn host() -> HostFacts {
    let host = FakeHost::new(&[("/proc/cmdline", Entry::Text("quiet"))]);
    for (address, config, group) in [
        ("0000:00:02.0", Config::express(4).buses(1, 1).slot(1, true), 0),
        ("0000:00:03.0", Config::express(4).buses(2, 2).slot(3, false).acs(0x1D, 0x1D), 1),
        ("0000:01:00.0", Config::express(0).multifunction(), 0),
        ("0000:01:00.1", Config::express(0).multifunction(), 0),
    ] {
        let at = |name: &str| format!("{DEVICES}/{address}/{name}");
        let directory = format!("/sys/kernel/iommu_groups/{group}");
        host.add(&[
            (&at("config"), Entry::Bytes(config.bytes())),
            (&at("iommu_group"), Entry::Link(&format!("../../../..{directory}"))),
            (&format!("{directory}/devices/{address}"), Entry::Directory),
            (&format!("{directory}/type"), Entry::Text("DMA")),
        ]);
    }
    collect(&host.source())
}

#[test]
fn every_group_tells_its_members_and_its_cause() {
    let text = anstream::adapter::strip_str(&render(&host(), Some(80))).to_string();
    assert!(text.starts_with("group 0  DMA, viable\n  0000:00:02.0"), "{text}");
    assert!(text.contains("why       port 0000:00:02.0 has no Access Control Services"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_picture_shows_where_peers_are_not_kept_apart() {
    let facts = host();
    let told = explain(&facts, facts.device("0000:01:00.0".parse().unwrap()).unwrap());
    let text = anstream::adapter::strip_str(&explanation(&told, Some(80))).to_string();
    for part in [
        "0000:01:00.0 is in IOMMU group 0\n",
        "  └─ 0000:00:02.0  group 0: root port, slot 1\n     │  does not keep peers apart: no ACS\n",
        "     ├─ 0000:01:00.0  ",
        "group 0, asked about: ",
        "What another slot would give",
        "0000:00:03.0 3",
    ] {
        assert!(text.replace("  3 ", " 3 ").contains(part), "no `{part}` in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
