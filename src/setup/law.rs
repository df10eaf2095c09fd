//! The law, tested: state → apply → undo → same state, with every fault at every write, and killed at every point.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::action::Action;
use super::apply::{Applied, ApplyError, Event, Executor};
use super::fake::{BOOT, FakeKernel, Fault, Killed, NIC, NVME, Node, Trouble};
use super::goal::Goal;
use super::guard::Consents;
use super::journal::{Home, Journal, Transaction};
use super::persist::Persistence;
use super::plan::{Plan, plan, plan_for_good, plan_trial_boot, release};
use super::undo::{OnDrift, UndoError, Undone, Which};
use crate::host;
use crate::host::boot::Boot;
use crate::setup::control::{Control, VfSetting};

/// Long: a child that another test left in a write holds what was open when it was forked, this lock too.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A host, its journal, and something to do to it.
struct Site {
    kernel: FakeKernel,
    run: tempfile::TempDir,
}

impl Site {
    fn new(kernel: FakeKernel) -> Self {
        Self { kernel, run: super::fake::memory_dir() }
    }

    fn journal(&self) -> Journal {
        Journal::open_or_create(&Home::under(self.run.path())).unwrap()
    }

    fn with<T>(&self, observer: &dyn Fn(Event<'_>), work: impl FnOnce(&Executor<'_>) -> T) -> T {
        let journal = self.journal();
        let lock = journal.lock(PATIENCE, |_| {}).unwrap();
        work(&Executor {
            control: &self.kernel,
            journal: &journal,
            lock: &lock,
            boot_id: BOOT,
            confirm_by_boot_s: None,
            restores: None,
            interrupted: &|| false,
            observer,
        })
    }

    fn apply(&self, plan: &Plan) -> Result<Applied, ApplyError> {
        self.with(&|_| {}, |executor| executor.apply(plan, &Consents::default(), &["test".to_owned()]))
    }

    fn undo(&self, which: Which) -> Result<Undone, UndoError> {
        self.with(&|_| {}, |executor| executor.undo(which, OnDrift::Stop))
    }

    fn transactions(&self) -> Vec<Transaction> {
        self.journal().transactions().unwrap()
    }
}

fn goal(yaml: &str) -> Goal {
    serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap()
}

fn planned(kernel: &FakeKernel, yaml: &str) -> Plan {
    plan(&host::collect(kernel.source()), &goal(yaml), &Consents::default()).unwrap()
}

/// The plan for now and every boot.
pub(super) fn planned_for_good(kernel: &FakeKernel, yaml: &str) -> Plan {
    let (goal, source) = (goal(yaml), kernel.source());
    let wanted = Persistence { name: "it", goal: &goal, program: Ok("/usr/bin/thruway") };
    let is_so = |action: &Action| action.observe(kernel).is_ok_and(|change| change.is_already_so());
    let (facts, boot) = (host::collect(source), Boot::collect(source));
    plan_for_good(&facts, &boot, &Consents::default(), &wanted, &is_so).unwrap()
}

fn planned_trial(kernel: &FakeKernel) -> Plan {
    let (facts, boot) = (host::collect(kernel.source()), Boot::collect(kernel.source()));
    let goal = goal("kernel_arguments: [lab.tried=1]");
    plan_trial_boot(&facts, &boot, "it", &goal, &|_| false).unwrap()
}

fn with_grub() -> FakeKernel {
    FakeKernel::usual().with_grub()
}

fn with_entries() -> FakeKernel {
    let kernel = FakeKernel::usual();
    kernel.put("/run/systemd/system/here", "");
    kernel.put("/boot/efi/loader/entries/one.conf", "title One\nlinux /vmlinuz\noptions root=UUID=1 quiet");
    kernel
        .put("/boot/efi/loader/entries/two.conf", "linux /vmlinuz\noptions root=UUID=1\noptions iommu=pt\n");
    kernel.put("/etc/kernel/cmdline", "root=UUID=1 quiet");
    kernel
}

fn with_grub_once() -> FakeKernel {
    let kernel = with_grub();
    kernel.run_tool("grub-reboot", &["other"], PATIENCE).unwrap();
    kernel
}

fn with_entry_selected() -> FakeKernel {
    let kernel = with_entries();
    kernel.tell_by_loader("LoaderInfo", Some("systemd-boot 252"));
    kernel.tell_by_loader("LoaderEntrySelected", Some("one.conf"));
    kernel.put("/boot/efi/loader/entries/two.conf", "sort-key two\nlinux /vmlinuz\noptions root=UUID=1");
    kernel
}

