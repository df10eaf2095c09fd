//! Each rule, on hosts whose groups are as a kernel makes them, and on hosts where they are not.

use super::*;
use crate::host::pci::ports::testing::Config;
use crate::host::source::fake::{Entry, FakeHost};
use crate::host::{HostFacts, collect};

const DEVICES: &str = "/sys/bus/pci/devices";
const ENDPOINT: u8 = 0;
const ROOT_PORT: u8 = 4;
const UPSTREAM_PORT: u8 = 5;
const DOWNSTREAM_PORT: u8 = 6;
const BRIDGE_TO_PCI: u8 = 7;
const ROOT_COMPLEX_ENDPOINT: u8 = 9;

/// A host with functions and groups.
fn host(functions: &[(&str, Config)], groups: &[&[&str]]) -> FakeHost {
    let host = FakeHost::new(&[("/proc/cmdline", Entry::Text("quiet"))]);
    host.answer_log(&[]);
    for (address, config) in functions {
        let at = |name: &str| format!("{DEVICES}/{address}/{name}");
        host.add(&[
            (&at("vendor"), Entry::Text("0x1b36")),
            (&at("device"), Entry::Text("0x0001")),
            (&at("config"), Entry::Bytes(config.bytes())),
        ]);
    }
    for (number, members) in groups.iter().enumerate() {
        for member in *members {
            let group = format!("/sys/kernel/iommu_groups/{number}");
            host.add(&[
                (&format!("{group}/devices/{member}"), Entry::Directory),
                (&format!("{DEVICES}/{member}/iommu_group"), Entry::Link(&format!("../../../..{group}"))),
            ]);
        }
    }
    host
}

fn facts(host: &FakeHost) -> HostFacts {
    collect(&host.source())
}

/// Kind, effect, function and members of the causes of group `id`.
fn causes(host: &FakeHost, id: u32) -> Vec<(CauseKind, Effect, Option<String>, Vec<String>)> {
    let facts = facts(host);
    let words = |cause: &Cause| {
        let members = cause.members.iter().map(ToString::to_string).collect();
        (cause.kind, cause.effect, cause.function.map(|function| function.to_string()), members)
    };
    facts.group(id).unwrap().causes.iter().map(words).collect()
}

fn joined(
    kind: CauseKind,
    function: &str,
    members: &[&str],
) -> (CauseKind, Effect, Option<String>, Vec<String>) {
    let members = members.iter().map(|member| (*member).to_owned()).collect();
    (kind, Effect::Joins, Some(function.to_owned()), members)
}

fn port(secondary: u8) -> Config {
    Config::express(ROOT_PORT).buses(secondary, secondary)
}

const PORT: &str = "0000:00:02.0";
const CARD: &str = "0000:01:00.0";

#[test]
fn behind_a_port_with_acs_a_function_is_alone_for_no_reason() {
    let host =
        host(&[(PORT, port(1).acs(0x5F, 0x1D)), (CARD, Config::express(ENDPOINT))], &[&[PORT], &[CARD]]);
    assert_eq!((causes(&host, 0), causes(&host, 1)), (vec![], vec![]));
}

#[test]
fn a_port_without_acs_joins_what_is_behind_it() {
    let host = host(&[(PORT, port(1)), (CARD, Config::express(ENDPOINT))], &[&[PORT, CARD]]);
    assert_eq!(causes(&host, 0), [joined(CauseKind::PortLacksAcs, PORT, &[PORT, CARD])]);
    let cause = facts(&host).group(0).unwrap().causes[0].clone();
    assert_eq!((cause.acs_capability, cause.missing), (Some(false), Services::ISOLATION));
    assert_eq!(cause.evidence[0].value, "no ACS capability (000Dh)");
}

#[test]
fn services_that_are_switched_off_are_named_with_the_argument_that_did_it() {
    let host = host(&[(PORT, port(1).acs(0x1D, 0x11)), (CARD, Config::express(ENDPOINT))], &[&[PORT, CARD]]);
    host.add(&[("/proc/cmdline", Entry::Text("pci=disable_acs_redir=pci:1b36:1"))]);
    assert_eq!(causes(&host, 0), [joined(CauseKind::AcsBitsOff, PORT, &[PORT, CARD])]);
    let cause = facts(&host).group(0).unwrap().causes[0].clone();
    assert_eq!((cause.acs_capability, cause.missing.short()), (Some(true), "RR CR".to_owned()));
    assert_eq!(cause.evidence[1].value, "pci=disable_acs_redir=pci:1b36:1");
}

#[test]
fn services_that_are_not_offered_are_not_missed() {
    let host =
        host(&[(PORT, port(1).acs(0x01, 0x01)), (CARD, Config::express(ENDPOINT))], &[&[PORT], &[CARD]]);
    assert_eq!((causes(&host, 0), causes(&host, 1)), (vec![], vec![]));
}

