//! The processor: what it is, what it runs under, whether its virtualization extension can be used.

use super::{Text, switch, word};
use crate::host::HostFacts;
use crate::host::cpu::{Ability, Cpu, Extension, Hypervisor};
use crate::host::fact::Fact;
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let cpu = &facts.cpu;
    text.section("Processor");
    text.line("model", (Tone::Plain, processor(cpu)));
    text.line("runs under", hypervisor(&cpu.hypervisor));
    let virtualization = &cpu.virtualization;
    let (tone, word) = switch(&virtualization.usable, ["yes", "no"]);
    let word = word.split(' ').next().unwrap_or_default();
    text.line("virtualization", (tone, format!("{word}: {}", virtualization.explanation)));
    if virtualization.in_silicon == Fact::Known(true) {
        text.line("abilities", (Tone::Plain, abilities(cpu)));
    }
    text.line("addresses", (Tone::Plain, addresses(cpu)));
    differences(text, cpu);
}

/// What the extension can do, and what of that KVM leaves.
fn abilities(cpu: &Cpu) -> String {
    let virtualization = &cpu.virtualization;
    let can = &virtualization.abilities;
    let is_intel = virtualization.extension == Some(Extension::Vmx);
    let named = |intel: &'static str, amd: &'static str| if is_intel { intel } else { amd };
    let ids = can.address_space_ids.known().map(|ids| format!("{ids} ASIDs"));
    let list: [(&str, &Ability); 8] = [
        (named("EPT", "NPT"), &can.second_level_paging),
        ("EPT pages of 1 GiB", &can.second_level_gigabyte_pages),
        (if is_intel { "VPID" } else { ids.as_deref().unwrap_or("ASIDs") }, &can.tagged_tlb),
        ("unrestricted guest", &can.unrestricted_guest),
        (named("APICv", "AVIC"), &can.virtual_apic),
        (named("virtual x2APIC", "x2AVIC"), &can.virtual_x2apic),
        ("posted interrupts", &can.posted_interrupts),
        ("nested guests", &can.nested),
    ];
    let words: Vec<_> = list
        .iter()
        .filter(|(_, ability)| ability.in_silicon == Fact::Known(true))
        .map(|(name, ability)| {
            let left = if ability.in_use == Fact::Known(false) { " (KVM leaves it)" } else { "" };
            format!("{name}{left}")
        })
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn addresses(cpu: &Cpu) -> String {
    let bits = |fact: &Fact<u8>| word(fact, |bits| format!("{bits} bits"));
    let pages = match cpu.gigabyte_pages {
        Fact::Known(true) => ", pages of 1 GiB",
        Fact::Known(false) => ", no pages of 1 GiB",
        _ => "",
    };
    format!("{} physical, {} linear{pages}", bits(&cpu.physical_address_bits), bits(&cpu.linear_address_bits))
}

/// CPUs that are not like the first one, by what differs.
fn differences(text: &mut Text, cpu: &Cpu) {
    let mut fields: Vec<(&str, usize)> = Vec::new();
    for difference in cpu.differences.known().into_iter().flatten() {
        match fields.iter_mut().find(|(field, _)| *field == difference.field) {
            Some((_, count)) => *count += 1,
            None => fields.push((difference.field, 1)),
        }
    }
    if !fields.is_empty() {
        let words: Vec<_> = fields.iter().map(|(field, count)| format!("{count} in {field}")).collect();
        text.line("unlike CPU 0", (Tone::Notice, words.join(", ")));
    }
}

fn processor(cpu: &Cpu) -> String {
    let number = |fact: &Fact<u32>| word(fact, u32::to_string);
    let threads = match cpu.threads_per_core {
        Fact::Known(threads) if threads > 1 => format!(", {threads} to a core"),
        _ => String::new(),
    };
    let microcode = cpu.microcode_revision.known().map(|revision| format!(", microcode {revision:#x}"));
    format!(
        "{} ({}, family {}, model {}, stepping {}{}), {} online{threads}",
        word(&cpu.name, Clone::clone),
        word(&cpu.vendor, Clone::clone),
        number(&cpu.family),
        number(&cpu.model),
        number(&cpu.stepping),
        microcode.unwrap_or_default(),
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