/// The card is up, a port of a bridge, and has addresses.
fn with_nic_attached() -> FakeKernel {
    let kernel = with_nic_up();
    for text in [
        r#"{"ip": "192.0.2.7", "prefix_len": 24, "broadcast": "192.0.2.255"}"#,
        r#"{"ip": "2001:db8::7", "prefix_len": 64}"#,
    ] {
        kernel.give("eth0", &serde_json::from_str(text).unwrap()).unwrap();
    }
    kernel.attach("eth0", "br0").unwrap();
    kernel
}

const TWO_VFS: &str = "sriov: [{pf: {address: '01:00.0'}, count: 2}]\ndevices: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}}]";

/// A host in some state and what is to be done to it.
type Case = (&'static str, fn() -> FakeKernel, fn(&FakeKernel) -> Plan);

fn with_vfs() -> FakeKernel {
    let kernel = FakeKernel::usual();
    kernel.write("/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs", "3", PATIENCE).unwrap();
    for (path, value) in [
        ("/sys/bus/pci/devices/0000:01:10.2/driver_override", "vfio-pci"),
        ("/sys/bus/pci/devices/0000:01:10.2/driver/unbind", "0000:01:10.2"),
        ("/sys/bus/pci/drivers_probe", "0000:01:10.2"),
    ] {
        kernel.load_module("vfio-pci").unwrap();
        kernel.write(path, value, PATIENCE).unwrap();
    }
    kernel.set_link("vf104", true, PATIENCE).unwrap();
    kernel.trouble(None);
    kernel
}

fn with_set_up_vfs() -> FakeKernel {
    let kernel = with_vfs();
    for (index, setting) in [
        (0, VfSetting::Vlan { number: 9, priority: 3 }),
        (1, VfSetting::Trust(true)),
        (1, VfSetting::Mac("02:00:00:00:00:0f".parse().unwrap())),
    ] {
        kernel.set_vf("eth0", index, setting, PATIENCE).unwrap();
    }
    kernel.set_link("vf100", true, PATIENCE).unwrap();
    kernel.trouble(None);
    kernel
}

fn with_nic_up() -> FakeKernel {
    let nic = super::fake::Function { interface: Some(("eth0", true)), ..NIC };
    let kernel = FakeKernel::new(&[nic, NVME, super::fake::UPLINK]);
    kernel.put("/sys/bus/pci/devices/0000:02:00.0/driver_override", "nvme");
    kernel
}

fn with_pages() -> FakeKernel {
    FakeKernel::new(&[]).with_nodes(&[
        Node { asked: 5, used: 2, room: 8, room_compacted: 8 },
        Node { asked: 0, used: 0, room: 4, room_compacted: 16 },
    ])
}

fn with_resets() -> FakeKernel {
    let kernel = FakeKernel::usual();
    for function in ["01", "02"] {
        kernel.put(&format!("/sys/bus/pci/devices/0000:{function}:00.0/reset_method"), "flr bus");
    }
    kernel
}

fn with_cpus() -> FakeKernel {
    FakeKernel::new(&[]).with_cpus()
}

fn with_interrupts() -> FakeKernel {
    FakeKernel::new(&[]).with_interrupts()
}

fn with_isolated() -> FakeKernel {
    let kernel = with_cpus();
    for (path, value) in [
        ("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"),
        ("/sys/fs/cgroup/system.slice/cpuset.cpus", "0-1"),
        ("/sys/fs/cgroup/thruway/cpuset.cpus", "2"),
        ("/sys/fs/cgroup/thruway/cpuset.cpus.partition", "isolated"),
    ] {
        let _ = kernel.make_group("/sys/fs/cgroup/thruway");
        kernel.write(path, value, PATIENCE).unwrap();
    }
    kernel.trouble(None);
    kernel
}

const CASES: &[Case] = &[
    ("set huge pages apart on the whole host", with_pages, |kernel| {
        planned(kernel, "hugepages: [{size: 2MiB, count: 10}]")
    }),
    ("set huge pages apart on nodes, of which one is in pieces", with_pages, |kernel| {
        planned(kernel, "hugepages: [{size: 2MiB, count: 6, node: 0}, {size: 2MiB, count: 9, node: 1}]")
    }),
    ("set CPUs apart", with_cpus, |kernel| planned(kernel, "isolate_cpus: 2-3")),
    ("set another CPU apart", with_isolated, |kernel| planned(kernel, "isolate_cpus: 2-3")),
    ("keep interrupts away from CPUs", with_interrupts, |kernel| {
        planned(kernel, "irq_affinity: {away_from: 2-3}")
    }),
    (
        "choose frequencies by another governor",
        || FakeKernel::new(&[]).with_policies(),
        |kernel| planned(kernel, "governor: performance"),
    ),
    ("load kernel modules", FakeKernel::usual, |kernel| planned(kernel, "modules: [vhost, tun, vhost-net]")),
    ("create two VFs, one for a guest", FakeKernel::usual, |kernel| planned(kernel, TWO_VFS)),
    ("bind a controller and a NIC that is up", with_nic_up, |kernel| {
        planned(kernel, "devices: [{select: {address: '02:00.0'}}, {select: {address: '01:00.0'}}]")
    }),
    ("change the count of VFs, with autoprobe off for good", with_vfs, |kernel| {
        planned(
            kernel,
            "sriov: [{pf: {address: '01:00.0'}, count: 5, autoprobe: false, vfs: [{index: 4, driver: vfio-pci}]}]",
        )
    }),
    ("destroy VFs of which one is bound to vfio-pci", with_vfs, |kernel| {
        planned(kernel, "sriov: [{pf: {address: '01:00.0'}, count: 0}]")
    }),
    ("create a VF with settings for a guest", FakeKernel::usual, |kernel| {
        planned(
            kernel,
            "sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [
                {index: 0, driver: vfio-pci, mac: '02:00:00:00:00:01', vlan: 42, max_tx_rate_mbps: 100}]}]",
        )
    }),
    ("set up a VF of the host and one that was set up for a guest", with_set_up_vfs, |kernel| {
        planned(
            kernel,
            "sriov: [{pf: {address: '01:00.0'}, count: 3, vfs: [
                {index: 0, driver: vfio-pci, mac: '02:00:00:00:00:01', vlan: 0},
                {index: 1, mac: '02:00:00:00:00:02', trust: false}]}]",
        )
    }),
    ("let somebody open the node of a function that is bound for that", FakeKernel::usual, |kernel| {
        planned(
            kernel,
            "devices: [{select: {address: '02:00.0'}}]
access: [{select: {address: '02:00.0'}, user: 1000, group: 107}]",
        )
    }),
    ("let somebody open the node of a VF that is new", FakeKernel::usual, |kernel| {
        planned(
            kernel,
            "sriov: [{pf: {address: '01:00.0'}, count: 1, vfs: [{index: 0, driver: vfio-pci}]}]
access: [{select: {vf: {pf: {address: '01:00.0'}, index: 0}}, group: 107}]",
        )
    }),
    ("let somebody open the node of a VF that stays bound", with_vfs, |kernel| {
        planned(kernel, "access: [{select: {address: '01:10.2'}, user: 1000, group: 107}]")
    }),
    ("choose how functions are reset, of which one is new", with_resets, |kernel| {
        planned(
            kernel,
            "sriov: [{pf: {address: '01:00.0'}, count: 1}]
devices: [
    {select: {address: '02:00.0'}, reset_method: [bus]},
    {select: {address: '01:00.0'}, driver: igb, reset_method: [bus, flr]},
    {select: {vf: {pf: {address: '01:00.0'}, index: 0}}, reset_method: [pm, flr]}]",
        )
    }),
    ("give a VF back", with_vfs, |kernel| {
        let facts = host::collect(kernel.source());
        release(&facts, &["0000:01:10.2".parse().unwrap()], &Consents::default()).unwrap()
    }),
    ("bind a controller now and at every boot, with arguments by GRUB", with_grub, |kernel| {
        planned_for_good(
            kernel,
            "{devices: [{select: {address: '02:00.0'}}], kernel_arguments: [intel_iommu=on, iommu=pt]}",
        )
    }),
    ("persist VFs in an emptied directory, with arguments in boot entries", with_entries, |kernel| {
        planned_for_good(
            kernel,
            "{sriov: [{pf: {address: '01:00.0'}, count: 1}], kernel_arguments: [iommu=pt, a.b=1]}",
        )
    }),
    ("try a boot by GRUB, in the place of one that somebody else tries", with_grub_once, planned_trial),
    ("try a boot by an entry", with_entry_selected, planned_trial),
    ("bind a NIC with addresses that is a port of a bridge", with_nic_attached, |kernel| {
        planned(kernel, "devices: [{select: {address: '01:00.0'}}]")
    }),
    ("bind VFs that exist", with_vfs, |kernel| {
        planned(
            kernel,
            "devices: [{select: {address: '01:10.0'}}, {select: {vf: {pf: {address: '01:00.0'}, index: 2}}}]",
        )
    }),
];

