//! The PCI tree of a host, drawn: as text for terminals, as DOT for Graphviz, as SVG for browsers. Each function shows
//! its IOMMU group, by a colour and in words, and its NUMA node.

mod dot;
mod svg;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::pci::hierarchy::Hierarchy;
use crate::report::view::facts::title;
use crate::spec::pci::PciAddress;

pub use dot::render as dot;
pub use svg::{Shape, render as svg};
pub use tree::render as tree;

/// The PCI functions of a host as a tree. `data` of the document `thruway.topology`.
#[derive(Debug, Clone, Serialize)]
pub struct Topology {
    /// Root buses, in the order of their numbers.
    pub roots: Fact<Vec<RootBus>>,
}

/// A bus that hangs on no bridge.
#[derive(Debug, Clone, Serialize)]
pub struct RootBus {
    /// Domain and number: `0000:00`.
    pub bus: String,
    /// NUMA node, if all functions on the bus have the same.
    pub numa_node: Option<u32>,
    /// What is on it.
    pub functions: Vec<Node>,
}

/// A function and what is behind it.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// Its address.
    pub address: PciAddress,
    /// Class, vendor and device.
    pub name: String,
    /// Class and device, for where there is little room.
    #[serde(skip)]
    short_name: String,
    /// Driver that is bound.
    pub driver: Fact<String>,
    /// IOMMU group.
    pub iommu_group: Fact<u32>,
    /// NUMA node.
    pub numa_node: Fact<u32>,
    /// Functions behind it, if it is a bridge.
    pub functions: Vec<Node>,
}

impl Topology {
    /// The tree of the host of `facts`.
    #[must_use]
    pub fn of(facts: &HostFacts) -> Self {
        let hierarchy = Hierarchy::of(facts.pci.functions());
        let mut behind = BTreeMap::<Option<PciAddress>, Vec<&PciDevice>>::new();
        for function in facts.pci.functions() {
            behind
                .entry(hierarchy.parent(function.address).map(|bridge| bridge.address))
                .or_default()
                .push(function);
        }
        let mut roots = BTreeMap::<(u32, u8), Vec<Node>>::new();
        for function in behind.remove(&None).unwrap_or_default() {
            let bus = (function.address.domain, function.address.bus);
            roots.entry(bus).or_default().push(node(function, &behind));
        }
        let root = |((domain, bus), functions): ((u32, u8), Vec<Node>)| RootBus {
            bus: format!("{domain:04x}:{bus:02x}"),
            numa_node: common_node(&functions),
            functions,
        };
        Self { roots: facts.pci.devices.as_ref().map(|_| roots.into_iter().map(root).collect()) }
    }

    /// The root buses that could be read.
    fn roots(&self) -> &[RootBus] {
        self.roots.known().map_or(&[], Vec::as_slice)
    }

    /// In words why there is nothing to draw, if there is nothing.
    fn absence(&self) -> Option<String> {
        match &self.roots {
            Fact::Known(roots) if !roots.is_empty() => None,
            Fact::Denied { source } => {
                Some(format!("PCI functions are unknown: {source}: permission denied"))
            }
            Fact::Unreadable { source, reason } => {
                Some(format!("PCI functions are unknown: {source}: {reason}"))
            }
            Fact::Known(_) | Fact::NotPresent => Some("this host has no PCI functions".to_owned()),
        }
    }

    /// All functions, each before those behind it.
    fn nodes(&self) -> Vec<&Node> {
        fn walk<'a>(nodes: &'a [Node], all: &mut Vec<&'a Node>) {
            for node in nodes {
                all.push(node);
                walk(&node.functions, all);
            }
        }
        let mut all = Vec::new();
        self.roots().iter().for_each(|root| walk(&root.functions, &mut all));
        all
    }

    /// The groups that are there, in order. A group's place in this list chooses its colour.
    fn groups(&self) -> Vec<u32> {
        let groups: BTreeSet<_> =
            self.nodes().iter().filter_map(|node| node.iommu_group.known().copied()).collect();
        groups.into_iter().collect()
    }
}

fn node(function: &PciDevice, behind: &BTreeMap<Option<PciAddress>, Vec<&PciDevice>>) -> Node {
    let children = behind.get(&Some(function.address)).map_or(&[][..], Vec::as_slice);
    Node {
        address: function.address,
        name: title(function),
        short_name: short_name(function),
        driver: function.driver.clone(),
        iommu_group: function.iommu_group.clone(),
        numa_node: function.numa_node.clone(),
        functions: children.iter().map(|child| node(child, behind)).collect(),
    }
}

fn short_name(function: &PciDevice) -> String {
    match (&function.class_name, &function.device) {
        (Some(class), Some(device)) => format!("{class}: {device}"),
        _ => title(function),
    }
}

fn common_node(functions: &[Node]) -> Option<u32> {
    let node = *functions.first()?.numa_node.known()?;
    functions.iter().all(|function| function.numa_node == Fact::Known(node)).then_some(node)
}

/// The group in words.
fn group_in_words(node: &Node) -> String {
    match &node.iommu_group {
        Fact::Known(group) => format!("group {group}"),
        Fact::NotPresent => "no group".to_owned(),
        Fact::Denied { .. } | Fact::Unreadable { .. } => "group unknown".to_owned(),
    }
}

/// The driver in words; nothing where there is none.
fn driver_in_words(node: &Node) -> &str {
    match &node.driver {
        Fact::Known(driver) => driver,
        Fact::NotPresent => "",
        Fact::Denied { .. } | Fact::Unreadable { .. } => "driver unknown",
    }
}

/// `text`, at most `length` characters of it.
pub(in crate::report) fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept: String = text.chars().take(length.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}
