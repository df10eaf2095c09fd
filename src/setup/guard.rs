//! What must not be done to a host, and what only with consent.
//!
//! Four answers: fine, refused, refused unless the user consents by naming exactly the device concerned
//! (`--allow ADDR`), fine with a warning. There is no way to force. Each rule has a name that stays, a subject, the evidence that made it
//! apply, and the way out. What cannot be seen is unknown, and the unknown needs consent: it is never silently fine.
//!
//! A controller is judged by its children ([`crate::host::usage`]), an interface by what stands above it, a physical
//! function by its virtual ones.

mod console;
mod disks;
mod isolation;
mod machine;
mod network;
mod rule;
mod volume;
mod warnings;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::spec::pci::{ClassCode, PciAddress};
use disks::disk_in_use;
use machine::machine;

pub use rule::Rule;

/// Whether consent helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// No.
    Refuse,
    /// Yes, by naming the subject.
    NeedsConsent,
    /// It is not needed: the rule is only told.
    Warn,
}

/// A rule that applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Objection {
    /// Whether consent helps.
    pub severity: Severity,
    /// The rule.
    pub rule: Rule,
    /// The function that it protects; the one to name in `--allow`.
    pub subject: PciAddress,
    /// What was seen.
    pub evidence: String,
    /// The way out.
    pub remedy: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}; {}", self.subject, self.rule, self.evidence, self.remedy)
    }
}

/// What the user consents to, and what is known about who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consents {
    /// Functions named by `--allow`.
    pub allow: BTreeSet<PciAddress>,
    /// Whether the session that asks came over the network.
    pub remote_session: bool,
}

impl Consents {
    /// Divides objections into those that stand and those that were consented to.
    #[must_use]
    pub fn divide(&self, objections: Vec<Objection>) -> (Vec<Objection>, Vec<Objection>) {
        objections.into_iter().partition(|objection| match objection.severity {
            Severity::Refuse => true,
            Severity::NeedsConsent => !self.allow.contains(&objection.subject),
            Severity::Warn => false,
        })
    }
}

/// Functions that are to be taken from the host, all of them at once: of two default routes the second is no way out if
/// both go.
#[derive(Debug)]
pub struct Guard<'a> {
    facts: &'a HostFacts,
    consents: &'a Consents,
    taken: &'a BTreeSet<PciAddress>,
}

impl<'a> Guard<'a> {
    /// Judges on `facts`, if `taken` were taken.
    #[must_use]
    pub fn new(facts: &'a HostFacts, consents: &'a Consents, taken: &'a BTreeSet<PciAddress>) -> Self {
        Self { facts, consents, taken }
    }

    /// What speaks against handing `device` to a guest.
    #[must_use]
    pub fn against_passing(&self, device: &PciDevice) -> Vec<Objection> {
        let mut found = self.against_taking(device);
        if !device.is_bridge() {
            found.extend(self.iommu(device));
        }
        found
    }

    /// What speaks against taking `device` from the driver that it has.
    #[must_use]
    pub fn against_taking(&self, device: &PciDevice) -> Vec<Objection> {
        if device.is_bridge() {
            return vec![refuse(
                Rule::Bridge,
                device,
                "it is a bridge, and everything behind it would lose its driver with it",
                "name the functions behind it instead",
            )];
        }
        let mut found = in_use(device);
        found.extend(self.idle_disks(device));
        found.extend(self.behind_volume_management(device));
        found.extend(self.network(device));
        found.extend(self.machine(device));
        found.extend(virtual_functions(device, self.facts));
        found
    }

    /// What the host, or who sits at it, would miss; nothing of a function that was given up before.
    fn machine(&self, device: &PciDevice) -> Vec<Objection> {
        if device.vfio_bound == Fact::Known(true) {
            return Vec::new();
        }
        let Some(class) = device.class.known().map(|class| ClassCode::from_u24(*class)) else {
            return vec![unseen(device, "what kind of function it is")];
        };
        let mut found = self.console(device, class);
        found.extend(machine(device, class));
        found
    }

    /// Whether the host keeps `other` when `device` goes.
    fn stays(&self, other: &PciDevice, device: &PciDevice) -> bool {
        other.address != device.address && !self.taken.contains(&other.address)
    }

