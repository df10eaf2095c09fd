//! Emulated hosts, one for each way in which virtualization or the IOMMU can be there or not: what the doctor says of each,
//! by the verdicts and by the status of its checks.
//!
//! The hardware is in `matrix/NAME.yaml`. Each boots once and runs the doctor, nothing else: one processor is enough.

use serde_json::{Value, json};

use super::Lab;
use crate::support::root;

/// What the doctor said of the host `name`; `None` where the lab cannot run.
fn doctor(name: &str) -> Option<Doctor> {
    let lab = Lab::open()?;
    let hardware = root().join(format!("tests/it/lab/matrix/{name}.yaml"));
    // A failed check is an answer, too: status 1.
    let script = "thruway doctor --format json >\"$LAB_OUT/doctor.json\"; [ $? -le 1 ]";
    let run = lab.run(hardware.to_str().unwrap(), script);
    run.succeeded();
    Some(Doctor(run.json("doctor.json")))
}

struct Doctor(Value);

impl Doctor {
    /// `usable` and `reason` of a verdict.
    fn verdict(&self, of: &str) -> Value {
        let verdict = &self.0["data"]["verdicts"][of];
        json!([verdict["usable"], verdict["reason"]])
    }

    /// The finding of check `id`.
    fn finding(&self, id: &str) -> &Value {
        let findings = self.0["data"]["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no finding {id}"))
    }

    fn assert_statuses(&self, expected: &[(&str, &str)]) {
        for (id, status) in expected {
            let finding = self.finding(id);
            assert_eq!(finding["status"], *status, "{finding:#}");
        }
    }
}

#[test]
fn vtd_that_runs_passes() {
    let Some(doctor) = doctor("vtd-on") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([true, "ok"]));
    assert_eq!(doctor.verdict("kvm"), json!([true, "ok"]));
    doctor.assert_statuses(&[
        ("iommu-running", "pass"),
        ("iommu-dma-translation", "pass"),
        ("iommu-groups", "pass"),
        ("iommu-arguments", "pass"),
        ("iommu-interrupt-remapping", "pass"),
        ("iommu-unsafe-interrupts", "pass"),
        ("iommu-default-domain", "pass"),
        ("iommu-lazy-invalidation", "pass"),
        ("iommu-address-width", "pass"),
        ("iommu-x2apic-opt-out", "pass"),
        ("iommu-direct-regions", "pass"),
        ("iommu-no-iommu-mode", "pass"),
        ("iommu-faults", "pass"),
        // The emulated unit can neither.
        ("iommu-posted-interrupts", "warn"),
        ("iommu-snoop-control", "warn"),
    ]);
}

#[test]
fn vtd_that_an_argument_switches_off_is_off_in_the_kernel() {
    let Some(doctor) = doctor("vtd-off-in-kernel") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([false, "off_in_kernel"]));
    doctor.assert_statuses(&[("iommu-running", "fail"), ("iommu-interrupt-remapping", "not_applicable")]);
    let remedy = &doctor.finding("iommu-running")["remedy"][0];
    assert_eq!((&remedy["kind"], &remedy["reboot"]), (&json!("kernel_argument"), &json!(true)), "{remedy:#}");
}

#[test]
fn without_an_iommu_in_a_virtual_machine_it_is_hidden() {
    let Some(doctor) = doctor("none") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([false, "hidden_by_hypervisor"]));
    doctor.assert_statuses(&[("iommu-running", "fail"), ("iommu-dma-translation", "not_applicable")]);
}

#[test]
fn vtd_without_interrupt_remapping_runs_and_hands_nothing_out() {
    let Some(doctor) = doctor("vtd-no-interrupt-remapping") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([true, "ok"]));
    doctor.assert_statuses(&[("iommu-running", "pass"), ("iommu-interrupt-remapping", "fail")]);
    let evidence = doctor.finding("iommu-interrupt-remapping")["evidence"].to_string();
    assert!(evidence.contains("bit 3 is clear"), "{evidence}");
}

#[test]
fn vtd_that_cannot_translate_is_not_in_hardware() {
    let Some(doctor) = doctor("vtd-no-dma-translation") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([false, "not_in_hardware"]));
    doctor.assert_statuses(&[
        ("iommu-running", "fail"),
        ("iommu-dma-translation", "fail"),
        ("iommu-arguments", "warn"),
    ]);
}

#[test]
fn amdvi_that_runs_passes_and_confines_no_device_of_the_host_under_pt() {
    let Some(doctor) = doctor("amdvi-on") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([true, "ok"]));
    doctor.assert_statuses(&[
        ("iommu-running", "pass"),
        ("iommu-interrupt-remapping", "pass"),
        ("iommu-snoop-control", "pass"),
        ("iommu-x2apic-opt-out", "not_applicable"),
        ("iommu-default-domain", "warn"),
    ]);
}

