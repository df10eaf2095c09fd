//! A host's facts as text for people: what it is, its IOMMU groups, its PCI functions, what uses them, what is unknown.

mod functions;
mod groups;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use crate::host::HostFacts;
use crate::host::cpu::{Cpu, Hypervisor, Reason};
use crate::host::fact::Fact;
use crate::host::iommu::{Iommu, Unit, UnitKind};
use crate::host::kvm::{Backing, Kvm};
use crate::report::document::Unread;
use crate::report::style::{Tone, clean, wrap};
use crate::report::table::Table;
use crate::spec::pci::PciAddress;

/// Width of the column in which the names of a section's lines stand.
const NAMES: usize = 22;
/// Where the lines below a function's address start.
const INDENT: usize = 16;

/// All of `facts`, and what could not be read of them, for a terminal of `width` columns.
#[must_use]
pub fn render(facts: &HostFacts, unread: &[Unread], width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    host(&mut text, facts);
    iommu(&mut text, &facts.iommu);
    groups::show(&mut text, facts);
    functions::show(&mut text, facts);
    functions::show_sriov(&mut text, facts);
    usage::show(&mut text, facts);
    unknown(&mut text, unread);
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

fn host(text: &mut Text, facts: &HostFacts) {
    let HostFacts { kernel, cpu, kvm, .. } = facts;
    text.section("Host");
    text.line("kernel", (Tone::Plain, word(&kernel.release, Clone::clone)));
    text.line("processor", (Tone::Plain, processor(cpu)));
    text.line("runs under", hypervisor(&cpu.hypervisor));
    let virtualization = &cpu.virtualization;
    let usable = switch(&virtualization.usable, ["yes", "no"]);
    let in_words = |(tone, verdict): (Tone, String), explanation: &str| {
        let verdict = verdict.split(' ').next().unwrap_or_default();
        (tone, format!("{verdict}: {explanation}"))
    };
    text.line("virtualization", in_words(usable, &virtualization.explanation));
    text.line("KVM", in_words(kvm_verdict(kvm), &kvm.explanation));
}

fn kvm_verdict(kvm: &Kvm) -> (Tone, String) {
    let tone = match (&kvm.usable, kvm.reason, &kvm.backing) {
        (Fact::Known(true), Reason::Ok, Fact::Known(Backing::Hardware)) => Tone::Good,
        (Fact::Known(false), ..) => Tone::Bad,
        _ => Tone::Notice,
    };
    (tone, word(&kvm.usable, |usable| if *usable { "yes" } else { "no" }.to_owned()))
}

fn processor(cpu: &Cpu) -> String {
    let number = |fact: &Fact<u32>| word(fact, u32::to_string);
    format!(
        "{} ({}, family {}, model {}, stepping {}), {} online",
        word(&cpu.name, Clone::clone),
        word(&cpu.vendor, Clone::clone),
        number(&cpu.family),
        number(&cpu.model),
        number(&cpu.stepping),
        number(&cpu.online),
    )
}

fn hypervisor(hypervisor: &Hypervisor) -> (Tone, String) {
    let machine: Vec<_> = [&hypervisor.system_vendor, &hypervisor.system_product]
        .into_iter()
        .filter_map(|fact| fact.known().map(String::as_str))
        .collect();
    let machine = if machine.is_empty() { String::new() } else { format!(" ({})", machine.join(" ")) };
    match &hypervisor.present {
        Fact::Known(false) => (Tone::Plain, format!("no hypervisor{machine}")),
        Fact::Known(true) => {
            let signature =
                || word(&hypervisor.signature, |signature| format!("a hypervisor that signs `{signature}`"));
            let name = hypervisor.name.clone().unwrap_or_else(signature);
            (Tone::Plain, format!("{name}{machine}"))
        }
        unread => switch(unread, ["", ""]),
    }
}

fn iommu(text: &mut Text, iommu: &Iommu) {
    text.section("IOMMU");
    let list = |names: &Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    text.line("ACPI tables", (Tone::Plain, word(&iommu.acpi_tables, list)));
    let names = |units: &Vec<Unit>| list(&units.iter().map(unit).collect());
    text.line("units that run", (Tone::Plain, word(&iommu.units, names)));
    let mut dma = switch(&iommu.dma_remapping, ["on", "off"]);
    if iommu.dma_remapping == Fact::Known(false)
        && let Some(tables) = iommu.acpi_tables.known().filter(|tables| !tables.is_empty())
    {
        dma.1 = format!(
            "off: firmware describes an IOMMU ({}), and the kernel does not run it",
            tables.join(", ")
        );
    }
    text.line("DMA remapping", dma);
    text.line("interrupt remapping", switch(&iommu.interrupt_remapping, ["on", "off"]));
}

fn unit(unit: &Unit) -> String {
    let kind = match unit.kind {
        UnitKind::IntelVtd => "Intel VT-d",
        UnitKind::AmdVi => "AMD-Vi",
        UnitKind::ArmSmmu => "Arm SMMU",
        UnitKind::Virtio => "virtio-iommu",
        UnitKind::Other => return unit.name.clone(),
    };
    format!("{} ({kind})", unit.name)
}

/// What could not be read, places of the same kind together.
fn unknown(text: &mut Text, unread: &[Unread]) {
    let mut kinds = BTreeMap::<(String, &str), BTreeSet<&str>>::new();
    for entry in unread {
        kinds.entry((general(&entry.source), &entry.reason)).or_default().insert(&entry.source);
    }
    if kinds.is_empty() {
        return;
    }
    text.section("Unknown, because it could not be read");
    for ((place, reason), sources) in &kinds {
        let place = match sources.iter().next() {
            Some(only) if sources.len() == 1 => (*only).to_owned(),
            _ => format!("{place} ({} of them)", sources.len()),
        };
        text.out.push_str("  ");
        wrap(&mut text.out, Tone::Notice, &clean(&format!("{place}: {reason}")), 4, text.width);
    }
    if kinds.keys().any(|(_, reason)| *reason == "permission denied") {
        text.note("root may read what is denied here");
    }
}

/// A place with addresses and numbers taken out, so that places of one kind read the same.
fn general(source: &str) -> String {
    let part = |part: &str| {
        let is_one_of_many = part.parse::<PciAddress>().is_ok()
            || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if is_one_of_many { "*".to_owned() } else { part.to_owned() }
    };
    source.split('/').map(part).collect::<Vec<_>>().join("/")
}
