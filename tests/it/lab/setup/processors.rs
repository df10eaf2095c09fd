//! What a profile asks of a host's processors, of its modules, and of who may use what was prepared.

use super::Boot;
use crate::lab::Lab;

/// `goal NAME LINES` writes a profile with LINES in its `host:` and applies it; `like` compares with an earlier `watched`.
const GOALS: &str = r#"
goal() {
    name=$1; shift
    { printf 'schema: 1\nname: x\nhost:\n'; printf '  %s\n' "$@"; } >"/tmp/$name.yaml"
    t "$name" thruway apply "/tmp/$name.yaml" --yes
}
like() { watched >/tmp/now; if diff "$LAB_OUT/$1" /tmp/now >"$LAB_OUT/$2.diff"; then echo "$2 same"; else echo "$2 differs"; fi; }
"#;

#[test]
fn cpus_are_set_apart_and_given_back_with_all_that_it_took() {
    let Some(lab) = Lab::open() else { return };

    let script = r#"
GROUPS_=/sys/fs/cgroup
watched() (
    cd $GROUPS_ && ls -d */ 2>/dev/null
    grep -H '' cgroup.subtree_control cpuset.cpus.isolated cpuset.cpus.effective
    sed -n 's/^Cpus_allowed_list:\t*/allowed /p' /proc/self/status
)
watched >"$LAB_OUT/groups"
goal apart 'isolate_cpus: 1'
echo "isolated $(cat $GROUPS_/cpuset.cpus.isolated) $(cat $GROUPS_/thruway/cpuset.cpus.partition)"
echo "outside $(sed -n 's/^Cpus_allowed_list:\t*//p' /proc/self/status)"
sh -c 'echo $$ >/sys/fs/cgroup/thruway/cgroup.procs && sed -n "s/^Cpus_allowed_list:\t*/inside /p" /proc/self/status'
echo -cpuset >$GROUPS_/cgroup.subtree_control 2>/dev/null && echo "taken away" || echo "taken refused"
t again thruway apply /tmp/apart.yaml --yes
t holds thruway verify
t profile_holds thruway verify /tmp/apart.yaml

sh -c 'echo $$ >/sys/fs/cgroup/thruway/cgroup.procs; touch /tmp/inside; exec sleep 600' & holder=$!
until [ -e /tmp/inside ]; do sleep 0.1; done
echo "holder $holder"
t used thruway undo --yes
kill $holder; wait $holder 2>/dev/null
t undo thruway undo --yes
like groups undone

goal all 'isolate_cpus: 0-1'
goal absent 'isolate_cpus: "9"'
goal malformed 'isolate_cpus: 1-'
# Somebody else has the CPU.
mkdir $GROUPS_/other && echo +cpuset >$GROUPS_/cgroup.subtree_control
echo 1 >$GROUPS_/other/cpuset.cpus
watched >"$LAB_OUT/shared"
goal member 'isolate_cpus: 1'
like shared member_undone
echo root >$GROUPS_/other/cpuset.cpus.partition
echo "other $(cat $GROUPS_/other/cpuset.cpus.partition)"
watched >"$LAB_OUT/taken"
goal conflict 'isolate_cpus: 1'
like taken conflict_undone
"#;
    let boot = Boot::of_two_processors(lab, "vtd-igb", &format!("{GOALS}{script}"));

    boot.ends("apart", "0", &[]);
    assert_eq!((boot.said("isolated"), boot.said("outside"), boot.said("inside")), ("1 isolated", "0", "1"));
    assert_eq!(boot.said("taken"), "refused");
    boot.ends("again", "0", &[]);
    assert!(boot.run.file("again.out").contains("Nothing to do"));
    boot.ends("holds", "0", &[]);
    boot.ends("profile_holds", "0", &[]);
    boot.ends("used", "6", &[&format!("process {} (sleep) is in the group", boot.said("holder"))]);
    boot.ends("undo", "0", &[]);
    boot.is_as_before("undone");

    boot.ends("all", "3", &["no CPU would be left for the host, which has 0-1"]);
    boot.ends("absent", "3", &["there is no CPU 9 here"]);
    boot.ends("malformed", "2", &["`1-` is not a list of CPUs", "malformed.yaml:4:"]);
    assert_eq!(boot.said("other"), "root");
    boot.ends("member", "4", &["not exclusive; /sys/fs/cgroup/other was given CPUs 1 too"]);
    boot.is_as_before("member_undone");
    boot.ends(
        "conflict",
        "4",
        &["/sys/fs/cgroup/other has CPUs 1 in a partition", "everything was taken back"],
    );
    boot.is_as_before("conflict_undone");
}