#[test]
fn amdvi_that_an_argument_switches_off_is_off_in_the_kernel() {
    let Some(doctor) = doctor("amdvi-off-in-kernel") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([false, "off_in_kernel"]));
    doctor.assert_statuses(&[("iommu-running", "fail")]);
}

#[test]
fn virtio_iommu_translates_and_remaps_no_interrupts() {
    let Some(doctor) = doctor("virtio") else { return };

    assert_eq!(doctor.verdict("iommu"), json!([true, "ok"]));
    doctor.assert_statuses(&[
        ("iommu-running", "pass"),
        ("iommu-interrupt-remapping", "fail"),
        // Devices without a driver are not behind it.
        ("iommu-groups", "warn"),
    ]);
}

#[test]
fn a_processor_without_svm_cannot_run_guests() {
    let Some(doctor) = doctor("svm-off") else { return };

    // A hypervisor is present, so nobody can say whether the silicon has it.
    assert_eq!(doctor.verdict("kvm"), json!([false, "hidden_by_hypervisor"]));
    doctor.assert_statuses(&[
        ("cpu-virtualization", "fail"),
        ("cpu-second-level-paging", "not_applicable"),
        ("kvm-usable", "fail"),
        ("kvm-module", "not_applicable"),
    ]);
}

#[test]
fn a_processor_without_nested_paging_runs_guests() {
    let Some(doctor) = doctor("npt-off") else { return };

    assert_eq!(doctor.verdict("kvm"), json!([true, "ok"]));
    doctor.assert_statuses(&[
        ("cpu-virtualization", "pass"),
        ("cpu-second-level-paging", "warn"),
        ("kvm-usable", "pass"),
        ("kvm-second-level-paging", "not_applicable"),
    ]);
}

#[test]
fn memory_that_firmware_reserves_for_a_device_keeps_it_on_the_host() {
    let Some(lab) = Lab::open() else { return };
    let hardware = root().join("tests/it/lab/matrix/vtd-reserved-memory.yaml");
    let script = r#"
        thruway doctor --format json >"$LAB_OUT/doctor.json"
        thruway doctor --for 0000:01:00.0 --format json >"$LAB_OUT/for.json"; echo "for $?"
        thruway probe firmware --format json >"$LAB_OUT/probe.json"
        thruway bind 0000:01:00.0 --yes 2>"$LAB_OUT/bind"; echo "bind $?"
        # What the kernel says, if one does it all the same.
        thruway bind 0000:01:00.0 --yes --allow 0000:01:00.0 2>&1
        readlink /sys/bus/pci/devices/0000:01:00.0/driver
        thruway run --kernel $LAB_KERNEL_VMLINUX --initrd $LAB_GUEST_INITRD --memory 256MiB --vfio 0000:01:00.0 \
            </dev/null 2>"$LAB_OUT/run"; echo "run $?"
        dmesg >"$LAB_OUT/log"
    "#;

    let run = lab.run(hardware.to_str().unwrap(), script);
    run.succeeded();

    let doctor = Doctor(run.json("doctor.json"));
    assert_eq!(doctor.verdict("iommu"), json!([true, "ok"]));
    doctor.assert_statuses(&[("iommu-running", "pass"), ("iommu-direct-regions", "warn")]);
    let function = Doctor(run.json("for.json"));
    function.assert_statuses(&[("iommu-function-direct-region", "fail")]);
    assert_eq!(function.0["data"]["assignment"]["possible"], false);
    let memory = &run.json("probe.json")["data"]["firmware"]["dmar"]["reserved_memory"][0];
    assert_eq!(
        (&memory["base"], &memory["limit"], &memory["scopes"][0]["address"]),
        (&json!(0xF_0000), &json!(0xF_FFFF), &json!("0000:01:00.0"))
    );
    let said = run.stdout();
    let code = |of: &str| said.lines().find_map(|line| line.strip_prefix(of)).map(str::trim);
    assert_eq!((code("for "), code("bind "), code("run ")), (Some("1"), Some("6"), Some("3")), "{said}");
    assert!(run.file("bind").contains("reserved-region"), "{}", run.file("bind"));
    assert!(said.contains("drivers/vfio-pci"), "{said}");
    // Linux: drivers/iommu/iommu.c, `__iommu_group_set_domain_internal` and before; the words are those of 6.3 and later.
    assert!(
        run.file("log").contains("requested this device have a 1:1 IOMMU mapping"),
        "{}",
        run.file("run")
    );
}
