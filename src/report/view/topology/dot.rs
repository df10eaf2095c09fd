//! The tree as DOT, the language of Graphviz: `thruway topology --format dot | dot -Tpdf`.

use std::fmt::Write as _;

use super::{Node, Topology, driver_in_words, group_in_words};
use crate::report::style::clean;

/// Fill colours of groups, in turn: light ones, for dark text.
const COLORS: [&str; 8] =
    ["#cfe8ff", "#ffe0c2", "#d5f2d0", "#f6d4ef", "#fff3b8", "#d9d6ff", "#c9f0ee", "#ffd6d6"];

/// The graph.
#[must_use]
pub fn render(topology: &Topology) -> String {
    let groups = topology.groups();
    let mut out = String::from(
        "digraph pci {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n  \
         graph [fontname=\"sans-serif\", style=rounded, color=\"#999999\"];\n",
    );
    for root in topology.roots() {
        let node = root.numa_node.map(|node| format!("\\nNUMA node {node}")).unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "  \"{0}\" [label=\"bus {0}{node}\", fillcolor=\"#eeeeee\"];", root.bus);
        edges(&mut out, &root.bus, &root.functions);
    }
    for node in topology.nodes().into_iter().filter(|node| node.iommu_group.known().is_none()) {
        out.push_str(&box_of(node, "#eeeeee"));
    }
    for (index, group) in groups.iter().enumerate() {
        let color = COLORS.get(index % COLORS.len()).copied().unwrap_or_default();
        let _ = writeln!(out, "  subgraph cluster_group_{group} {{\n    label=\"IOMMU group {group}\";");
        for node in topology.nodes() {
            if node.iommu_group.known() == Some(group) {
                out.push_str(&box_of(node, color));
            }
        }
        out.push_str("  }\n");
    }
    out.push_str("}\n");
    out
}

fn edges(out: &mut String, parent: &str, nodes: &[Node]) {
    for node in nodes {
        let own = node.address.to_string();
        let _ = writeln!(out, "  \"{parent}\" -> \"{own}\";");
        edges(out, &own, &node.functions);
    }
}

fn box_of(node: &Node, color: &str) -> String {
    let mut label = format!("{}\\n{}", node.address, quoted(&node.name));
    let mut last = vec![group_in_words(node)];
    last.extend(node.numa_node.known().map(|numa| format!("node {numa}")));
    last.extend(Some(quoted(driver_in_words(node))).filter(|driver| !driver.is_empty()));
    let _ = write!(label, "\\n{}", last.join(", "));
    format!("    \"{}\" [label=\"{label}\", fillcolor=\"{color}\"];\n", node.address)
}

/// Fit for a quoted string of DOT, in which a backslash starts an escape.
fn quoted(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}
