//! Parameters of KVM's modules.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::cpu::{Ability, Extension};
use crate::host::fact::Fact;
use crate::host::kvm::Kvm;

/// `kvm-second-level-paging`
pub(super) fn second_level_paging(facts: &HostFacts) -> Outcome {
    let abilities = &facts.cpu.virtualization.abilities;
    let option = |extension| match extension {
        Extension::Vmx => ("ept", "EPT"),
        Extension::Svm => ("npt", "NPT"),
    };
    ask(facts, &abilities.second_level_paging, option)
}

/// `kvm-virtual-apic`
pub(super) fn virtual_apic(facts: &HostFacts) -> Outcome {
    let abilities = &facts.cpu.virtualization.abilities;
    let option = |extension| match extension {
        Extension::Vmx => ("enable_apicv", "APICv"),
        Extension::Svm => ("avic", "AVIC"),
    };
    ask(facts, &abilities.virtual_apic, option)
}

/// `kvm-nested`
pub(super) fn nested(facts: &HostFacts) -> Outcome {
    let abilities = &facts.cpu.virtualization.abilities;
    ask(facts, &abilities.nested, |_| ("nested", "nested virtualization"))
}

/// Whether KVM uses an ability that silicon has; `option` gives the module's parameter and the ability's name.
fn ask(
    facts: &HostFacts,
    ability: &Ability,
    option: impl Fn(Extension) -> (&'static str, &'static str),
) -> Outcome {
    let Some(extension) = facts.cpu.virtualization.extension else {
        return Outcome::not_applicable("KVM has no module for this processor");
    };
    let (parameter, name) = option(extension);
    let path = extension.parameter(parameter);
    let unread = |fact: &Fact<bool>| Outcome::unread(fact, &format!("whether KVM uses {name}"));
    match (&ability.in_use, &ability.in_silicon) {
        (Fact::Known(true), _) => Outcome::pass(format!("KVM uses {name}")).evidence(path, "Y"),
        (_, Fact::Known(false)) => Outcome::not_applicable(format!("the processor has no {name}")),
        (Fact::Known(false), Fact::Known(true)) => switched_off(facts, extension, parameter, name),
        (Fact::Known(false), unknown) => unread(unknown),
        (Fact::NotPresent, _) => {
            Outcome::not_applicable(format!("{} is not loaded, or has no such parameter", extension.module()))
        }
        (unknown, _) => unread(unknown),
    }
}

fn switched_off(facts: &HostFacts, extension: Extension, parameter: &str, name: &str) -> Outcome {
    let module = extension.module();
    let warn = Outcome::warn(format!("KVM does not use {name}, which the processor has"))
        .evidence(extension.parameter(parameter), "N");
    let line = facts.kernel.command_line.known().map_or("", String::as_str);
    let key = format!("{module}.{parameter}=");
    let argument = line.split_ascii_whitespace().find(|word| word.replace('-', "_").starts_with(&key));
    if let Some(argument) = argument {
        return warn
            .evidence("/proc/cmdline", line)
            .cause(format!("`{argument}` on the kernel's command line"))
            .remedy(Remedy::without_kernel_argument(facts, argument));
    }
    warn.cause(format!("an option in /etc/modprobe.d, or the kernel's default for {module}")).remedy(
        Remedy::command(
            format!(
                "echo 'options {module} {parameter}=1' | sudo tee /etc/modprobe.d/{module}-{parameter}.conf && sudo \
                 modprobe -r {module} && sudo modprobe {module}"
            ),
            "from now on; no guest may run meanwhile",
        ),
    )
}

/// `kvm-ignored-msrs`
pub(super) fn ignored_msrs(facts: &HostFacts) -> Outcome {
    match &facts.kvm.ignores_msrs {
        Fact::Known(false) => {
            Outcome::pass("KVM reports accesses to unknown registers").evidence(Kvm::IGNORE_MSRS, "N")
        }
        Fact::Known(true) => Outcome::warn("KVM ignores guests' accesses to unknown registers")
            .evidence(Kvm::IGNORE_MSRS, "Y")
            .cause("`ignore_msrs` was set, by modprobe.d, the command line or by hand")
            .remedy(Remedy::command(
                format!("echo N | sudo tee {}", Kvm::IGNORE_MSRS),
                "until the next boot; take the option out of /etc/modprobe.d and the command line, too. macOS guests \
                 need it set",
            )),
        Fact::NotPresent => Outcome::not_applicable("KVM is not loaded"),
        unread => Outcome::unread(unread, "whether KVM ignores unknown registers"),
    }
}
