//! Arguments of the command line: what they do is told by [`crate::host::kernel::Parameter`]; here is what that means.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::kernel::{Effect, Parameter, Subject};

const COMMAND_LINE: &str = "/proc/cmdline";
const SUBJECT: &str = "which arguments the kernel has";

/// Those of `parameters` that do nothing by themselves, and why. What another one takes back is another question.
pub(in crate::check) fn without_effect<'a>(
    parameters: impl Iterator<Item = &'a Parameter>,
) -> (Vec<String>, Vec<String>) {
    parameters
        .filter(|parameter| {
            parameter.taken_back_by.is_none()
                && matches!(parameter.effect, Effect::Ignored | Effect::WrongValue)
        })
        .map(|parameter| (parameter.text(), parameter.reason.clone().unwrap_or_default()))
        .unzip()
}

/// The arguments that are known, or the answer where they could not be read.
fn parameters(facts: &HostFacts) -> Result<&[Parameter], Outcome> {
    match &facts.kernel.parameters {
        Fact::Known(parameters) => Ok(parameters),
        unread => Err(Outcome::unread(unread, SUBJECT)),
    }
}

fn line(facts: &HostFacts) -> &str {
    facts.kernel.command_line.known().map_or("", String::as_str)
}

/// Those in effect that `picks` has something to say about, with what it says.
fn picked<'a, T>(
    parameters: &'a [Parameter],
    picks: impl Fn(&'a Parameter) -> Option<T>,
) -> Vec<(&'a Parameter, T)> {
    let working = parameters.iter().filter(|parameter| parameter.effect == Effect::Works);
    working.filter_map(|parameter| Some((parameter, picks(parameter)?))).collect()
}

/// `kernel-arguments`: all but those about the IOMMU, which `iommu-arguments` answers for.
pub(super) fn effective(facts: &HostFacts) -> Outcome {
    let parameters = match parameters(facts) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    let others = parameters.iter().filter(|parameter| parameter.subject != Subject::Iommu);
    let (arguments, reasons) = without_effect(others);
    if arguments.is_empty() {
        return Outcome::pass("no argument that is known is without effect")
            .evidence(COMMAND_LINE, line(facts));
    }
    Outcome::warn(format!("without effect: {}", arguments.join(", ")))
        .evidence(COMMAND_LINE, line(facts))
        .cause(reasons.join("; "))
        .remedy(Remedy::without_kernel_argument(facts, &arguments.join(" ")))
}

/// `kernel-repeated-arguments`
pub(super) fn repeated(facts: &HostFacts) -> Outcome {
    let parameters = match parameters(facts) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    let back: Vec<_> = parameters
        .iter()
        .filter_map(|parameter| Some((parameter.text(), parameter.taken_back_by.as_deref()?)))
        .collect();
    if back.is_empty() {
        return Outcome::pass("no argument takes another one back").evidence(COMMAND_LINE, line(facts));
    }
    let pairs: Vec<_> = back.iter().map(|(text, by)| format!("{text} (by {by})")).collect();
    let texts: Vec<_> = back.into_iter().map(|(text, _)| text).collect();
    Outcome::warn(format!("taken back by a later argument: {}", pairs.join(", ")))
        .evidence(COMMAND_LINE, line(facts))
        .cause("the command line is put together from several places, and the last argument wins")
        .remedy(Remedy::without_kernel_argument(facts, &texts.join(" ")))
}

/// How bad it is to be without a feature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Less,
    Broken,
}

