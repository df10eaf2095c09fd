//! CPUs, cores and nodes, as files show them and where they are missing.

use super::*;
use crate::host::source::fake::{Entry, FakeHost};

fn list(text: &str) -> CpuList {
    text.parse().unwrap()
}

/// Two nodes of two cores with two threads each; the last CPU is offline.
fn machine() -> FakeHost {
    let host = FakeHost::new(&[
        (&format!("{CPUS}/possible"), Entry::Text("0-8")),
        (&format!("{CPUS}/online"), Entry::Text("0-7")),
        (&format!("{CPUS}/offline"), Entry::Text("8")),
        (&format!("{CPUS}/smt/control"), Entry::Text("on")),
        (&format!("{CPUS}/smt/active"), Entry::Text("1")),
    ]);
    for cpu in 0..8_u32 {
        let directory = format!("{CPUS}/cpu{cpu}/topology");
        let siblings = format!("{},{}", cpu % 4, cpu % 4 + 4);
        host.add(&[
            (&format!("{directory}/thread_siblings_list"), Entry::Text(&siblings)),
            (&format!("{directory}/physical_package_id"), Entry::Text(&(cpu % 4 / 2).to_string())),
        ]);
    }
    for (node, cpus) in ["0-1,4-5", "2-3,6-7"].iter().enumerate() {
        let directory = format!("{NODES}/node{node}");
        let meminfo = format!("Node {node} MemTotal:   16777216 kB\nNode {node} MemFree:  8388608 kB");
        host.add(&[
            (&format!("{directory}/cpulist"), Entry::Text(cpus)),
            (&format!("{directory}/meminfo"), Entry::Text(&meminfo)),
            (&format!("{directory}/distance"), Entry::Text(if node == 0 { "10 21" } else { "21 10" })),
        ]);
    }
    host
}

#[test]
fn cores_have_threads_and_nodes_have_cores() {
    let topology = collect(&machine().source());
    assert_eq!(topology.cores.known().unwrap(), &["0,4", "1,5", "2,6", "3,7"].map(list));
    assert_eq!((topology.threads_per_core(), &topology.packages), (Some(2), &Fact::Known(2)));
    let node = topology.node(1).unwrap();
    assert_eq!((&node.cpus, &node.memory_bytes), (&Fact::Known(list("2-3,6-7")), &Fact::Known(16 << 30)));
    assert_eq!((&node.distances, &node.free_bytes), (&Fact::Known(vec![21, 10]), &Fact::Known(8 << 30)));
}

#[test]
fn a_machine_that_shows_nothing_is_unknown_and_one_without_nodes_has_none() {
    let topology = collect(&FakeHost::new(&[]).source());
    assert!(topology.online_cpus.is_unread() && topology.cores.is_unread());
    assert_eq!((&topology.nodes, topology.nodes().len()), (&Fact::NotPresent, 0));
}

#[test]
fn what_is_denied_or_no_number_is_unknown() {
    let host = machine();
    host.add(&[
        (&format!("{NODES}/node0/distance"), Entry::Text("10 far")),
        (&format!("{NODES}/node0/meminfo"), Entry::Text("Node 0 MemTotal: 18446744073709551615 kB")),
        (&format!("{CPUS}/online"), Entry::Text("0-7;")),
    ]);
    let topology = collect(&host.source());
    let node = topology.node(0).unwrap();
    assert!(node.distances.is_unread() && node.memory_bytes.is_unread());
    assert_eq!(node.free_bytes, Fact::NotPresent);
    assert!(topology.online_cpus.is_unread());
    assert!(collect(&host.source_without(&["/node1/"])).node(1).unwrap().cpus.is_unread());
}
