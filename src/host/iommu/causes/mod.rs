//! Why a group is as it is: the kernel's own rules, replayed over the topology and the registers, and compared with the
//! groups that the kernel made.
//!
//! Linux: drivers/iommu/iommu.c, `pci_device_group`. A function goes into the group of
//! - the bridge to conventional PCI above it, because its requests carry that bridge's requester ID;
//! - else the port above it, if a port from there to the root does not keep peers apart;
//! - else the functions of its slot that use its requester ID, or with which it shares a slot unprotected.
//!
//! Groups are made once, when a function is found. Where today's registers say otherwise than the groups do, that is
//! told as [`CauseKind::Unknown`] and not explained away.

mod replay;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use super::groups::Group;
use super::isolation::{Lack, Rules};
use crate::host::pci::Pci;
use crate::host::pci::ports::services;
use crate::spec::acs::Services;
use crate::spec::pci::PciAddress;

/// One reason for what a group holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What kind of reason.
    pub kind: CauseKind,
    /// Whether it joins functions or keeps them apart.
    pub effect: Effect,
    /// The function it hangs on: the port or bridge without isolation, the function that has a quirk; absent where
    /// nobody can say.
    pub function: Option<PciAddress>,
    /// Whether that function has an ACS capability; absent where that does not matter or could not be read.
    pub acs_capability: Option<bool>,
    /// The services that are missing for isolation: not there without the capability, or offered and switched off.
    #[serde(serialize_with = "services")]
    pub missing: Services,
    /// The members that it joins with others, or keeps from others.
    #[serde(serialize_with = "addresses")]
    pub members: BTreeSet<PciAddress>,
    /// The reason in one sentence.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Sign>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A port has no Access Control Services.
    PortLacksAcs,
    /// A port has them and they are not switched on.
    AcsBitsOff,
    /// A bridge leads to conventional PCI, where there are none.
    BridgeNoIsolation,
    /// Functions share a slot, with nothing between them.
    FunctionsShareSlot,
    /// Functions of the chipset or the processor share a device number, with nothing between them: no slot can be
    /// changed there.
    RootComplexIntegrated,
    /// A function uses the requester ID of another.
    DmaAlias,
    /// The kernel knows that a device keeps peers apart, whatever its registers say.
    Quirk,
    /// A patched kernel was told to believe that peers are kept apart.
    Override,
    /// The rules and the registers, as far as they could be read, do not explain it.
    Unknown,
}

/// What a reason does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Its members are in one group.
    Joins,
    /// Its members are in a group of their own, where registers alone would have them join others.
    KeepsApart,
}

/// Something that was read and that a reason rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sign {
    /// Path or register.
    pub source: String,
    /// What it holds.
    pub value: String,
}

fn addresses<S: Serializer>(members: &BTreeSet<PciAddress>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(members)
}

impl Cause {
    /// The services that `lack` leaves missing, and whether there is a capability.
    fn of_lack(lack: Lack) -> (Option<bool>, Services) {
        match lack {
            Lack::Capability => (Some(false), Services::ISOLATION),
            Lack::Services(off) => (Some(true), off),
            Lack::Express => (None, Services::empty()),
        }
    }
}

/// Adds to each group why it is as it is.
pub(super) fn add(pci: &Pci, groups: &mut [Group], rules: &Rules<'_>) {
    let found = replay::replay(pci, groups, rules);
    for (group, causes) in groups.iter_mut().zip(found) {
        group.causes = causes;
    }
}
