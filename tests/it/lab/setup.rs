//! Setup on a real kernel: what is applied, taken back to the byte, refused, killed and held.
//!
//! The scripts run many commands in one boot and print `NAME STATUS` for each; what each printed comes back in files.
//! [`PRELUDE`]'s `state` writes down everything of every function that setup may touch.

mod attached;
mod goals;
mod killed;
mod layers;
mod processors;
mod storage;
mod together;

use std::time::Duration;

use thruway::rehearse::{Hardware, Options};

use super::{Lab, Run};

const PRELUDE: &str = r#"
PF=/sys/bus/pci/devices/0000:01:00.0
VF=/sys/bus/pci/devices/0000:01:10.0
NVME=/sys/bus/pci/devices/0000:02:00.0
t() { name=$1; shift; "$@" >"$LAB_OUT/$name.out" 2>"$LAB_OUT/$name.err" </dev/null; echo "$name $?"; }
# Few processes: this kernel is emulated.
state() (
    cd /sys/bus/pci/devices && echo *
    stat -c %N */driver */iommu_group */virtfn* */net/* 2>/dev/null
    grep -a '' */driver_override */sriov_numvfs */sriov_drivers_autoprobe */reset_method */enable */d3cold_allowed \
        */power/control */net/*/flags */net/*/address 2>/dev/null
    echo /dev/vfio/*
    ip route
)
same() { state >/tmp/now; if diff "$LAB_OUT/$1" /tmp/now >"$LAB_OUT/$2.diff"; then echo "$2 same"; else echo "$2 differs"; fi; }
# The first bind loads vfio-pci, and modules stay: their nodes are there from the beginning.
modprobe vfio-pci
state >"$LAB_OUT/before"
"#;

/// What one boot left.
struct Boot {
    run: Run,
    stdout: String,
}

impl Boot {
    fn of(lab: &Lab, hardware: &str, script: &str) -> Self {
        Self::with(lab, hardware, &[], script)
    }

    fn with(lab: &Lab, hardware: &str, qemu_arguments: &[&str], script: &str) -> Self {
        let qemu_arguments = qemu_arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = Options { qemu_arguments, ..Self::options() };
        Self::after(lab.run_with(hardware, options, &format!("{PRELUDE}{script}")))
    }

    /// One with two processors.
    fn of_two_processors(lab: &Lab, hardware: &str, script: &str) -> Self {
        let mut hardware = Hardware::load(hardware).unwrap();
        hardware.cpu.count = 2;
        Self::after(lab.run_on(&hardware, Self::options(), &format!("{PRELUDE}{script}")))
    }

    /// Ten applies and undos in one boot, on machines where other tests may run beside it.
    fn options() -> Options {
        Options { limit: Some(Duration::from_secs(600)), ..Options::default() }
    }

    fn after(run: Run) -> Self {
        run.succeeded();
        let stdout = run.stdout();
        Self { run, stdout }
    }

    /// What stands behind `name` in the script's output.
    fn said(&self, name: &str) -> &str {
        self.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| {
            panic!("the script did not come to {name}:\n{}\n{}", self.stdout, self.run.stderr())
        })
    }

    fn err(&self, name: &str) -> String {
        self.run.file(&format!("{name}.err"))
    }

    /// Asserts the exit status of command `name`, and that what it printed on stderr holds each of `parts`.
    fn ends(&self, name: &str, status: &str, parts: &[&str]) {
        let err = self.err(name);
        assert_eq!(self.said(name), status, "{name}: {err}{}", self.run.file(&format!("{name}.out")));
        for part in parts {
            // Long lines are broken between words.
            let flat = err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(part), "{name} does not say `{part}`: {err}");
        }
    }

    fn is_as_before(&self, name: &str) {
        assert_eq!(self.said(name), "same", "{}", self.run.file(&format!("{name}.diff")));
    }
}

#[test]
fn what_is_applied_is_taken_back_to_the_byte_and_works_again() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "vtd-igb",
        r#"
t dry thruway apply sriov-nic --dry-run
same before untouched
t apply thruway apply sriov-nic --yes
echo "vf0 $(readlink "$VF/driver")"
echo "count $(cat "$PF/sriov_numvfs")"
echo "flags $(cat "$PF"/net/*/flags)"
t again thruway apply sriov-nic --yes
t status thruway status --format json
t holds thruway verify --format json
t profile_holds thruway verify sriov-nic --format json
# Somebody else gives the function back.
echo 0000:01:10.0 >"$VF/driver/unbind"
t drifted thruway verify --format json
t profile_drifted thruway verify sriov-nic --format json
echo vfio-pci >"$VF/driver_override"
echo 0000:01:10.0 >/sys/bus/pci/drivers_probe
echo >"$VF/driver_override"
t holds_again thruway verify
t undo thruway undo --yes
same before undone
t nothing thruway undo --yes
t profile_undone thruway verify sriov-nic

