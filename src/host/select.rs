//! Selectors: the ways in which a user names a PCI function, and which functions those are on this host.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::pci::hierarchy::Hierarchy;
use crate::spec::pci::{PciAddress, PciCard, PciIds, PciPath};

/// How a profile names a PCI function. Exactly one way of naming; addresses move when cards do, the others do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// By its address: `0000:01:00.0`.
    Address(PciAddress),
    /// By the path of bridges and device numbers that leads to it: `0000:00:02.0/00.0`.
    Path(PciPath),
    /// All functions of a card, virtual ones not counted: `0000:01:00`.
    Card(PciCard),
    /// By vendor and device ID, if only one function has them: `8086:10c9`.
    Id(PciIds),
    /// By the name of its network interface: `enp1s0f0`.
    Netdev(String),
    /// By the name of a disk on it: `nvme0n1`.
    Disk(String),
    /// All functions in the slot that the port above it numbers so: `3`.
    Slot(u16),
    /// A virtual function, by its physical function and index.
    Vf(VfSelector),
}

/// Virtual function `index` of a physical function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VfSelector {
    /// The physical function.
    pub pf: Box<Selector>,
    /// Index of the virtual function, from 0.
    pub index: u16,
}

/// Why a text on a command line names no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` names no PCI function; write an address (0000:01:00.0), a card (01:00), vendor and device ID (8086:10c9), \
     a path of bridges (0000:00:02.0/00.0), a virtual function (01:00.0/vf0), a disk (/dev/nvme0n1), a network \
     interface, or slot=3",
    .0.escape_debug()
)]
pub struct SelectorError(String);

impl FromStr for Selector {
    type Err = SelectorError;

    /// The short forms that [`SelectorError`] lists.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let error = || SelectorError(text.to_owned());
        if let Some(disk) = text.strip_prefix("/dev/") {
            return Ok(Self::Disk(disk.to_owned()));
        }
        if let Some(number) = text.strip_prefix("slot=") {
            return number.parse().map(Self::Slot).map_err(|_| error());
        }
        if let Some((pf, index)) = text.rsplit_once("/vf") {
            let (pf, index) = (Box::new(pf.parse()?), index.parse().map_err(|_| error())?);
            return Ok(Self::Vf(VfSelector { pf, index }));
        }
        // Which of these a text is, its shape tells alone. No network interface has a `:` or `/` in its name.
        let shaped = (text.parse().map(Self::Address).ok())
            .or_else(|| text.parse().map(Self::Path).ok())
            .or_else(|| text.parse().map(Self::Id).ok())
            .or_else(|| text.parse().map(Self::Card).ok());
        let is_interface = (1..=15).contains(&text.len()) // IFNAMSIZ less the final NUL (Linux: include/uapi/linux/if.h)
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        shaped.or_else(|| is_interface.then(|| Self::Netdev(text.to_owned()))).ok_or_else(error)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "path {path}"),
            Self::Card(card) => write!(f, "card {card}"),
            Self::Id(ids) => write!(f, "{ids}"),
            Self::Netdev(name) => write!(f, "network interface {}", name.escape_debug()),
            Self::Disk(name) => write!(f, "disk {}", name.escape_debug()),
            Self::Slot(number) => write!(f, "slot {number}"),
            Self::Vf(VfSelector { pf, index }) => write!(f, "virtual function {index} of {pf}"),
        }
    }
}

/// Why a selector names no function of this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no function at the address.
    #[error("there is no PCI function {0} on this host; `thruway probe` lists those that are")]
    NoSuchFunction(PciAddress),
    /// No function is named so.
    #[error("{what} is no PCI function of this host{}", clause(.hint))]
    None {
        /// What was to be found.
        what: String,
        /// What there is instead, or what would help.
        hint: String,
    },
    /// Several functions are named so, and one is needed.
    #[error("{what} is {} functions: {}; name one of them by its address or path", .found.len(), list(.found))]
    Several {
        /// What was to be found.
        what: String,
        /// What was.
        found: Vec<PciAddress>,
    },
    /// The physical function of a `vf` selector cannot have virtual functions.
    #[error("{0} has no virtual functions: it offers no SR-IOV, or its firmware or the BIOS keeps it off")]
    NotPhysicalFunction(PciAddress),
    /// The index is above what the physical function can have.
    #[error("{pf} has no virtual function {index}: it can have {total}, numbered from 0")]
    IndexTooLarge {
        /// The physical function.
        pf: PciAddress,
        /// The index that was asked for.
        index: u16,
        /// How many it can have.
        total: u16,
    },
    /// The virtual function could exist and does not yet.
    #[error("virtual function {index} of {pf} does not exist yet; create it first: thruway vf create {pf} --count {}", u32::from(*index) + 1)]
    VfAbsent {
        /// The physical function.
        pf: PciAddress,
        /// The index that was asked for.
        index: u16,
    },
    /// What the host says about it could not be read.
    #[error("cannot tell which function {what} is: {source_path}: {reason}")]
    Unread {
        /// What was to be resolved.
        what: String,
        /// Where the answer would stand.
        source_path: String,
        /// Why it could not be read.
        reason: String,
    },
}

