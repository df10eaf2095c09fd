//! What the extension can do in silicon. Whether KVM uses it is for the checks of KVM.

use super::in_silicon;
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::cpu::{Ability, Extension};
use crate::host::fact::Fact;

/// An ability in words: what a processor that has it does, and what follows where one lacks it.
struct Words {
    intel: &'static str,
    amd: &'static str,
    has: &'static str,
    lacks: &'static str,
    cause: &'static str,
    cure: &'static str,
}

/// `cpu-second-level-paging`
pub(super) fn second_level_paging(facts: &HostFacts) -> Outcome {
    let ability = &facts.cpu.virtualization.abilities.second_level_paging;
    ask(
        facts,
        ability,
        &Words {
            intel: "EPT",
            amd: "NPT",
            has: "the processor translates guests' addresses itself",
            lacks: "KVM must keep shadow page tables",
            cause: "the processor is from before second-level paging, or the hypervisor below does not show it",
            cure: "a processor since Intel's Nehalem or AMD's family 10h; in a virtual machine, one that is shown it",
        },
    )
}

/// `cpu-tagged-tlb`
pub(super) fn tagged_tlb(facts: &HostFacts) -> Outcome {
    let ability = &facts.cpu.virtualization.abilities.tagged_tlb;
    ask(
        facts,
        ability,
        &Words {
            intel: "VPID",
            amd: "ASIDs",
            has: "translations of guest and host are kept apart",
            lacks: "every exit drops all cached translations",
            cause: "the processor is from before tagged translations, or the hypervisor below does not show them",
            cure: "a processor since Intel's Nehalem; in a virtual machine, one that is shown them",
        },
    )
}

/// `cpu-unrestricted-guest`
pub(super) fn unrestricted_guest(facts: &HostFacts) -> Outcome {
    if facts.cpu.virtualization.extension == Some(Extension::Svm) {
        return Outcome::not_applicable("SVM runs guests in every mode");
    }
    let ability = &facts.cpu.virtualization.abilities.unrestricted_guest;
    ask(
        facts,
        ability,
        &Words {
            intel: "unrestricted guest",
            amd: "",
            has: "guests run in real mode without help",
            lacks: "KVM interprets real mode",
            cause: "the processor is from before Westmere, or the hypervisor below does not show it",
            cure: "a processor since Intel's Westmere; in a virtual machine, one that is shown it",
        },
    )
}

fn ask(facts: &HostFacts, ability: &Ability, words: &Words) -> Outcome {
    let extension = match in_silicon(facts) {
        Ok(extension) => extension,
        Err(outcome) => return outcome,
    };
    let (name, source) = match extension {
        Extension::Vmx => (words.intel, "/proc/cpuinfo, line `vmx flags`"),
        Extension::Svm => (words.amd, "CPUID 0x8000000a"),
    };
    match &ability.in_silicon {
        Fact::Known(true) => Outcome::pass(words.has).evidence(source, format!("{name} is there")),
        Fact::Known(false) => Outcome::warn(format!("the processor has no {name}: {}", words.lacks))
            .evidence(source, format!("{name} is not there"))
            .cause(words.cause)
            .remedy(Remedy::hardware(words.cure)),
        Fact::NotPresent => Outcome::unknown(format!(
            "whether the processor has {name} is told by no line `vmx flags` (Linux 5.6), and root alone may read the \
             register"
        ))
        .remedy(Remedy::command("sudo modprobe msr && sudo thruway doctor", "root may read the register")),
        unread => Outcome::unread(unread, &format!("whether the processor has {name}")),
    }
}