/// Runs `work`; whether it was killed.
fn killed<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Killed>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

fn quietly(work: impl FnOnce()) {
    // Kills are panics with a payload of their own, which nobody needs to read about hundreds of times.
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Killed>() {
                say(info);
            }
        }));
    });
    work();
}

fn each_write(mut check: impl FnMut(&str, &dyn Fn() -> (Site, Plan), usize)) {
    let mut total = 0;
    for (name, host, plan) in CASES {
        let fresh = || {
            let site = Site::new(host());
            let plan = plan(&site.kernel);
            (site, plan)
        };
        let (site, plan) = fresh();
        site.kernel.trouble(None);
        site.apply(&plan).unwrap();
        let writes = site.kernel.writes();
        assert!(writes > 0, "{name}");
        total += writes;
        for at in 0..writes {
            check(name, &fresh, at);
        }
    }
    println!("{total} writes in {} cases", CASES.len());
}

const ERRNOS: [i32; 6] = [libc::EBUSY, libc::ENODEV, libc::EINVAL, libc::EPERM, libc::EIO, libc::ENOENT];

#[test]
fn undo_of_an_apply_is_the_state_before() {
    for (name, host, plan) in CASES {
        let site = Site::new(host());
        let before = site.kernel.snapshot();
        let plan = plan(&site.kernel);

        let applied = site.apply(&plan).unwrap();
        let between = site.kernel.snapshot();
        let undone = site.undo(Which::Latest).unwrap();

        assert_eq!(applied.steps.len(), plan.steps.len(), "{name}: {plan:#?}");
        assert_ne!(between, before, "{name}");
        assert_eq!(undone.transactions, [applied.transaction.unwrap()], "{name}");
        assert_eq!(site.kernel.snapshot(), before, "{name}");
        assert!(site.transactions().iter().all(|transaction| !transaction.is_open()), "{name}");
    }
}

