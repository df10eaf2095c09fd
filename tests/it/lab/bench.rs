//! `thruway bench` on a KVM with a processor behind it: each probe has its time, and whose times these are is told.

use super::Lab;

#[test]
fn every_probe_is_measured_on_hardware_and_said_to_be_nested() {
    let Some(lab) = Lab::open() else { return };

    let run = lab.run(
        "vtd-igb",
        "thruway bench interrupts --samples 100 --format json >\"$LAB_OUT/bench.json\"\n\
         thruway bench interrupts --samples 100 >\"$LAB_OUT/bench\"\n",
    );

    run.succeeded();
    let document = run.json("bench.json");
    let lines = document["data"]["measurements"].as_array().unwrap();
    assert_eq!(lines.len(), 30, "{document:#}");
    for line in lines {
        assert!(line["not_measured"].is_null(), "{line}");
        assert_eq!(line["samples"], 100, "{line}");
        assert!(line["median_ns"].as_u64().unwrap() > 0, "{line}");
        assert!(line["p99_ns"].as_u64() >= line["median_ns"].as_u64(), "{line}");
    }
    let of = |probe: &str| lines.iter().find(|line| line["probe"] == probe).unwrap()["median_ns"].as_u64();
    assert!(of("ioeventfd") < of("port-exit"), "the way to this process is longer: {document:#}");
    let table = run.file("bench");
    assert!(table.contains("message by irqfd, guest halted"), "{table}");
    assert!(table.contains("This host is a guest itself"), "{table}");
}