#[test]
fn modules_nodes_and_ways_to_reset_are_given_and_taken_back() {
    let Some(lab) = Lab::open() else { return };

    let script = r#"
watched() { [ -e /sys/module/nbd ] && echo nbd; [ -e /sys/module/vhost_scsi ] && echo vhost_scsi; true; }
watched >"$LAB_OUT/modules"
goal load 'modules: [nbd, vhost-scsi, vfio-pci]'
echo "loaded $(watched | tr '\n' ' ')"
t load_holds thruway verify /tmp/load.yaml
sh -c 'exec 9</dev/nbd0; touch /tmp/open; exec sleep 600' & holder=$!
until [ -e /tmp/open ]; do sleep 0.1; done
t used thruway undo --yes
kill $holder; wait $holder 2>/dev/null
t undo_load thruway undo --yes
like modules unloaded
echo "dependency $(cat /sys/module/vhost/refcnt)"
goal no_module 'modules: [no-such-module]'

goal no_user 'access: [{select: {address: "02:00.0"}, user: no-such-user}]'
goal no_node 'access: [{select: {address: "02:00.0"}, user: nobody}]'
goal give 'sriov: [{pf: {address: "01:00.0"}, count: 2, vfs: [{index: 1, driver: vfio-pci}]}]' \
    'devices: [{select: {address: "02:00.0"}}]' \
    'access: [{select: {vf: {pf: {address: "01:00.0"}, index: 1}}, group: 4242}, {select: {address: "02:00.0"}, user: nobody}]'
node() { echo "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/0000:$1/iommu_group")")"; }
echo "vf $(stat -c '%u %g %a' "$(node 01:10.2)")"
echo "disk $(stat -c '%u %g %a' "$(node 02:00.0)")"
opens() { setpriv --reuid "$1" --regid "$2" --clear-groups sh -c "exec 9<>$3" 2>/dev/null && echo yes || echo no; }
echo "opens $(opens 1 4242 "$(node 01:10.2)") $(opens 1 1 "$(node 01:10.2)") $(opens 65534 1 "$(node 02:00.0)")"
t give_holds thruway verify /tmp/give.yaml
t give_again thruway apply /tmp/give.yaml --yes
t undo_give thruway undo --yes
same before taken_back

goal resets 'sriov: [{pf: {address: "01:00.0"}, count: 1}]' \
    'devices: [{select: {address: "01:00.0"}, driver: igb, reset_method: [pm, flr]}, {select: {vf: {pf: {address: "01:00.0"}, index: 0}}, reset_method: [flr]}]'
echo "ways $(cat "$PF/reset_method")"
t resets_hold thruway verify /tmp/resets.yaml
t undo_resets thruway undo --yes
same before ways_back
goal no_way 'devices: [{select: {address: "01:00.0"}, driver: igb, reset_method: [acpi]}]'
goal no_such_way 'devices: [{select: {address: "01:00.0"}, driver: igb, reset_method: [flrr]}]'
"#;
    let boot = Boot::of(lab, "vtd-igb", &format!("{GOALS}{script}"));

    boot.ends("load", "0", &[]);
    assert_eq!(boot.said("loaded"), "nbd vhost_scsi ");
    boot.ends("load_holds", "0", &[]);
    boot.ends("used", "6", &["kernel module nbd is in use: the kernel counts"]);
    boot.ends("undo_load", "0", &[]);
    boot.is_as_before("unloaded");
    assert_eq!(boot.said("dependency"), "0");
    boot.ends("no_module", "4", &["cannot load kernel module no-such-module"]);

    boot.ends("no_user", "2", &["there is no user `no-such-user`"]);
    boot.ends("no_node", "3", &["it has driver nvme, and only functions of a VFIO driver have a node"]);
    boot.ends("give", "0", &[]);
    assert_eq!((boot.said("vf"), boot.said("disk")), ("0 4242 660", "65534 0 600"));
    assert_eq!(boot.said("opens"), "yes no yes");
    boot.ends("give_holds", "0", &[]);
    boot.ends("give_again", "0", &[]);
    boot.ends("undo_give", "0", &[]);
    boot.is_as_before("taken_back");

    boot.ends("resets", "0", &[]);
    assert_eq!(boot.said("ways"), "pm flr");
    boot.ends("resets_hold", "0", &[]);
    boot.ends("undo_resets", "0", &[]);
    boot.is_as_before("ways_back");
    boot.ends("no_way", "3", &["it can be reset by flr, pm, bus and not by acpi"]);
    boot.ends("no_such_way", "2", &["`flrr`"]);
}

#[test]
fn interrupts_keep_away_from_cpus_as_far_as_they_can() {
    let Some(lab) = Lab::open() else { return };

    let script = r#"
watched() { grep -H '' /proc/irq/default_smp_affinity /proc/irq/*/smp_affinity_list; }
on() { grep -l "$1" /proc/irq/*/smp_affinity_list | wc -l; }
watched >"$LAB_OUT/interrupts"
echo "before $(on '^0-1$\|^1$')"
goal away 'irq_affinity: {away_from: 1}'
echo "default $(cat /proc/irq/default_smp_affinity)"
echo "moved $(on '^0$')"
grep -l '1' /proc/irq/*/smp_affinity_list | cut -d/ -f4 | tr '\n' ' ' >"$LAB_OUT/fixed"
t again thruway apply /tmp/away.yaml --yes
t holds thruway verify
# Its interrupts go with the driver, and those of the next one are no drift.
t bind thruway bind 02:00.0 --yes
t holds_still thruway verify
t undo_bind thruway undo --yes
t undo thruway undo --yes
like interrupts undone
goal all 'irq_affinity: {away_from: 0-1}'
goal governor 'governor: performance'
"#;
    let boot = Boot::of_two_processors(lab, "vtd-igb", &format!("{GOALS}{script}"));

    boot.ends("away", "0", &[]);
    assert_eq!(boot.said("default"), "1");
    assert!(boot.said("moved").parse::<u32>().unwrap() > 4, "{}", boot.stdout);
    // What is left says so itself.
    for irq in boot.run.file("fixed").split_whitespace() {
        assert!(boot.err("away").contains(irq), "interrupt {irq} is not told of: {}", boot.err("away"));
    }
    boot.ends("again", "0", &[]);
    assert!(boot.run.file("again.out").contains("Nothing to do"));
    for step in ["holds", "bind", "holds_still", "undo_bind", "undo"] {
        boot.ends(step, "0", &[]);
    }
    boot.is_as_before("undone");
    boot.ends("all", "3", &["no CPU would be left to serve interrupts"]);
    boot.ends("governor", "3", &["not supported here"]);
}
