//! What must not be done to a host, and what only with consent.
//!
//! Three answers: fine, refused, refused unless the user consents by naming exactly the device concerned
//! (`--allow ADDR`). There is no way to force. Each rule has a name that stays, a subject, the evidence that made it
//! apply, and the way out. What cannot be seen is unknown, and the unknown needs consent: it is never silently fine.
//!
//! A controller is judged by its children ([`crate::host::usage`]), an interface by what stands above it, a physical
//! function by its virtual ones.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::usage::{BlockUse, Disk, Interface};
use crate::spec::pci::{ClassCode, PciAddress};

/// The rules. Their names are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Bridges and root ports are never taken.
    Bridge,
    /// A disk below the function is mounted, swap, part of something bigger, or open.
    DiskInUse,
    /// A disk below the function holds partitions or a file system that nobody uses now.
    DiskWithData,
    /// The only way out of this host leads over the function.
    OnlyDefaultRoute,
    /// A default route leads over the function, and another one elsewhere.
    DefaultRoute,
    /// The session that asks may have come over the function.
    SessionPath,
    /// A process, usually a virtual machine, holds the function.
    VfioOpen,
    /// The function's virtual functions would go with it.
    PfWithVfs,
    /// A virtual function that would go is in use.
    VfInUse,
    /// More virtual functions than the device offers.
    VfCountMax,
    /// A display may be the only one.
    Display,
    /// A sound function of a display that stays.
    DisplayAudio,
    /// The keyboard may be on this USB controller.
    UsbController,
    /// A part of the chipset that the host may need.
    Chipset,
    /// Another member of the IOMMU group is used by the host.
    GroupMember,
    /// Firmware demands memory that stays mapped one to one.
    ReservedRegion,
    /// Interrupts are not remapped: a guest could send any to the host.
    InterruptRemapping,
    /// No IOMMU stands between the function and the host's memory.
    NoIommu,
    /// The function cannot be reset.
    NoReset,
    /// What decides about another rule cannot be seen.
    Unseen,
}

