//! A goal as it is kept for the boots to come: with names that last, and with what was behind them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::select::{path_of, resolve, resolve_all};
use crate::setup::goal::{AccessGoal, DeviceGoal, Goal, Selector, VfSelector};
use crate::setup::guard::Consents;
use crate::setup::plan::PlanError;
use crate::spec::pci::{PciAddress, PciIds, PciPath};
use crate::sys::system_file::{SystemFile, SystemTree};

const SCHEMA: u32 = 1;

/// What `/etc/thruway/boot.d/NAME.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistedGoal {
    schema: u32,
    /// Its name, and that of its files.
    pub name: String,
    /// Functions of which the user consented to what a safety rule says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<PciAddress>,
    /// What was behind the names when they were written down; at another device nothing is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expects: Vec<Expected>,
    /// What should be so.
    pub host: Goal,
}

/// A function, as it was when the goal was persisted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The bridges to it.
    pub path: PciPath,
    /// Its vendor and device ID.
    pub ids: PciIds,
    /// Those of its subsystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<PciIds>,
    /// The driver that it should have; none if it is a physical function of virtual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What else was in its IOMMU group, but for virtual functions; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<PciIds>,
}

/// What is in the IOMMU group of `device` beside it: vendor and device IDs, in order. Virtual functions come and go.
pub(super) fn companions(facts: &HostFacts, device: &PciDevice) -> Vec<PciIds> {
    let group = device.iommu_group.known().and_then(|id| facts.group(*id));
    let names = group.and_then(|group| group.devices.known()).map_or(&[][..], Vec::as_slice);
    let others = names.iter().filter_map(|name| facts.device(name.parse().ok()?));
    let mut found: Vec<_> = others
        .filter(|other| other.address != device.address && other.physical_function == Fact::NotPresent)
        .filter_map(|other| ids(&other.vendor_id, &other.device_id))
        .collect();
    found.sort_unstable_by_key(|ids| (ids.vendor, ids.device));
    found
}

fn ids(vendor: &Fact<u16>, device: &Fact<u16>) -> Option<PciIds> {
    Some(PciIds { vendor: *vendor.known()?, device: *device.known()? })
}

/// Why a persisted goal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersistedGoalError {
    /// The file is no such thing.
    #[error("{path}: {reason}; thruway undo removes it, and apply --persist writes it anew")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PersistedGoal {
    pub(super) fn new(
        facts: &HostFacts,
        name: &str,
        goal: &Goal,
        consents: &Consents,
    ) -> Result<Self, PlanError> {
        let mut namer = Namer { facts, expects: Vec::new() };
        let mut host = goal.clone();
        host.kernel_arguments.clear();
        host.devices.clear();
        for device in &goal.devices {
            for select in namer.lasting_all(&device.select, Some(&device.driver))? {
                host.devices.push(DeviceGoal { select, ..device.clone() });
            }
        }
        for sriov in &mut host.sriov {
            sriov.pf = namer.lasting(&sriov.pf, None)?;
        }
        host.access.clear();
        for access in &goal.access {
            for select in namer.lasting_all(&access.select, None)? {
                host.access.push(AccessGoal { select, ..access.clone() });
            }
        }
        let mut allow: Vec<_> = consents.allow.iter().copied().collect();
        allow.sort_unstable();
        Ok(Self { schema: SCHEMA, name: name.to_owned(), allow, expects: namer.expects, host })
    }

    /// Whether anything of it is for a boot to make so. Limits of users are a file alone.
    #[must_use]
    pub fn asks_of_boot(&self) -> bool {
        self.host != Goal { memlock: self.host.memlock.clone(), ..Goal::default() }
    }

    pub(super) fn to_yaml(&self) -> String {
        // Through JSON's model, which has enums as maps of one key, as profiles write them. It cannot fail: the types have
        // string keys and finite numbers only.
        let value = serde_json::to_value(self).unwrap_or_default();
        let text = serde_yaml::to_string(&value).unwrap_or_default();
        format!(
            "# Written by thruway apply --persist: what {unit} makes so at each boot. thruway undo removes it;\n\
             # {skip} on the kernel's command line switches it off for one boot.\n{text}",
            unit = super::units::file(&self.name),
            skip = super::SKIP,
        )
    }

    /// Reads that of `name`; none if nothing is persisted under that name.
    ///
    /// # Errors
    /// [`PersistedGoalError`]; the file, or a directory on the way to it, is not root's alone, too.
    pub fn read(files: &SystemTree, name: &str) -> Result<Option<Self>, PersistedGoalError> {
        let path = super::path(name);
        let invalid = |reason: String| PersistedGoalError::Invalid { path: path.clone(), reason };
        match files.read(&path).map_err(|error| invalid(error.to_string()))? {
            Some(SystemFile::Text { text, .. }) => Self::parse(&text, &path).map(Some),
            Some(SystemFile::Link { .. }) => Err(invalid("it is a symbolic link".to_owned())),
            None => Ok(None),
        }
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`PersistedGoalError`].
    pub fn parse(text: &str, path: &str) -> Result<Self, PersistedGoalError> {
        let invalid = |reason: String| PersistedGoalError::Invalid { path: path.to_owned(), reason };
        let value: serde_json::Value =
            serde_yaml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let goal: Self = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        if goal.schema != SCHEMA {
            return Err(invalid(format!("its schema is {}, and this version reads {SCHEMA}", goal.schema)));
        }
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str());
        if stem != Some(&goal.name) {
            return Err(invalid(format!("it is that of `{}`", goal.name.escape_debug())));
        }
        Ok(goal)
    }
}