#[test]
fn ports_of_one_slot_without_acs_join_all_that_is_behind_them() {
    let (second, other) = ("0000:00:02.1", "0000:02:00.0");
    let host = host(
        &[
            (PORT, port(1).multifunction()),
            (second, port(2).multifunction()),
            (CARD, Config::express(ENDPOINT)),
            (other, Config::express(ENDPOINT)),
        ],
        &[&[PORT, second, CARD, other]],
    );
    assert_eq!(
        causes(&host, 0),
        [
            joined(CauseKind::PortLacksAcs, PORT, &[PORT, CARD]),
            joined(CauseKind::PortLacksAcs, second, &[second, other]),
            joined(CauseKind::FunctionsShareSlot, PORT, &[PORT, second]),
        ]
    );
}

#[test]
fn every_port_on_the_way_that_lacks_acs_is_named() {
    let (up, down, deep) = ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0");
    let host = host(
        &[
            (PORT, Config::express(ROOT_PORT).buses(1, 3)),
            (up, Config::express(UPSTREAM_PORT).buses(2, 3)),
            (down, Config::express(DOWNSTREAM_PORT).buses(3, 3)),
            (deep, Config::express(ENDPOINT)),
        ],
        &[&[PORT, up, down, deep]],
    );
    assert_eq!(
        causes(&host, 0),
        [
            joined(CauseKind::PortLacksAcs, PORT, &[PORT, up, down, deep]),
            joined(CauseKind::PortLacksAcs, down, &[down, deep]),
        ]
    );
}

#[test]
fn behind_a_bridge_to_conventional_pci_all_share_its_group() {
    let (bridge, first, second) = ("0000:01:00.0", "0000:02:01.0", "0000:02:02.0");
    let host = host(
        &[
            (PORT, Config::express(ROOT_PORT).buses(1, 2).acs(0x1D, 0x1D)),
            (bridge, Config::express(BRIDGE_TO_PCI).buses(2, 2)),
            (first, Config::conventional()),
            (second, Config::conventional()),
        ],
        &[&[PORT], &[bridge, first, second]],
    );
    assert_eq!(causes(&host, 0), []);
    assert_eq!(causes(&host, 1), [joined(CauseKind::BridgeNoIsolation, bridge, &[bridge, first, second])]);
}

#[test]
fn functions_of_a_card_share_a_slot_and_functions_of_the_chipset_a_device() {
    let (second, lpc, sata) = ("0000:01:00.1", "0000:00:1f.0", "0000:00:1f.2");
    let host = host(
        &[
            (PORT, port(1).acs(0x1D, 0x1D)),
            (lpc, Config::conventional().multifunction()),
            (sata, Config::conventional()),
            (CARD, Config::express(ENDPOINT).multifunction()),
            (second, Config::express(ENDPOINT)),
        ],
        &[&[PORT], &[CARD, second], &[lpc, sata]],
    );
    assert_eq!(causes(&host, 1), [joined(CauseKind::FunctionsShareSlot, CARD, &[CARD, second])]);
    assert_eq!(causes(&host, 2), [joined(CauseKind::RootComplexIntegrated, lpc, &[lpc, sata])]);
}

#[test]
fn a_device_that_the_kernel_knows_better_is_kept_apart_by_a_quirk() {
    let (first, second) = ("0000:00:14.0", "0000:00:14.2");
    let host = host(
        &[
            (first, Config::express(ROOT_COMPLEX_ENDPOINT).multifunction()),
            (second, Config::express(ROOT_COMPLEX_ENDPOINT).multifunction()),
        ],
        &[&[first], &[second]],
    );
    for address in [first, second] {
        host.add(&[(&format!("{DEVICES}/{address}/vendor"), Entry::Text("0x8086"))]);
    }
    let [(kind, effect, function, members)] = &causes(&host, 0)[..] else { panic!("one cause") };
    assert_eq!((*kind, *effect), (CauseKind::Quirk, Effect::KeepsApart));
    assert_eq!((function.as_deref(), members), (Some(first), &vec![first.to_owned()]));
}

#[test]
fn an_override_that_the_log_tells_of_keeps_apart_on_paper_only() {
    let host = host(&[(PORT, port(1)), (CARD, Config::express(ENDPOINT))], &[&[PORT], &[CARD]]);
    host.add(&[("/proc/cmdline", Entry::Text("pcie_acs_override=downstream,multifunction"))]);
    host.answer_log(&[
        "Warning: PCIe ACS overrides enabled; This may allow non-IOMMU protected peer-to-peer DMA",
    ]);
    let [(kind, effect, function, _)] = &causes(&host, 1)[..] else { panic!("one cause") };
    assert_eq!((*kind, *effect, function.as_deref()), (CauseKind::Override, Effect::KeepsApart, Some(PORT)));
    // Without the message the groups themselves tell: the kernel did what it was asked.
    host.answer_log(&[]);
    assert_eq!(causes(&host, 1)[0].0, CauseKind::Override);
    // A kernel without the patch joins them, whatever stands on the command line.
    let plain = self::host(&[(PORT, port(1)), (CARD, Config::express(ENDPOINT))], &[&[PORT, CARD]]);
    plain.add(&[("/proc/cmdline", Entry::Text("pcie_acs_override=downstream"))]);
    assert_eq!(causes(&plain, 0), [joined(CauseKind::PortLacksAcs, PORT, &[PORT, CARD])]);
}