t bind thruway bind /dev/nvme0n1 --yes
echo "nvme $(readlink "$NVME/driver") $(od -An -tx1 "$NVME/driver_override" | tr -d ' \n')"
t unbind thruway unbind 02:00.0 --yes
same before unbound
t under thruway undo 2 --yes
t all thruway undo --all --yes
same before all_undone
for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/nvme0n1 ] && break; sleep 1; done
dd if=/dev/nvme0n1 of=/dev/null bs=4096 count=1 2>/dev/null && echo "disk reads"

t create thruway vf create 8086:10c9 --count 3 --yes
echo "created $(cat "$PF/sriov_numvfs")"
t change thruway vf create 01:00.0 --count 2 --yes
t destroy thruway vf destroy 01:00.0 --yes
echo "destroyed $(cat "$PF/sriov_numvfs")"
t undo_destroy thruway undo --yes
echo "restored $(cat "$PF/sriov_numvfs")"
t undo_rest thruway undo --all --yes
same before vfs_undone
"#,
    );

    boot.ends("dry", "0", &[]);
    boot.is_as_before("untouched");
    boot.ends("apply", "0", &[]);
    assert!(boot.said("vf0").ends_with("/vfio-pci"));
    assert_eq!(boot.said("count"), "2");
    assert_eq!(boot.said("flags"), "0x1003");
    boot.ends("again", "0", &[]);
    assert!(boot.run.file("again.out").contains("Nothing to do"));
    let status = boot.run.json("status.out");
    let steps = status["data"]["transactions"][0]["steps"].as_array().unwrap();
    assert!(
        steps.iter().all(|step| step["now"]["state"] == "applied" || step["now"]["state"] == "superseded")
    );
    assert_eq!(status["data"]["transactions"][0]["argv"][1], "apply");
    for (name, status, holds) in [
        ("holds", "0", true),
        ("profile_holds", "0", true),
        ("drifted", "1", false),
        ("profile_drifted", "1", false),
    ] {
        boot.ends(name, status, &[]);
        assert_eq!(boot.run.json(&format!("{name}.out"))["data"]["holds"], holds, "{name}");
    }
    let differences = &boot.run.json("profile_drifted.out")["data"]["differences"];
    assert_eq!(differences.as_array().unwrap().len(), 1, "{differences}");
    boot.ends("holds_again", "0", &[]);
    boot.ends("profile_undone", "1", &[]);
    boot.ends("undo", "0", &[]);
    boot.is_as_before("undone");
    boot.ends("nothing", "0", &[]);

    boot.ends("bind", "0", &[]);
    // `(null)` and a newline: the override is gone as soon as the driver is there.
    assert!(boot.said("nvme").ends_with("/vfio-pci 286e756c6c290a"), "{}", boot.said("nvme"));
    boot.ends("unbind", "0", &[]);
    boot.is_as_before("unbound");
    boot.ends("under", "6", &["transaction 3 came after 2"]);
    boot.ends("all", "0", &[]);
    boot.is_as_before("all_undone");
    assert_eq!(boot.said("disk"), "reads");

    for step in ["create", "change", "destroy", "undo_destroy", "undo_rest"] {
        boot.ends(step, "0", &[]);
    }
    assert_eq!((boot.said("created"), boot.said("destroyed"), boot.said("restored")), ("3", "0", "2"));
    boot.is_as_before("vfs_undone");
}

