//! The two answers that everybody asks for first: can this host run virtual machines, and can it confine devices?

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;

/// `data.verdicts` of `probe` and `doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Verdicts {
    /// Virtual machines.
    pub kvm: Verdict,
    /// Device assignment.
    pub iommu: Verdict,
}

/// Whether something can be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it can be used; absent where nobody can say.
    pub usable: Option<bool>,
    /// Why. Where several things are wrong at once, the one nearest to the hardware.
    pub reason: Reason,
    /// The same for people.
    pub explanation: String,
}

/// Both verdicts.
#[must_use]
pub fn verdicts(facts: &HostFacts) -> Verdicts {
    Verdicts { kvm: kvm(facts), iommu: iommu(facts) }
}

fn kvm(facts: &HostFacts) -> Verdict {
    let kvm = &facts.kvm;
    Verdict { usable: kvm.usable.known().copied(), reason: kvm.reason, explanation: kvm.explanation.clone() }
}

fn iommu(facts: &HostFacts) -> Verdict {
    let verdict =
        |usable, reason, explanation: &str| Verdict { usable, reason, explanation: explanation.to_owned() };
    match &facts.iommu.dma_remapping {
        Fact::Known(true) => verdict(Some(true), Reason::Ok, "the kernel runs an IOMMU"),
        Fact::Known(false) => verdict(Some(false), Reason::Unknown, "the kernel runs no IOMMU"),
        _ => verdict(None, Reason::Unknown, "whether the kernel runs an IOMMU could not be read"),
    }
}
