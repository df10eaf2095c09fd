//! KVM of an emulated host: measured by a guest in it, and what the doctor says of it.

use super::Lab;

#[test]
fn kvm_of_the_emulated_host_is_measured_as_hardware_and_passes() {
    let Some(lab) = Lab::open() else { return };

    // A failed check of the IOMMU, which is missing here, is an answer, too: status 1.
    let run = lab.run(
        "no-iommu",
        r#"
        thruway probe kvm --measure --format json >"$LAB_OUT/probe.json" || exit
        thruway doctor --for kvm --format json >"$LAB_OUT/doctor.json"; [ $? -le 1 ]
        "#,
    );

    run.succeeded();
    let probe = run.json("probe.json");
    let (kvm, verdict) = (&probe["data"]["kvm"], &probe["data"]["verdicts"]["kvm"]);
    let measured = &kvm["measured"];
    assert_eq!((&measured["backing"], &verdict["reason"]), (&"hardware".into(), &"ok".into()), "{kvm:#}");
    for rate in ["exits_per_second", "guest_instructions_per_second", "host_instructions_per_second"] {
        assert!(measured[rate].as_u64().unwrap() > 0, "{kvm:#}");
    }

    let doctor = run.json("doctor.json");
    let findings = doctor["data"]["findings"].as_array().unwrap();
    for (id, status) in [
        ("cpu-virtualization", "pass"),
        ("cpu-second-level-paging", "pass"),
        ("cpu-same-features", "pass"),
        ("kvm-usable", "pass"),
        ("kvm-hardware", "pass"),
        ("kvm-module", "pass"),
        ("kvm-permission", "pass"),
        ("kvm-alone", "pass"),
        ("kvm-nested", "pass"),
    ] {
        let finding = findings.iter().find(|finding| finding["id"] == id).unwrap();
        assert_eq!(finding["status"], status, "{finding:#}");
    }
}
