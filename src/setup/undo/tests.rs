//! What undo refuses, what it repeats, and who comes first.

use std::cell::Cell;

use super::*;
use crate::setup::action::BIND_LIMIT;
use crate::setup::apply::{Applied, ApplyError};
use crate::setup::control::Control;
use crate::setup::fake::{BOOT, FakeKernel, Fault, NVME, Node, Trouble, memory_dir};
use crate::setup::goal::Goal;
use crate::setup::guard::Consents;
use crate::setup::journal::{Home, Journal};
use crate::setup::law::{PATIENCE, planned_for_good};
use crate::setup::plan::{Plan, plan};
use crate::setup::status::{Now, status};

struct Site {
    kernel: FakeKernel,
    run: tempfile::TempDir,
}

const VFS: &str = "sriov: [{pf: {address: '01:00.0'}, count: 2, autoprobe: false}]";
const VF0: &str = "devices: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}}]";
const DISK: &str = "devices: [{select: {address: '02:00.0'}}]";

impl Site {
    fn new() -> Self {
        Self { kernel: FakeKernel::usual(), run: memory_dir() }
    }

    fn journal(&self) -> Journal {
        Journal::open_or_create(&Home::under(self.run.path())).unwrap()
    }

    fn with<T>(&self, boot_id: &str, work: impl FnOnce(&Executor<'_>) -> T) -> T {
        self.restoring(boot_id, None, work)
    }

    fn restoring<T>(
        &self,
        boot_id: &str,
        restores: Option<&str>,
        work: impl FnOnce(&Executor<'_>) -> T,
    ) -> T {
        let journal = self.journal();
        let lock = journal.lock(PATIENCE, |_| {}).unwrap();
        work(&Executor {
            control: &self.kernel,
            journal: &journal,
            lock: &lock,
            boot_id,
            confirm_by_boot_s: None,
            restores,
            interrupted: &|| false,
            observer: &|_| {},
        })
    }

    fn apply(&self, yaml: &str) -> Result<Applied, ApplyError> {
        let goal: Goal = serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap();
        let plan = plan(&host::collect(self.kernel.source()), &goal, &Consents::default()).unwrap();
        self.with(BOOT, |executor| executor.apply(&plan, &Consents::default(), &[]))
    }

    fn undo(&self, which: Which, on_drift: OnDrift) -> Result<Undone, UndoError> {
        self.with(BOOT, |executor| executor.undo(which, on_drift))
    }

    fn set_count(&self, count: &str) {
        self.kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", count, BIND_LIMIT).unwrap();
    }
}

#[test]
fn what_a_later_transaction_builds_on_is_kept_and_that_one_is_named() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    site.apply(VFS).unwrap();
    site.apply(VF0).unwrap();
    site.apply(DISK).unwrap();

    let under = site.undo(Which::Id(1), OnDrift::Stop).unwrap_err();

    assert!(matches!(under, UndoError::Under { id: 1, later: 2, .. }), "{under}");
    assert_eq!(site.undo(Which::Id(3), OnDrift::Stop).unwrap().transactions, [3]);
    assert_eq!(site.undo(Which::Id(2), OnDrift::Stop).unwrap().transactions, [2]);
    assert_eq!(site.undo(Which::Id(1), OnDrift::Stop).unwrap().transactions, [1]);
    assert_eq!(site.kernel.snapshot(), before);
    assert!(matches!(site.undo(Which::Id(1), OnDrift::Stop), Err(UndoError::NoSuch(1))));
}

#[test]
fn independent_transactions_are_undone_in_any_order_and_all_newest_first() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    for yaml in [VFS, DISK, VF0] {
        site.apply(yaml).unwrap();
    }
    assert_eq!(site.undo(Which::Id(2), OnDrift::Stop).unwrap().transactions, [2]);
    assert_eq!(site.undo(Which::All, OnDrift::Stop).unwrap().transactions, [3, 1]);
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn drift_stops_undo_before_it_changes_anything() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    site.apply(VFS).unwrap();
    site.set_count("0");
    site.set_count("1");
    let drifted = site.kernel.snapshot();

    let error = site.undo(Which::Latest, OnDrift::Stop).unwrap_err();
    let left_alone = site.kernel.snapshot();
    site.undo(Which::Latest, OnDrift::Overwrite).unwrap();