    /// What speaks against destroying the virtual functions of `pf`.
    #[must_use]
    pub fn against_destroying_vfs(&self, pf: &PciDevice) -> Vec<Objection> {
        let mut found = Vec::new();
        for vf in vfs(pf, self.facts) {
            let in_use = in_use(vf).into_iter().chain(self.network(vf));
            found.extend(in_use.map(|objection| match objection.severity {
                Severity::Refuse => Objection { rule: Rule::VfInUse, ..objection },
                Severity::NeedsConsent | Severity::Warn => objection,
            }));
        }
        found
    }

    /// What speaks against `count` virtual functions of `pf`.
    #[must_use]
    pub fn against_vf_count(&self, pf: &PciDevice, count: u16) -> Vec<Objection> {
        let Some(sriov) = &pf.sriov else { return Vec::new() };
        match &sriov.total_vfs {
            Fact::Known(total) if count > *total => vec![refuse(
                Rule::VfCountMax,
                pf,
                format!("{count} virtual functions were asked for and it offers {total}"),
                format!("ask for at most {total}"),
            )],
            Fact::Known(_) | Fact::NotPresent => Vec::new(),
            _ => vec![unseen(pf, "how many virtual functions it offers")],
        }
    }
}

/// What uses `device` so that taking it would break something now.
#[must_use]
pub fn in_use(device: &PciDevice) -> Vec<Objection> {
    let mut found = Vec::new();
    match &device.usage.vfio_users {
        Fact::Known(users) => found.extend(users.first().map(|user| {
            let name = user.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            refuse(
                Rule::VfioOpen,
                device,
                format!("process {}{name} holds it through VFIO", user.pid),
                "end that process first",
            )
        })),
        Fact::NotPresent => {}
        _ => found.push(unseen(device, "who holds it through VFIO")),
    }
    match &device.usage.disks {
        Fact::Known(disks) => found.extend(disks.iter().filter_map(|disk| disk_in_use(device, disk))),
        Fact::NotPresent => {}
        _ => found.push(unseen(device, "which disks are below it")),
    }
    found
}

fn virtual_functions(device: &PciDevice, facts: &HostFacts) -> Vec<Objection> {
    let Some(sriov) = &device.sriov else { return Vec::new() };
    match &sriov.num_vfs {
        Fact::Known(0) | Fact::NotPresent => Vec::new(),
        Fact::Known(count) => {
            let used = vfs(device, facts).find_map(|vf| in_use(vf).into_iter().next());
            let used = used.map(|found| format!(", and of {}: {}", found.subject, found.evidence));
            vec![refuse(
                Rule::PfWithVfs,
                device,
                format!(
                    "it has {count} virtual functions, which would go with it{}",
                    used.unwrap_or_default()
                ),
                format!("destroy them first: thruway vf destroy {}", device.address),
            )]
        }
        _ => vec![unseen(device, "whether it has virtual functions")],
    }
}

fn vfs<'a>(pf: &'a PciDevice, facts: &'a HostFacts) -> impl Iterator<Item = &'a PciDevice> {
    let vfs = pf.sriov.as_ref().map_or(&[][..], |sriov| sriov.vfs.as_slice());
    vfs.iter().filter_map(|vf| facts.device(*vf.address.known()?))
}

fn is_sibling(one: &PciDevice, other: &PciDevice) -> bool {
    let slot = |device: &PciDevice| (device.address.domain, device.address.bus, device.address.device);
    slot(one) == slot(other) && one.address != other.address
}

fn refuse(
    rule: Rule,
    device: &PciDevice,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Objection {
    let (evidence, remedy) = (evidence.into(), remedy.into());
    Objection { severity: Severity::Refuse, rule, subject: device.address, evidence, remedy }
}

fn consent(rule: Rule, device: &PciDevice, evidence: String) -> Objection {
    Objection {
        severity: Severity::NeedsConsent,
        rule,
        subject: device.address,
        evidence,
        remedy: format!("if that is fine: --allow {}", device.address),
    }
}

fn unseen(device: &PciDevice, what: &str) -> Objection {
    consent(Rule::Unseen, device, format!("{what} cannot be seen"))
}

#[cfg(test)]
mod tests;
