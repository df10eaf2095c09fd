//! What a profile asks of a host beside drivers: huge pages, and settings of virtual functions.

use super::Boot;
use crate::lab::Lab;

#[test]
fn huge_pages_are_set_apart_taken_back_and_kept_while_somebody_uses_them() {
    let Some(lab) = Lab::open() else { return };

    let two_nodes = [
        "-object",
        "memory-backend-ram,id=memory0,size=1024M",
        "-object",
        "memory-backend-ram,id=memory1,size=1024M",
        "-numa",
        "node,nodeid=0,cpus=0,memdev=memory0",
        "-numa",
        "node,nodeid=1,cpus=1,memdev=memory1",
    ];
    let boot = Boot::with(
        lab,
        "vtd-igb",
        &two_nodes,
        r#"
pages() {
    name=$1; shift
    printf 'schema: 1\nname: pages\nhost: {hugepages: [%s]}\n' "$*" >/tmp/pages.yaml
    t "$name" thruway apply /tmp/pages.yaml --yes
}
NODE=/sys/devices/system/node/node0/hugepages/hugepages-2048kB
pools() { grep -H '' /sys/kernel/mm/hugepages/*/nr_hugepages /sys/devices/system/node/node*/hugepages/*/nr_hugepages; }
like() { pools >/tmp/now; if diff "$LAB_OUT/$1" /tmp/now >"$LAB_OUT/$2.diff"; then echo "$2 same"; else echo "$2 differs"; fi; }
total() { sed -n 's/^HugePages_Total: *//p' /proc/meminfo; }
echo 3 >$NODE/nr_hugepages
pools >"$LAB_OUT/pools"

pages host '{size: 2MiB, count: 32}'
echo "on_host $(total) $(cat /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages | tr "\n" +)"
pages again '{size: 2MiB, count: 16}'
t undo_host thruway undo --yes
like pools host_undone

pages node '{size: 2MiB, count: 24, node: 0}'
echo "on_node $(total) $(cat $NODE/nr_hugepages)"
t status thruway status
mkdir /tmp/huge && mount -t hugetlbfs none /tmp/huge
fallocate -l 44M /tmp/huge/file && echo "file allocated"
pools >"$LAB_OUT/used"
t used_undo thruway undo --yes
like used still_used
rm /tmp/huge/file
t node_undo thruway undo --yes
like pools node_undone

# Less than the node has, and more than the kernel and its own pages leave of it.
memory=$(sed -n 's/^Node 0 MemTotal: *\([0-9]*\) kB/\1/p' /sys/devices/system/node/node0/meminfo)
pages most "{size: 2MiB, count: $((memory / 2048 - 2)), node: 0}"
like pools most_left
pages beyond '{size: 2MiB, count: 100000}'
pages no_size '{size: 4MiB, count: 1}'
pages no_node '{size: 2MiB, count: 1, node: 9}'
pages twice '{size: 2MiB, count: 4}, {size: 2MiB, count: 4, node: 0}'
like pools refused
"#,
    );

    boot.ends("host", "0", &[]);
    // At which node the kernel goes on is its own affair.
    assert!(["32 18+14+", "32 17+15+"].contains(&boot.said("on_host")), "{}", boot.said("on_host"));
    boot.ends("again", "0", &[]);
    assert!(boot.run.file("again.out").contains("Nothing to do"));
    boot.ends("undo_host", "0", &[]);
    boot.is_as_before("host_undone");

    boot.ends("node", "0", &[]);
    assert_eq!(boot.said("on_node"), "24 24");
    let status = boot.run.file("status.out");
    assert!(status.contains("raise the pool of 2MiB huge pages on node 0 to 24 pages"), "{status}");
    assert_eq!(boot.said("file"), "allocated");
    // 22 pages are in the file, and only 3 were there before.
    let used = ["the pool of 2MiB huge pages on node 0 is in use", "has 19 of the 21 pages that would go"];
    boot.ends("used_undo", "6", &used);
    boot.is_as_before("still_used");
    boot.ends("node_undo", "0", &[]);
    boot.is_as_before("node_undone");

    boot.ends(
        "most",
        "4",
        &["the node has", "of free memory left", "`hugepagesz=2M hugepages=0:", "everything was taken back"],
    );
    boot.is_as_before("most_left");
    boot.ends("beyond", "3", &["of memory in all, and"]);
    boot.ends("no_size", "3", &["this host has huge pages of 2MiB"]);
    boot.ends("no_node", "3", &["nodes with huge pages are 0, 1 only"]);
    boot.ends("twice", "2", &["on node 0 and of the whole host"]);
    boot.is_as_before("refused");
}

/// igb keeps MAC address, VLAN, trust, spoof check and a rate of each virtual function, and no link state.
#[test]
fn settings_of_virtual_functions_are_made_and_taken_back() {
    let Some(lab) = Lab::open() else { return };

    let boot = Boot::of(
        lab,
        "vtd-igb",
        r#"
profile() {
    printf 'schema: 1\nname: x\nhost:\n  sriov:\n    - pf: {address: "01:00.0"}\n      count: 2\n      vfs: [%s]\n' "$2" >"/tmp/$1.yaml"
}
# What the kernel says, apart from our own reading of it where this machine has an ip(8) that can.
told() { t "$1" thruway probe sriov --format json; ip link show dev "$(ls "$PF/net")" >"$LAB_OUT/$1.ip" 2>&1; }
profile new '{index: 0, driver: vfio-pci, mac: "02:00:00:00:00:a1", vlan: 42, spoof_check: false, trust: true, max_tx_rate_mbps: 100}, {index: 1, mac: "02:00:00:00:00:a2"}'
t new thruway apply /tmp/new.yaml --yes
told new_probe
echo "vf1 $(cat /sys/bus/pci/devices/0000:01:10.2/net/*/address)"
t again thruway apply /tmp/new.yaml --yes
t undo_new thruway undo --yes
same before undone_new

# Functions that exist, of which the host has one with an address of its own. No router gives it a default route.
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
t create thruway vf create 01:00.0 --count 2 --yes
told fresh
ip link set "$(ls "$VF/net")" up
state >"$LAB_OUT/existing"
profile old '{index: 0, driver: vfio-pci, mac: "02:00:00:00:00:b1", vlan: 7}, {index: 1, mac: "02:00:00:00:00:b2", spoof_check: false}'
t old thruway apply /tmp/old.yaml --yes
told old_probe
echo "vf1_old $(cat /sys/bus/pci/devices/0000:01:10.2/net/*/address)"
t undo_old thruway undo --yes
told old_undone
# An address that a function chooses itself is another one each time it is bound.
echo "type $(cat "$VF"/net/*/addr_assign_type)"
state | grep -v /address: >/tmp/now
grep -v /address: "$LAB_OUT/existing" | diff - /tmp/now >"$LAB_OUT/undone_old.diff" && echo "undone_old same" || echo "undone_old differs"

profile refused '{index: 0, vlan: 9}, {index: 1, vlan: 9, link_state: disable}'
t refused thruway apply /tmp/refused.yaml --yes
told refused_probe
profile min '{index: 0, min_tx_rate_mbps: 10}'
t min thruway apply /tmp/min.yaml --yes
t rest thruway undo --all --yes
same before all_undone
"#,
    );

    let vf = |probe: &str, index: usize| {
        let facts = boot.run.json(&format!("{probe}.out"));
        let functions = facts["data"]["pci"]["devices"].as_array().unwrap().clone();
        let pf = functions.iter().find(|function| function["address"] == "0000:01:00.0").unwrap().clone();
        pf["sriov"]["vfs"][index]["link"].clone()
    };
    let is = |link: &serde_json::Value, key: &str, value: serde_json::Value| {
        assert_eq!(link[key], value, "{key} of {link}\n{}", boot.stdout);
    };
    boot.ends("new", "0", &[]);
    let new = vf("new_probe", 0);
    is(&new, "mac", "02:00:00:00:00:a1".into());
    is(&new, "vlan", 42.into());
    is(&new, "spoof_check", false.into());
    is(&new, "trusted", true.into());
    is(&new, "max_tx_rate_mbps", 100.into());
    let told = boot.run.file("new_probe.ip");
    assert!(!told.contains("vf 0") || told.contains("02:00:00:00:00:a1"), "{told}");
    assert_eq!(boot.said("vf1"), "02:00:00:00:00:a2");
    boot.ends("again", "0", &[]);
    assert!(boot.run.file("again.out").contains("Nothing to do"));
    boot.ends("undo_new", "0", &[]);
    boot.is_as_before("undone_new");

    boot.ends("create", "0", &[]);
    boot.ends("old", "0", &[]);
    is(&vf("old_probe", 0), "vlan", 7.into());
    is(&vf("old_probe", 1), "spoof_check", false.into());
    assert_eq!(boot.said("vf1_old"), "02:00:00:00:00:b2");
    boot.ends("undo_old", "0", &[]);
    let undone = vf("old_undone", 0);
    is(&undone, "vlan", 0.into());
    is(&vf("old_undone", 1), "spoof_check", true.into());
    assert_ne!(undone["mac"], "02:00:00:00:00:b1");
    assert_eq!(boot.said("type"), "1", "the function chooses its address again");
    boot.is_as_before("undone_old");

    boot.ends(
        "refused",
        "4",
        &[
            "driver does not support setting the link state of its virtual functions",
            "everything was taken back",
        ],
    );
    is(&vf("refused_probe", 0), "vlan", 0.into());
    is(&vf("refused_probe", 1), "vlan", 0.into());
    boot.ends("min", "4", &["does not take at least 10 Mbit/s for its virtual function 0"]);
    boot.ends("rest", "0", &[]);
    boot.is_as_before("all_undone");
}