#[test]
fn what_is_not_confirmed_in_time_is_taken_back() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "vtd-igb",
        r#"
driver() { basename "$(readlink "$NVME/driver")"; }
watchers() { grep -lze '[-]-watch' /proc/[0-9]*/cmdline 2>/dev/null | wc -l; }
until_nobody_watches() { while [ "$(watchers)" != 0 ]; do sleep 0.2; done; }
t none thruway confirm
t kept thruway bind 02:00.0 --yes --confirm-within 10min
t waits thruway status
echo "watchers $(watchers)"
t confirm thruway confirm
t waits_no_more thruway status
kill $(grep -lze '[-]-watch' /proc/[0-9]*/cmdline | cut -d/ -f3)
until_nobody_watches
echo "after_confirm $(driver)"
t undo thruway undo --yes
# The shell that starts it ends, as a session does that lost its connection.
setsid sh -c 'thruway bind 02:00.0 --yes --confirm-within 20s' >/dev/null 2>&1 </dev/null
echo "bound $(driver)"
until_nobody_watches
same before taken_back
t late thruway confirm
t wrong thruway bind 02:00.0 --yes --confirm-within 2h
"#,
    );

    boot.ends("none", "1", &[]);
    boot.ends("kept", "0", &[]);
    assert!(boot.run.file("kept.out").contains("by itself in 600 s unless thruway confirm is run"));
    assert!(boot.run.file("waits.out").contains("waits for thruway confirm"));
    assert!(!boot.run.file("waits_no_more.out").contains("waits for thruway confirm"));
    assert_eq!(boot.said("watchers"), "1");
    boot.ends("confirm", "0", &[]);
    assert_eq!(boot.said("after_confirm"), "vfio-pci");
    boot.ends("undo", "0", &[]);
    assert_eq!(boot.said("bound"), "vfio-pci");
    boot.is_as_before("taken_back");
    boot.ends("late", "1", &[]);
    boot.ends("wrong", "2", &["write 1s to 60min"]);
}

#[test]
fn what_is_in_use_is_refused_and_left_alone() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "vtd-igb",
        r#"
t route thruway bind 03:00.0 --yes
t route_allowed thruway bind 03:00.0 --allow 03:00.0 --yes
t bridge thruway bind 00:02.0 --yes
t many thruway vf create 01:00.0 --count 8 --yes
t none thruway vf create 02:00.0 --count 1 --yes
t absent thruway bind 0000:77:00.0 --yes
t malformed thruway bind 0000:77:00: --yes
t nobody_to_ask thruway bind 02:00.0
t not_root setpriv --reuid 65534 --clear-groups thruway bind 02:00.0 --yes
t no_driver thruway bind 02:00.0 --driver no-such-driver --yes
t no_systemd thruway bind 02:00.0 --persist --yes
same before refused

modprobe ext4
mke2fs -q -t ext4 /dev/nvme0n1 && mount /dev/nvme0n1 /mnt && echo "fs mounted"
t mounted thruway bind 02:00.0 --yes --format json
umount /mnt
mkswap -q /dev/nvme0n1 2>/dev/null || mkswap /dev/nvme0n1 >/dev/null; swapon /dev/nvme0n1 && echo "swap_is on"
t swap thruway bind 02:00.0 --yes
swapoff /dev/nvme0n1
same before refused_disk

