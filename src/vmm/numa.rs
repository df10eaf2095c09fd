//! NUMA nodes of the machine: which vCPUs and which memory belong together, and how far they are from each other.
//!
//! Memory is given out from address 0 up, in the order of the nodes, around the hole below 4 GiB. A node can be bound to one
//! of the host: its memory then comes from there and from nowhere else.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::cpu_list::CpuList;
use crate::spec::units::ByteSize;
use crate::vmm::config::ConfigError;

/// A node of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `cpus` and `memory`")]
pub struct NodeConfig {
    /// Its vCPUs, counted from 0; none if left out.
    #[serde(default, skip_serializing_if = "CpuList::is_empty")]
    pub cpus: CpuList,
    /// Its memory. That of all nodes together is the machine's.
    pub memory: ByteSize,
    /// The node of the host that its memory comes from; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_node: Option<u32>,
    /// How far each node is, in their order: 10 is here, 20 is twice as far; left out, all others are 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<u8>,
}

/// Distances of ACPI 6.5, 5.2.17: below 10 is reserved, 255 is out of reach.
const HERE: u8 = 10;
const ELSEWHERE: u8 = 20;
const OUT_OF_REACH: u8 = 255;
/// Most nodes: one for each vCPU that there can be.
const MAX_NODES: usize = 64;
/// Highest node of a host (Linux: include/linux/numa.h, NODES_SHIFT up to 10).
const MAX_HOST_NODE: u32 = 1023;

/// Everything that is wrong with `nodes` of a machine with `count` vCPUs and `memory` in pages of `page_bytes`, under the key
/// `numa`.
pub(in crate::vmm) fn check(
    nodes: &[NodeConfig],
    count: u8,
    memory: ByteSize,
    page_bytes: u64,
    errors: &mut Vec<ConfigError>,
) {
    if nodes.is_empty() {
        return;
    }
    let mut wrong = |setting: String, problem: String| errors.push(ConfigError { setting, problem });
    if nodes.len() > MAX_NODES {
        let problem = format!("{} are too many; a machine has at most {MAX_NODES}", nodes.len());
        wrong("numa".to_owned(), problem);
        return;
    }
    let machine: CpuList = (0..u32::from(count)).collect();
    let mut taken = CpuList::default();
    for (index, node) in nodes.iter().enumerate() {
        let at = |key: &str| format!("numa.{index}.{key}");
        let strangers = node.cpus.without(&machine);
        if !strangers.is_empty() {
            wrong(
                at("cpus"),
                format!("there is no vCPU {strangers}; the machine has 0-{}", count.saturating_sub(1)),
            );
        }
        let twice = node.cpus.intersection(&taken);
        if !twice.is_empty() {
            wrong(at("cpus"), format!("vCPU {twice} is in another node already"));
        }
        taken = taken.union(&node.cpus);
        if node.memory.bytes() == 0 || !node.memory.bytes().is_multiple_of(page_bytes) {
            let page = ByteSize::from_bytes(page_bytes);
            wrong(at("memory"), format!("{} is not a multiple of {page}, or is none", node.memory));
        }
        if let Some(host) = node.host_node.filter(|host| *host > MAX_HOST_NODE) {
            wrong(at("host_node"), format!("{host} is no node of a host; they are 0 to {MAX_HOST_NODE}"));
        }
        if let Some(problem) = wrong_distances(&node.distances, index, nodes.len()) {
            wrong(at("distances"), problem);
        }
    }
    let left = machine.without(&taken);
    if !left.is_empty() {
        wrong("numa".to_owned(), format!("vCPU {left} is in no node; give each vCPU to one"));
    }
    let sum = nodes.iter().try_fold(0u64, |sum, node| sum.checked_add(node.memory.bytes()));
    if sum != Some(memory.bytes()) {
        let sum = sum.map_or("too much".to_owned(), |sum| ByteSize::from_bytes(sum).to_string());
        wrong(
            "numa".to_owned(),
            format!("the nodes have {sum} of memory together, and the machine has {memory}"),
        );
    }
}

fn wrong_distances(distances: &[u8], index: usize, count: usize) -> Option<String> {
    if distances.is_empty() {
        return None;
    }
    if distances.len() != count {
        return Some(format!(
            "{} distances for {count} nodes; write one for each, in their order",
            distances.len()
        ));
    }
    distances.iter().enumerate().find_map(|(other, distance)| match (other == index, *distance) {
        (true, HERE) => None,
        (true, distance) => Some(format!("the distance to itself is {HERE}, and not {distance}")),
        (false, distance) if (HERE + 1..OUT_OF_REACH).contains(&distance) => None,
        (false, distance) => {
            let most = OUT_OF_REACH - 1;
            Some(format!("{distance} to node {other} is not between {} and {most}", HERE + 1))
        }
    })
}