#[test]
fn apply_twice_changes_nothing_the_second_time() {
    let site = Site::new(FakeKernel::usual());
    site.apply(&planned(&site.kernel, TWO_VFS)).unwrap();

    let again = planned(&site.kernel, TWO_VFS);

    assert!(again.is_empty(), "{again:#?}");
}

#[test]
fn a_refused_write_at_any_point_leaves_the_state_before() {
    each_write(|name, fresh, at| {
        for fault in
            ERRNOS.map(Fault::Errno).into_iter().chain([Fault::DoneThenErrno(libc::EIO), Fault::GivenUp])
        {
            let (site, plan) = fresh();
            let before = site.kernel.snapshot();
            site.kernel.trouble(Some(Trouble { at, fault, for_good: false }));

            match site.apply(&plan) {
                Err(error) => assert!(
                    error.left().is_empty(),
                    "{name}, write {at}, {fault:?}: {error:?}\n{:#?}",
                    site.kernel.log()
                ),
                // An interrupt that refuses to be moved is let be.
                Ok(_) => {
                    let refused = site.kernel.log().swap_remove(at);
                    assert!(refused.starts_with("/proc/irq/") && !refused.contains("default"), "{refused}");
                    site.undo(Which::Latest).unwrap();
                }
            }
            assert_eq!(site.kernel.snapshot(), before, "{name}, write {at}, {fault:?}");
            assert!(site.transactions().iter().all(|transaction| !transaction.is_open()), "{name}");
        }
    });
}

#[test]
fn a_write_that_is_ignored_is_noticed_by_reading_back() {
    each_write(|name, fresh, at| {
        let (site, plan) = fresh();
        let before = site.kernel.snapshot();
        site.kernel.trouble(Some(Trouble { at, fault: Fault::Ignored, for_good: false }));

        // A probe that nobody followed is tried again; everything else fails and is taken back.
        match site.apply(&plan) {
            Ok(_) => drop(site.undo(Which::Latest).unwrap()),
            Err(error) => assert!(error.left().is_empty(), "{name}, write {at}: {error:?}"),
        }

        assert_eq!(site.kernel.snapshot(), before, "{name}, write {at}");
    });
}

