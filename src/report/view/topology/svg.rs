//! The tree as SVG: a card for each function, in the colour of its IOMMU group, behind a rail for each root bus in the
//! colour of its NUMA node.
//!
//! Narrow and tall, so that it is legible on a phone; no fonts, scripts or files from elsewhere; colours follow the
//! reader's light or dark scheme. The picture may stand in a page by itself or with others of its kind, so that its
//! classes are all below its own.

use std::fmt::Write as _;

use super::{Node, RootBus, Topology, driver_in_words, group_in_words, shortened};
use crate::report::markup::escape;

/// Width of the picture, in its own units, which are pixels where it is not scaled.
const WIDTH: usize = 440;
/// Height of a card.
const CARD: usize = 44;
/// From one card to the next.
const PITCH: usize = 52;
/// Height of the line above the cards of a bus.
const HEADER: usize = 34;
/// Where cards of a root bus start.
const LEFT: usize = 16;
/// How far each level is set in.
const STEP: usize = 20;
/// Levels beyond this one are not set in further.
const LEVELS: usize = 7;
/// How many colours there are for groups.
const GROUP_COLORS: usize = 8;
/// How many colours there are for NUMA nodes.
const NODE_COLORS: u32 = 4;

/// Colours: of the groups by hue, of all else by name.
const STYLE: &str = "\
.thruway-topology{--paper:#ffffff;--ink:#1d2127;--soft:#59626d;--line:#b4bcc5;--fill:92%;--rim:38%;\
font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
@media(prefers-color-scheme:dark){.thruway-topology{--paper:#15181c;--ink:#e8eaed;--soft:#a4adb8;--line:#4a535d;\
--fill:17%;--rim:66%}}\
.thruway-topology .paper{fill:var(--paper)}\
.thruway-topology text{fill:var(--ink);font-size:13px}\
.thruway-topology .bus{font-size:14px;font-weight:600}\
.thruway-topology .address{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-weight:600}\
.thruway-topology .soft{fill:var(--soft);font-size:12px}\
.thruway-topology .group{font-weight:600;font-size:12px;text-anchor:end}\
.thruway-topology .branch{fill:none;stroke:var(--line);stroke-width:1.5}\
.thruway-topology .card{fill:hsl(var(--hue,0) var(--strength,0%) var(--fill));\
stroke:hsl(var(--hue,0) var(--strength,0%) var(--rim))}\
.thruway-topology .stripe,.thruway-topology .rail{fill:hsl(var(--hue,0) var(--strength,0%) var(--rim))}\
.thruway-topology .g0{--hue:210;--strength:70%}.thruway-topology .g1{--hue:30;--strength:75%}\
.thruway-topology .g2{--hue:140;--strength:45%}.thruway-topology .g3{--hue:300;--strength:45%}\
.thruway-topology .g4{--hue:52;--strength:75%}.thruway-topology .g5{--hue:255;--strength:60%}\
.thruway-topology .g6{--hue:180;--strength:60%}.thruway-topology .g7{--hue:345;--strength:65%}\
.thruway-topology .n0{--hue:210;--strength:30%}.thruway-topology .n1{--hue:25;--strength:60%}\
.thruway-topology .n2{--hue:150;--strength:40%}.thruway-topology .n3{--hue:290;--strength:40%}";