    assert!(matches!(&error, UndoError::Drifted { found, .. } if found == "1 virtual functions"), "{error}");
    assert_eq!(left_alone, drifted);
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn another_device_at_the_address_is_drift() {
    let site = Site::new();
    site.apply(DISK).unwrap();
    site.kernel.put("/sys/bus/pci/devices/0000:02:00.0/device", "0x9999");

    let error = site.undo(Which::Latest, OnDrift::Stop).unwrap_err();

    assert!(
        matches!(&error, UndoError::Drifted { found, .. } if found.contains("another device")),
        "{error}"
    );
}

#[test]
fn virtual_functions_under_a_guest_are_kept_and_the_process_is_named() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    site.apply(VFS).unwrap();
    site.apply(VF0).unwrap();
    site.kernel.open("0000:01:10.0");
    let held = site.kernel.snapshot();

    let error = site.undo(Which::All, OnDrift::Overwrite).unwrap_err();

    assert!(
        matches!(&error, UndoError::InUse { cause, .. } if cause.to_string().contains("process 4711")),
        "{error}"
    );
    assert_eq!(site.kernel.snapshot(), held);
    site.kernel.close("0000:01:10.0");
    site.undo(Which::All, OnDrift::Stop).unwrap();
    site.kernel.trouble(None);
    let mut after = site.kernel.snapshot();
    after.retain(|path, _| !path.starts_with("proc/4711"));
    assert_eq!(after, before);
}

