//! The nodes of a NUMA machine: which CPUs and how much memory each has, and how far it is to the others.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;

/// Where the kernel shows nodes.
pub(super) const DIRECTORY: &str = "/sys/devices/system/node";

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub number: u32,
    /// Its CPUs; none for a node of memory alone.
    pub cpus: Fact<CpuList>,
    /// Its memory.
    pub memory_bytes: Fact<u64>,
    /// What of that nobody uses.
    pub free_bytes: Fact<u64>,
    /// How far it is to each node in the order of their numbers; 10 is to itself (ACPI 6.5, 5.2.17, SLIT).
    pub distances: Fact<Vec<u32>>,
}

/// Reads the nodes.
pub(super) fn collect(source: &dyn Source) -> Fact<Vec<Node>> {
    source.list(DIRECTORY).map(|names| {
        let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
        let mut nodes: Vec<_> = numbers.map(|number| node(source, number)).collect();
        nodes.sort_unstable_by_key(|node| node.number);
        nodes
    })
}

fn node(source: &dyn Source, number: u32) -> Node {
    let path = |name: &str| format!("{DIRECTORY}/node{number}/{name}");
    let meminfo = parse::required(source.text(&path("meminfo")), &path("meminfo"));
    let bytes = |key| parse::kibibytes(&meminfo, &path("meminfo"), key);
    Node {
        number,
        cpus: parse::required(parse::cpus(source, &path("cpulist")), &path("cpulist")),
        memory_bytes: bytes("MemTotal"),
        free_bytes: bytes("MemFree"),
        distances: source.text(&path("distance")).parse(&path("distance"), |text| {
            text.split_ascii_whitespace()
                .map(|word| word.parse().map_err(|_| format!("`{}` is no distance", parse::excerpt(word))))
                .collect::<Result<Vec<_>, _>>()
        }),
    }
}
