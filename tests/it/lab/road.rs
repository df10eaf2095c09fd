//! The road itself, as a user takes it, and what it says when a step does not hold.

use std::fs;

use serde_json::Value;
use thruway::rehearse::road::{Road, StepOutcome, rehearse};
use thruway::rehearse::{Hardware, Options};

use super::Lab;
use crate::support::PROGRAM;

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["data"]["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap()
}

#[test]
fn the_road_with_a_network_function_passes_and_says_so() {
    let Some(lab) = Lab::open() else { return };
    let _room = lab.room(&Hardware::load("vtd-igb").unwrap());

    let output = std::process::Command::new(PROGRAM)
        .args(["rehearse", "--format", "json", "--timeout", "400"])
        .output()
        .unwrap();

    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(output.status.code(), Some(0), "{report:#}\n{stderr}");
    assert_eq!(report["schema"], "thruway.rehearse");
    assert_eq!(report["data"]["passed"], true);
    let names: Vec<&str> = report["data"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["probe", "plan", "apply", "run", "guest", "undo", "verify"]);
    let differences = step(&report, "apply")["facts"]["differences"].to_string();
    for change in [
        "0000:01:00.0 sriov_numvfs: 0 -> 2",
        "0000:01:00.0 sriov_drivers_autoprobe: 1 -> 0",
        "0000:01:10.0 appeared: driver vfio-pci",
        "0000:01:10.2 appeared: driver none",
    ] {
        assert!(differences.contains(change), "{change}: {differences}");
    }
    let interfaces = step(&report, "guest")["facts"]["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 1, "the guest has no other NIC");
    let interface = &interfaces[0];
    assert_eq!(interface["driver"], "igbvf");
    assert_eq!((&interface["pings_sent"], &interface["pings_received"]), (&5.into(), &5.into()));
    assert!(interface["interrupts_after"].as_u64() > interface["interrupts_before"].as_u64());
    let counts = step(&report, "run")["facts"]["host_interrupts"].as_object().unwrap();
    assert!(counts.keys().all(|name| name.contains("0000:01:10.0")), "{counts:?}");
    assert!(counts.values().any(|count| count.as_u64() > Some(0)), "{counts:?}");
    assert_eq!(step(&report, "verify")["facts"]["differences"], serde_json::json!([]));
}

#[test]
fn the_road_with_a_disk_leaves_the_guests_bytes_in_the_image() {
    let Some(lab) = Lab::open() else { return };
    let road = Road {
        hardware_name: "vtd-igb".to_owned(),
        hardware: Hardware::load("vtd-igb").unwrap(),
        profile_name: "nvme.yaml".to_owned(),
        // As a file: what root acts on there is a copy of its own.
        profile_text: Some(fs::read_to_string("profiles/nvme.yaml").unwrap()),
    };
    let _room = lab.room(&road.hardware);

    let (report, outcome) = rehearse(&road, lab.assets(), lab.options(Options::default()), |_| {}).unwrap();

    assert!(report.passed, "{report:#?}");
    let image = fs::read(outcome.images.get("SCRATCH-ns1.img").unwrap()).unwrap();
    assert!(image[4096..8192].starts_with(b"thruway was here: nvme0n1\n"));
    assert!(image[..4096].iter().all(|byte| *byte == 0), "nothing else was written before it");
}

#[test]
fn without_an_iommu_the_road_ends_where_it_must_and_gives_everything_back() {
    let Some(lab) = Lab::open() else { return };
    let road = Road {
        hardware_name: "no-iommu".to_owned(),
        hardware: Hardware::load("no-iommu").unwrap(),
        profile_name: "sriov-nic".to_owned(),
        profile_text: None,
    };
    let _room = lab.room(&road.hardware);

    let (report, _outcome) = rehearse(&road, lab.assets(), lab.options(Options::default()), |_| {}).unwrap();

    assert!(!report.passed);
    let outcome = |name: &str| report.steps.iter().find(|step| step.name == name).unwrap().outcome;
    assert_eq!(outcome("probe"), StepOutcome::Passed);
    assert_eq!(outcome("guest"), StepOutcome::Skipped);
    // Refused by the plan, nothing was begun; failed in the middle, all of it was taken back.
    let gave_back = [("undo", StepOutcome::Failed), ("verify", StepOutcome::Failed)];
    assert!(gave_back.iter().all(|(name, failed)| outcome(name) != *failed), "{report:#?}");
}