fn clause(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {text}") }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The one function that `selector` names on the host of `facts`.
///
/// # Errors
/// It names none, several, or none that can be told; [`SelectError::VfAbsent`] if it is a virtual function that can be
/// created.
pub fn resolve(facts: &HostFacts, selector: &Selector) -> Result<PciAddress, SelectError> {
    match resolve_all(facts, selector)?.as_slice() {
        [one] => Ok(*one),
        found => Err(SelectError::Several { what: selector.to_string(), found: found.to_vec() }),
    }
}

/// The functions that `selector` names on the host of `facts`: one, or all of a card or a slot.
///
/// # Errors
/// As [`resolve`]; never [`SelectError::Several`] for a card or a slot.
pub fn resolve_all(facts: &HostFacts, selector: &Selector) -> Result<Vec<PciAddress>, SelectError> {
    let what = || selector.to_string();
    let functions = known(&facts.pci.devices, what)?.map_or(&[][..], Vec::as_slice);
    let (found, hint) = match selector {
        Selector::Address(address) => {
            let function = facts.device(*address).ok_or(SelectError::NoSuchFunction(*address))?;
            return Ok(vec![function.address]);
        }
        Selector::Vf(VfSelector { pf, index }) => {
            return virtual_function(facts, resolve(facts, pf)?, *index).map(|vf| vec![vf]);
        }
        Selector::Path(path) => by_path(functions, path),
        Selector::Card(card) => {
            let on_card = |device: &&PciDevice| !is_virtual(device) && card.has(device.address);
            (functions.iter().filter(on_card).collect(), String::new())
        }
        Selector::Id(ids) => (by_ids(functions, *ids, what)?, String::new()),
        Selector::Netdev(name) => by_interface(functions, name, what)?,
        Selector::Disk(name) => by_disk(functions, name, what)?,
        Selector::Slot(number) => by_slot(functions, *number, what)?,
    };
    let found: Vec<_> = found.into_iter().map(|device| device.address).collect();
    let may_be_several = matches!(selector, Selector::Card(_) | Selector::Slot(_));
    match found.len() {
        0 => Err(SelectError::None { what: what(), hint }),
        2.. if !may_be_several => Err(SelectError::Several { what: what(), found }),
        _ => Ok(found),
    }
}

/// What was found, and what to say if that is nothing.
type Found<'a> = (Vec<&'a PciDevice>, String);

fn is_virtual(device: &PciDevice) -> bool {
    device.physical_function != Fact::NotPresent
}

/// The path of bridges to the function at `address`: the name that a renumbering of buses leaves as it is. None for what is
/// not there, or is a virtual function.
#[must_use]
pub fn path_of(facts: &HostFacts, address: PciAddress) -> Option<PciPath> {
    let functions = facts.pci.functions();
    let mut above: Vec<_> =
        Hierarchy::of(functions).above(address).into_iter().map(|bridge| bridge.address).collect();
    above.insert(0, address);
    let root = above.pop()?;
    let below = above.into_iter().rev().map(|address| (address.device, address.function)).collect();
    let path = PciPath { root, below };
    let (found, _) = by_path(functions, &path);
    matches!(found.as_slice(), [one] if one.address == address && !is_virtual(one)).then_some(path)
}

fn by_path<'a>(functions: &'a [PciDevice], path: &PciPath) -> Found<'a> {
    let hierarchy = Hierarchy::of(functions);
    let mut here = functions.iter().find(|device| device.address == path.root);
    let mut hint = format!("there is no function {}", path.root);
    for (device, function) in &path.below {
        let Some(bridge) = here else { break };
        hint = format!("there is no function {device:02x}.{function} right behind {}", bridge.address);
        here = functions.iter().find(|child| {
            (child.address.device, child.address.function) == (*device, *function)
                && !is_virtual(child)
                && hierarchy.parent(child.address).is_some_and(|parent| parent.address == bridge.address)
        });
    }
    (here.into_iter().collect(), hint)
}

fn by_ids(
    functions: &[PciDevice],
    ids: PciIds,
    what: impl Fn() -> String,
) -> Result<Vec<&PciDevice>, SelectError> {
    let mut found = Vec::new();
    for device in functions {
        // One whose IDs cannot be read may be a second one.
        let of = (known(&device.vendor_id, &what)?.copied(), known(&device.device_id, &what)?.copied());
        if of == (Some(ids.vendor), Some(ids.device)) {
            found.push(device);
        }
    }
    Ok(found)
}

