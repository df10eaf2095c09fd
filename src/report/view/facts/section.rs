//! What sections are made of, and how a terminal lays it out.

use crate::report::style::{Tone, clean, wrap};
use crate::report::table::Table;
use crate::spec::pci::PciAddress;

/// Width of the column in which the names of a section's lines stand.
const NAMES: usize = 22;
/// Where the lines below a function's address start.
const INDENT: usize = 16;

/// One subject.
#[derive(Debug)]
pub(in crate::report) struct Section {
    /// What it is about.
    pub(in crate::report) title: String,
    /// What is said of it.
    pub(in crate::report) blocks: Vec<Block>,
}

/// A piece of a section. Its text is as it was read: whoever lays it out makes it harmless for its medium.
#[derive(Debug)]
pub(in crate::report) enum Block {
    /// Something that has a name.
    Line { name: String, tone: Tone, text: String },
    /// A function, and what is said of it.
    Function { address: PciAddress, lines: Vec<(Tone, String)> },
    /// A sentence by itself.
    Paragraph { tone: Tone, text: String },
    /// Many of a kind.
    Table(Box<Table>),
    /// What helps to read the section.
    Note(String),
}

impl Section {
    /// Writes it for a terminal of `width` columns.
    pub(super) fn print(&self, out: &mut String, width: Option<u16>) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&Tone::Title.paint(&self.title));
        out.push('\n');
        self.blocks.iter().for_each(|block| block.print(out, width));
    }
}

impl Block {
    fn print(&self, out: &mut String, width: Option<u16>) {
        match self {
            Self::Line { name, tone, text } => {
                out.push_str(&format!("  {name:<width$}", width = NAMES - 2));
                wrap(out, *tone, &clean(text), NAMES, width);
            }
            Self::Function { address, lines } => {
                let mut lead = format!("  {}  ", Tone::Title.paint(&address.to_string()));
                for (tone, text) in lines {
                    out.push_str(&lead);
                    wrap(out, *tone, &clean(text), INDENT, width);
                    lead = " ".repeat(INDENT);
                }
            }
            Self::Paragraph { tone, text } => {
                out.push_str("  ");
                wrap(out, *tone, &clean(text), 4, width);
            }
            Self::Table(table) => out.push_str(&table.render()),
            Self::Note(text) => {
                out.push_str("  ");
                wrap(out, Tone::Detail, text, 2, width);
            }
        }
    }
}
