//! A host's facts as text for people: the verdicts, then section by section what it is, then what is unknown.
//!
//! # How a section is added
//!
//! A file with `pub(super) fn show(text: &mut Text, facts: &HostFacts)`, and a line in [`SECTIONS`].

mod cpu;
mod functions;
mod groups;
mod iommu;
mod kernel;
mod kvm;
mod scsi;
mod sriov;
mod unread;
mod usage;
mod usb;

pub(in crate::report) use functions::title;

use crate::check::Verdicts;
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::report::area::Area;
use crate::report::document::Unread;
use crate::report::style::{Tone, clean, wrap};
use crate::report::table::Table;
use crate::report::view::verdicts;

/// Width of the column in which the names of a section's lines stand.
const NAMES: usize = 22;
/// Where the lines below a function's address start.
const INDENT: usize = 16;

/// Writes a section; nothing, if the host has nothing of the kind.
type Section = fn(&mut Text, &HostFacts);

/// The sections in their order, each with the area that it belongs to: nearest to the hardware first.
const SECTIONS: [(Area, Section); 10] = [
    (Area::Cpu, cpu::show),
    (Area::Kernel, kernel::show),
    (Area::Kvm, kvm::show),
    (Area::Iommu, iommu::show),
    (Area::Iommu, groups::show),
    (Area::Pci, functions::show),
    (Area::Sriov, sriov::show),
    (Area::Usage, usage::show),
    (Area::Usb, usb::show),
    (Area::Scsi, scsi::show),
];

/// What is shown of a host.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What was read.
    pub facts: &'a HostFacts,
    /// What follows from it.
    pub verdicts: &'a Verdicts,
    /// What could not be read.
    pub unread: &'a [Unread],
    /// Which areas are shown; all of them, if none is named.
    pub areas: &'a [Area],
}

/// The host for a terminal of `width` columns.
#[must_use]
pub fn render(view: View<'_>, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    if view.areas.is_empty() {
        verdicts::show(&mut text.out, view.verdicts, width);
        SECTIONS.iter().for_each(|(_, show)| show(&mut text, view.facts));
    }
    for area in view.areas {
        let before = text.out.len();
        SECTIONS.iter().filter(|(of, _)| of == area).for_each(|(_, show)| show(&mut text, view.facts));
        if text.out.len() == before {
            text.section(area.title());
            text.note("nothing of this kind here");
        }
    }
    unread::show(&mut text, view.unread);
    text.out
}

/// Text that grows section by section.
struct Text {
    out: String,
    width: Option<u16>,
}

impl Text {
    fn section(&mut self, title: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&Tone::Title.paint(title));
        self.out.push('\n');
    }

    fn line(&mut self, name: &str, (tone, text): (Tone, String)) {
        self.out.push_str(&format!("  {name:<width$}", width = NAMES - 2));
        wrap(&mut self.out, tone, &clean(&text), NAMES, self.width);
    }

    fn detail(&mut self, tone: Tone, text: &str) {
        self.out.push_str(&" ".repeat(INDENT));
        wrap(&mut self.out, tone, &clean(text), INDENT, self.width);
    }

    fn note(&mut self, text: &str) {
        self.out.push_str("  ");
        wrap(&mut self.out, Tone::Detail, text, 2, self.width);
    }

    fn table(&mut self, table: &Table) {
        self.out.push_str(&table.render());
    }
}

/// The value in words; `-` for what is absent, `unknown` for what could not be read.
fn word<T>(fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> String {
    match fact {
        Fact::Known(value) => show(value),
        Fact::NotPresent => "-".to_owned(),
        Fact::Denied { .. } | Fact::Unreadable { .. } => "unknown".to_owned(),
    }
}

/// Why a fact is unknown.
fn why<T>(fact: &Fact<T>) -> Option<String> {
    match fact {
        Fact::Known(_) | Fact::NotPresent => None,
        Fact::Denied { source } => Some(format!("{source}: permission denied")),
        Fact::Unreadable { source, reason } => Some(format!("{source}: {reason}")),
    }
}

/// Yes or no in `words`; what is unknown with its reason.
fn switch(fact: &Fact<bool>, [yes, no]: [&str; 2]) -> (Tone, String) {
    match fact {
        Fact::Known(true) => (Tone::Good, yes.to_owned()),
        Fact::Known(false) => (Tone::Bad, no.to_owned()),
        Fact::NotPresent => (Tone::Plain, "-".to_owned()),
        unread => (Tone::Notice, format!("unknown ({})", why(unread).unwrap_or_default())),
    }
}