impl Rule {
    /// The rule's name, as in documents: `disk-in-use`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::DiskInUse => "disk-in-use",
            Self::DiskWithData => "disk-with-data",
            Self::OnlyDefaultRoute => "only-default-route",
            Self::DefaultRoute => "default-route",
            Self::SessionPath => "session-path",
            Self::VfioOpen => "vfio-open",
            Self::PfWithVfs => "pf-with-vfs",
            Self::VfInUse => "vf-in-use",
            Self::VfCountMax => "vf-count-max",
            Self::Display => "display",
            Self::DisplayAudio => "display-audio",
            Self::UsbController => "usb-controller",
            Self::Chipset => "chipset",
            Self::GroupMember => "group-member",
            Self::ReservedRegion => "reserved-region",
            Self::InterruptRemapping => "interrupt-remapping",
            Self::NoIommu => "no-iommu",
            Self::NoReset => "no-reset",
            Self::Unseen => "unseen",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether consent helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// No.
    Refuse,
    /// Yes, by naming the subject.
    NeedsConsent,
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
        objections.into_iter().partition(|objection| {
            objection.severity == Severity::Refuse || !self.allow.contains(&objection.subject)
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
        found.extend(disks_with_data(device));
        found.extend(self.network(device));
        found.extend(self.console(device));
        found.extend(virtual_functions(device, self.facts));
        found
    }

    /// What speaks against destroying the virtual functions of `pf`.
    #[must_use]
    pub fn against_destroying_vfs(&self, pf: &PciDevice) -> Vec<Objection> {
        let mut found = Vec::new();
        for vf in vfs(pf, self.facts) {
            let in_use = in_use(vf).into_iter().chain(self.network(vf));
            found.extend(in_use.map(|objection| match objection.severity {
                Severity::Refuse => Objection { rule: Rule::VfInUse, ..objection },
                Severity::NeedsConsent => objection,
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

    fn network(&self, device: &PciDevice) -> Vec<Objection> {
        let interfaces = match &device.usage.interfaces {
            Fact::Known(interfaces) => interfaces,
            Fact::NotPresent => return Vec::new(),
            _ => return vec![unseen(device, "which network interfaces it has")],
        };
        interfaces.iter().filter_map(|interface| self.interface(device, interface)).collect()
    }

    fn interface(&self, device: &PciDevice, interface: &Interface) -> Option<Objection> {
        let Interface { name, uppers, default_route, routes, .. } = interface;
        let above = uppers.iter().map(|upper| format!(" below {upper}")).collect::<String>();
        match (default_route, routes) {
            (Fact::Known(true), _) if self.is_elsewhere(device, |other| &other.default_route) => {
                Some(consent(
                    Rule::DefaultRoute,
                    device,
                    format!("a default route of this host leads over {name}{above}"),
                ))
            }
            (Fact::Known(true), _) => Some(refuse(
                Rule::OnlyDefaultRoute,
                device,
                format!("the only default route of this host leads over {name}{above}"),
                "give the host another way out first",
            )),
            (Fact::Known(false), Fact::Known(true)) if self.consents.remote_session => {
                if self.is_elsewhere(device, |other| &other.routes) {
                    let evidence =
                        format!("routes lead over {name}{above}, and this session came over the network");
                    Some(consent(Rule::SessionPath, device, evidence))
                } else {
                    Some(refuse(
                        Rule::SessionPath,
                        device,
                        format!("this session came over the network, and only {name}{above} has routes"),
                        "do it from a console, or give the host another way in first",
                    ))
                }
            }
            (Fact::Known(false), Fact::Known(_)) => None,
            (Fact::Known(false), _) if !self.consents.remote_session => None,
            _ => Some(unseen(device, &format!("whether routes lead over {name}"))),
        }
    }

    /// Whether `what` also holds for an interface of a function that stays.
    fn is_elsewhere(&self, device: &PciDevice, what: impl Fn(&Interface) -> &Fact<bool>) -> bool {
        self.facts
            .pci
            .functions()
            .iter()
            .filter(|other| other.address != device.address && !self.taken.contains(&other.address))
            .filter_map(|other| other.usage.interfaces.known())
            .flatten()
            .any(|interface| *what(interface) == Fact::Known(true))
    }

    /// The ways in which somebody sits at this host, and the parts that it runs on.
    fn console(&self, device: &PciDevice) -> Vec<Objection> {
        if device.vfio_bound == Fact::Known(true) {
            return Vec::new(); // given up before
        }
        let Some(class) = device.class.known().map(|class| ClassCode::from_u24(*class)) else {
            return vec![unseen(device, "what kind of function it is")];
        };
        let found = match (class.base, class.sub) {
            (0x03, _) => {
                let last = !self.facts.pci.functions().iter().any(|other| {
                    other.address != device.address
                        && !self.taken.contains(&other.address)
                        && is_display(other)
                        && other.vfio_bound == Fact::Known(false)
                });
                let serial = self
                    .facts
                    .kernel
                    .parameter("console")
                    .any(|console| console.starts_with("tty") && console.len() > 4);
                if last && !serial && !self.consents.remote_session {
                    Some(refuse(
                        Rule::Display,
                        device,
                        "it is the last display of this host, which has no serial console, and this session is local",
                        "do it over SSH, or give the kernel a serial console first (console=ttyS0)",
                    ))
                } else {
                    Some(consent(
                        Rule::Display,
                        device,
                        "the host may be showing its console on it".to_owned(),
                    ))
                }
            }
            (0x04, 0x01 | 0x03) => self
                .facts
                .pci
                .functions()
                .iter()
                .find(|other| {
                    is_sibling(other, device) && is_display(other) && !self.taken.contains(&other.address)
                })
                .map(|display| {
                    let evidence =
                        format!("it is the sound of display {}, which stays with the host", display.address);
                    consent(Rule::DisplayAudio, device, evidence)
                }),
            (0x0C, 0x03) => {
                let evidence =
                    "what is plugged into it cannot be told yet: the last keyboard may be".to_owned();
                Some(consent(Rule::UsbController, device, evidence))
            }
            (0x06 | 0x08, _) | (0x0C, 0x05) => {
                let evidence = "it is a part of the chipset that the host may need".to_owned();
                Some(consent(Rule::Chipset, device, evidence))
            }
            _ => None,
        };
        found.into_iter().collect()
    }

    fn iommu(&self, device: &PciDevice) -> Vec<Objection> {
        let mut found = Vec::new();
        match &self.facts.iommu.interrupt_remapping {
            Fact::Known(true) => {}
            Fact::Known(false) => found.push(consent(
                Rule::InterruptRemapping,
                device,
                "interrupts are not remapped: the guest that gets it could raise any interrupt of the host"
                    .to_owned(),
            )),
            _ => found.push(unseen(device, "whether interrupts are remapped")),
        }
        match &device.reset_methods {
            Fact::Known(methods) if !methods.is_empty() => {}
            Fact::Known(_) | Fact::NotPresent => found.push(consent(
                Rule::NoReset,
                device,
                "it cannot be reset: the next user gets it as the guest left it".to_owned(),
            )),
            _ => found.push(unseen(device, "whether it can be reset")),
        }
        let group = device.iommu_group.known().and_then(|id| self.facts.group(*id));
        let Some(group) = group else {
            if device.iommu_group.is_unread() || device.iommu_group.known().is_some() {
                found.push(unseen(device, "its IOMMU group"));
            }
            return found;
        };
        if group.no_iommu {
            let evidence = "no IOMMU stands between it and the host's memory (VFIO no-IOMMU mode)".to_owned();
            found.push(consent(Rule::NoIommu, device, evidence));
        }
        match &group.reserved_regions {
            Fact::Known(regions) => {
                let direct = regions.iter().find(|region| region.kind == "direct");
                found.extend(direct.map(|region| {
                    let (start, end) = (region.start, region.end);
                    let evidence = format!(
                        "firmware demands that {start:#x} to {end:#x} stays mapped for group {}, and VFIO will refuse it",
                        group.id
                    );
                    consent(Rule::ReservedRegion, device, evidence)
                }));
            }
            Fact::NotPresent => {}
            _ => found.push(unseen(device, "which memory firmware reserved for its group")),
        }
        if group.devices.is_unread() {
            found.push(unseen(device, "the members of its group"));
        }
        for blocker in &group.blockers {
            let Ok(subject) = blocker.device.parse::<PciAddress>() else { continue };
            if subject != device.address && !self.taken.contains(&subject) {
                let use_ = self.facts.device(subject).map(in_use).unwrap_or_default();
                let also = use_.first().map(|found| format!(" ({})", found.evidence)).unwrap_or_default();
                found.push(Objection {
                    severity: Severity::NeedsConsent,
                    rule: Rule::GroupMember,
                    subject,
                    evidence: format!(
                        "it shares IOMMU group {} with {} and the host uses it by driver {}{also}",
                        group.id, device.address, blocker.driver
                    ),
                    remedy: format!(
                        "the group goes to a guest as a whole: bind {subject} too, or say --allow {subject}"
                    ),
                });
            }
        }
        found
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

fn disk_in_use(device: &PciDevice, disk: &Disk) -> Option<Objection> {
    let uses = match &disk.uses {
        Fact::Known(uses) => uses,
        Fact::NotPresent => return None,
        _ => return Some(unseen(device, &format!("what uses disk {}", disk.name))),
    };
    let (evidence, remedy) = match uses.first()? {
        BlockUse::Mounted { device, at } => {
            (format!("{device} is mounted at {at}"), format!("umount {at} first"))
        }
        BlockUse::Swap { device } => {
            (format!("{device} is active swap"), format!("swapoff /dev/{device} first"))
        }
        BlockUse::Held { device, by } => {
            (format!("{by} is built on {device}"), format!("stop {by} first, or take {device} out of it"))
        }
        BlockUse::Member { device, of } => {
            (format!("{device} is a member of {of}"), format!("take {device} out of it first"))
        }
        BlockUse::Open { device, process } => {
            let name = process.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            (
                format!("process {}{name} holds {device} open", process.pid),
                "end that process first".to_owned(),
            )
        }
    };
    Some(refuse(Rule::DiskInUse, device, evidence, remedy))
}

fn disks_with_data(device: &PciDevice) -> Vec<Objection> {
    let disks = device.usage.disks.known().map_or(&[][..], Vec::as_slice);
    disks
        .iter()
        .filter(|disk| disk.uses.known().is_some_and(Vec::is_empty))
        .filter_map(|disk| {
            let signature = disk.signatures.iter().next().map(|(on, kind)| format!("{on} holds {kind}"));
            let partition =
                || disk.partitions.first().map(|name| format!("{} has a partition {name}", disk.name));
            Some(consent(Rule::DiskWithData, device, signature.or_else(partition)?))
        })
        .collect()
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

fn is_display(device: &PciDevice) -> bool {
    device.class.known().is_some_and(|class| ClassCode::from_u24(*class).base == 0x03)
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