#[test]
fn what_cannot_be_taken_back_is_listed_and_undo_repairs_it_later() {
    each_write(|name, fresh, at| {
        let (site, plan) = fresh();
        let before = site.kernel.snapshot();
        site.kernel.trouble(Some(Trouble { at, fault: Fault::Errno(libc::EIO), for_good: true }));

        let error = site.apply(&plan).unwrap_err();

        let is_left = site.kernel.snapshot() != before;
        assert!(!error.left().is_empty() || !is_left, "{name}, write {at}: {error:?}");
        site.kernel.trouble(None);
        site.undo(Which::All).unwrap();
        assert_eq!(site.kernel.snapshot(), before, "{name}, write {at}");
    });
}

#[test]
fn a_write_that_hangs_is_pending_and_its_functions_are_left_alone() {
    each_write(|name, fresh, at| {
        for fault in [Fault::HangsDone, Fault::HangsUndone] {
            let (site, plan) = fresh();
            let before = site.kernel.snapshot();
            site.kernel.trouble(Some(Trouble { at, fault, for_good: false }));

            let error = site.apply(&plan).unwrap_err();

            let left = error.left();
            assert!(
                left.iter().any(|left| left.why.contains("may still carry it out")),
                "{name}, {at}: {error:?}"
            );
            site.undo(Which::All).unwrap();
            assert_eq!(site.kernel.snapshot(), before, "{name}, write {at}, {fault:?}");
        }
    });
}

#[test]
fn killed_at_any_write_undo_restores_the_state_before() {
    quietly(|| {
        each_write(|name, fresh, at| {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let (site, plan) = fresh();
                let before = site.kernel.snapshot();
                site.kernel.trouble(Some(Trouble { at, fault, for_good: false }));

                assert!(killed(|| site.apply(&plan)).is_none(), "{name}");
                site.kernel.trouble(None);
                site.undo(Which::All).unwrap();

                assert_eq!(site.kernel.snapshot(), before, "{name}, write {at}, {fault:?}");
            }
        });
    });
}

#[test]
fn killed_at_any_write_of_an_undo_the_next_undo_finishes_it() {
    quietly(|| {
        for (name, host, plan) in CASES {
            for fault in [Fault::KilledBefore, Fault::KilledAfter] {
                let mut at = 0;
                loop {
                    let site = Site::new(host());
                    let before = site.kernel.snapshot();
                    site.apply(&plan(&site.kernel)).unwrap();
                    site.kernel.trouble(Some(Trouble { at, fault, for_good: false }));

                    let finished = killed(|| site.undo(Which::All)).is_some();
                    site.kernel.trouble(None);
                    site.undo(Which::All).unwrap();

                    assert_eq!(site.kernel.snapshot(), before, "{name}, write {at} of undo, {fault:?}");
                    if finished {
                        break;
                    }
                    at += 1;
                }
                assert!(at > 0, "{name}");
            }
        }
    });
}

#[test]
fn killed_between_journal_and_host_with_a_torn_line_undo_restores_the_state_before() {
    quietly(|| {
        for (name, host, plan) in CASES {
            let steps = plan(&host()).steps.len();
            for at in 0..steps * 2 {
                for torn_bytes in [0, 1, 40] {
                    let site = Site::new(host());
                    let before = site.kernel.snapshot();
                    let plan = plan(&site.kernel);
                    let count = Cell::new(0);
                    let kill = |event: Event<'_>| {
                        // The intent is written and nothing is done; everything is done and that is not written.
                        if matches!(event, Event::Begins(_) | Event::Done(_)) {
                            if count.get() == at {
                                std::panic::panic_any(Killed);
                            }
                            count.set(count.get() + 1);
                        }
                    };
                    let dead = killed(|| {
                        site.with(&kill, |executor| executor.apply(&plan, &Consents::default(), &[]))
                    });
                    assert!(dead.is_none(), "{name}");
                    if at % 2 == 0 {
                        // Nothing was done since the last line, so that line may be torn.
                        let files = ["run/000001.jsonl", "lasting/journal/000001.jsonl"];
                        let mut files = files.iter().map(|file| site.run.path().join(file));
                        let file = files.find(|file| file.exists()).unwrap();
                        let length = std::fs::metadata(&file).unwrap().len();
                        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
                        file.set_len(length.saturating_sub(torn_bytes)).unwrap();
                    }

                    site.undo(Which::All).unwrap();

                    assert_eq!(
                        site.kernel.snapshot(),
                        before,
                        "{name}, boundary {at}, {torn_bytes} bytes torn"
                    );
                }
            }
        }
    });
}
