//! Each built-in hardware is booted and asserted: what its file says is what its kernel says, read from sysfs, and what
//! `thruway probe` says about it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Lab, NEVER_TOLD, Run};

/// What a kernel says about its IOMMU, in lines, and what the inspector says.
const SURVEY: &str = r#"
for unit in /sys/class/iommu/*; do [ ! -e "$unit" ] || echo "unit ${unit##*/}"; done
for group in /sys/kernel/iommu_groups/*; do
    [ ! -e "$group" ] || echo "group $(ls "$group/devices" | tr '\n' ' ')"
done
echo "remapped $(grep -c ' IR-' /proc/interrupts)"
for device in /sys/bus/pci/devices/*; do
    driver=$(readlink "$device/driver") || driver=/none
    total=$(cat "$device/sriov_totalvfs" 2>/dev/null) || total=0
    echo "device ${device##*/} $(cat "$device/vendor"):$(cat "$device/device") ${driver##*/} $total"
done
echo "kvm $(test -c /dev/kvm && echo yes || echo no)"
echo "route $(ip route show default)"
thruway probe --format json >"$LAB_OUT/probe.json"
"#;

/// The lab's own group and functions, which every hardware has.
const OWN: &str = "0000:00:1e.";

struct Survey {
    run: Run,
    text: String,
}

impl Survey {
    fn of(lab: &Lab, hardware: &str) -> Self {
        let run = lab.run(hardware, SURVEY);
        run.succeeded();
        let text = run.stdout();
        Self { run, text }
    }

    fn lines(&self, key: &str) -> Vec<&str> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .map(str::trim)
            .collect()
    }

    /// Groups as sets of functions, without the lab's own.
    fn groups(&self) -> BTreeSet<BTreeSet<&str>> {
        self.lines("group")
            .into_iter()
            .filter(|group| !group.contains(OWN))
            .map(|group| group.split_whitespace().collect())
            .collect()
    }

    fn group_of(&self, address: &str) -> BTreeSet<&str> {
        self.groups().into_iter().find(|group| group.contains(address)).unwrap_or_default()
    }

    fn interrupts_are_remapped(&self) -> bool {
        self.lines("remapped") != ["0"]
    }

    /// `VENDOR:DEVICE DRIVER TOTAL_VFS` of a function.
    fn device(&self, address: &str) -> &str {
        self.lines("device")
            .into_iter()
            .find_map(|line| line.strip_prefix(address))
            .unwrap_or_default()
            .trim()
    }

    fn probe(&self) -> Value {
        self.run.json("probe.json")
    }

    /// The inspector and the kernel's own files must tell one story.
    fn probe_agrees(&self) {
        let probe = self.probe();
        let data = &probe["data"];
        assert_eq!(probe["schema_version"], 1);
        let units: Vec<&str> = data["iommu"]["units"]
            .as_array()
            .unwrap()
            .iter()
            .map(|unit| unit["name"].as_str().unwrap())
            .collect();
        assert_eq!(units, self.lines("unit"), "units");
        assert_eq!(
            data["iommu"]["interrupt_remapping"],
            self.interrupts_are_remapped(),
            "interrupt remapping"
        );
        let groups: BTreeSet<BTreeSet<&str>> = data["iommu"]["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["devices"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect())
            .filter(|group: &BTreeSet<&str>| !group.iter().any(|address| address.starts_with(OWN)))
            .collect();
        assert_eq!(groups, self.groups(), "groups");
        let devices: Vec<String> = data["pci"]["devices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|device| {
                format!(
                    "{} {:#06x}:{:#06x} {} {}",
                    device["address"].as_str().unwrap(),
                    device["vendor_id"].as_u64().unwrap(),
                    device["device_id"].as_u64().unwrap(),
                    device["driver"].as_str().unwrap_or("none"),
                    device["sriov"]["total_vfs"].as_u64().unwrap_or(0)
                )
            })
            .collect();
        assert_eq!(devices, self.lines("device"), "devices");
        assert_eq!(data["kvm"]["usable"], true);
        assert_eq!(data["kvm"]["backing"], "hardware");
        let unread: Vec<_> = data["unread"].as_array().unwrap().iter().map(|one| &one["pointer"]).collect();
        assert_eq!(unread, [NEVER_TOLD], "all else can be read here");
    }
}