fn by_interface<'a>(
    functions: &'a [PciDevice],
    name: &str,
    what: impl Fn() -> String,
) -> Result<Found<'a>, SelectError> {
    let interfaces = |device: &'a PciDevice| device.usage.interfaces.known().into_iter().flatten();
    let found: Vec<_> = functions
        .iter()
        .filter(|device| interfaces(device).any(|interface| interface.name == name))
        .collect();
    if found.is_empty() {
        for device in functions {
            known(&device.usage.interfaces, &what)?;
        }
    }
    let all = || functions.iter().flat_map(interfaces);
    let below: Vec<_> = all()
        .filter(|interface| interface.uppers.iter().any(|upper| upper == name))
        .map(|interface| interface.name.as_str())
        .collect();
    let hint = if below.is_empty() {
        let names: Vec<_> = all().map(|interface| interface.name.as_str()).collect();
        format!("those that are: {}. A function that VFIO has shows no interface", or_none(&names))
    } else {
        format!("it stands on {}: name that", list(&below))
    };
    Ok((found, hint))
}

fn by_disk<'a>(
    functions: &'a [PciDevice],
    name: &str,
    what: impl Fn() -> String,
) -> Result<Found<'a>, SelectError> {
    let disks = |device: &'a PciDevice| device.usage.disks.known().into_iter().flatten();
    let found: Vec<_> =
        functions.iter().filter(|device| disks(device).any(|disk| disk.name == name)).collect();
    if found.is_empty() {
        for device in functions {
            known(&device.usage.disks, &what)?;
        }
    }
    let names: Vec<_> = functions.iter().flat_map(disks).map(|disk| disk.name.as_str()).collect();
    let whole = functions.iter().flat_map(disks).find(|disk| disk.partitions.iter().any(|part| part == name));
    let hint = match whole {
        Some(disk) => format!("it is a partition of {}: name that", disk.name),
        None => format!("disks that are: {}. A function that VFIO has shows no disk", or_none(&names)),
    };
    Ok((found, hint))
}

fn by_slot(
    functions: &[PciDevice],
    number: u16,
    what: impl Fn() -> String,
) -> Result<Found<'_>, SelectError> {
    let (mut ports, mut numbers) = (Vec::new(), Vec::new());
    for device in functions {
        if let Some(slot) = known(&device.ports.express, &what)?.and_then(|express| express.slot.as_ref())
            && slot.number != 0
        {
            numbers.push(slot.number);
            ports.extend((slot.number == number).then_some(device.address));
        }
    }
    let [port] = ports.as_slice() else {
        if ports.len() > 1 {
            return Err(SelectError::Several { what: what(), found: ports });
        }
        numbers.sort_unstable();
        return Ok((Vec::new(), format!("slots that are: {}", or_none(&numbers))));
    };
    let hierarchy = Hierarchy::of(functions);
    let in_slot = |device: &&PciDevice| {
        !is_virtual(device) && hierarchy.parent(device.address).is_some_and(|parent| parent.address == *port)
    };
    Ok((functions.iter().filter(in_slot).collect(), format!("nothing is behind its port {port}")))
}

fn or_none<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { "none".to_owned() } else { list(items) }
}

fn virtual_function(facts: &HostFacts, pf: PciAddress, index: u16) -> Result<PciAddress, SelectError> {
    let function = facts.device(pf).ok_or(SelectError::NoSuchFunction(pf))?;
    let sriov = function.sriov.as_ref().ok_or(SelectError::NotPhysicalFunction(pf))?;
    let what = || format!("virtual function {index} of {pf}");
    if let Some(vf) = sriov.vfs.iter().find(|vf| vf.index == index) {
        return known(&vf.address, what)?.copied().ok_or(SelectError::VfAbsent { pf, index });
    }
    match known(&sriov.total_vfs, what)?.copied() {
        None | Some(0) => Err(SelectError::NotPhysicalFunction(pf)),
        Some(total) if index >= total => Err(SelectError::IndexTooLarge { pf, index, total }),
        Some(_) => Err(SelectError::VfAbsent { pf, index }),
    }
}

/// The value of a fact, none if it is absent; an unread fact is an error about `what`.
fn known<T>(fact: &Fact<T>, what: impl FnOnce() -> String) -> Result<Option<&T>, SelectError> {
    let unread = |source: &String, reason: &str| SelectError::Unread {
        what: what(),
        source_path: source.clone(),
        reason: reason.to_owned(),
    };
    match fact {
        Fact::Known(value) => Ok(Some(value)),
        Fact::NotPresent => Ok(None),
        Fact::Denied { source } => Err(unread(source, "permission denied")),
        Fact::Unreadable { source, reason } => Err(unread(source, reason)),
    }
}
