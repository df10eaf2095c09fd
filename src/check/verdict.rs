//! The two answers that everybody asks for first: can this host run virtual machines, and can it confine devices?

mod iommu;

use serde::Serialize;

use super::outcome::Evidence;
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;

const KVM: &str = "/dev/kvm";

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
    /// What it rests on.
    pub evidence: Vec<Evidence>,
}

impl Verdict {
    fn new(usable: Option<bool>, reason: Reason, explanation: impl Into<String>) -> Self {
        Self { usable, reason, explanation: explanation.into(), evidence: Vec::new() }
    }

    fn evidence(mut self, source: impl Into<String>, value: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source: source.into(), value: value.into() });
        self
    }
}

/// Both verdicts.
#[must_use]
pub fn verdicts(facts: &HostFacts) -> Verdicts {
    Verdicts { kvm: kvm(facts), iommu: iommu::verdict(facts) }
}

fn kvm(facts: &HostFacts) -> Verdict {
    let kvm = &facts.kvm;
    let verdict = Verdict::new(kvm.usable.known().copied(), kvm.reason, kvm.explanation.clone());
    let mut verdict = match &kvm.api_version {
        Fact::Known(version) => verdict.evidence(KVM, format!("opened, version {version} of the interface")),
        Fact::NotPresent => verdict.evidence(KVM, "not there"),
        Fact::Denied { source } => verdict.evidence(source, "permission denied"),
        Fact::Unreadable { source, reason } => verdict.evidence(source, reason),
    };
    verdict.evidence.extend(super::cpu::evidence(facts));
    verdict
}