fn set<const N: usize>(addresses: [&'static str; N]) -> BTreeSet<&'static str> {
    addresses.into_iter().collect()
}

#[test]
fn vtd_igb_isolates_each_device_and_remaps_interrupts() {
    let Some(lab) = Lab::open() else { return };

    let survey = Survey::of(lab, "vtd-igb");

    assert_eq!(survey.lines("unit"), ["dmar0"]);
    assert!(survey.interrupts_are_remapped());
    for address in ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"] {
        assert_eq!(survey.group_of(address), set([address]), "{}", survey.text);
    }
    assert_eq!(survey.device("0000:01:00.0"), "0x8086:0x10c9 igb 7");
    assert_eq!(survey.device("0000:02:00.0"), "0x1b36:0x0010 nvme 0");
    assert_eq!(survey.device("0000:03:00.0"), "0x8086:0x10d3 e1000e 0");
    assert_eq!(survey.lines("kvm"), ["yes"]);
    assert!(survey.lines("route").concat().starts_with("default via 10.0.3.2"), "{}", survey.text);
    survey.probe_agrees();
    let probe = survey.probe();
    assert_eq!(probe["data"]["cpu"]["virtualization"]["extension"], "svm");
    assert_eq!(probe["data"]["iommu"]["acpi_tables"], serde_json::json!(["DMAR"]));
}

#[test]
fn vtd_nvme_offers_four_virtual_functions() {
    let Some(lab) = Lab::open() else { return };

    let survey = Survey::of(lab, "vtd-nvme");

    assert_eq!(survey.device("0000:01:00.0"), "0x1b36:0x0010 nvme 4");
    assert_eq!(survey.device("0000:02:00.0"), "0x1b36:0x0010 nvme 0");
    assert_eq!(survey.group_of("0000:01:00.0"), set(["0000:01:00.0"]));
    assert!(survey.interrupts_are_remapped());
    survey.probe_agrees();
}

#[test]
fn amdvi_is_told_from_vtd() {
    let Some(lab) = Lab::open() else { return };

    let survey = Survey::of(lab, "amdvi");

    assert_eq!(survey.lines("unit"), ["ivhd0"]);
    assert!(survey.interrupts_are_remapped());
    assert_eq!(survey.group_of("0000:01:00.0"), set(["0000:01:00.0"]));
    assert_eq!(survey.device("0000:01:00.0"), "0x8086:0x10c9 igb 7");
    assert_eq!(survey.device("0000:02:00.0"), "0x1b36:0x000d xhci_hcd 0");
    survey.probe_agrees();
    assert_eq!(survey.probe()["data"]["iommu"]["acpi_tables"], serde_json::json!(["IVRS"]));
}

#[test]
fn no_iommu_means_no_groups_and_no_remapping() {
    let Some(lab) = Lab::open() else { return };

    let survey = Survey::of(lab, "no-iommu");

    assert_eq!(survey.lines("unit"), [""; 0]);
    assert_eq!(survey.lines("group"), [""; 0]);
    assert!(!survey.interrupts_are_remapped());
    assert_eq!(survey.device("0000:01:00.0"), "0x8086:0x10c9 igb 7");
    survey.probe_agrees();
    assert_eq!(survey.probe()["data"]["iommu"]["dma_remapping"], false);
}

#[test]
fn shared_group_holds_unrelated_endpoints_together() {
    let Some(lab) = Lab::open() else { return };

    let survey = Survey::of(lab, "shared-group");

    let shared =
        set(["0000:00:02.0", "0000:00:02.1", "0000:00:02.2", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]);
    assert_eq!(survey.group_of("0000:01:00.0"), shared, "{}", survey.text);
    assert_eq!(survey.group_of("0000:04:00.0"), set(["0000:00:03.0", "0000:04:00.0"]));
    assert_eq!(survey.group_of("0000:06:01.0"), set(["0000:05:00.0", "0000:06:01.0", "0000:06:02.0"]));
    survey.probe_agrees();
    let probe = survey.probe();
    let group = probe["data"]["iommu"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["devices"].as_array().unwrap().contains(&"0000:01:00.0".into()))
        .unwrap();
    assert_eq!(group["viable"], false);
}
