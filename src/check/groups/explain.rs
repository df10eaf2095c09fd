//! Why one function's group is as it is, and why two functions are in one group or in two: what `thruway groups --why`
//! tells.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{function, listed, remedies};
use crate::check::Remedy;
use crate::check::assignment::{Member, description, members};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::isolation::{Basis, Isolation, Lack, Rules};
use crate::host::iommu::prospects::{Prospect, prospects};
use crate::host::iommu::{Cause, Effect, Group};
use crate::host::pci::PciDevice;
use crate::host::pci::hierarchy::Hierarchy;
use crate::host::pci::ports::{Acs, Express};
use crate::spec::pci::PciAddress;

/// Why the group of one function is as it is. `data` of the document `thruway.group`.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The function.
    pub address: PciAddress,
    /// What it is; absent where it has no name.
    pub description: Option<String>,
    /// Its group; absent if it has none.
    pub iommu_group: Fact<u32>,
    /// Whether VFIO would get the group as it is now.
    pub viable: Fact<bool>,
    /// The answer in one sentence.
    pub summary: String,
    /// The members of the group, itself first.
    pub members: Vec<Member>,
    /// The bridges that lead to it from the root, then itself.
    pub path: Vec<PciAddress>,
    /// The members, and the bridges that lead to them.
    pub tree: Vec<Branch>,
    /// What joins the members, or keeps the function from others.
    pub causes: Vec<Cause>,
    /// What would change it; none where nothing needs to.
    pub remedies: Vec<Remedy>,
    /// What the slots of this host would give the function, were it a card.
    pub slots: Vec<Prospect>,
}

/// Why two functions are in one group, or in two. `data` of the document `thruway.group_pair`.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// The functions.
    pub addresses: [PciAddress; 2],
    /// Their groups.
    pub iommu_groups: [Fact<u32>; 2],
    /// Whether it is one; absent where nobody can say.
    pub together: Option<bool>,
    /// The answer in one sentence.
    pub summary: String,
    /// The two, and the bridges that lead to them.
    pub tree: Vec<Branch>,
    /// What joins them, step by step; or what keeps each from others though its registers do not say so.
    pub causes: Vec<Cause>,
}

/// A function of a tree.
#[derive(Debug, Clone, Serialize)]
pub struct Branch {
    /// Its address.
    pub address: PciAddress,
    /// What it is; absent where it has no name.
    pub description: Option<String>,
    /// Whether it was asked about.
    pub asked: bool,
    /// Its group.
    pub iommu_group: Fact<u32>,
    /// What it is in the PCI Express fabric.
    pub express: Fact<Express>,
    /// Its Access Control Services.
    pub acs: Fact<Acs>,
    /// Whether it keeps its peers apart; absent where registers could not be read.
    pub isolates: Option<bool>,
    /// Why.
    pub state: State,
    /// Functions behind it that the tree holds.
    pub functions: Vec<Branch>,
}

/// Why a function keeps its peers apart, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All that is needed is switched on.
    Acs,
    /// It has no peers.
    SingleFunction,
    /// The kernel knows better than its registers.
    Quirk,
    /// A patched kernel was told to believe so.
    Override,
    /// It has no ACS capability.
    NoAcs,
    /// Services are switched off.
    AcsOff,
    /// It is conventional, or leads to conventional PCI.
    Conventional,
    /// Registers could not be read.
    Unread,
}

/// Why the group of `function` is as it is.
#[must_use]
pub fn explain(facts: &HostFacts, function: &PciDevice) -> Explanation {
    let group = function.iommu_group.known().and_then(|id| facts.group(*id));
    let hierarchy = Hierarchy::of(facts.pci.functions());
    let mut path: Vec<_> = hierarchy.above(function.address).iter().map(|bridge| bridge.address).collect();
    path.reverse();
    path.push(function.address);
    let members = members(facts, function, group);
    let shared = group.is_some_and(|group| {
        super::endpoints(facts, group).any(|other| other != function.address)
            || group.devices.known().is_some_and(|names| names.len() > group.functions().count())
    });
    let asked = BTreeSet::from([function.address]);
    let shown: BTreeSet<_> = group.into_iter().flat_map(Group::functions).chain([function.address]).collect();
    Explanation {
        address: function.address,
        description: description(function),
        iommu_group: function.iommu_group.clone(),
        viable: group.map_or(Fact::NotPresent, |group| group.viable.clone()),
        summary: summary(function, group, shared),
        members,
        path,
        tree: tree(facts, &hierarchy, &shown, &asked),
        causes: group.map(|group| group.causes.clone()).unwrap_or_default(),
        remedies: match group {
            Some(group) if shared => remedies::remedies(facts, function, group),
            _ => Vec::new(),
        },
        slots: prospects(facts, function.address),
    }
}

fn summary(function: &PciDevice, group: Option<&Group>, shared: bool) -> String {
    match (&function.iommu_group, group) {
        (Fact::NotPresent, _) => "it is in no group: no IOMMU translates for it".to_owned(),
        (_, Some(group)) if shared => function::causes(group),
        (_, Some(group)) if !group.causes.is_empty() => {
            group.causes.iter().map(|cause| cause.summary.as_str()).collect::<Vec<_>>().join("; ")
        }
        (_, Some(_)) => {
            "alone: every port up to the root keeps peers apart, and it shares its slot with nobody \
                         that it could reach"
                .to_owned()
        }
        (_, None) => "its group could not be read".to_owned(),
    }
}