/// `kernel-pci-arguments`
pub(super) fn pci(facts: &HostFacts) -> Outcome {
    const WORDS: [(&str, &str, Harm, &str); 7] = [
        ("pci", "off", Harm::Broken, "there is no PCI"),
        ("pci", "nomsi", Harm::Less, "virtual functions and most modern devices need message interrupts"),
        ("pci", "nommconf", Harm::Less, "ACS and SR-IOV are in the extended configuration space"),
        ("pci", "noari", Harm::Less, "virtual functions behind function number 7 are out of reach"),
        ("pci", "noats", Harm::Less, "devices that cache translations of the IOMMU ask it each time"),
        ("pci", "noaer", Harm::Less, "errors of devices that are passed through stay unseen"),
        (
            "pcie_ports",
            "compat",
            Harm::Less,
            "errors stay unseen and nothing can be plugged while the system runs",
        ),
    ];
    let parameters = match parameters(facts) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    let found: Vec<_> = WORDS
        .iter()
        .filter(|(name, word, ..)| {
            let takes =
                |parameter: &Parameter| parameter.is(name) && parameter.words().any(|text| text == *word);
            !picked(parameters, |parameter| takes(parameter).then_some(())).is_empty()
        })
        .collect();
    let Some(worst) = found.iter().map(|(_, _, harm, _)| *harm).max() else {
        return Outcome::pass("no argument takes features of PCI away").evidence(COMMAND_LINE, line(facts));
    };
    let texts: Vec<_> = found.iter().map(|(name, word, ..)| format!("{name}={word}")).collect();
    let causes: Vec<_> =
        found.iter().map(|(name, word, _, why)| format!("with `{name}={word}` {why}")).collect();
    let summary = format!("features of PCI are switched off: {}", texts.join(", "));
    let outcome = if worst == Harm::Broken { Outcome::fail(summary) } else { Outcome::warn(summary) };
    outcome
        .evidence(COMMAND_LINE, line(facts))
        .cause(causes.join("; "))
        .remedy(Remedy::without_kernel_argument(facts, &texts.join(" ")))
}

/// `kernel-interrupt-controllers`
pub(super) fn interrupt_controllers(facts: &HostFacts) -> Outcome {
    let parameters = match parameters(facts) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    let found = picked(parameters, |parameter| {
        if parameter.is("noapic") {
            Some("without the I/O APIC interrupts are not remapped")
        } else if parameter.is("nolapic") {
            Some("without local APICs there is one processor and no message interrupt")
        } else if parameter.is("acpi") && parameter.value.as_deref() == Some("off") {
            Some("without ACPI the kernel finds neither IOMMU nor all processors")
        } else {
            None
        }
    });
    if found.is_empty() {
        return Outcome::pass("no argument switches interrupt controllers off")
            .evidence(COMMAND_LINE, line(facts));
    }
    let texts: Vec<_> = found.iter().map(|(parameter, _)| parameter.text()).collect();
    let causes: Vec<_> = found.iter().map(|(_, why)| *why).collect();
    Outcome::warn(format!("interrupt controllers are switched off: {}", texts.join(", ")))
        .evidence(COMMAND_LINE, line(facts))
        .cause(causes.join("; "))
        .remedy(Remedy::without_kernel_argument(facts, &texts.join(" ")))
}

/// `kernel-held-back`
pub(super) fn held_back(facts: &HostFacts) -> Outcome {
    const NAMES: [&str; 4] = ["maxcpus", "nr_cpus", "nosmp", "mem"];
    let parameters = match parameters(facts) {
        Ok(parameters) => parameters,
        Err(outcome) => return outcome,
    };
    let found = picked(parameters, |parameter| NAMES.iter().any(|name| parameter.is(name)).then_some(()));
    if found.is_empty() {
        return Outcome::pass("no argument keeps the kernel from processors or memory")
            .evidence(COMMAND_LINE, line(facts));
    }
    let texts: Vec<_> = found.iter().map(|(parameter, ())| parameter.text()).collect();
    let meanings: Vec<_> = found
        .iter()
        .map(|(parameter, ())| {
            format!("{}: {}", parameter.text(), parameter.meaning.as_deref().unwrap_or_default())
        })
        .collect();
    Outcome::warn(format!("the kernel is kept from a part of the machine: {}", texts.join(", ")))
        .evidence(COMMAND_LINE, line(facts))
        .cause(meanings.join("; "))
        .remedy(Remedy::without_kernel_argument(facts, &texts.join(" ")))
}
