//! One emulated host with many kinds of hardware, seen at one moment by `thruway` and by the programs that people ask today:
//! lspci, driverctl, lsusb, nvme and virt-host-validate.
//!
//! What these say is parsed ([`peers`]) and compared value by value. Where a peer says something else, the difference stands
//! in a table with its reason, and the test holds both sides to it.

mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{Lab, Run};
use crate::support::root;
use peers::{Function, UsbDevice};
use thruway::rehearse::Options;

/// What hardware files have no words for: a second NUMA node with a root bus of its own, and SCSI.
const FURTHER_HARDWARE: [&str; 9] = [
    "-object memory-backend-ram,id=m0,size=1G",
    "-object memory-backend-ram,id=m1,size=1G",
    "-numa node,nodeid=0,memdev=m0,cpus=0",
    "-numa node,nodeid=1,memdev=m1,cpus=1",
    "-device pxb-pcie,id=far,bus_nr=0x80,numa_node=1,bus=pcie.0,addr=8",
    "-device pcie-root-port,id=farport,bus=far,chassis=90,slot=90 -device nvme,serial=FAR,bus=farport",
    "-device virtio-scsi-pci,id=scsi,bus=pcie.0,addr=9,disable-legacy=on,iommu_platform=on",
    "-blockdev null-co,node-name=nothing,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=scsi.0,drive=nothing,vendor=LABVEND,product=LABDISK,serial=SCSI1",
];

/// The function on the second node.
const FAR: &str = "0000:81:00.0";

/// A peer that fails has something to say, too.
const SCRIPT: &str = r#"
modprobe -a virtio_scsi sd_mod sg
driverctl --nosave set-override 0000:03:00.0 vfio-pci
cd "$LAB_OUT"
lspci -D -nn -vvv >lspci
driverctl list-devices >driverctl
lsusb >lsusb
nvme list -o json >nvme.json
nvme list -v >nvme
virt-host-validate qemu >validate
cp /run/lab/bin/thruway /run/thruway
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
$nobody virt-host-validate qemu >validate-nobody
$nobody /run/thruway doctor --format json >doctor-nobody.json
thruway doctor --format json >doctor.json
thruway probe --format json >probe.json
"#;

pub(super) fn qemu_arguments() -> Vec<String> {
    FURTHER_HARDWARE.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect()
}

/// The moment; `None` where the lab cannot run.
fn moment() -> Option<&'static Run> {
    static RUN: OnceLock<Run> = OnceLock::new();
    let lab = Lab::open()?;
    let run = RUN.get_or_init(|| {
        let hardware = root().join("tests/it/lab/matrix/many-kinds.yaml");
        let options = Options { qemu_arguments: qemu_arguments(), ..Options::default() };
        lab.run_with(hardware.to_str().unwrap(), options, SCRIPT)
    });
    run.succeeded();
    Some(run)
}

fn data(run: &Run) -> Value {
    run.json("probe.json")["data"].take()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|number| number.try_into().unwrap())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Our functions in the shape of lspci's.
fn ours(data: &Value) -> BTreeMap<String, Function> {
    let function = |device: &Value| {
        let capabilities =
            array(&device["capabilities"]).iter().chain(array(&device["extended_capabilities"]));
        let function = Function {
            class: number(&device["class"]).unwrap() >> 8,
            vendor: number(&device["vendor_id"]).unwrap(),
            device: number(&device["device_id"]).unwrap(),
            revision: number(&device["revision"]).unwrap(),
            // The kernel tells zeros where there are none, as for a bridge; lspci then says nothing.
            subsystem: number(&device["subsystem_vendor_id"])
                .zip(number(&device["subsystem_device_id"]))
                .filter(|ids| *ids != (0, 0)),
            numa_node: number(&device["numa_node"]),
            iommu_group: number(&device["iommu_group"]),
            driver: text(&device["driver"]),
            capabilities: capabilities
                .map(|capability| {
                    (number(&capability["offset"]).unwrap(), text(&capability["name"]).unwrap())
                })
                .collect(),
        };
        (text(&device["address"]).unwrap(), function)
    };
    array(&data["pci"]["devices"]).iter().map(function).collect()
}