#[test]
fn what_nobody_could_read_is_unknown_and_not_without_acs() {
    let host = host(&[(PORT, port(1).acs(0x1D, 0)), (CARD, Config::express(ENDPOINT))], &[&[PORT, CARD]]);
    for (address, config) in [(PORT, port(1)), (CARD, Config::express(ENDPOINT))] {
        host.add(&[(&format!("{DEVICES}/{address}/config"), Entry::Bytes(&config.bytes()[..64]))]);
    }
    assert_eq!(causes(&host, 0), [joined(CauseKind::Unknown, PORT, &[PORT, CARD])]);
    assert!(facts(&host).group(0).unwrap().causes[0].summary.contains("as root more is known"));
}

#[test]
fn groups_that_the_registers_do_not_explain_are_unknown() {
    let functions = || [(PORT, port(1).acs(0x1D, 0x1D)), (CARD, Config::express(ENDPOINT))];
    let together = host(&functions(), &[&[PORT, CARD]]);
    let [(kind, effect, function, members)] = &causes(&together, 0)[..] else { panic!("one cause") };
    assert_eq!((*kind, *effect, function), (CauseKind::Unknown, Effect::Joins, &None));
    assert_eq!(members.len(), 2);
    let apart = host(&[(PORT, port(1)), (CARD, Config::express(ENDPOINT))], &[&[PORT], &[CARD]]);
    assert_eq!(causes(&apart, 1)[0].0, CauseKind::Unknown);
    assert_eq!(causes(&apart, 1)[0].1, Effect::KeepsApart);
}

#[test]
fn a_controller_that_uses_its_neighbours_requester_id_is_an_alias() {
    let second = "0000:01:00.1";
    let host = host(
        &[
            (PORT, port(1).acs(0x1D, 0x1D)),
            (CARD, Config::express(ENDPOINT).multifunction().acs(0, 0)),
            (second, Config::express(ENDPOINT).acs(0, 0)),
        ],
        &[&[PORT], &[CARD, second]],
    );
    host.add(&[
        (&format!("{DEVICES}/{CARD}/vendor"), Entry::Text("0x1b4b")),
        (&format!("{DEVICES}/{CARD}/device"), Entry::Text("0x9130")),
    ]);
    assert_eq!(causes(&host, 1), [joined(CauseKind::DmaAlias, CARD, &[CARD, second])]);
}

#[test]
fn behind_a_volume_management_device_all_use_its_requester_id() {
    let (vmd, port_behind, disk) = ("0000:00:0e.0", "10000:e0:06.0", "10000:e1:00.0");
    let host = host(
        &[
            (vmd, Config::express(ROOT_COMPLEX_ENDPOINT)),
            (port_behind, Config::express(ROOT_PORT).buses(0xE1, 0xE1).acs(0x1D, 0x1D)),
            (disk, Config::express(ENDPOINT)),
        ],
        &[&[vmd, port_behind, disk]],
    );
    host.add(&[(&format!("{DEVICES}/{vmd}/driver"), Entry::Link("../../../bus/pci/drivers/vmd"))]);
    assert_eq!(causes(&host, 0), [joined(CauseKind::DmaAlias, vmd, &[vmd, port_behind, disk])]);
}

#[test]
fn another_slot_is_judged_by_the_same_rules() {
    let (second, other, empty) = ("0000:00:02.1", "0000:02:00.0", "0000:00:03.0");
    let host = host(
        &[
            (PORT, port(1).multifunction().slot(1, true)),
            (second, port(2).multifunction().slot(2, true)),
            (empty, port(3).acs(0x1D, 0x1D).slot(3, false)),
            (CARD, Config::express(ENDPOINT)),
            (other, Config::express(ENDPOINT)),
        ],
        &[&[PORT, second, CARD, other], &[empty]],
    );
    let facts = facts(&host);
    let found = crate::host::iommu::prospects::prospects(&facts, CARD.parse().unwrap());
    let words: Vec<_> = found
        .iter()
        .map(|prospect| {
            let slot = prospect.slot.as_ref().map(|slot| (slot.number, slot.card_detected));
            (prospect.port.to_string(), slot, prospect.alone, prospect.neighbours.len())
        })
        .collect();
    assert_eq!(
        words,
        [
            (PORT.to_owned(), Some((1, true)), Some(false), 1),
            (second.to_owned(), Some((2, true)), Some(true), 0),
            (empty.to_owned(), Some((3, false)), Some(true), 0),
        ]
    );
}