/// Why `a` and `b` are in one group, or in two.
#[must_use]
pub fn pair(facts: &HostFacts, a: &PciDevice, b: &PciDevice) -> Pair {
    let groups = [a, b].map(|function| function.iommu_group.known().and_then(|id| facts.group(*id)));
    let together = match (&a.iommu_group, &b.iommu_group) {
        (Fact::Known(first), Fact::Known(second)) => Some(first == second),
        (Fact::NotPresent, Fact::Known(_) | Fact::NotPresent) | (Fact::Known(_), Fact::NotPresent) => {
            Some(false)
        }
        _ => None,
    };
    let causes: Vec<_> = match (together, groups) {
        (Some(true), [Some(group), _]) => chain(group, a.address, b.address),
        _ => groups
            .into_iter()
            .flatten()
            .flat_map(|group| &group.causes)
            .filter(|cause| cause.effect == Effect::KeepsApart)
            .cloned()
            .collect(),
    };
    let hierarchy = Hierarchy::of(facts.pci.functions());
    let asked = BTreeSet::from([a.address, b.address]);
    let words = || causes.iter().map(|cause| cause.summary.as_str()).collect::<Vec<_>>().join("; ");
    let summary = match together {
        None => "their groups could not be read".to_owned(),
        Some(true) if causes.is_empty() => "one group, and why the kernel made it so is not known".to_owned(),
        Some(true) => format!("one group: {}", words()),
        Some(false) if a.iommu_group == Fact::NotPresent || b.iommu_group == Fact::NotPresent => {
            let out = [a, b].into_iter().filter(|function| function.iommu_group == Fact::NotPresent);
            format!("no IOMMU translates for {}", listed(out.map(|function| function.address)))
        }
        Some(false) if !causes.is_empty() => format!("two groups: {}", words()),
        Some(false) => {
            "two groups: no port, bridge or slot that fails to keep peers apart is shared by both".to_owned()
        }
    };
    Pair {
        addresses: [a.address, b.address],
        iommu_groups: [a.iommu_group.clone(), b.iommu_group.clone()],
        together,
        summary,
        tree: tree(facts, &hierarchy, &asked, &asked),
        causes,
    }
}

/// The causes that lead from one member of `group` to another, the fewest there are.
fn chain(group: &Group, from: PciAddress, to: PciAddress) -> Vec<Cause> {
    let joins: Vec<_> = group.causes.iter().filter(|cause| cause.effect == Effect::Joins).collect();
    let mut reached = BTreeMap::from([(from, Vec::new())]);
    let mut edge = vec![from];
    while let Some(place) = edge.first().copied() {
        edge.remove(0);
        let way: Vec<usize> = reached.get(&place).cloned().unwrap_or_default();
        for (index, cause) in joins.iter().enumerate().filter(|(_, cause)| cause.members.contains(&place)) {
            for member in &cause.members {
                if !reached.contains_key(member) {
                    let mut way = way.clone();
                    way.push(index);
                    reached.insert(*member, way);
                    edge.push(*member);
                }
            }
        }
    }
    let way = reached.remove(&to).unwrap_or_default();
    way.into_iter().filter_map(|index| joins.get(index).map(|cause| (*cause).clone())).collect()
}

/// The functions `shown` and the bridges that lead to them.
fn tree(
    facts: &HostFacts,
    hierarchy: &Hierarchy<'_>,
    shown: &BTreeSet<PciAddress>,
    asked: &BTreeSet<PciAddress>,
) -> Vec<Branch> {
    let rules = Rules::of(&facts.kernel, &facts.kernel_log, &facts.iommu.acpi_tables);
    let mut all = shown.clone();
    for function in shown {
        all.extend(hierarchy.above(*function).iter().map(|bridge| bridge.address));
    }
    let mut behind = BTreeMap::<Option<PciAddress>, Vec<Branch>>::new();
    // Higher buses first: what is behind a bridge is complete before the bridge is placed.
    let mut order: Vec<_> = all.into_iter().filter_map(|address| facts.device(address)).collect();
    order.sort_by_key(|device| std::cmp::Reverse(hierarchy.above(device.address).len()));
    for device in order {
        let parent = hierarchy.parent(device.address).map(|bridge| bridge.address);
        let functions = behind.remove(&Some(device.address)).unwrap_or_default();
        let (isolates, state) = state(&rules.isolation(device, parent.is_none()));
        behind.entry(parent).or_default().push(Branch {
            address: device.address,
            description: description(device),
            asked: asked.contains(&device.address),
            iommu_group: device.iommu_group.clone(),
            express: device.ports.express.clone(),
            acs: device.ports.acs.clone(),
            isolates,
            state,
            functions,
        });
    }
    behind.remove(&None).unwrap_or_default()
}

fn state(isolation: &Isolation) -> (Option<bool>, State) {
    match isolation {
        Isolation::Kept(Basis::Acs) => (Some(true), State::Acs),
        Isolation::Kept(Basis::SingleFunction) => (Some(true), State::SingleFunction),
        Isolation::Kept(Basis::Quirk(_)) => (Some(true), State::Quirk),
        // The kernel believes it; nothing is kept apart.
        Isolation::Kept(Basis::Override) => (Some(false), State::Override),
        Isolation::Open(Lack::Capability) => (Some(false), State::NoAcs),
        Isolation::Open(Lack::Services(_)) => (Some(false), State::AcsOff),
        Isolation::Open(Lack::Express) => (Some(false), State::Conventional),
        Isolation::Unknown { .. } => (None, State::Unread),
    }
}