/// Finds names that last, and notes what is behind them.
struct Namer<'a> {
    facts: &'a HostFacts,
    expects: Vec<Expected>,
}

impl Namer<'_> {
    /// The name that lasts of the one function that `selector` names.
    fn lasting(&mut self, selector: &Selector, driver: Option<&str>) -> Result<Selector, PlanError> {
        if let Selector::Vf(VfSelector { pf, index }) = selector {
            let pf = Box::new(self.lasting(pf, None)?);
            return Ok(Selector::Vf(VfSelector { pf, index: *index }));
        }
        let address = resolve(self.facts, selector)?;
        self.name(address, driver)
    }

    /// The same, for a selector that may name several.
    fn lasting_all(&mut self, selector: &Selector, driver: Option<&str>) -> Result<Vec<Selector>, PlanError> {
        if matches!(selector, Selector::Vf(_)) {
            return Ok(vec![self.lasting(selector, driver)?]);
        }
        let addresses = resolve_all(self.facts, selector)?;
        addresses.into_iter().map(|address| self.name(address, driver)).collect()
    }

    fn name(&mut self, address: PciAddress, driver: Option<&str>) -> Result<Selector, PlanError> {
        let unnamed =
            |reason: &str| PlanError::Impossible { subject: address.into(), reason: reason.to_owned() };
        let device = self.facts.device(address);
        if let Some(pf) = device.and_then(|device| device.physical_function.known().copied()) {
            let vfs = self.facts.device(pf).and_then(|pf| pf.sriov.as_ref()).map(|sriov| &sriov.vfs);
            let vf = vfs.into_iter().flatten().find(|vf| vf.address == Fact::Known(address));
            let index = vf
                .map(|vf| vf.index)
                .ok_or_else(|| unnamed("which virtual function it is cannot be read"))?;
            let pf = Box::new(self.name(pf, None)?);
            return Ok(Selector::Vf(VfSelector { pf, index }));
        }
        let path = path_of(self.facts, address).ok_or_else(|| {
            unnamed("the bridges to it cannot be read, and its address may change with a boot")
        })?;
        let device = device.ok_or_else(|| unnamed("it is not there"))?;
        let expected = Expected {
            ids: ids(&device.vendor_id, &device.device_id).ok_or_else(|| {
                unnamed("its IDs cannot be read, so it could not be told from another device")
            })?,
            subsystem: ids(&device.subsystem_vendor_id, &device.subsystem_device_id),
            driver: driver.map(str::to_owned),
            group: companions(self.facts, device),
            path: path.clone(),
        };
        match self.expects.iter_mut().find(|other| other.path == path) {
            Some(other) => other.driver = other.driver.take().or(expected.driver),
            None => self.expects.push(expected),
        }
        Ok(Selector::Path(path))
    }
}
