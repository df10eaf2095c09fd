//! The tree as text for terminals: one line a function.

use anstyle::{AnsiColor, Color, Style};

use super::{Node, RootBus, Topology, driver_in_words, group_in_words, shortened};
use crate::report::style::{Tone, clean, wrap};

/// Colours of groups, in turn. Red and yellow mean something elsewhere.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Green,
    AnsiColor::BrightCyan,
    AnsiColor::BrightMagenta,
];
/// Fewest columns for a name; lines of narrower terminals go without.
const NAME: usize = 12;

/// One function's line, before it is laid out.
struct Line<'a> {
    /// Branches that lead to it.
    branches: String,
    node: &'a Node,
}

/// The tree for a terminal of `width` columns.
#[must_use]
pub fn render(topology: &Topology, width: Option<u16>) -> String {
    let groups = topology.groups();
    let mut out = String::new();
    if let Some(absence) = topology.absence() {
        wrap(&mut out, Tone::Notice, &clean(&absence), 0, width);
    }
    for root in topology.roots() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&Tone::Title.paint(&format!("bus {}", root.bus)));
        if let Some(node) = root.numa_node {
            out.push_str(&format!("  NUMA node {node}"));
        }
        out.push('\n');
        let mut lines = Vec::new();
        collect(&root.functions, "", &mut lines);
        lay_out(&mut out, root, &lines, &groups, width);
    }
    out
}

fn collect<'a>(nodes: &'a [Node], stem: &str, lines: &mut Vec<Line<'a>>) {
    for (index, node) in nodes.iter().enumerate() {
        let is_last = index + 1 == nodes.len();
        lines.push(Line { branches: format!("{stem}{}", if is_last { "└─ " } else { "├─ " }), node });
        collect(&node.functions, &format!("{stem}{}", if is_last { "   " } else { "│  " }), lines);
    }
}

fn lay_out(out: &mut String, root: &RootBus, lines: &[Line<'_>], groups: &[u32], width: Option<u16>) {
    let length = |text: &str| text.chars().count();
    let widest = |measure: &dyn Fn(&Line<'_>) -> usize| lines.iter().map(measure).max().unwrap_or_default();
    let address = widest(&|line| length(&line.branches) + line.node.address.to_string().len());
    let group = widest(&|line| group_in_words(line.node).len());
    let driver = widest(&|line| length(driver_in_words(line.node)));
    for Line { branches, node } in lines {
        let own = node.address.to_string();
        let style = style_of(node, groups);
        out.push_str(&Tone::Detail.paint(branches));
        out.push_str(&format!(
            "{style}{own}{style:#}{:pad$}  ",
            "",
            pad = address - length(branches) - own.len()
        ));
        out.push_str(&format!("{style}{:<group$}{style:#}", group_in_words(node)));
        let mut rest = format!("  {:<driver$}", clean(driver_in_words(node)));
        if let Some(numa) = node.numa_node.known().filter(|numa| Some(**numa) != root.numa_node) {
            rest.push_str(&format!("  node {numa}"));
        }
        let room = width.map_or(usize::MAX, |width| {
            usize::from(width).saturating_sub(address + 4 + group + length(&rest))
        });
        if room >= NAME {
            rest.push_str(&format!("  {}", shortened(&clean(&node.short_name), room)));
        }
        out.push_str(rest.trim_end());
        out.push('\n');
    }
}

fn style_of(node: &Node, groups: &[u32]) -> Style {
    let index = node.iommu_group.known().and_then(|group| groups.binary_search(group).ok());
    let color = index.and_then(|index| COLORS.get(index % COLORS.len()));
    color.map_or_else(Style::new, |color| Style::new().fg_color(Some(Color::Ansi(*color))))
}
