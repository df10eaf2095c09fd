//! The replay itself: for each function the rule that decides its group, then what the groups say about it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cause, CauseKind, Effect, Sign, words};
use crate::host::fact::Fact;
use crate::host::iommu::groups::Group;
use crate::host::iommu::isolation::{Basis, Isolation, Lack, Override, Rules, is_multifunction};
use crate::host::iommu::quirks;
use crate::host::kernel_log::KernelLog;
use crate::host::pci::hierarchy::Hierarchy;
use crate::host::pci::{Pci, PciDevice};
use crate::spec::acs::Services;
use crate::spec::pci::PciAddress;
use crate::spec::port::PortType;

/// A rule that puts a function into the group of another, if it holds.
struct Link<'a> {
    /// The other function.
    to: PciAddress,
    /// Why.
    why: Why<'a>,
}

/// The rule and the function it hangs on.
enum Why<'a> {
    /// A port on the way to the root does not keep peers apart.
    Port(&'a PciDevice, Lack),
    /// A bridge puts its own requester ID on the requests.
    Bridge(&'a PciDevice),
    /// Neither of two functions of a slot keeps the other out.
    Slot(Lack),
    /// Neither of two functions of a device on a root bus keeps the other out.
    RootBus(Lack),
    /// The function uses another's requester ID.
    Alias(&'a PciDevice),
    /// Nobody can say whether one of these holds.
    Unread { function: &'a PciDevice, source: String, reason: String },
    /// None of these holds, because of a quirk or the override.
    Apart(&'a PciDevice, Basis),
}

/// First of the domains that Linux gives to buses behind Intel's Volume Management Device, whose functions all carry that
/// device's requester ID (Linux: drivers/pci/controller/vmd.c, `vmd_enable_domain`).
const FIRST_DOMAIN_OF_VMD: u32 = 0x1_0000;

/// The causes of each group, in the order of `groups`.
pub(super) fn replay(pci: &Pci, groups: &[Group], rules: &Rules<'_>) -> Vec<Vec<Cause>> {
    let mut group_of = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        group_of.extend(group.functions().map(|function| (function, index)));
    }
    let hierarchy = Hierarchy::of(pci.functions());
    let replay = Replay { pci, rules, hierarchy, group_of };
    let mut found: Vec<_> = groups.iter().map(Found::new).collect();
    for function in pci.functions() {
        let Some(own) = replay.group_of.get(&function.address).copied() else { continue };
        let Some(found) = found.get_mut(own) else { continue };
        for link in replay.links(function) {
            let together = replay.group_of.get(&link.to).map(|other| *other == own);
            found.take(function, &link, together, rules);
        }
    }
    found.into_iter().zip(groups).map(|(found, group)| found.finish(group, rules)).collect()
}

struct Replay<'a> {
    pci: &'a Pci,
    rules: &'a Rules<'a>,
    hierarchy: Hierarchy<'a>,
    group_of: BTreeMap<PciAddress, usize>,
}

impl<'a> Replay<'a> {
    fn isolation(&self, function: &PciDevice) -> Isolation {
        self.rules.isolation(function, self.hierarchy.parent(function.address).is_none())
    }

    /// What decides the group of `function`: the first rule that holds, as the kernel asks them.
    fn links(&self, function: &'a PciDevice) -> Vec<Link<'a>> {
        if function.address.domain >= FIRST_DOMAIN_OF_VMD {
            return self.volume_management(function).into_iter().collect();
        }
        let above = self.hierarchy.above(function.address);
        let mut links = self.alias_above(&above).map_or_else(|| self.ports_above(&above), |link| vec![link]);
        if links.iter().all(|link| matches!(link.why, Why::Apart(..))) {
            links.extend(self.slot(function));
        }
        links
    }

    fn volume_management(&self, function: &'a PciDevice) -> Option<Link<'a>> {
        let group = self.group_of.get(&function.address)?;
        let is_it = |device: &&PciDevice| {
            device.driver.known().is_some_and(|driver| driver == "vmd")
                && self.group_of.get(&device.address) == Some(group)
        };
        let device = self.pci.functions().iter().find(is_it)?;
        Some(Link { to: device.address, why: Why::Alias(device) })
    }

    /// The nearest bridge that puts its own requester ID on requests from behind it (Linux: drivers/pci/search.c,
    /// `pci_for_each_dma_alias`).
    fn alias_above(&self, above: &[&'a PciDevice]) -> Option<Link<'a>> {
        above.iter().find_map(|bridge| {
            let why = match &bridge.ports.express {
                Fact::Known(express) => match express.port_type {
                    PortType::BRIDGE_TO_PCI | PortType::BRIDGE_FROM_PCI => Why::Bridge(bridge),
                    _ => return None,
                },
                Fact::NotPresent => Why::Bridge(bridge),
                Fact::Denied { source } => unread(bridge, source, "permission denied"),
                Fact::Unreadable { source, reason } => unread(bridge, source, reason),
            };
            Some(Link { to: bridge.address, why })
        })
    }

    /// The ports up to the root (Linux: drivers/pci/pci.c, `pci_acs_path_enabled`). All that do not keep peers apart are
    /// told: mending the first alone would change nothing.
    fn ports_above(&self, above: &[&'a PciDevice]) -> Vec<Link<'a>> {
        // The kernel climbs to the first bridge that has a group.
        let Some(nearest) = above.iter().find(|bridge| self.group_of.contains_key(&bridge.address)) else {
            return Vec::new();
        };
        let mut links = Vec::new();
        for port in above {
            let why = match self.isolation(port) {
                Isolation::Open(lack) => Why::Port(port, lack),
                Isolation::Unknown { source, reason } => Why::Unread { function: port, source, reason },
                Isolation::Kept(basis @ (Basis::Quirk(_) | Basis::Override)) => Why::Apart(port, basis),
                Isolation::Kept(Basis::Acs | Basis::SingleFunction) => continue,
            };
            links.push(Link { to: nearest.address, why });
        }
        if links.iter().any(|link| matches!(link.why, Why::Port(..))) {
            links.retain(|link| matches!(link.why, Why::Port(..)));
        }
        links
    }

    /// Other functions of the slot (Linux: drivers/iommu/iommu.c, `get_pci_alias_group` and
    /// `get_pci_function_alias_group`).
    fn slot(&self, function: &'a PciDevice) -> Vec<Link<'a>> {
        let others: Vec<_> = self.siblings(function).collect();
        let mut links = Vec::new();
        if let Some(alias) = quirks::dma_alias(function)
            && let Some(other) = others.iter().find(|other| other.address.function == alias)
        {
            links.push(Link { to: other.address, why: Why::Alias(function) });
        }
        if others.is_empty() || !is_multifunction(function) {
            return links;
        }
        let own = self.isolation(function);
        for other in others {
            let why = match (&own, self.isolation(other)) {
                (Isolation::Open(lack), Isolation::Open(_)) if self.is_chipset(function) => {
                    Why::RootBus(*lack)
                }
                (Isolation::Open(lack), Isolation::Open(_)) => Why::Slot(*lack),
                (Isolation::Kept(basis @ (Basis::Quirk(_) | Basis::Override)), _) => {
                    Why::Apart(function, *basis)
                }
                (Isolation::Kept(_), _) | (_, Isolation::Kept(_)) => continue,
                (Isolation::Unknown { source, reason }, _) => unread(function, source, reason),
                (_, Isolation::Unknown { source, reason }) => unread(other, &source, &reason),
            };
            links.push(Link { to: other.address, why });
        }
        links
    }

    /// Whether the function is on a root bus and no port: part of the chipset or the processor.
    fn is_chipset(&self, function: &PciDevice) -> bool {
        let is_port = function.ports.express.known().is_some_and(|express| express.port_type.leads_down());
        !is_port && self.hierarchy.parent(function.address).is_none()
    }

    /// The other functions of the slot of `function`, its virtual functions left out.
    fn siblings(&self, function: &'a PciDevice) -> impl Iterator<Item = &'a PciDevice> {
        let slot = |address: PciAddress| (address.domain, address.bus, address.device);
        let devices = self.pci.functions();
        let own = slot(function.address);
        let first = devices.partition_point(|device| slot(device.address) < own);
        devices
            .iter()
            .skip(first)
            .take_while(move |device| slot(device.address) == own)
            .filter(|device| device.address != function.address && device.physical_function.known().is_none())
    }
}

fn unread<'a>(function: &'a PciDevice, source: &str, reason: &str) -> Why<'a> {
    Why::Unread { function, source: source.to_owned(), reason: reason.to_owned() }
}

/// What is found about one group.
struct Found {
    causes: BTreeMap<(Effect, CauseKind, Option<PciAddress>), Cause>,
    /// Sets of members that are explained to be together.
    parts: Vec<BTreeSet<PciAddress>>,
}

impl Found {
    fn new(group: &Group) -> Self {
        let parts = group.functions().map(|function| BTreeSet::from([function])).collect();
        Self { causes: BTreeMap::new(), parts }
    }

    /// Takes notice of `link` of `function`; `together` says whether the kernel has both in one group.
    fn take(&mut self, function: &PciDevice, link: &Link<'_>, together: Option<bool>, rules: &Rules<'_>) {
        let own = function.address;
        let (mut cause, joins) = cause(function, link, rules);
        match (together, joins) {
            (Some(true), true) => {
                self.join(own, link.to);
                cause.members.extend([own, link.to]);
            }
            (Some(false), false) => {
                cause.members.insert(own);
            }
            // The kernel did not do what the registers say.
            (Some(false), true) if !matches!(link.why, Why::Unread { .. }) => {
                cause = contradiction(function, link, rules);
            }
            _ => return,
        }
        let key = (cause.effect, cause.kind, cause.function);
        match self.causes.get_mut(&key) {
            Some(known) => {
                known.members.append(&mut cause.members);
                known.missing |= cause.missing;
                for sign in cause.evidence {
                    if !known.evidence.contains(&sign) {
                        known.evidence.push(sign);
                    }
                }
            }
            None => {
                self.causes.insert(key, cause);
            }
        }
    }

    fn join(&mut self, a: PciAddress, b: PciAddress) {
        let place = |parts: &[BTreeSet<PciAddress>], of| parts.iter().position(|part| part.contains(&of));
        let (Some(first), Some(second)) = (place(&self.parts, a), place(&self.parts, b)) else { return };
        if first != second {
            let moved = self.parts.swap_remove(first.max(second));
            if let Some(part) = self.parts.get_mut(first.min(second)) {
                part.extend(moved);
            }
        }
    }

    /// The causes, with what is left unexplained.
    fn finish(self, group: &Group, rules: &Rules<'_>) -> Vec<Cause> {
        let mut causes: Vec<_> = self.causes.into_values().collect();
        for cause in &mut causes {
            cause.summary = words::summary(cause);
        }
        let others: Vec<_> = group
            .devices
            .known()
            .into_iter()
            .flatten()
            .filter(|name| name.parse::<PciAddress>().is_err())
            .map(String::as_str)
            .collect();
        if self.parts.len() > 1 || (!self.parts.is_empty() && !others.is_empty()) {
            causes.push(unexplained(group, &others, rules));
        }
        causes
    }
}

/// What the kernel joined though nothing that could be read says so.
fn unexplained(group: &Group, others: &[&str], rules: &Rules<'_>) -> Cause {
    let summary = if others.is_empty() {
        "the kernel keeps these together, and the registers as they are now do not say why: firmware's table may give \
         two of them one requester ID, or ACS has changed since the groups were made"
            .to_owned()
    } else {
        format!(
            "the kernel has {} in this group, too, probably because firmware's table gives it the same requester ID",
            others.join(", ")
        )
    };
    Cause {
        kind: CauseKind::Unknown,
        effect: Effect::Joins,
        function: None,
        acs_capability: None,
        missing: Services::empty(),
        members: group.functions().collect(),
        summary,
        evidence: log(rules),
    }
}

fn log(rules: &Rules<'_>) -> Vec<Sign> {
    const MOST: usize = 4;
    let sign = |message: &str| Sign { source: KernelLog::SOURCE.to_owned(), value: message.to_owned() };
    rules.messages().take(MOST).map(sign).collect()
}

/// The cause that `link` of `function` is, without members, and whether it would join.
fn cause(function: &PciDevice, link: &Link<'_>, rules: &Rules<'_>) -> (Cause, bool) {
    let first = PciAddress { function: 0, ..function.address };
    let (kind, on, lack, mut evidence) = match &link.why {
        Why::Port(port, lack) => {
            let kind = match lack {
                Lack::Services(_) => CauseKind::AcsBitsOff,
                Lack::Capability => CauseKind::PortLacksAcs,
                Lack::Express => CauseKind::BridgeNoIsolation,
            };
            (kind, port.address, Some(*lack), vec![words::acs(port)])
        }
        Why::Bridge(bridge) => {
            (CauseKind::BridgeNoIsolation, bridge.address, None, vec![words::kind(bridge)])
        }
        Why::Slot(lack) => (CauseKind::FunctionsShareSlot, first, Some(*lack), vec![words::acs(function)]),
        Why::RootBus(lack) => {
            (CauseKind::RootComplexIntegrated, first, Some(*lack), vec![words::acs(function)])
        }
        Why::Alias(device) => (CauseKind::DmaAlias, device.address, None, vec![words::ids(device)]),
        Why::Unread { function, source, reason } => {
            let sign = Sign { source: source.clone(), value: reason.clone() };
            (CauseKind::Unknown, function.address, None, vec![sign])
        }
        Why::Apart(device, Basis::Override) => {
            (CauseKind::Override, device.address, None, vec![words::acs(device)])
        }
        Why::Apart(device, _) => (CauseKind::Quirk, device.address, None, vec![words::ids(device)]),
    };
    match kind {
        CauseKind::AcsBitsOff => evidence.extend(words::arguments(rules)),
        CauseKind::Override => evidence.extend(log(rules)),
        _ => {}
    }
    let joins = !matches!(link.why, Why::Apart(..));
    let (acs_capability, missing) = lack.map_or((None, Services::empty()), Cause::of_lack);
    let cause = Cause {
        kind,
        effect: if joins { Effect::Joins } else { Effect::KeepsApart },
        function: Some(on),
        acs_capability,
        missing,
        members: BTreeSet::new(),
        summary: match &link.why {
            Why::Apart(_, Basis::Quirk(name)) => (*name).to_owned(),
            _ => String::new(),
        },
        evidence,
    };
    (cause, joins)
}

/// What is to be said where the kernel keeps apart what the registers join.
fn contradiction(function: &PciDevice, link: &Link<'_>, rules: &Rules<'_>) -> Cause {
    let (mut cause, _) = cause(function, link, rules);
    let by_override = match &link.why {
        Why::Port(port, _) => rules.acs_override.covers(port),
        Why::Slot(_) | Why::RootBus(_) => rules.acs_override.covers(function),
        _ => false,
    };
    cause.kind = if by_override { CauseKind::Override } else { CauseKind::Unknown };
    cause.effect = Effect::KeepsApart;
    if by_override {
        cause.evidence.push(Sign {
            source: "/proc/cmdline".to_owned(),
            value: format!("{}={}", Override::PARAMETER, rules.acs_override.arguments.join(",")),
        });
    }
    cause.evidence.extend(log(rules));
    cause.members = BTreeSet::from([function.address]);
    cause
}