/// The picture.
#[must_use]
pub fn render(topology: &Topology) -> String {
    let mut picture = Picture { groups: topology.groups(), body: String::new(), y: 8 };
    if let Some(absence) = topology.absence() {
        picture.absence(&absence);
    }
    topology.roots().iter().for_each(|root| picture.root(root));
    let Picture { groups, body, y } = picture;
    let height = y + 4;
    let text = topology.absence().unwrap_or_else(|| {
        format!(
            "{} PCI functions on {} root buses in {} IOMMU groups. Each card is a function; cards of one group have \
             one colour and name the group.",
            topology.nodes().len(),
            topology.roots().len(),
            groups.len()
        )
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"thruway-topology\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"topology-title topology-desc\">\n\
         <title id=\"topology-title\">PCI tree and IOMMU groups</title>\n\
         <desc id=\"topology-desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n",
        escape(&text)
    )
}

/// A picture that grows downwards.
struct Picture {
    groups: Vec<u32>,
    body: String,
    y: usize,
}

impl Picture {
    fn absence(&mut self, text: &str) {
        let (y, text) = (self.y + 21, escape(&shortened(text, 60)));
        let _ = writeln!(self.body, "<text class=\"soft\" x=\"{LEFT}\" y=\"{y}\">{text}</text>");
        self.y += HEADER;
    }

    /// Writing to a String cannot fail, so nothing is lost with the results of `write!` here.
    fn root(&mut self, root: &RootBus) {
        let (from, at) = (self.y, self.body.len());
        let node = root.numa_node.map(|node| format!(" · NUMA node {node}")).unwrap_or_default();
        let _ = writeln!(
            self.body,
            "<text class=\"bus\" x=\"{LEFT}\" y=\"{}\">bus {}{node}</text>",
            self.y + 21,
            root.bus
        );
        self.y += HEADER;
        self.cards(&root.functions, 0);
        let class = root.numa_node.map(|node| format!(" n{}", node % NODE_COLORS)).unwrap_or_default();
        let rail = format!(
            "<rect class=\"rail{class}\" x=\"4\" y=\"{}\" width=\"4\" height=\"{}\" rx=\"2\"/>\n",
            from + 4,
            self.y.saturating_sub(from + 12)
        );
        self.body.insert_str(at, &rail);
        self.y += 6;
    }

    fn cards(&mut self, nodes: &[Node], depth: usize) {
        let x = LEFT + STEP * depth.min(LEVELS);
        let above = self.y.saturating_sub(PITCH - CARD);
        for node in nodes {
            if depth > 0 && depth <= LEVELS {
                let (stem, middle) = (x + 8 - STEP, self.y + CARD / 2);
                let _ = writeln!(self.body, "<path class=\"branch\" d=\"M{stem} {above}V{middle}H{x}\"/>");
            }
            self.card(node, x);
            self.cards(&node.functions, depth + 1);
        }
    }

    fn card(&mut self, node: &Node, x: usize) {
        let (y, width) = (self.y, WIDTH - 8 - x);
        let index = node.iommu_group.known().and_then(|group| self.groups.binary_search(group).ok());
        let class = index.map(|index| format!(" class=\"g{}\"", index % GROUP_COLORS)).unwrap_or_default();
        let mut group = group_in_words(node);
        if let Some(numa) = node.numa_node.known() {
            let _ = write!(group, " · node {numa}");
        }
        // Cards are of a fixed width and letters are not: what would not fit by the width of an average letter is cut,
        // and what is wider than that is clipped by the inner picture's edge.
        let name = shortened(&node.short_name, (width - 24) * 10 / 66);
        let driver = driver_in_words(node);
        let (own, full) = (node.address, escape(&node.name));
        let _ = writeln!(
            self.body,
            "<g{class}><title>{own}: {full}</title>\
             <rect class=\"card\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{CARD}\" rx=\"6\"/>\
             <rect class=\"stripe\" x=\"{x}\" y=\"{y}\" width=\"6\" height=\"{CARD}\" rx=\"3\"/>\
             <svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{CARD}\">\
             <text class=\"address\" x=\"14\" y=\"18\">{own}</text>\
             <text class=\"soft\" x=\"120\" y=\"18\">{}</text>\
             <text class=\"group\" x=\"{}\" y=\"18\">{group}</text>\
             <text class=\"soft\" x=\"14\" y=\"36\">{}</text></svg></g>",
            escape(&shortened(driver, 16)),
            width - 8,
            escape(&name),
        );
        self.y += PITCH;
    }
}
