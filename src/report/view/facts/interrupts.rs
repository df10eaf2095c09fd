//! Interrupts: the ways to a guest, the mode of the controllers, and who serves what is passed through.

use std::collections::BTreeMap;

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::interrupts::{Delivery, GuestInterrupt, GuestInterruptKind, Interrupts, RemappingMode};
use crate::report::style::Tone;
use crate::spec::cpu_list::CpuList;
use crate::spec::pci::PciAddress;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let interrupts = &facts.interrupts;
    text.section("Interrupts");
    text.line("to guests, emulated", way(&interrupts.delivery.emulated));
    text.line("to guests, by irqfd", way(&interrupts.delivery.irqfd));
    text.line("to guests, posted", way(&interrupts.delivery.posted));
    text.line("x2APIC", (Tone::Plain, x2apic(interrupts)));
    if let Some(mode) = interrupts.remapping_mode.known() {
        let words = match mode {
            RemappingMode::Xapic => "identifiers of 8 bits (xAPIC)",
            RemappingMode::X2apic => "identifiers of 32 bits (x2APIC)",
        };
        text.line("remapped to", (Tone::Plain, words.to_owned()));
    }
    text.line("served by CPUs", (Tone::Plain, word(&interrupts.default_affinity, CpuList::to_string)));
    of_guests(text, interrupts);
}

fn way(way: &Delivery) -> (Tone, String) {
    let (tone, answer) = match &way.available {
        Fact::Known(true) => (Tone::Good, "yes"),
        Fact::Known(false) => (Tone::Plain, "no"),
        _ => (Tone::Notice, "unknown"),
    };
    (tone, format!("{answer}: {}", way.because))
}

fn x2apic(interrupts: &Interrupts) -> String {
    match (&interrupts.x2apic_supported, &interrupts.x2apic_enabled) {
        (Fact::Known(false), _) => "not in this processor".to_owned(),
        (_, Fact::Known(true)) => "on".to_owned(),
        (_, Fact::Known(false)) => "off".to_owned(),
        (supported, _) => word(supported, |_| "in this processor; whether it is on is unknown".to_owned()),
    }
}

/// One line for each function.
fn of_guests(text: &mut Text, interrupts: &Interrupts) {
    let mut functions = BTreeMap::<PciAddress, Vec<&GuestInterrupt>>::new();
    for interrupt in interrupts.of_guests.known().into_iter().flatten() {
        functions.entry(interrupt.function).or_default().push(interrupt);
    }
    for (function, interrupts) in functions {
        let kind = match interrupts.first().map(|interrupt| interrupt.kind) {
            Some(GuestInterruptKind::MsiX) => "MSI-X",
            Some(GuestInterruptKind::Msi) => "MSI",
            Some(GuestInterruptKind::Intx) | None => "INTx",
        };
        let cpus = interrupts.iter().filter_map(|interrupt| interrupt.cpus.known());
        let cpus = cpus.fold(CpuList::default(), |all, cpus| all.union(cpus));
        let words = format!("{function}: {} by {kind}, served by CPUs {cpus}", interrupts.len());
        text.line("of guests", (Tone::Plain, words));
    }
}