t apply thruway apply sriov-nic --yes
group=$(basename "$(readlink "$VF/iommu_group")")
sh -c "exec 9<>/dev/vfio/$group; echo open >/tmp/open; exec sleep 600" & holder=$!
until [ -e /tmp/open ]; do sleep 0.1; done
state >"$LAB_OUT/held"
begin=$(cut -d. -f1 /proc/uptime)
t held_destroy thruway vf destroy 01:00.0 --yes
t held_undo thruway undo --yes
t held_unbind thruway unbind 01:10.0 --yes
t held_pf thruway bind 01:00.0 --yes
echo "seconds $(($(cut -d. -f1 /proc/uptime) - begin))"
echo "holder $holder"
same held still_held
kill "$holder"; wait "$holder"
t free_undo thruway undo --yes
same before freed
"#,
    );

    boot.ends("route", "6", &["[only-default-route]", "0000:03:00.0"]);
    boot.ends("route_allowed", "6", &["[only-default-route]"]);
    boot.ends("bridge", "6", &["[bridge]", "0000:00:02.0"]);
    boot.ends("many", "6", &["[vf-count-max]", "offers 7"]);
    boot.ends("none", "3", &["0000:02:00.0 has no virtual functions"]);
    boot.ends("absent", "3", &["there is no PCI function 0000:77:00.0"]);
    boot.ends("malformed", "2", &["names no PCI function; write an address"]);
    boot.ends("nobody_to_ask", "2", &["--yes"]);
    boot.ends("not_root", "3", &["needs root"]);
    boot.ends("no_driver", "4", &["cannot load kernel module no-such-driver", "everything was taken back"]);
    boot.ends(
        "no_systemd",
        "3",
        &["systemd is not what starts this system", "boot.d/bind-0000-02-00.0.yaml", "driver_override"],
    );
    boot.is_as_before("refused");

    assert_eq!((boot.said("fs"), boot.said("swap_is")), ("mounted", "on"));
    boot.ends("mounted", "6", &["[disk-in-use]", "nvme0n1 is mounted at /mnt", "umount /mnt first"]);
    let refused = &boot.run.json("mounted.out")["data"]["refused"][0];
    assert_eq!((&refused["rule"], &refused["subject"]), (&"disk-in-use".into(), &"0000:02:00.0".into()));
    boot.ends("swap", "6", &["[disk-in-use]", "active swap"]);
    boot.is_as_before("refused_disk");

    boot.ends("apply", "0", &[]);
    let holder = format!("process {}", boot.said("holder"));
    boot.ends("held_destroy", "6", &["[vf-in-use]", "0000:01:10.0", &holder]);
    boot.ends("held_undo", "6", &["0000:01:10.0 is in use", &holder]);
    boot.ends("held_unbind", "6", &["[vfio-open]", &holder]);
    boot.ends("held_pf", "6", &["[pf-with-vfs]", &holder]);
    assert!(
        boot.said("seconds").parse::<u32>().unwrap() < 20,
        "refused before the write, and not after a limit"
    );
    boot.is_as_before("still_held");
    boot.ends("free_undo", "0", &[]);
    boot.is_as_before("freed");
}

#[test]
fn one_at_a_time_and_drift_is_not_overwritten() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "vtd-igb",
        r#"
thruway bind 02:00.0 --yes >"$LAB_OUT/one.out" 2>"$LAB_OUT/one.err" & one=$!
thruway bind 02:00.0 --yes >"$LAB_OUT/two.out" 2>"$LAB_OUT/two.err" & two=$!
wait $one; echo "one $?"
wait $two; echo "two $?"
t both_undo thruway undo --all --yes
same before both

sh -c 'exec 9>/run/thruway/lock; flock 9; touch /tmp/locked; exec sleep 100' & holder=$!
until [ -e /tmp/locked ]; do sleep 0.1; done
t locked thruway bind 02:00.0 --yes
kill $holder; wait $holder 2>/dev/null
same before locked_out

