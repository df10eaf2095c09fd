//! A host whose devices are in use and offer virtual functions, at one moment: what the doctor says that the host would
//! lose; the same host seen by nobody, and from a container; a file that does not answer; and its capture.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{Lab, NEVER_TOLD, Run};
use crate::support::{program, root, run};

const DISK: &str = "0000:03:00.0";
const NETWORK_CARD: &str = "0000:04:00.0";

const SCRIPT: &str = r#"
set -e
controller=$(grep -l PLAIN /sys/class/nvme/*/serial)
controller=${controller%/serial}
mke2fs -q -t ext4 /dev/${controller##*/}n1
mkdir /run/data
mount /dev/${controller##*/}n1 /run/data
set +e
cd "$LAB_OUT"
thruway doctor --for sriov --format json >sriov.json
thruway doctor --for 0000:03:00.0 --format json >disk.json
thruway doctor --for 0000:04:00.0 --format json >card.json
thruway doctor --format json >doctor.json
thruway probe --format json >probe.json
thruway capture --no-redact -o whole.tar.gz
thruway capture -o redacted.tar.gz
chmod 644 *.tar.gz

cp /run/lab/bin/thruway /run/thruway
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups /run/thruway"
$nobody doctor --format json >nobody.json
$nobody probe --format json >nobody-probe.json

unshare --mount sh -c '
    mount -t tmpfs none /sys/firmware
    mount -t tmpfs none /dev
    mknod -m 666 /dev/null c 1 3
    thruway doctor --format json >container.json
    thruway probe --format json >container-probe.json
'
unshare --mount sh -c '
    mkfifo /run/silent
    mount --bind /run/silent /sys/bus/pci/devices/0000:04:00.0/vendor
    timeout 60 thruway probe --format json >silent.json
    echo "silent $?"
'
"#;

/// The moment; `None` where the lab cannot run.
fn moment() -> Option<&'static Run> {
    static RUN: OnceLock<Run> = OnceLock::new();
    let lab = Lab::open()?;
    let hardware = root().join("tests/it/lab/matrix/in-use.yaml");
    let run = RUN.get_or_init(|| lab.run(hardware.to_str().unwrap(), SCRIPT));
    run.succeeded();
    Some(run)
}

fn verdict(document: &Value, of: &str) -> Value {
    let verdict = &document["data"]["verdicts"][of];
    json!([verdict["usable"], verdict["reason"]])
}

/// `[id, status]` of each finding.
fn statuses(document: &Value) -> Vec<[&str; 2]> {
    let findings = document["data"]["findings"].as_array().unwrap();
    findings.iter().map(|finding| ["id", "status"].map(|key| finding[key].as_str().unwrap())).collect()
}

fn status<'a>(document: &'a Value, id: &str) -> &'a str {
    statuses(document)
        .into_iter()
        .find(|finding| finding[0] == id)
        .unwrap_or_else(|| panic!("no finding {id}"))[1]
}

