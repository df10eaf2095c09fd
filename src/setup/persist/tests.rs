//! What is written for the boots to come, and what a boot does with it.

use std::time::Duration;

use super::*;
use crate::host;
use crate::host::boot::Loader;
use crate::setup::control::Control;
use crate::setup::fake::{FakeKernel, Function, NVME};
use crate::setup::law::planned_for_good;
use crate::setup::persist::restore::{RestoreError, in_other_company, wait};

fn goal_of(yaml: &str) -> Goal {
    serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap()
}

const CONTROLLER_AND_VF: &str = "{
    devices: [{select: {address: '02:00.0'}}, {select: {vf: {pf: {netdev: eth0}, index: 0}}}],
    sriov: [{pf: {netdev: eth0}, count: 2, vfs: [{index: 1, mac: '02:00:00:00:00:01'}]}]}";

/// The files of the plan, by path.
fn files(kernel: &FakeKernel, yaml: &str) -> Vec<NewFile> {
    let plan = planned_for_good(kernel, yaml);
    let steps = plan.steps.into_iter().filter_map(|step| match step.action {
        Action::Install(install) => Some(install.files),
        _ => None,
    });
    steps.flatten().collect()
}

fn text(files: &[NewFile], end: &str) -> String {
    let file =
        files.iter().find(|file| file.path.ends_with(end)).unwrap_or_else(|| panic!("{end}: {files:#?}"));
    match &file.content {
        Content::Text(text) | Content::Program(text) | Content::Link(text) => text.clone(),
    }
}

#[test]
fn devices_are_named_by_what_no_boot_changes() {
    let kernel = FakeKernel::usual().with_grub();

    let files = files(&kernel, CONTROLLER_AND_VF);
    let yaml = text(&files, "/etc/thruway/boot.d/it.yaml");
    let rules = text(&files, "/etc/udev/rules.d/05-thruway-it.rules");
    let read = PersistedGoal::parse(&yaml, "/etc/thruway/boot.d/it.yaml").unwrap();

    assert!(
        read.host
            .devices
            .iter()
            .all(|device| !matches!(device.select, crate::setup::goal::Selector::Address(_)))
    );
    assert_eq!(read.expects.len(), 2, "{yaml}");
    let claims: Vec<_> = rules.lines().filter(|line| line.contains("driver_override")).collect();
    assert_eq!(claims.len(), 1, "the virtual function is the unit's: {rules}");
    assert!(claims[0].contains("ATTR{driver_override}=\"vfio-pci\""), "{rules}");
    assert!(claims[0].starts_with("DEVPATH==\"/devices/pci0000:"), "{rules}");
    assert!(rules.contains("ENV{thruway.skip}==\"1\", GOTO="), "{rules}");
    let unit = text(&files, "/etc/systemd/system/thruway-boot-it.service");
    assert!(unit.contains("ExecStart=/usr/bin/thruway boot it\n"), "{unit}");
    assert!(unit.contains("ConditionKernelCommandLine=!thruway.skip=1\n"), "{unit}");
    let last = files.iter().rposition(|file| matches!(file.content, Content::Link(_)));
    let hook = files.iter().position(|file| file.path.contains("initramfs-tools"));
    assert_eq!(
        last.map(|last| last + 1),
        hook,
        "switched on when all of it is there; a disk controller's driver is early"
    );
}

#[test]
fn a_driver_that_is_loaded_by_name_meets_an_override() {
    let kernel = FakeKernel::usual().with_grub();
    kernel.put("/etc/modules-load.d/disks.conf", "nvme");

    let line = text(
        &files(&kernel, "{devices: [{select: {address: '02:00.0'}}]}"),
        "/etc/modprobe.d/thruway-it.conf",
    );

    assert!(line.contains("install nvme { d=/sys/bus/pci/devices/0000:02:00.0;"), "{line}");
    assert!(line.contains("/sbin/modprobe --ignore-install nvme"), "{line}");
    let command = line.lines().find_map(|line| line.strip_prefix("install nvme ")).unwrap();
    crate::sys::tool::run("sh", &["-n", "-c", command], Duration::from_secs(10)).unwrap();
}

#[test]
fn where_nothing_can_be_written_the_text_is_given() {
    let kernel = FakeKernel::usual();
    let (facts, goal) = (
        host::collect(kernel.source()),
        goal_of(
            "{devices: [{select: {address: '02:00.0'}}], kernel_arguments: [a=1], memlock: [{user: joe, limit: 1GiB}]}",
        ),
    );
    let steps = |boot: &Boot, program| {
        let wanted = Persistence { name: "it", goal: &goal, program };
        steps(&facts, boot, &Consents::default(), &wanted)
    };
    let no_systemd = Boot::collect(kernel.source());
    let nixos = Boot { systemd: true, described_elsewhere: Some("NixOS"), ..no_systemd.clone() };
    let no_loader = Boot { systemd: true, ..no_systemd.clone() };

    let cases = [
        (&no_systemd, Ok("/x")),
        (&nixos, Ok("/x")),
        (&no_loader, Ok("/x")),
        (&no_loader, Err("it can be written by others")),
    ];
    let found = cases.map(|(boot, program)| match steps(boot, program).unwrap_err() {
        PlanError::Unpersistable { reason, by_hand } => (reason, by_hand),
        other => panic!("{other}"),
    });

    for ((reason, by_hand), expected) in
        found.iter().zip(["systemd", "NixOS", "boot loader", "written by others"])
    {
        assert!(reason.contains(expected), "{reason}");
        for part in [
            "boot.kernelParams = [ \"a=1\" ];",
            "driver_override",
            "ExecStart=thruway boot it",
            "joe - memlock 1048576",
            "boot.d/it.yaml",
        ] {
            assert!(by_hand.contains(part), "{part}: {by_hand}");
        }
    }
}

