//! The processor: what it is, what it runs under, whether its virtualization extension can be used.

use super::{Text, switch, word};
use crate::host::HostFacts;
use crate::host::cpu::{Cpu, Hypervisor};
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
