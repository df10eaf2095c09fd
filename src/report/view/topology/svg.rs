//! The tree as SVG: a card for each function, in the colour of its IOMMU group, behind a rail for each root bus in the
//! colour of its NUMA node.
//!
//! One column of cards is legible on a phone, several are where a picture is looked at as a whole; no fonts, scripts or files from elsewhere; colours follow the
//! reader's light or dark scheme. The picture may stand in a page by itself or with others of its kind, so that its
//! classes are all below its own.

use std::fmt::Write as _;

use super::{Node, RootBus, Topology, driver_in_words, group_in_words, shortened};
use crate::report::markup::escape;

/// Width of a column, in its own units, which are pixels where it is not scaled.
const WIDTH: usize = 440;
/// Where a column starts.
const TOP: usize = 8;
/// A picture that is no higher than this is one column.
const TALL: usize = 1400;
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
.thruway-topology .group{font-weight:600;font-size:12px}\
.thruway-topology .end{text-anchor:end}\
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

/// How cards are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One below the other, to be scrolled.
    Column,
    /// As many columns as make a sheet that is about one and a half times as wide as high.
    Sheet,
}

impl Shape {
    /// How high columns may grow for cards and headers that are `all` high together.
    fn column_height(self, all: usize) -> usize {
        match self {
            Self::Sheet if all > TALL => {
                let columns = (all * 3 / (WIDTH * 2)).isqrt() + 1;
                all.div_ceil(columns) + TOP + HEADER + PITCH
            }
            Self::Sheet | Self::Column => usize::MAX,
        }
    }
}

/// The picture.
#[must_use]
pub fn render(topology: &Topology, shape: Shape) -> String {
    let roots = topology.roots();
    let all = topology.nodes().len() * PITCH + roots.len() * HEADER;
    let mut picture = Picture {
        groups: topology.groups(),
        body: String::new(),
        end: shape.column_height(all),
        left: 0,
        y: TOP,
        height: 0,
    };
    if let Some(absence) = topology.absence() {
        picture.absence(&absence);
    }
    roots.iter().for_each(|root| picture.root(root));
    let Picture { groups, body, left, y, height, .. } = picture;
    let (width, height) = (left + WIDTH, height.max(y) + 4);
    let text = topology.absence().unwrap_or_else(|| {
        format!(
            "{} PCI functions on {} root buses in {} IOMMU groups. Each card is a function; cards of one group have \
             one colour and name the group.",
            topology.nodes().len(),
            roots.len(),
            groups.len()
        )
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"thruway-topology\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-labelledby=\"topology-title topology-desc\">\n\
         <title id=\"topology-title\">PCI tree and IOMMU groups</title>\n\
         <desc id=\"topology-desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n",
        escape(&text)
    )
}

/// A picture that grows downwards, and to the right where a column is full.
struct Picture {
    groups: Vec<u32>,
    body: String,
    /// Nothing starts a line below this.
    end: usize,
    /// Where the column starts.
    left: usize,
    y: usize,
    /// Of the highest column.
    height: usize,
}

impl Picture {
    fn absence(&mut self, text: &str) {
        let (y, text) = (self.y + 21, escape(&shortened(text, 60)));
        let _ = writeln!(self.body, "<text class=\"soft\" x=\"{LEFT}\" y=\"{y}\">{text}</text>");
        self.y += HEADER;
    }

    /// Writing to a String cannot fail, so nothing is lost with the results of `write!` here.
    fn root(&mut self, root: &RootBus) {
        if self.y + HEADER + PITCH > self.end {
            self.next_column();
        }
        let from = self.y;
        self.header(root, "");
        let from = self.cards(root, &root.functions, Place { depth: 0, above: self.y, rail: from });
        self.rail(root, from);
        self.y += 6;
    }

    fn header(&mut self, root: &RootBus, more: &str) {
        let node = root.numa_node.map(|node| format!(" · NUMA node {node}")).unwrap_or_default();
        let (x, y) = (self.left + LEFT, self.y + 21);
        let _ = writeln!(
            self.body,
            "<text class=\"bus\" x=\"{x}\" y=\"{y}\">bus {}{node}{more}</text>",
            root.bus
        );
        self.y += HEADER;
    }

    /// Beside the cards of a root bus in this column, which started at `from`.
    fn rail(&mut self, root: &RootBus, from: usize) {
        let class = root.numa_node.map(|node| format!(" n{}", node % NODE_COLORS)).unwrap_or_default();
        let (x, y, height) = (self.left + 4, from + 4, self.y.saturating_sub(from + 12));
        let _ = writeln!(
            self.body,
            "<rect class=\"rail{class}\" x=\"{x}\" y=\"{y}\" width=\"4\" height=\"{height}\" rx=\"2\"/>"
        );
    }

    fn next_column(&mut self) {
        self.height = self.height.max(self.y);
        self.left += WIDTH;
        self.y = TOP;
    }

    /// Draws `nodes` and what is behind them; where the rail of the column at the end starts.
    fn cards(&mut self, root: &RootBus, nodes: &[Node], place: Place) -> usize {
        let Place { depth, mut above, mut rail } = place;
        let step = STEP * depth.min(LEVELS);
        let mut column = self.left;
        for node in nodes {
            if self.y + PITCH > self.end {
                self.rail(root, rail);
                self.next_column();
                rail = self.y;
                self.header(root, " · continued");
            }
            if self.left != column {
                // Lines do not cross columns: the branch comes down from the header.
                (column, above) = (self.left, TOP + HEADER - (PITCH - CARD));
            }
            let x = self.left + LEFT + step;
            if depth > 0 && depth <= LEVELS {
                let (stem, middle) = (x + 8 - STEP, self.y + CARD / 2);
                let _ = writeln!(self.body, "<path class=\"branch\" d=\"M{stem} {above}V{middle}H{x}\"/>");
            }
            self.card(root, node, x);
            let below = Place { depth: depth + 1, above: self.y.saturating_sub(PITCH - CARD), rail };
            rail = self.cards(root, &node.functions, below);
        }
        rail
    }

    fn card(&mut self, root: &RootBus, node: &Node, x: usize) {
        let (y, width) = (self.y, self.left + WIDTH - 8 - x);
        let index = node.iommu_group.known().and_then(|group| self.groups.binary_search(group).ok());
        let class = index.map(|index| format!(" class=\"g{}\"", index % GROUP_COLORS)).unwrap_or_default();
        let mut group = group_in_words(node);
        if let Some(numa) = node.numa_node.known().filter(|numa| Some(**numa) != root.numa_node) {
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
             <text class=\"group\" x=\"122\" y=\"18\">{group}</text>\
             <text class=\"soft end\" x=\"{}\" y=\"18\">{}</text>\
             <text class=\"soft\" x=\"14\" y=\"36\">{}</text></svg></g>",
            width - 8,
            escape(&shortened(driver, 16)),
            escape(&name),
        );
        self.y += PITCH;
    }
}

/// Where the cards of one bridge stand.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// How many bridges are above.
    depth: usize,
    /// Where the line to them starts.
    above: usize,
    /// Where the rail of this column starts.
    rail: usize,
}