#[test]
fn huge_pages_in_use_are_kept_and_counted() {
    let site = Site::new();
    let node = Node { room: 8, ..Node::default() };
    site.kernel.set_nodes(&[node]);
    let before = site.kernel.snapshot();
    site.apply("hugepages: [{size: 2MiB, count: 4}]").unwrap();
    site.kernel.set_nodes(&[Node { asked: 4, used: 3, ..node }]);
    site.kernel.trouble(None);

    let error = site.undo(Which::All, OnDrift::Overwrite).unwrap_err();

    assert!(
        matches!(&error, UndoError::InUse { cause, .. } if cause.to_string().contains("3 of the 4 pages")),
        "{error}"
    );
    assert_eq!(site.kernel.writes(), 0);
    site.kernel.set_nodes(&[Node { asked: 4, ..node }]);
    site.undo(Which::All, OnDrift::Stop).unwrap();
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn huge_pages_of_a_node_are_some_of_those_of_the_host_and_none_of_another_node() {
    let site = Site::new();
    let node = Node { room: 8, ..Node::default() };
    site.kernel.set_nodes(&[node, node]);
    let before = site.kernel.snapshot();
    for yaml in
        ["{count: 4, size: 2MiB}", "{count: 4, node: 0, size: 2MiB}", "{count: 4, node: 1, size: 2MiB}"]
    {
        site.apply(&format!("hugepages: [{yaml}]")).unwrap();
    }

    let under = site.undo(Which::Id(1), OnDrift::Stop).unwrap_err().to_string();
    let found = status(&site.kernel, &site.journal(), BOOT).unwrap();

    assert!(
        under.contains("transaction 3 came after 1 and concerns the pool of 2MiB huge pages too"),
        "{under}"
    );
    let now: Vec<_> = found.transactions.into_iter().flat_map(|one| one.steps).map(|step| step.now).collect();
    assert_eq!(now, [Now::Superseded, Now::Applied, Now::Applied]);
    assert_eq!(site.undo(Which::Id(2), OnDrift::Stop).unwrap().transactions, [2]);
    assert_eq!(site.undo(Which::All, OnDrift::Stop).unwrap().transactions, [3, 1]);
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn a_link_that_carries_the_default_route_by_now_is_not_brought_down() {
    let site = Site::new();
    site.apply(VFS).unwrap();
    let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask";
    site.kernel.put("/proc/net/route", &format!("{head}\neth0 00000000 0202000A 0003 0 0 0 00000000"));
    let applied = site.kernel.snapshot();

    let error = site.undo(Which::All, OnDrift::Overwrite).unwrap_err();

    assert!(
        matches!(&error, UndoError::InUse { cause, .. } if cause.to_string().contains("eth0")),
        "{error}"
    );
    assert_eq!(site.kernel.snapshot(), applied);
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    let goal: Goal = serde_json::from_value(serde_yaml::from_str(VFS).unwrap()).unwrap();
    let plan = plan(&host::collect(site.kernel.source()), &goal, &Consents::default()).unwrap();
    let journal = site.journal();
    let lock = journal.lock(PATIENCE, |_| {}).unwrap();
    std::fs::remove_dir_all(site.run.path().join("run")).unwrap();
    site.kernel.trouble(None);

    let error = Executor {
        control: &site.kernel,
        journal: &journal,
        lock: &lock,
        boot_id: BOOT,
        confirm_by_boot_s: None,
        restores: None,
        interrupted: &|| false,
        observer: &|_| {},
    }
    .apply(&plan, &Consents::default(), &[])
    .unwrap_err();

    assert!(matches!(error, ApplyError::Journal(_)), "{error}");
    assert_eq!((site.kernel.writes(), site.kernel.snapshot()), (0, before));
}

#[test]
fn transactions_of_another_boot_are_history() {
    let site = Site::new();
    site.apply(DISK).unwrap();
    let applied = site.kernel.snapshot();

    let undone = site.with("another-boot", |executor| executor.undo(Which::All, OnDrift::Stop)).unwrap();
    let found = status(&site.kernel, &site.journal(), "another-boot").unwrap();

    assert_eq!(undone, Undone::default());
    assert_eq!(site.kernel.snapshot(), applied);
    assert_eq!((found.transactions.len(), found.history), (0, 1));
}

#[test]
fn an_interrupted_undo_is_continued_by_the_next() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    site.apply(VFS).unwrap();
    let journal = site.journal();
    let asked = Cell::new(0);

    let lock = journal.lock(PATIENCE, |_| {}).unwrap();
    let error = Executor {
        control: &site.kernel,
        journal: &journal,
        lock: &lock,
        boot_id: BOOT,
        confirm_by_boot_s: None,
        restores: None,
        interrupted: &|| asked.replace(asked.get() + 1) == 1,
        observer: &|_| {},
    }
    .undo(Which::All, OnDrift::Stop)
    .unwrap_err();
    drop(lock);

    assert!(matches!(error, UndoError::Interrupted));
    assert_ne!(site.kernel.snapshot(), before);
    site.undo(Which::All, OnDrift::Stop).unwrap();
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn an_interrupted_apply_leaves_the_state_before() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    let goal: Goal = serde_json::from_value(serde_yaml::from_str(VFS).unwrap()).unwrap();
    let plan = plan(&host::collect(site.kernel.source()), &goal, &Consents::default()).unwrap();
    let journal = site.journal();
    let lock = journal.lock(PATIENCE, |_| {}).unwrap();
    let asked = Cell::new(0);

    let error = Executor {
        control: &site.kernel,
        journal: &journal,
        lock: &lock,
        boot_id: BOOT,
        confirm_by_boot_s: None,
        restores: None,
        interrupted: &|| asked.replace(asked.get() + 1) == 2,
        observer: &|_| {},
    }
    .apply(&plan, &Consents::default(), &[])
    .unwrap_err();

    assert!(matches!(&error, ApplyError::Interrupted { left } if left.is_empty()), "{error}");
    assert_eq!(site.kernel.snapshot(), before);
}

#[test]
fn status_tells_applied_drifted_and_gone_apart() {
    let site = Site::new();
    site.apply(VFS).unwrap();
    site.apply(VF0).unwrap();
    let now = |site: &Site| -> Vec<Now> {
        let found = status(&site.kernel, &site.journal(), BOOT).unwrap();
        found.transactions.into_iter().flat_map(|one| one.steps).map(|step| step.now).collect()
    };

    let applied = now(&site);
    site.set_count("0");
    site.set_count("1");
    let drifted = now(&site);

    assert_eq!(applied, [Now::Applied, Now::Applied, Now::Applied, Now::Applied]);
    // The function is there again, without the driver.
    assert_eq!(
        drifted,
        [Now::Applied, Now::Applied, Now::Drifted("1 virtual functions".to_owned()), Now::Before]
    );
}

#[test]
fn a_device_that_was_exchanged_after_the_plan_is_not_touched() {
    let site = Site::new();
    let goal: Goal = serde_json::from_value(serde_yaml::from_str(DISK).unwrap()).unwrap();
    let plan = plan(&host::collect(site.kernel.source()), &goal, &Consents::default()).unwrap();
    site.kernel.put("/sys/bus/pci/devices/0000:02:00.0/device", "0x9999");

    let error = site.with(BOOT, |executor| executor.apply(&plan, &Consents::default(), &[])).unwrap_err();

    assert!(matches!(&error, ApplyError::Failed { left, .. } if left.is_empty()), "{error}");
    assert_eq!(site.kernel.driver(NVME.address).as_deref(), Some("nvme"));
}

#[test]
fn settings_that_a_driver_does_not_put_back_end_with_their_virtual_function() {
    let site = Site::new();
    let before = site.kernel.snapshot();
    let apply = || site.apply("sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, vlan: 42}]}]");
    apply().unwrap();
    let refused = Trouble { at: 0, fault: Fault::Errno(libc::EINVAL), for_good: false };

    site.kernel.trouble(Some(refused));
    site.undo(Which::Latest, OnDrift::Stop).unwrap();

    assert_eq!(site.kernel.log()[0], "VF 0 of eth0: no VLAN");
    assert_eq!(site.kernel.snapshot(), before);
    assert!(site.journal().transactions().unwrap().iter().all(|transaction| !transaction.is_open()));

    // On functions that stay they are left, and told.
    site.set_count("1");
    apply().unwrap();
    site.kernel.trouble(Some(refused));
    let error = site.undo(Which::Latest, OnDrift::Stop).unwrap_err();
    let UndoError::Left { left, .. } = error else { panic!("{error}") };
    assert_eq!(left[0].change, "set 0000:01:10.0 (VF 0 of 0000:01:00.0) to VLAN 42");
}

#[test]
fn settings_of_a_function_that_somebody_destroyed_are_gone_with_it() {
    let site = Site::new();
    site.set_count("1");
    site.apply("sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, trust: true}]}]").unwrap();
    site.set_count("0");

    let now = status(&site.kernel, &site.journal(), BOOT).unwrap().transactions[0]
        .steps
        .last()
        .unwrap()
        .now
        .clone();
    site.undo(Which::Latest, OnDrift::Stop).unwrap();

    assert_eq!(now, Now::Gone);
}

/// What a boot does: everything that is not a file ends, and the unit makes it so again.
#[test]
fn what_was_persisted_is_undone_at_a_later_boot_with_what_that_boot_made_of_it() {
    let site = Site { kernel: FakeKernel::usual().with_grub(), run: memory_dir() };
    let before = site.kernel.snapshot();
    let yaml = "{sriov: [{pf: {address: '01:00.0'}, count: 2}], devices: [{select: {address: '02:00.0'}}]}";
    let for_good = planned_for_good(&site.kernel, yaml);
    let apply = |executor: &Executor<'_>, plan: &Plan| {
        executor.apply(plan, &Consents::default(), &[]).unwrap().transaction.unwrap()
    };
    let lasting = site.with(BOOT, |executor| apply(executor, &for_good));
    // The boot: the virtual functions went, the controller was kept from its driver by the rule.
    site.set_count("0");
    site.kernel.set_link("eth0", false, BIND_LIMIT).unwrap();
    let goal: Goal = serde_json::from_value(serde_yaml::from_str(VFS).unwrap()).unwrap();
    let restored = plan(&host::collect(site.kernel.source()), &goal, &Consents::default()).unwrap();
    let again =
        site.restoring("next", Some("/etc/thruway/boot.d/it.yaml"), |executor| apply(executor, &restored));

    let latest = choose(&site.journal(), "next", Which::Latest).unwrap();
    // Persisted anew in the same boot: what the boot made is still that of the first.
    let anew = planned_for_good(&site.kernel, "{sriov: [{pf: {address: '01:00.0'}, count: 2}]}");
    let anew = site.with("next", |executor| apply(executor, &anew));
    let newest = site.with("next", |executor| executor.undo(Which::Latest, OnDrift::Stop)).unwrap();
    let undone = site.with("next", |executor| executor.undo(Which::Id(lasting), OnDrift::Stop)).unwrap();

    let latest: Vec<_> = latest.iter().map(|transaction| transaction.header.id).collect();
    assert_eq!((latest, undone.transactions), (vec![again, lasting], vec![again, lasting]));
    assert_eq!(newest.transactions, [anew]);
    // Up, as the boot needed it: whoever has used it since keeps it.
    assert_eq!(site.kernel.text("/sys/class/net/eth0/operstate").as_deref(), Some("up"));
    site.kernel.set_link("eth0", false, BIND_LIMIT).unwrap();
    assert_eq!(site.kernel.snapshot(), before);
    assert!(site.journal().transactions().unwrap().iter().all(|transaction| !transaction.is_open()));
}

#[test]
fn another_device_in_the_place_of_one_that_was_persisted_is_left_alone() {
    let site = Site { kernel: FakeKernel::usual().with_grub(), run: memory_dir() };
    let for_good = planned_for_good(&site.kernel, &format!("{{{DISK}}}"));
    site.with(BOOT, |executor| executor.apply(&for_good, &Consents::default(), &[])).unwrap();
    site.kernel.put("/sys/bus/pci/devices/0000:02:00.0/device", "0x1234");

    site.with("next", |executor| executor.undo(Which::Latest, OnDrift::Stop)).unwrap();

    assert_eq!(site.kernel.driver("0000:02:00.0").as_deref(), Some("vfio-pci"));
    assert!(!site.kernel.at("/etc/thruway").exists());
}