#[test]
fn lspci_sees_the_same_functions() {
    let Some(run) = moment() else { return };

    let (ours, theirs) = (ours(&data(run)), peers::lspci(&run.file("lspci")));

    assert!(theirs.len() >= 20, "{theirs:#?}");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (address, theirs) in theirs {
        assert_eq!(ours[&address], theirs, "{address}: ours, and lspci's");
    }
}

#[test]
fn driverctl_sees_the_same_drivers() {
    let Some(run) = moment() else { return };

    let ours: BTreeMap<_, _> = array(&data(run)["pci"]["devices"])
        .iter()
        .map(|device| {
            let overridden = device["driver_override"].is_string();
            (text(&device["address"]).unwrap(), (text(&device["driver"]), overridden))
        })
        .collect();

    assert_eq!(ours, peers::driverctl(&run.file("driverctl")));
    assert_eq!(ours["0000:03:00.0"], (Some("vfio-pci".to_owned()), true));
}

#[test]
fn lsusb_sees_the_same_devices() {
    let Some(run) = moment() else { return };

    let ours: BTreeSet<_> = array(&data(run)["usb"]["devices"])
        .iter()
        .map(|device| UsbDevice {
            bus: number(&device["bus"]).unwrap(),
            device: number(&device["device_number"]).unwrap(),
            vendor: number(&device["vendor_id"]).unwrap(),
            product: number(&device["product_id"]).unwrap(),
        })
        .collect();

    assert_eq!(ours, peers::lsusb(&run.file("lsusb")));
    assert_eq!(ours.len(), 4, "two root hubs, a disk and a keyboard");
}

