//! CPUs and the nodes of a NUMA machine.

use super::{Text, size, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::topology::{Node, Topology};
use crate::report::style::Tone;
use crate::report::table::Table;
use crate::spec::cpu_list::CpuList;

/// Its section: a table of nodes, if there is more than one.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let topology = &facts.topology;
    text.section("CPUs and NUMA nodes");
    text.line("CPUs that run", (Tone::Plain, running(topology)));
    if let Some(offline) = topology.offline_cpus.known().filter(|cpus| !cpus.is_empty()) {
        text.line("offline", (Tone::Plain, offline.to_string()));
    }
    text.line("threads of a core", (Tone::Plain, threads(topology)));
    match &topology.nodes {
        Fact::Known(nodes) if nodes.len() > 1 => table(text, nodes),
        Fact::Known(_) => text.line("nodes", (Tone::Plain, "one".to_owned())),
        Fact::NotPresent => text.line("nodes", (Tone::Plain, "the kernel knows of none".to_owned())),
        unread => text.line("nodes", (Tone::Plain, word(unread, |_| String::new()))),
    }
}

fn running(topology: &Topology) -> String {
    let cores = topology.cores.known().map(|cores| match cores.len() {
        1 => ", 1 core".to_owned(),
        count => format!(", {count} cores"),
    });
    let packages = topology.packages.known().map(|count| match count {
        1 => " in 1 socket".to_owned(),
        count => format!(" in {count} sockets"),
    });
    word(&topology.online_cpus, CpuList::to_string)
        + &cores.unwrap_or_default()
        + &packages.unwrap_or_default()
}

fn threads(topology: &Topology) -> String {
    let control = word(&topology.smt_control, |control| match control.as_str() {
        "on" => "several can be switched off (`on`)".to_owned(),
        "off" | "forceoff" => format!("several are switched off (`{control}`)"),
        "notsupported" => "the processor has one".to_owned(),
        other => format!("`{other}`"),
    });
    match topology.threads_per_core() {
        Some(count) => format!("{count}; {control}"),
        None => control,
    }
}

fn table(text: &mut Text, nodes: &[Node]) {
    let mut table = Table::new(&["NODE", "MEMORY", "FREE", "DISTANCES", "CPUS"], text.width);
    for column in 0..4 {
        table = table.rigid(column);
    }
    let bytes = |fact: &Fact<u64>| word(fact, |bytes| size(*bytes));
    for node in nodes {
        let distances = word(&node.distances, |distances| {
            distances.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
        });
        let cpus =
            word(&node.cpus, |cpus| if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() });
        let cells =
            [node.number.to_string(), bytes(&node.memory_bytes), bytes(&node.free_bytes), distances, cpus];
        table.row(cells.map(|cell| (Tone::Plain, cell)));
    }
    text.table(table);
}