#[test]
fn users_may_lock_memory_from_their_next_login_on() {
    let kernel = FakeKernel::usual().with_grub();
    let yaml = "{memlock: [{user: joe, limit: 8GiB}, {group: kvm, limit: 1KiB}, {user: 1000, limit: 1KiB}]}";

    let files = files(&kernel, yaml);

    assert_eq!(files.len(), 1, "{files:#?}");
    let text = text(&files, "/etc/security/limits.d/thruway-it.conf");
    assert!(text.ends_with("joe - memlock 8388608\n@kvm - memlock 1\n1000:1000 - memlock 1\n"), "{text}");
}

#[test]
fn a_trial_boot_is_for_loaders_that_start_an_entry_once() {
    let goal = goal_of("kernel_arguments: [a=1]");
    let boot = |loader| Boot { loader, ..Boot::collect(FakeKernel::usual().source()) };

    let by_entries = trial_boot(&boot(Some(Loader::Entries { directory: "/x".to_owned() })), "it", &goal);
    let without = trial_boot(&boot(None), "it", &Goal::default());

    assert!(matches!(by_entries, Ok(Some(Action::TrialBoot(_)))), "{by_entries:?}");
    assert!(matches!(without, Ok(None)), "{without:?}");
    for loader in [None, Some(Loader::Grubby {}), Some(Loader::ProxmoxBootTool {})] {
        let error = trial_boot(&boot(loader), "it", &goal).unwrap_err();
        let PlanError::Unpersistable { reason, by_hand } = error else { panic!("{error}") };
        assert!(reason.contains("start an entry once"), "{reason}");
        assert!(by_hand.contains("\na=1\n"), "{by_hand}");
    }
}

#[test]
fn names_that_are_no_names_of_files_are_refused() {
    let kernel = FakeKernel::usual().with_grub();
    let (facts, boot, goal) =
        (host::collect(kernel.source()), Boot::collect(kernel.source()), Goal::default());

    for name in ["", "a/b", "..", "A", "a b", "-a", &"a".repeat(65)] {
        let wanted = Persistence { name, goal: &goal, program: Ok("/x") };
        let error = steps(&facts, &boot, &Consents::default(), &wanted).unwrap_err();
        assert!(matches!(error, PlanError::Invalid(_)), "{name}: {error}");
    }
}

#[test]
fn a_file_that_is_no_persisted_goal_is_refused() {
    let path = "/etc/thruway/boot.d/it.yaml";
    for (text, expected) in [
        ("[", "did not find"),
        ("schema: 2\nname: it\nhost: {}", "its schema is 2"),
        ("schema: 1\nname: other\nhost: {}", "it is that of `other`"),
        ("schema: 1\nname: it\nhost: {}\nmore: 1", "unknown field"),
    ] {
        let error = PersistedGoal::parse(text, path).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
        assert!(error.contains(expected) || expected == "did not find", "{error}");
    }
}

fn persisted(kernel: &FakeKernel) -> PersistedGoal {
    let path = "/etc/thruway/boot.d/it.yaml";
    PersistedGoal::parse(&text(&files(kernel, CONTROLLER_AND_VF), path), path).unwrap()
}

#[test]
fn a_boot_waits_for_devices_and_stops_at_another_one_in_their_place() {
    let kernel = FakeKernel::usual().with_grub();
    let goal = persisted(&kernel);
    let at = |path: &str| format!("/sys/bus/pci/devices/0000:02:00.0/{path}");

    wait(&kernel, &goal).unwrap();
    kernel.put(&at("device"), "0x5678");
    let replaced = wait(&kernel, &goal).unwrap_err();
    std::fs::remove_dir_all(kernel.at(&at(""))).unwrap();
    let gone = wait(&kernel, &goal).unwrap_err();

    assert!(
        matches!(&replaced, RestoreError::Replaced { found, .. } if found.ends_with(":5678")),
        "{replaced}"
    );
    assert!(matches!(gone, RestoreError::Missing { .. }), "{gone}");
}

#[test]
fn a_boot_tells_what_is_in_other_company_than_it_was() {
    let kernel = FakeKernel::usual().with_grub();
    let goal = persisted(&kernel);
    let before = in_other_company(&wait(&kernel, &goal).unwrap(), &goal);
    kernel.add(&Function { address: "0000:02:00.1", ids: (0x1234, 0x5678), driver: None, ..NVME });

    let after = in_other_company(&wait(&kernel, &goal).unwrap(), &goal);

    assert_eq!(before, [""; 0]);
    assert_eq!(
        after,
        ["0000:02:00.0 shares its IOMMU group with 1234:5678 now, and with nothing when it was persisted"]
    );
}

#[test]
fn what_was_persisted_is_planned_again_in_the_next_boot() {
    let kernel = FakeKernel::usual().with_grub();
    let goal = persisted(&kernel);

    let facts = wait(&kernel, &goal).unwrap();
    let plan = crate::setup::plan::plan(&facts, &goal.host, &Consents::default()).unwrap();

    let wanted = goal_of(CONTROLLER_AND_VF);
    let now = crate::setup::plan::plan(&facts, &wanted, &Consents::default()).unwrap();
    assert_eq!(plan.steps, now.steps);
}
