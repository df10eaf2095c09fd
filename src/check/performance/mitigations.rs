//! Faults of the processor: open ones, and what the remedies against the others cost a guest.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::scheduling::VULNERABILITIES;

/// Remedies that work on every entry to a guest or exit from it: the fault, words of the kernel's text that tell, and
/// what it does (Linux: Documentation/admin-guide/hw-vuln; arch/x86/kernel/cpu/bugs.c).
const COSTLY: [(&str, &str, &str); 7] = [
    ("l1tf", "VMX: cache flushes", "the first-level cache is flushed on each entry"),
    ("l1tf", "conditional cache flushes", "the first-level cache is flushed on many entries"),
    ("l1tf", "EPT disabled", "guests run on shadow page tables"),
    ("itlb_multihit", "Split huge pages", "huge pages that hold code are broken up"),
    ("spec_rstack_overflow", "IBPB", "branch predictors are cleared on each exit"),
    ("retbleed", "IBPB", "branch predictors are cleared on each exit"),
    ("vmscape", "IBPB", "branch predictors are cleared when a guest's process runs"),
];

/// The kernel's texts, or the answer where there are none or nobody can say.
fn texts(facts: &HostFacts) -> Result<impl Iterator<Item = (&str, &str)>, Outcome> {
    match &facts.scheduling.vulnerabilities {
        Fact::Known(texts) => Ok(texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))),
        Fact::NotPresent => {
            Err(Outcome::not_applicable("this kernel does not tell of the processor's faults"))
        }
        unread => Err(Outcome::unread(unread, "what the kernel does about faults of the processor")),
    }
}

fn with_texts<'a>(outcome: Outcome, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Outcome {
    texts
        .into_iter()
        .fold(outcome, |outcome, (name, text)| outcome.evidence(format!("{VULNERABILITIES}/{name}"), text))
}

/// `performance-sibling-threads`
pub(super) fn sibling_threads(facts: &HostFacts) -> Outcome {
    const ACTIVE: &str = "/sys/devices/system/cpu/smt/active";
    match &facts.topology.smt_active {
        Fact::Known(true) => {}
        Fact::Known(false) => return Outcome::pass("a core runs one thread").evidence(ACTIVE, 0),
        Fact::NotPresent => {
            return Outcome::not_applicable("this kernel does not tell whether cores run several threads");
        }
        unread => return Outcome::unread(unread, "whether cores run several threads"),
    }
    let texts = match texts(facts) {
        Ok(texts) => texts,
        Err(outcome) => return outcome,
    };
    let exposed: Vec<_> = texts.filter(|(_, text)| text.contains("SMT vulnerable")).collect();
    if exposed.is_empty() {
        return Outcome::pass("cores run several threads, and no known fault crosses between them")
            .evidence(ACTIVE, 1)
            .evidence(VULNERABILITIES, "none says `SMT vulnerable`");
    }
    let names: Vec<_> = exposed.iter().map(|(name, _)| *name).collect();
    let warn =
        Outcome::warn(format!("a guest may read what the sibling thread works on ({})", names.join(", ")))
            .evidence(ACTIVE, 1);
    with_texts(warn, exposed)
        .cause("the processor shares buffers between threads, and the remedies do not reach a running sibling")
        .remedy(Remedy::advice(
            "where guests do not trust each other: give each whole cores, by pinning or core scheduling (`coresched \
             new` of util-linux 2.40)",
        ))
        .remedy(Remedy::kernel_argument(facts, "nosmt"))
}

/// `performance-vulnerabilities`
pub(super) fn open(facts: &HostFacts) -> Outcome {
    if let Err(outcome) = texts(facts) {
        return outcome;
    }
    let open: Vec<_> = facts.scheduling.open_vulnerabilities().collect();
    if open.is_empty() {
        return Outcome::pass("nothing is known that a guest could use")
            .evidence(VULNERABILITIES, "none is open");
    }
    let names: Vec<_> = open.iter().map(|(name, _)| *name).collect();
    let warn = with_texts(
        Outcome::warn(format!("faults of the processor are open to guests: {}", names.join(", "))),
        open.iter().copied(),
    );
    let off = facts.kernel.parameter("mitigations").find(|value| value.split(',').any(|word| word == "off"));
    match off {
        Some(value) => warn
            .evidence("/proc/cmdline", facts.kernel.command_line.known().map_or("", String::as_str))
            .cause(format!("`mitigations={value}` switches the remedies off"))
            .remedy(Remedy::without_kernel_argument(facts, &format!("mitigations={value}"))),
        None => warn
            .cause("the microcode is older than the remedy, or the kernel is")
            .remedy(Remedy::advice(
                "update the firmware, the microcode (packages intel-microcode, amd64-microcode or linux-firmware) and \
                 the kernel; in a virtual machine its hypervisor's",
            )),
    }
}

/// `performance-mitigations`
pub(super) fn costs(facts: &HostFacts) -> Outcome {
    let texts: Vec<_> = match texts(facts) {
        Ok(texts) => texts.collect(),
        Err(outcome) => return outcome,
    };
    let mut costly = Vec::new();
    for (name, text) in texts {
        let cost = COSTLY.iter().find(|(fault, words, _)| *fault == name && text.contains(words));
        costly.extend(cost.map(|(.., does)| (name, text, *does)));
    }
    let Some((first, _, _)) = costly.first() else {
        return Outcome::pass("no remedy works on every entry to a guest")
            .evidence(VULNERABILITIES, "none of the costly ones");
    };
    let does: Vec<_> = costly.iter().map(|(name, _, does)| format!("{does} ({name})")).collect();
    let warn = Outcome::warn(format!("guests pay for remedies: {}", does.join("; ")));
    with_texts(warn, costly.iter().map(|(name, text, _)| (*name, *text)))
        .cause("the processor has these faults, and the kernel works around them")
        .remedy(Remedy::hardware("a processor without these faults"))
        .remedy(Remedy::advice(format!(
            "leave them on where a guest is not trusted like the host; what each costs and how it is tuned stands in \
             the kernel's Documentation/admin-guide/hw-vuln ({first})"
        )))
}