t apply thruway apply sriov-nic --yes
echo 0 >"$PF/sriov_numvfs"
echo 1 >"$PF/sriov_numvfs"
state >"$LAB_OUT/drifted"
t drift_status thruway status
t drift thruway undo --yes
same drifted left_alone
t accept thruway undo --accept-drift --yes
same before accepted

mkdir /tmp/elsewhere && mv /run/thruway /tmp/journal && ln -s /tmp/elsewhere /run/thruway
t linked thruway bind 02:00.0 --yes
echo "elsewhere $(ls /tmp/elsewhere | wc -l)"
same before not_linked
"#,
    );

    assert_eq!((boot.said("one"), boot.said("two")), ("0", "0"), "{}{}", boot.err("one"), boot.err("two"));
    let outputs = [boot.run.file("one.out"), boot.run.file("two.out")];
    assert_eq!(outputs.iter().filter(|text| text.contains("Nothing to do")).count(), 1, "{outputs:?}");
    boot.ends("both_undo", "0", &[]);
    boot.is_as_before("both");
    boot.ends("locked", "4", &["another thruway is changing this host"]);
    boot.is_as_before("locked_out");
    boot.ends("apply", "0", &[]);
    boot.ends("drift_status", "0", &[]);
    assert!(boot.run.file("drift_status.out").contains("changed"), "{}", boot.run.file("drift_status.out"));
    boot.ends("drift", "6", &["--accept-drift"]);
    boot.is_as_before("left_alone");
    boot.ends("accept", "0", &[]);
    boot.is_as_before("accepted");
    boot.ends("linked", "4", &["/run/thruway is not a directory"]);
    assert_eq!(boot.said("elsewhere"), "0");
    boot.is_as_before("not_linked");
}

#[test]
fn a_shared_group_takes_consent_for_each_member() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "shared-group",
        r#"
t alone thruway bind 01:00.0 --yes
t one_allowed thruway bind 01:00.0 --allow 02:00.0 --yes
same before refused
t allowed thruway bind 01:00.0 --allow 02:00.0 --allow 03:00.0 --yes
echo "driver $(readlink /sys/bus/pci/devices/0000:01:00.0/driver)"
t undo thruway undo --yes
same before undone
t other thruway bind 06:01.0 --dry-run
t whole thruway bind 06:01.0 06:02.0 --allow 06:01.0 --allow 06:02.0 --yes
t probe thruway probe --format json
t undo_whole thruway undo --yes
same before whole_undone
"#,
    );

    boot.ends("alone", "6", &["[group-member]", "0000:02:00.0", "0000:03:00.0", "--allow 0000:02:00.0"]);
    boot.ends("one_allowed", "6", &["0000:03:00.0"]);
    assert!(!boot.err("one_allowed").contains("0000:02:00.0 [group-member]"));
    boot.is_as_before("refused");
    boot.ends("allowed", "0", &["in use, stays, allowed"]);
    assert!(boot.said("driver").ends_with("/vfio-pci"));
    boot.ends("undo", "0", &[]);
    boot.is_as_before("undone");
    boot.ends("other", "6", &["[group-member]", "0000:06:02.0"]);
    boot.ends("whole", "0", &[]);
    let groups = boot.run.json("probe.out");
    let group = groups["data"]["iommu"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["devices"].as_array().unwrap().contains(&"0000:06:01.0".into()))
        .unwrap();
    assert_eq!(group["viable"], true, "{group}");
    boot.ends("undo_whole", "0", &[]);
    boot.is_as_before("whole_undone");
}

#[test]
fn without_an_iommu_nothing_is_bound() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "no-iommu",
        "t bind thruway bind 01:00.0 --allow 01:00.0 --yes\nt apply thruway apply sriov-nic --yes\nsame before after\n",
    );

    boot.ends("bind", "3", &["no IOMMU translates for it"]);
    boot.ends("apply", "3", &["no IOMMU translates for it"]);
    boot.is_as_before("after");
}