/// What of `document` could not be read, by pointer; each must be null there.
fn unread(document: &Value) -> Vec<&str> {
    let entries = document["data"]["unread"].as_array().unwrap();
    let pointers: Vec<_> = entries.iter().map(|entry| entry["pointer"].as_str().unwrap()).collect();
    for pointer in &pointers {
        assert_eq!(document.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    pointers
}

#[test]
fn both_devices_with_sriov_offer_virtual_functions() {
    let Some(run) = moment() else { return };

    let doctor = run.json("sriov.json");

    for id in ["iommu-running", "sriov-offered", "sriov-driver", "sriov-autoprobe"] {
        assert_eq!(status(&doctor, id), "pass", "{id}");
    }
    let offered = doctor["data"]["findings"].as_array().unwrap();
    let offered = offered.iter().find(|finding| finding["id"] == "sriov-offered").unwrap();
    let summary = offered["summary"].as_str().unwrap();
    assert!(summary.contains("0000:01:00.0") && summary.contains("0000:02:00.0"), "{summary}");
}

#[test]
fn a_mounted_file_system_is_what_the_host_loses_with_its_disk() {
    let Some(run) = moment() else { return };

    let assignment = &run.json("disk.json")["data"]["assignment"];

    assert_eq!((&assignment["address"], &assignment["possible"]), (&json!(DISK), &json!(true)));
    let loss = &assignment["losses"][0];
    assert_eq!((&loss["kind"], &loss["in_use"]), (&json!("disk"), &json!(true)), "{loss:#}");
    assert!(loss["text"].as_str().unwrap().contains("/run/data"), "{loss:#}");
}

#[test]
fn the_default_route_is_what_the_host_loses_with_its_network_card() {
    let Some(run) = moment() else { return };

    let assignment = &run.json("card.json")["data"]["assignment"];

    assert_eq!((&assignment["address"], &assignment["possible"]), (&json!(NETWORK_CARD), &json!(true)));
    let loss = &assignment["losses"][0];
    assert_eq!((&loss["kind"], &loss["in_use"]), (&json!("network_interface"), &json!(true)), "{loss:#}");
    assert!(loss["text"].as_str().unwrap().contains("the default route"), "{loss:#}");
}

#[test]
fn nobody_is_told_what_everybody_may_know_and_that_the_rest_is_unknown() {
    let Some(run) = moment() else { return };

    let doctor = run.json("nobody.json");

    assert_eq!(verdict(&doctor, "kvm"), json!([null, "no_permission"]));
    assert_eq!(verdict(&doctor, "iommu"), json!([true, "ok"]));
    assert_eq!(status(&doctor, "iommu-faults"), "unknown");
    assert_eq!(status(&doctor, "iommu-x2apic-opt-out"), "unknown");
    nothing_is_better_or_fails(&doctor, &run.json("doctor.json"));
    let probe = run.json("nobody-probe.json");
    let unread = unread(&probe);
    for pointer in ["/data/kvm/usable", "/data/firmware/dmar", "/data/kernel_log"] {
        assert!(unread.contains(&pointer), "{pointer}");
    }
    let devices = probe["data"]["pci"]["devices"].as_array().unwrap();
    let position = devices.iter().position(|device| device["address"] == "0000:01:00.0").unwrap();
    let hidden = format!("/data/pci/devices/{position}/extended_capabilities");
    assert!(unread.contains(&hidden.as_str()), "64 bytes of configuration space say nothing of capabilities");
    assert_eq!(devices[position]["sriov"]["total_vfs"], 7, "sysfs tells it to all");
}

#[test]
fn a_container_hides_and_takes_nothing_away() {
    let Some(run) = moment() else { return };

    let doctor = run.json("container.json");

    assert_eq!(verdict(&doctor, "iommu"), json!([true, "ok"]));
    assert_eq!(doctor["data"]["verdicts"]["kvm"]["usable"], false, "there is no /dev/kvm to open");
    assert_eq!(status(&doctor, "iommu-x2apic-opt-out"), "unknown");
    let probe = run.json("container-probe.json");
    let unread = unread(&probe);
    for pointer in ["/data/firmware/boot_mode", "/data/firmware/acpi_tables", "/data/iommu/acpi_tables"] {
        assert!(unread.contains(&pointer), "{pointer}");
    }
}

/// Whoever sees less passes no check that whoever sees more does not, and fails none.
fn nothing_is_better_or_fails(less: &Value, more: &Value) {
    for [id, found] in statuses(less) {
        let passes = found == "pass" && status(more, id) != "pass";
        let fails = found == "fail" && status(more, id) != "fail";
        assert!(!passes && !fails, "{id} is {found} and was {}", status(more, id));
    }
}

#[test]
fn a_file_that_does_not_answer_is_unread_and_the_rest_is_told() {
    let Some(run) = moment() else { return };

    let (silent, probe) = (run.json("silent.json"), run.json("probe.json"));

    assert!(run.stdout().contains("silent 0"), "{}", run.stdout());
    let devices = |probe: &Value| probe["data"]["pci"]["devices"].as_array().unwrap().clone();
    let position = devices(&silent).iter().position(|device| device["address"] == NETWORK_CARD).unwrap();
    let silent_file = format!("/data/pci/devices/{position}/vendor_id");
    assert_eq!(unread(&silent), [NEVER_TOLD, &silent_file]);
    assert_eq!(devices(&silent).len(), devices(&probe).len());
}

/// The diagnosis without how much memory was left, which was another amount when the capture was made.
fn without_moments(mut doctor: Value) -> Value {
    for finding in doctor["data"]["findings"].as_array_mut().unwrap() {
        if finding["id"] == "memory-swap" {
            finding["evidence"] = Value::Null;
        }
    }
    doctor["data"].take()
}

#[test]
fn its_capture_replays_what_it_said_and_redaction_changes_no_finding() {
    let Some(live) = moment() else { return };

    let replayed = |name: &str| -> Value {
        let file = live.outcome.files().join(name);
        let replay = run(program().args(["doctor", "--format", "json", "--root"]).arg(file), b"");
        assert_eq!(replay.stderr, "");
        serde_json::from_str(&replay.stdout).unwrap()
    };
    let (told, whole) = (live.json("doctor.json"), replayed("whole.tar.gz"));
    assert_eq!(without_moments(whole), without_moments(told.clone()));
    let redacted = replayed("redacted.tar.gz");
    assert_eq!(statuses(&redacted), statuses(&told));
    assert_eq!(redacted["data"]["verdicts"], told["data"]["verdicts"]);
}
