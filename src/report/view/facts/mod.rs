//! A host's facts for people: the verdicts, then section by section what it is, then what is unknown. Sections are made of
//! [`Block`]s, which terminals and pages lay out each in their way.
//!
//! # How a section is added
//!
//! A file with `pub(super) fn show(text: &mut Text, facts: &HostFacts)`, and a line in [`SECTIONS`].

mod cpu;
mod firmware;
mod functions;
mod groups;
mod interrupts;
mod iommu;
mod kernel;
mod kvm;
mod memory;
mod ports;
mod scheduling;
mod scsi;
mod section;
mod sriov;
mod topology;
mod unread;
mod usage;
mod usb;
mod vfio;

pub(in crate::report) use functions::title;
pub(in crate::report) use section::Block;
use section::Section;
pub(in crate::report) use unread::grouped as grouped_unread;

use crate::check::Verdicts;
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::report::area::Area;
use crate::report::document::Unread;
use crate::report::style::Tone;
use crate::report::table::Table;
use crate::report::view::verdicts;
use crate::spec::pci::PciAddress;

/// Writes a section; nothing, if the host has nothing of the kind.
type Show = fn(&mut Text, &HostFacts);

/// The sections in their order, each with the area that it belongs to: nearest to the hardware first.
const SECTIONS: [(Area, Show); 16] = [
    (Area::Cpu, cpu::show),
    (Area::Firmware, firmware::show),
    (Area::Kernel, kernel::show),
    (Area::Kvm, kvm::show),
    (Area::Topology, topology::show),
    (Area::Memory, memory::show),
    (Area::Scheduling, scheduling::show),
    (Area::Interrupts, interrupts::show),
    (Area::Iommu, iommu::show),
    (Area::Iommu, groups::show),
    (Area::Vfio, vfio::show),
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
    let mut out = String::new();
    if view.areas.is_empty() {
        verdicts::show(&mut out, view.verdicts, width);
    }
    for section in sections(view.facts, view.areas, width).iter().chain(&unread::section(view.unread)) {
        section.print(&mut out, width);
    }
    out
}

/// What there is to say of `areas`, of all if none is named, before it is laid out. Tables are for a terminal of
/// `width` columns.
pub(in crate::report) fn sections(facts: &HostFacts, areas: &[Area], width: Option<u16>) -> Vec<Section> {
    let mut text = Text { sections: Vec::new(), width };
    if areas.is_empty() {
        SECTIONS.iter().for_each(|(_, show)| show(&mut text, facts));
    }
    for area in areas {
        let before = text.sections.len();
        SECTIONS.iter().filter(|(of, _)| of == area).for_each(|(_, show)| show(&mut text, facts));
        if text.sections.len() == before {
            text.section(area.title());
            text.note("nothing of this kind here");
        }
    }
    text.sections
}

/// Text that grows section by section.
struct Text {
    sections: Vec<Section>,
    width: Option<u16>,
}

impl Text {
    fn section(&mut self, title: &str) {
        self.sections.push(Section { title: title.to_owned(), blocks: Vec::new() });
    }

    fn push(&mut self, block: Block) {
        let section = self.sections.last_mut().expect("whoever writes has started a section");
        section.blocks.push(block);
    }

    fn line(&mut self, name: &str, (tone, text): (Tone, String)) {
        self.push(Block::Line { name: name.to_owned(), tone, text });
    }

    /// The function at `address`, and the first that is said of it.
    fn function(&mut self, address: PciAddress, text: &str) {
        self.push(Block::Function { address, lines: vec![(Tone::Plain, text.to_owned())] });
    }

    /// What else is said of the function before.
    fn detail(&mut self, tone: Tone, text: &str) {
        match self.sections.last_mut().and_then(|section| section.blocks.last_mut()) {
            Some(Block::Function { lines, .. }) => lines.push((tone, text.to_owned())),
            _ => self.push(Block::Paragraph { tone, text: text.to_owned() }),
        }
    }

    fn note(&mut self, text: &str) {
        self.push(Block::Note(text.to_owned()));
    }

    fn table(&mut self, table: Table) {
        self.push(Block::Table(Box::new(table)));
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

/// Bytes to a tenth of the largest fitting unit: for people, who know a disk or a machine by it.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    UNITS.iter().find(|(_, shift)| bytes >> shift > 0).map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
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
