//! Selectors: the ways in which a user names a PCI function, and which function each one is on this host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::spec::pci::PciAddress;

/// How a profile names a PCI function. Exactly one way of naming; addresses move when cards do, the others do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// By its address: `0000:01:00.0`.
    Address(PciAddress),
    /// By the path of bridges and device numbers that leads to it: `0000:00:02.0/00.0`.
    Path(String),
    /// By vendor and device ID, if only one function has them: `8086:10c9`.
    Id(String),
    /// By the name of its network interface: `enp1s0f0`.
    Netdev(String),
    /// By the name of a disk on it: `nvme0n1`.
    Disk(String),
    /// By the physical slot that firmware names: `3`.
    Slot(String),
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

/// Why a selector names no function of this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no function at the address.
    #[error("there is no PCI function {0} on this host; `thruway probe` lists those that are")]
    NoSuchFunction(PciAddress),
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
    /// This way of naming is part of the format and cannot be resolved yet.
    #[error("selecting a function by `{kind}` is not possible yet; use `address` or `vf`")]
    NotYet {
        /// The selector's key in a profile.
        kind: &'static str,
    },
}

/// The function that `selector` names on the host of `facts`.
///
/// # Errors
/// It names none, or none that can be told; [`SelectError::VfAbsent`] if it is a virtual function that can be created.
pub fn resolve(facts: &HostFacts, selector: &Selector) -> Result<PciAddress, SelectError> {
    let not_yet = |kind| Err(SelectError::NotYet { kind });
    match selector {
        Selector::Address(address) => {
            if facts.device(*address).is_some() {
                Ok(*address)
            } else {
                known(&facts.pci.devices, || address.to_string())?;
                Err(SelectError::NoSuchFunction(*address))
            }
        }
        Selector::Vf(VfSelector { pf, index }) => virtual_function(facts, resolve(facts, pf)?, *index),
        Selector::Path(_) => not_yet("path"),
        Selector::Id(_) => not_yet("id"),
        Selector::Netdev(_) => not_yet("netdev"),
        Selector::Disk(_) => not_yet("disk"),
        Selector::Slot(_) => not_yet("slot"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::collect;
    use crate::host::source::fake::{Entry, FakeHost};

    const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";

    fn host() -> HostFacts {
        let at = |name: &str| format!("{PF}/{name}");
        let host = FakeHost::new(&[
            (&at("vendor"), Entry::Text("0x8086")),
            (&at("sriov_totalvfs"), Entry::Text("7")),
            (&at("sriov_numvfs"), Entry::Text("1")),
            (&at("virtfn0"), Entry::Link("../0000:01:10.0")),
            ("/sys/bus/pci/devices/0000:01:10.0/vendor", Entry::Text("0x8086")),
        ]);
        collect(&host.source())
    }

    fn address(text: &str) -> Selector {
        Selector::Address(text.parse().unwrap())
    }

    fn vf(pf: &str, index: u16) -> Selector {
        Selector::Vf(VfSelector { pf: Box::new(address(pf)), index })
    }

    #[test]
    fn addresses_and_existing_virtual_functions_resolve() {
        let facts = host();
        assert_eq!(resolve(&facts, &address("01:00.0")), Ok("0000:01:00.0".parse().unwrap()));
        assert_eq!(resolve(&facts, &vf("01:00.0", 0)), Ok("0000:01:10.0".parse().unwrap()));
    }

    #[test]
    fn what_is_missing_says_in_which_way() {
        let facts = host();
        let pf: PciAddress = "01:00.0".parse().unwrap();
        let vf_address: PciAddress = "01:10.0".parse().unwrap();
        let absent: PciAddress = "02:00.0".parse().unwrap();
        assert_eq!(resolve(&facts, &address("02:00.0")), Err(SelectError::NoSuchFunction(absent)));
        assert_eq!(resolve(&facts, &vf("01:00.0", 6)), Err(SelectError::VfAbsent { pf, index: 6 }));
        assert_eq!(
            resolve(&facts, &vf("01:00.0", 7)),
            Err(SelectError::IndexTooLarge { pf, index: 7, total: 7 })
        );
        assert_eq!(resolve(&facts, &vf("01:10.0", 0)), Err(SelectError::NotPhysicalFunction(vf_address)));
    }

    #[test]
    fn other_selectors_answer_not_yet_by_name() {
        let error = resolve(&host(), &Selector::Netdev("eth0".to_owned())).unwrap_err();
        assert_eq!(error, SelectError::NotYet { kind: "netdev" });
        assert!(error.to_string().contains("`netdev`"));
    }

    #[test]
    fn a_host_without_sysfs_is_unread_and_not_empty() {
        let facts = collect(&FakeHost::new(&[]).source());
        assert!(matches!(resolve(&facts, &address("01:00.0")), Err(SelectError::Unread { .. })));
    }
}
