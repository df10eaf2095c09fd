//! The doctor's floor: opinions about the facts of [`crate::host`], each with its evidence, its cause and what to do.
//!
//! A [`Check`] is a pure function of facts: it reads nothing and prints nothing. What a fact leaves unknown stays
//! [`Status::Unknown`]; that is never a pass. Identifiers are for ever: people paste them into forums and scripts.
//!
//! # How a check is added
//!
//! One entry in the `CHECKS` of the file of its room, and one entry in the `FIXTURES` of its tests: a change to the
//! healthy host of [`fixture`] that makes it pass, one that makes it warn or fail, one that makes it unknown. The law in
//! `tests.rs` holds every check to that.

mod assignment;
mod boot_loader;
mod cpu;
mod diagnosis;
mod firmware;
pub mod groups;
mod interrupts;
mod iommu;
mod kernel;
mod kvm;
mod memory;
mod menus;
mod outcome;
mod pci;
mod performance;
mod remedy;
mod sriov;
mod verdict;
mod vfio;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::pci::PciDevice;
use crate::spec::pci::PciAddress;

pub use assignment::{Assignment, Loss, LossKind, Member, Role};
pub use diagnosis::{Asked, Counts, Diagnosis, diagnose};
pub use outcome::{Evidence, Outcome, Status};
pub use remedy::{Confidence, Remedy, RemedyKind};
pub use verdict::{Verdict, Verdicts, verdicts};

/// One question about a host.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Identifier, for ever: area and subject in kebab-case, such as `iommu-interrupt-remapping`.
    pub id: &'static str,
    /// The question in a few words, for lists: `interrupts are remapped`.
    pub title: &'static str,
    /// What a host must be good for to make the question matter.
    pub purposes: &'static [Purpose],
    /// Why it matters, in one to three sentences for somebody who has not met the subject. `doctor --explain ID` prints it.
    pub why: &'static str,
    /// Where to read on: a specification with its section, a file of the kernel's documentation.
    pub refs: &'static [&'static str],
    /// The question itself.
    pub run: Question,
}

/// Whom a check asks about.
#[derive(Debug, Clone, Copy)]
pub enum Question {
    /// The host.
    Host(fn(&HostFacts) -> Outcome),
    /// One PCI function of it: can it be passed through, and what does the host lose?
    Function(fn(&HostFacts, &PciDevice) -> Outcome),
}

/// What a host can be asked to be good for (`doctor --for`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Running virtual machines.
    Kvm,
    /// Passing devices through.
    Vfio,
    /// Virtual functions.
    Sriov,
    /// Speed near that of the bare machine.
    Performance,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Kvm, Self::Vfio, Self::Sriov, Self::Performance];

    /// Its name, as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Vfio => "vfio",
            Self::Sriov => "sriov",
            Self::Performance => "performance",
        }
    }
}

/// The answer to one check.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// [`Check::id`].
    pub id: &'static str,
    /// [`Check::title`].
    pub title: &'static str,
    /// The function that was asked about; absent when it was the host.
    pub subject: Option<PciAddress>,
    /// The answer.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Every check, in the order in which they are shown: nearest to the hardware first.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [
        cpu::CHECKS,
        firmware::CHECKS,
        kvm::CHECKS,
        iommu::CHECKS,
        groups::CHECKS,
        pci::CHECKS,
        sriov::CHECKS,
        vfio::CHECKS,
        kernel::CHECKS,
        memory::CHECKS,
        interrupts::CHECKS,
        performance::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// The check named `id`.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static Check> {
    all().find(|check| check.id == id)
}

/// Asks the host everything that matters for `purpose`; everything without one.
#[must_use]
pub fn run(facts: &HostFacts, purpose: Option<Purpose>) -> Vec<Finding> {
    let asked = |check: &&Check| purpose.is_none_or(|purpose| check.purposes.contains(&purpose));
    all()
        .filter(asked)
        .filter_map(|check| match check.run {
            Question::Host(ask) => Some(check.finding(None, ask(facts))),
            Question::Function(_) => None,
        })
        .collect()
}

/// Asks everything about passing `function` through: what is true of the host, then what is true of the function.
#[must_use]
pub fn run_for(facts: &HostFacts, function: &PciDevice) -> Vec<Finding> {
    let mut findings = run(facts, Some(Purpose::Vfio));
    findings.extend(all().filter_map(|check| match check.run {
        Question::Host(_) => None,
        Question::Function(ask) => Some(check.finding(Some(function.address), ask(facts, function))),
    }));
    findings
}

impl Check {
    fn finding(&self, subject: Option<PciAddress>, outcome: Outcome) -> Finding {
        Finding { id: self.id, title: self.title, subject, outcome }
    }
}