/// How far the nodes are from each other: a row for each.
#[must_use]
pub fn distances(nodes: &[NodeConfig]) -> Vec<Vec<u8>> {
    let row = |(index, node): (usize, &NodeConfig)| {
        let told = (!node.distances.is_empty()).then(|| node.distances.clone());
        told.unwrap_or_else(|| {
            (0..nodes.len()).map(|other| if other == index { HERE } else { ELSEWHERE }).collect()
        })
    };
    nodes.iter().enumerate().map(row).collect()
}

/// The parts of `ram`, guest-physical ranges in ascending order, that each node gets.
#[must_use]
pub fn share_out(nodes: &[NodeConfig], ram: &[Range<u64>]) -> Vec<Vec<Range<u64>>> {
    let mut rest = ram.iter().cloned();
    let mut current = rest.next().unwrap_or(0..0);
    let mut take = |mut wanted: u64| {
        let mut parts = Vec::new();
        while wanted > 0 {
            if current.is_empty() {
                match rest.next() {
                    Some(next) => current = next,
                    None => break,
                }
                continue;
            }
            let length = wanted.min(current.end - current.start);
            parts.push(current.start..current.start + length);
            current.start += length;
            wanted -= length;
        }
        parts
    };
    nodes.iter().map(|node| take(node.memory.bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cpus: &str, mebibytes: u64) -> NodeConfig {
        let (cpus, memory) = (cpus.parse().unwrap(), ByteSize::from_mebibytes(mebibytes));
        NodeConfig { cpus, memory, host_node: None, distances: Vec::new() }
    }

    fn problems(nodes: &[NodeConfig]) -> Vec<String> {
        let mut errors = Vec::new();
        check(nodes, 4, ByteSize::from_mebibytes(512), 2 << 20, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_split_that_adds_up_is_sound() {
        assert_eq!(problems(&[]), [""; 0]);
        assert_eq!(problems(&[node("0-1", 256), node("2-3", 256)]), [""; 0]);
        assert_eq!(problems(&[node("0-3", 500), node("", 12)]), [""; 0]);
    }

    #[test]
    fn splits_that_do_not_add_up_say_what_is_missing_or_twice() {
        assert_eq!(
            problems(&[node("0-1", 256), node("1-2", 128)]),
            [
                "numa.1.cpus: vCPU 1 is in another node already",
                "numa: vCPU 3 is in no node; give each vCPU to one",
                "numa: the nodes have 384MiB of memory together, and the machine has 512MiB"
            ]
        );
        assert_eq!(
            problems(&[node("0-3,7", 511), node("", 1)]),
            [
                "numa.0.cpus: there is no vCPU 7; the machine has 0-3",
                "numa.0.memory: 511MiB is not a multiple of 2MiB, or is none",
                "numa.1.memory: 1MiB is not a multiple of 2MiB, or is none",
            ]
        );
        let huge = NodeConfig { memory: ByteSize::from_bytes(u64::MAX - 0x1F_FFFF), ..node("0-3", 0) };
        assert!(problems(&[huge.clone(), huge])[1].contains("too much"));
    }

    #[test]
    fn distances_are_one_for_each_node_and_10_to_itself() {
        let with = |distances: &[u8]| {
            let first = NodeConfig { distances: distances.to_vec(), ..node("0-3", 256) };
            problems(&[first, node("", 256)])
        };
        assert_eq!(with(&[10, 30]), [""; 0]);
        assert!(with(&[10])[0].contains("1 distances for 2 nodes"));
        assert!(with(&[20, 20])[0].contains("the distance to itself is 10, and not 20"));
        assert!(with(&[10, 10])[0].contains("10 to node 1 is not between 11 and 254"));
        let first = NodeConfig { distances: vec![10, 30], ..node("0", 1) };
        assert_eq!(distances(&[first, node("", 1)]), [[10, 30], [20, 10]]);
    }

    #[test]
    fn memory_is_shared_out_around_the_hole() {
        let nodes = [node("", 2), node("", 3), node("", 1)];
        let mib = |range: Range<u64>| range.start << 20..range.end << 20;
        let parts = share_out(&nodes, &[mib(0..4), mib(100..102)]);
        assert_eq!(parts, [vec![mib(0..2)], vec![mib(2..4), mib(100..101)], vec![mib(101..102)]]);
    }
}
