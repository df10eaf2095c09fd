//! The running kernel: its arguments with what each does, what it is built without, modules.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel::{Build, Effect, Kernel, KernelConfig, ModprobeSetting, ModuleState, Parameter};
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let kernel = &facts.kernel;
    text.section("Kernel");
    text.line("release", (Tone::Plain, word(&kernel.release, Clone::clone)));
    text.line("command line", (Tone::Plain, word(&kernel.command_line, Clone::clone)));
    for parameter in kernel.parameters.known().into_iter().flatten() {
        text.detail(tone(parameter.effect), &explained(parameter));
    }
    text.line("configuration", configuration(&kernel.config));
    text.line("modules", (Tone::Plain, modules(kernel)));
    for setting in kernel.modprobe.known().into_iter().flatten() {
        text.detail(Tone::Plain, &modprobe(setting));
    }
}

fn tone(effect: Effect) -> Tone {
    match effect {
        Effect::Works => Tone::Plain,
        Effect::UnknownHere => Tone::Notice,
        Effect::Ignored | Effect::WrongValue => Tone::Bad,
    }
}

/// `intel_iommu=on: VT-d on`, or why it does nothing.
fn explained(parameter: &Parameter) -> String {
    let effect = match parameter.effect {
        Effect::Works => "",
        Effect::Ignored => "ignored: ",
        Effect::WrongValue => "wrong: ",
        Effect::UnknownHere => "maybe: ",
    };
    let words = parameter.reason.as_ref().or(parameter.meaning.as_ref()).map_or("", String::as_str);
    format!("{}: {effect}{words}", parameter.text())
}

/// What is built is the rule, so what is not is told.
fn configuration(config: &Fact<KernelConfig>) -> (Tone, String) {
    let config = match config {
        Fact::Known(config) => config,
        Fact::NotPresent => return (Tone::Plain, "not found beside the kernel".to_owned()),
        unread => return (Tone::Notice, word(unread, |_| String::new())),
    };
    let without: Vec<_> = config
        .options
        .iter()
        .filter(|(_, build)| matches!(build, Build::N | Build::Absent))
        .map(|(option, _)| *option)
        .collect();
    let without = if without.is_empty() { "nothing".to_owned() } else { without.join(", ") };
    (Tone::Plain, format!("{}; without {without}", config.source))
}

/// Where modules are, those in one place together.
fn modules(kernel: &Kernel) -> String {
    let in_state = |state: ModuleState, words: &str| {
        let names: Vec<_> = kernel
            .module_states
            .iter()
            .filter(|(_, found)| found.known() == Some(&state))
            .map(|(name, _)| *name)
            .collect();
        (!names.is_empty()).then(|| format!("{words} {}", names.join(", ")))
    };
    let parts: Vec<_> = [
        in_state(ModuleState::Loaded, "loaded:"),
        in_state(ModuleState::BuiltIn, "built in:"),
        in_state(ModuleState::OnDisk, "on disk:"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "none of KVM's and VFIO's is known".to_owned() } else { parts.join("; ") }
}

fn modprobe(setting: &ModprobeSetting) -> String {
    format!("{}: {}", setting.file, setting.line())
}
