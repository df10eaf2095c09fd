//! What is asked for, with functions in place of selectors.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use super::selected::recreated;
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::select::{SelectError, resolve, resolve_all};
use crate::host::sriov::{Sriov, VirtualFunction};
use crate::setup::action::vf_config::VfSettings;
use crate::setup::goal::{Goal, Selector, SriovGoal};
use crate::spec::pci::PciAddress;

/// What is asked for, with functions in place of selectors.
pub(super) struct Wanted<'a> {
    /// What is not about functions.
    pub(super) goal: &'a Goal,
    pub(super) pfs: Vec<WantedVfs<'a>>,
    /// Everything else that is to be bound, VFs that exist and are not part of `pfs` included.
    pub(super) devices: Vec<WantedDriver<'a>>,
}

pub(super) struct WantedVfs<'a> {
    pub(super) pf: &'a PciDevice,
    pub(super) sriov: &'a Sriov,
    pub(super) goal: &'a SriovGoal,
    pub(super) drivers: BTreeMap<u16, Option<String>>,
    pub(super) settings: BTreeMap<u16, VfSettings>,
}

pub(super) struct WantedDriver<'a> {
    pub(super) device: &'a PciDevice,
    pub(super) driver: Option<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(facts: &'a HostFacts, goal: &'a Goal) -> Result<Self, PlanError> {
        let mut pfs = Vec::<WantedVfs<'a>>::new();
        for goal in &goal.sriov {
            let pf = function(facts, &goal.pf)?;
            if pfs.iter().any(|other| other.pf.address == pf.address) {
                return Err(PlanError::Invalid(format!("{} stands twice in `host.sriov`", pf.address)));
            }
            let sriov = pf.sriov.as_ref().ok_or(SelectError::NotPhysicalFunction(pf.address))?;
            let mut drivers = BTreeMap::new();
            for vf in &goal.vfs {
                let driver = vf.driver.as_deref().map(valid_driver).transpose()?;
                if vf.index >= goal.count || drivers.insert(vf.index, driver).is_some() {
                    return Err(PlanError::Invalid(format!(
                        "virtual function {} of {} stands twice, or above the count of {}",
                        vf.index, pf.address, goal.count
                    )));
                }
            }
            if let Some((position, key, problem)) = goal.wrong_settings().into_iter().next() {
                let index = goal.vfs.get(position).map_or(0, |vf| vf.index);
                return Err(PlanError::Invalid(format!(
                    "{key} of virtual function {index} of {}: {problem}",
                    pf.address
                )));
            }
            let settings = goal.vfs.iter().map(|vf| (vf.index, VfSettings::from(vf)));
            let settings = settings.filter(|(_, settings)| !settings.is_empty()).collect();
            pfs.push(WantedVfs { pf, sriov, goal, drivers, settings });
        }
        let mut devices = Vec::<WantedDriver<'a>>::new();
        for goal in &goal.devices {
            let driver = Some(valid_driver(&goal.driver)?);
            if let Selector::Vf(vf) = &goal.select
                && let pf = resolve(facts, &vf.pf)?
                && let Some(wanted) = pfs.iter_mut().find(|wanted| wanted.pf.address == pf)
            {
                let index = vf.index;
                if index >= wanted.goal.count {
                    return Err(PlanError::Invalid(format!(
                        "virtual function {index} of {pf} is asked for, and {} in all",
                        wanted.goal.count
                    )));
                }
                let before = wanted.drivers.insert(index, driver.clone());
                if before.is_some_and(|before| before != driver) {
                    return Err(twice(&format!("virtual function {index} of {pf}")));
                }
                continue;
            }
            for device in functions(facts, &goal.select)? {
                recreated(&pfs, device)?;
                match devices.iter().find(|other| other.device.address == device.address) {
                    Some(other) if other.driver != driver => return Err(twice(&device.address.to_string())),
                    Some(_) => {}
                    None => devices.push(WantedDriver { device, driver: driver.clone() }),
                }
            }
        }
        Ok(Self { goal, pfs, devices })
    }

    /// The driver that `device`, which exists, is to have, if it is to have another one than now.
    pub(super) fn driver(&self, device: &PciDevice) -> Option<&str> {
        let asked = self.devices.iter().find(|wanted| wanted.device.address == device.address);
        let of_vf = || {
            let (pf, vf) = self.pfs.iter().find_map(|wanted| {
                let is_it = |vf: &&VirtualFunction| vf.address == Fact::Known(device.address);
                Some((wanted, wanted.sriov.vfs.iter().find(is_it)?))
            })?;
            pf.drivers.get(&vf.index)?.as_deref()
        };
        asked.and_then(|wanted| wanted.driver.as_deref()).or_else(of_vf)
    }

    /// The functions that a driver of the host is to lose.
    pub(super) fn taken(&self, facts: &HostFacts) -> BTreeSet<PciAddress> {
        let devices = self.devices.iter().map(|wanted| wanted.device.address);
        let vfs = self.pfs.iter().filter(|wanted| !is_recounted(wanted)).flat_map(|wanted| {
            wanted.drivers.iter().filter(|(_, driver)| driver.is_some()).filter_map(|(index, _)| {
                let vf = wanted.sriov.vfs.iter().find(|vf| vf.index == *index)?;
                facts.device(*vf.address.known()?).map(|device| device.address)
            })
        });
        devices.chain(vfs).collect()
    }
}

pub(super) fn is_recounted(wanted: &WantedVfs<'_>) -> bool {
    wanted.sriov.num_vfs != Fact::Known(wanted.goal.count)
}

pub(super) fn twice(what: &str) -> PlanError {
    PlanError::Invalid(format!("{what} is asked for twice, with different drivers"))
}

pub(super) fn function<'a>(facts: &'a HostFacts, selector: &Selector) -> Result<&'a PciDevice, PlanError> {
    device(facts, resolve(facts, selector)?)
}

/// The functions of a selector that may name several.
pub(super) fn functions<'a>(
    facts: &'a HostFacts,
    selector: &Selector,
) -> Result<Vec<&'a PciDevice>, PlanError> {
    resolve_all(facts, selector)?.into_iter().map(|address| device(facts, address)).collect()
}

pub(super) fn device(facts: &HostFacts, address: PciAddress) -> Result<&PciDevice, PlanError> {
    Ok(facts.device(address).ok_or(SelectError::NoSuchFunction(address))?)
}

/// A driver's name becomes part of a path and an argument of modprobe.
pub(super) fn valid_driver(name: &str) -> Result<String, PlanError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner) {
        Ok(name.to_owned())
    } else {
        Err(PlanError::Invalid(format!("`{}` is not the name of a driver", name.escape_debug())))
    }
}
