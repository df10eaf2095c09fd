//! A physical function has so many virtual functions.
//!
//! The kernel changes the number only from or to 0 (`EBUSY` otherwise), and a write of 0 while somebody has a virtual
//! function open blocks until they let go, `SIGKILL` or not: so who holds one is asked before. Functions that are
//! destroyed take their drivers and overrides with them; what each had is part of the state, and comes back.
//! Spec: Linux: Documentation/ABI/testing/sysfs-bus-pci, `sriov_numvfs`, `virtfnN`.

use serde::{Deserialize, Serialize};

use super::bind_driver::{self, FunctionState};
use super::{
    Act, ActionError, BETWEEN_TRIES, Footprint, Standing, TRIES, VF_COUNT_LIMIT, device_path, number,
    present, required,
};
use crate::host;
use crate::setup::control::Control;
use crate::spec::pci::PciAddress;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfCount {
    /// The physical function.
    pub pf: PciAddress,
    /// Virtual functions that there should be. From a count that is not 0 to another one takes two steps.
    pub count: u16,
}

/// The virtual functions of a physical function, and what each is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfsState {
    count: u16,
    vfs: Vec<VfState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VfState {
    address: PciAddress,
    function: FunctionState,
}

/// The address of virtual function `index` of `pf`.
pub(super) fn vf_address(
    control: &dyn Control,
    pf: PciAddress,
    index: u16,
) -> Result<PciAddress, ActionError> {
    let path = format!("{}/virtfn{index}", device_path(pf));
    let name = control.source().link_name(&path);
    required(&path, name.parse(&path, |name| name.parse::<PciAddress>()))
}

/// Writes the count and waits for the functions to be there, or gone.
fn set(control: &dyn Control, pf: PciAddress, count: u16) -> Result<(), ActionError> {
    if count == 0 {
        nobody_holds(control, pf)?;
    }
    let path = format!("{}/sriov_numvfs", device_path(pf));
    control.write(&path, &count.to_string(), VF_COUNT_LIMIT)?;
    for _ in 0..TRIES {
        if number::<u16>(control, pf, "sriov_numvfs")? == count && present_vfs(control, pf, count) == count {
            return Ok(());
        }
        control.pause(BETWEEN_TRIES);
    }
    Err(ActionError::NotReached {
        subject: pf.to_string(),
        expected: format!("{count} virtual functions"),
        found: format!("{} of them", present_vfs(control, pf, count)),
    })
}

/// How many of the first `count` virtual functions are there.
fn present_vfs(control: &dyn Control, pf: PciAddress, count: u16) -> u16 {
    let there =
        |index: &u16| vf_address(control, pf, *index).is_ok_and(|address| present(control, address).is_ok());
    u16::try_from((0..count).filter(there).count()).unwrap_or(count)
}

/// Fails if a virtual function of `pf` is in use.
fn nobody_holds(control: &dyn Control, pf: PciAddress) -> Result<(), ActionError> {
    let facts = host::collect(control.source());
    let vfs = facts.device(pf).and_then(|pf| pf.sriov.as_ref()).map_or(&[][..], |sriov| &sriov.vfs);
    vfs.iter().filter_map(|vf| facts.device(*vf.address.known()?)).try_for_each(bind_driver::nobody_uses)
}

impl Act for VfCount {
    type State = VfsState;

    fn observe(&self, control: &dyn Control) -> Result<VfsState, ActionError> {
        present(control, self.pf)?;
        let mut vfs = Vec::new();
        let count = number(control, self.pf, "sriov_numvfs")?;
        for index in 0..count {
            let address = vf_address(control, self.pf, index)?;
            vfs.push(VfState { address, function: FunctionState::observe(control, address)? });
        }
        Ok(VfsState { count, vfs })
    }

    fn act(&self, _prior: &VfsState, control: &dyn Control) -> Result<(), ActionError> {
        set(control, self.pf, self.count)
    }

    fn revert(&self, prior: &VfsState, control: &dyn Control) -> Result<(), ActionError> {
        let now: u16 = number(control, self.pf, "sriov_numvfs")?;
        if now != prior.count {
            if now != 0 && prior.count != 0 {
                set(control, self.pf, 0)?;
            }
            set(control, self.pf, prior.count)?;
        }
        for vf in &prior.vfs {
            if !FunctionState::observe(control, vf.address)?.is_back_to(&vf.function) {
                vf.function.restore(control, vf.address)?;
            }
        }
        Ok(())
    }

    fn standing(&self, prior: &VfsState, now: &VfsState) -> Standing {
        if now.count == self.count {
            Standing::Applied
        } else if now.count == prior.count {
            let back =
                now.vfs.iter().zip(&prior.vfs).all(|(now, prior)| {
                    now.address == prior.address && now.function.is_back_to(&prior.function)
                });
            // Otherwise the functions are there again, but not yet all as they were.
            if back { Standing::Before } else { Standing::Between }
        } else {
            Standing::Drifted(format!("{} virtual functions", now.count))
        }
    }

    fn footprint(&self, prior: &VfsState) -> Footprint {
        let functions = std::iter::once(self.pf).chain(prior.vfs.iter().map(|vf| vf.address));
        Footprint { changes: functions.map(Into::into).collect(), needs: Vec::new() }
    }

    fn describe(&self) -> String {
        match self.count {
            0 => format!("destroy the virtual functions of {}", self.pf),
            1 => format!("create 1 virtual function of {}", self.pf),
            count => format!("create {count} virtual functions of {}", self.pf),
        }
    }

    fn describe_undo(&self, prior: &VfsState) -> String {
        Self { count: prior.count, ..self.clone() }.describe()
    }
}