#[test]
fn nvme_sees_the_same_controllers_and_namespaces() {
    let Some(run) = moment() else { return };

    let theirs = peers::nvme(&run.file("nvme"), &run.json("nvme.json"));

    let ours: BTreeMap<_, _> = array(&data(run)["pci"]["devices"])
        .iter()
        .filter(|device| device["driver"] == "nvme")
        .map(|device| {
            let disks = array(&device["usage"]["disks"]).iter();
            let namespaces =
                disks.map(|disk| (text(&disk["name"]).unwrap(), disk["size_bytes"].as_u64().unwrap()));
            (text(&device["address"]).unwrap(), namespaces.collect::<BTreeMap<_, _>>())
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.values().map(BTreeMap::len).collect::<Vec<_>>(), [2, 0]);
}

/// Where our answer to a question of virt-host-validate stands.
enum Ours {
    /// `usable` and `reason` of a verdict.
    Verdict(&'static str, Value),
    /// The status of a check.
    Finding(&'static str, &'static str),
    /// We do not ask that.
    NotAsked,
}

/// A question of virt-host-validate, its answer, ours, and why they differ if they do.
type Row = (&'static str, &'static str, Ours, &'static str);

const LIBVIRTS_OWN: &str = "libvirt puts guests into control groups of its own; whether they are there says nothing about the host's abilities";

fn as_root() -> Vec<Row> {
    let usable = || Ours::Verdict("kvm", json!([true, "ok"]));
    let mut rows = vec![
        ("for hardware virtualization", "PASS", usable(), ""),
        ("if device /dev/kvm exists", "PASS", usable(), ""),
        ("if device /dev/kvm is accessible", "PASS", usable(), ""),
        ("if device /dev/vhost-net exists", "PASS", Ours::NotAsked, "no network of ours needs it"),
        (
            "if device /dev/net/tun exists",
            "PASS",
            Ours::NotAsked,
            "`thruway run` says it when a guest needs one",
        ),
        (
            "for device assignment IOMMU support",
            "WARN",
            Ours::Verdict("iommu", json!([true, "ok"])),
            "false: it looks for the table of the CPU's vendor, told by the flag `svm`, and not for units that run",
        ),
        (
            "for secure guest support",
            "WARN",
            Ours::NotAsked,
            "memory encryption of guests is not among the things that this tool sets up",
        ),
    ];
    rows.extend(cgroups("PASS"));
    rows
}

fn as_nobody() -> Vec<Row> {
    let denied = || Ours::Verdict("kvm", json!([null, "no_permission"]));
    let mut rows = vec![
        (
            "for hardware virtualization",
            "PASS",
            denied(),
            "it reads the flag in /proc/cpuinfo; we open /dev/kvm and may not, so nobody knows whether it is usable",
        ),
        ("if device /dev/kvm exists", "PASS", denied(), "as before"),
        (
            "if device /dev/kvm is accessible",
            "FAIL",
            denied(),
            "the same, in other words: unknown, for want of permission",
        ),
        ("if device /dev/vhost-net exists", "PASS", Ours::NotAsked, "as before"),
        ("if device /dev/net/tun exists", "PASS", Ours::NotAsked, "as before"),
        (
            "for device assignment IOMMU support",
            "WARN",
            Ours::Finding("iommu-running", "pass"),
            "as before; that units run can be read by all",
        ),
        ("for secure guest support", "WARN", Ours::NotAsked, "as before"),
    ];
    // It asks by loading a program, which nobody may.
    rows.extend(cgroups("WARN"));
    rows
}

fn cgroups(devices: &'static str) -> impl Iterator<Item = Row> {
    [
        ("for cgroup 'cpu' controller support", "PASS"),
        ("for cgroup 'cpuacct' controller support", "PASS"),
        ("for cgroup 'cpuset' controller support", "PASS"),
        ("for cgroup 'memory' controller support", "PASS"),
        ("for cgroup 'devices' controller support", devices),
        ("for cgroup 'blkio' controller support", "PASS"),
    ]
    .map(|(question, answer)| (question, answer, Ours::NotAsked, LIBVIRTS_OWN))
    .into_iter()
}

fn compare(theirs: &str, doctor: &Value, rows: Vec<Row>) {
    let expected: BTreeMap<_, _> = rows.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
    assert_eq!(peers::validate(theirs), expected, "{theirs}");
    for (question, answer, ours, why) in rows {
        let agrees = match &ours {
            Ours::Verdict(area, expected) => {
                let verdict = &doctor["data"]["verdicts"][area];
                assert_eq!(json!([verdict["usable"], verdict["reason"]]), *expected, "{question}");
                expected[0] == (answer == "PASS") && expected[0].is_boolean()
            }
            Ours::Finding(id, expected) => {
                let findings = array(&doctor["data"]["findings"]);
                let finding = findings.iter().find(|finding| finding["id"] == *id).unwrap();
                assert_eq!(finding["status"], *expected, "{question}: {finding:#}");
                *expected == answer.to_lowercase()
            }
            Ours::NotAsked => false,
        };
        assert_eq!(agrees, why.is_empty(), "{question}: a difference has its reason, and agreement has none");
    }
}

#[test]
fn virt_host_validate_says_the_same_or_why_not_is_known() {
    let Some(run) = moment() else { return };

    compare(&run.file("validate"), &run.json("doctor.json"), as_root());
    compare(&run.file("validate-nobody"), &run.json("doctor-nobody.json"), as_nobody());
}

#[test]
fn numa_nodes_and_their_functions_are_told() {
    let Some(run) = moment() else { return };

    let data = data(run);
    let node = |address: &str| {
        let devices = array(&data["pci"]["devices"]);
        number(&devices.iter().find(|device| device["address"] == address).unwrap()["numa_node"])
    };
    assert_eq!((node("0000:80:00.0"), node(FAR)), (Some(1), Some(1)));
    let doctor = run.json("doctor.json");
    assert_eq!(doctor["data"]["verdicts"]["iommu"]["reason"], "ok");
    let findings = array(&doctor["data"]["findings"]);
    let status = |id: &str| &findings.iter().find(|finding| finding["id"] == id).unwrap()["status"];
    // Firmware tells the node of what is on the second root bus only; a bound function's memory must not wander.
    assert_eq!(["pci-numa-nodes", "performance-numa-balancing"].map(status), ["warn", "warn"]);
}
