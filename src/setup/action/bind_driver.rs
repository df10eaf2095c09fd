//! A function has a driver.
//!
//! The recipe: write the driver's name to `driver_override`, unbind the old driver, ask the kernel to probe, read back
//! that the driver is there, and put `driver_override` back to what it was. Never `new_id`, which takes every device with
//! the same IDs. An override is unset by a newline: an unset one *reads* `(null)`, but writing that word stores it, and
//! the function never binds again. `drivers_probe` succeeds when no driver claimed the function, so only the `driver` link
//! tells. Spec: Linux: Documentation/ABI/testing/sysfs-bus-pci, `driver_override`; sysfs-bus, `drivers_probe`.

use serde::{Deserialize, Serialize};

use super::attached::Attached;
use super::{
    Act, ActionError, BETWEEN_TRIES, BIND_LIMIT, Footprint, Standing, TRIES, device_path, optional, present,
    required, set_link, vf_count,
};
use crate::host::{self, pci::PciDevice};
use crate::setup::control::{Control, ControlError};
use crate::setup::guard::{self, Severity};
use crate::spec::pci::PciAddress;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindDriver {
    /// The function. Of a virtual function that is still to be created: where it will be.
    pub function: PciAddress,
    /// Which virtual function of which physical function it is, if it was named so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vf: Option<VfIndex>,
    /// Name of the driver; absent for the one that the kernel chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Virtual function `index` of `pf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfIndex {
    /// The physical function.
    pub pf: PciAddress,
    /// Index from 0.
    pub index: u16,
}

/// A function, as far as binding is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionState {
    /// Vendor and device ID: whether it is still the same device.
    ids: Option<(u16, u16)>,
    /// Driver that is bound.
    pub(super) driver: Option<String>,
    /// Content of `driver_override`, if it is set.
    pub(super) driver_override: Option<String>,
    /// Network interfaces that are up.
    links_up: Vec<String>,
    /// Those that have addresses or are ports of a bridge or a bond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attached: Vec<Attached>,
    /// The physical function, of a virtual one.
    physical_function: Option<PciAddress>,
}

impl FunctionState {
    /// Reads it.
    pub(super) fn observe(control: &dyn Control, function: PciAddress) -> Result<Self, ActionError> {
        present(control, function)?;
        let (links_up, attached) = interfaces(control, function)?;
        let physfn = format!("{}/physfn", device_path(function));
        let physical = control.source().link_name(&physfn).parse(&physfn, |name| name.parse());
        Ok(Self {
            physical_function: optional(&physfn, physical)?,
            ids: Some((id(control, function, "vendor")?, id(control, function, "device")?)),
            driver: driver(control, function)?,
            driver_override: driver_override(control, function)?,
            links_up,
            attached,
        })
    }

    /// Whether everything of `prior` is so again. What was down and is up now is not our matter.
    pub(super) fn is_back_to(&self, prior: &Self) -> bool {
        self.ids == prior.ids
            && self.is_bound_like(prior)
            && prior.links_up.iter().all(|name| self.links_up.contains(name))
            && prior.attached.iter().all(|wanted| self.attached.iter().any(|now| now.has(wanted)))
    }

    fn is_bound_like(&self, other: &Self) -> bool {
        self.driver == other.driver && self.driver_override == other.driver_override
    }

    /// Brings `function` back to this state, from any other.
    pub(super) fn restore(&self, control: &dyn Control, function: PciAddress) -> Result<(), ActionError> {
        match &self.driver {
            Some(name) => attach(control, function, name, self.driver_override.as_deref())?,
            None => {
                detach(control, function)?;
                set_override(control, function, self.driver_override.as_deref())?;
            }
        }
        // Ports of a bond are attached while they are down (Linux: Documentation/networking/bonding.rst).
        for attached in &self.attached {
            await_interface(control, function, &attached.interface)?;
            attached.restore_controller(control)?;
        }
        for name in &self.links_up {
            await_interface(control, function, name)?;
            if !set_link::is_up(control, function, name)? {
                control.set_link(name, true, BIND_LIMIT)?;
            }
        }
        // Addresses of IPv6 go when a link goes down.
        self.attached.iter().try_for_each(|attached| attached.restore_addresses(control))
    }
}

/// The network interfaces of `function` that are up, and those on which something hangs. udev gives a new interface its name
/// while we look: then it is looked again.
fn interfaces(
    control: &dyn Control,
    function: PciAddress,
) -> Result<(Vec<String>, Vec<Attached>), ActionError> {
    let net = format!("{}/net", device_path(function));
    'again: for _ in 0..TRIES {
        let (mut links_up, mut attached) = (Vec::new(), Vec::new());
        for name in optional(&net, control.source().list(&net))?.unwrap_or_default() {
            attached.extend(Attached::observe(control, &name)?);
            let Some(is_up) = set_link::is_up_if_there(control, function, &name)? else { continue 'again };
            links_up.extend(is_up.then_some(name));
        }
        return Ok((links_up, attached));
    }
    Err(ActionError::Unread {
        path: net,
        reason: "the names of its interfaces do not come to rest".to_owned(),
    })
}

/// Waits for an interface; it appears some time after the driver, and udev may give it a name later still.
fn await_interface(control: &dyn Control, function: PciAddress, name: &str) -> Result<(), ActionError> {
    let net = format!("{}/net", device_path(function));
    for _ in 0..TRIES {
        let names = optional(&net, control.source().list(&net))?.unwrap_or_default();
        if names.iter().any(|found| found == name) {
            return Ok(());
        }
        control.pause(BETWEEN_TRIES);
    }
    Err(ActionError::NotReached {
        subject: format!("network interface {name} of {function}"),
        expected: "it to appear again with its driver".to_owned(),
        found: "no interface of this name".to_owned(),
    })
}

fn id(control: &dyn Control, function: PciAddress, attribute: &str) -> Result<u16, ActionError> {
    let path = format!("{}/{attribute}", device_path(function));
    let text = control.source().text(&path);
    required(&path, text.parse(&path, |text| u16::from_str_radix(text.trim().trim_start_matches("0x"), 16)))
}

fn driver(control: &dyn Control, function: PciAddress) -> Result<Option<String>, ActionError> {
    let path = format!("{}/driver", device_path(function));
    optional(&path, control.source().link_name(&path))
}

fn driver_override(control: &dyn Control, function: PciAddress) -> Result<Option<String>, ActionError> {
    let path = format!("{}/driver_override", device_path(function));
    let text = required(&path, control.source().text(&path))?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "(null)"))
}

fn set_override(
    control: &dyn Control,
    function: PciAddress,
    wanted: Option<&str>,
) -> Result<(), ActionError> {
    if driver_override(control, function)?.as_deref() == wanted {
        return Ok(());
    }
    let path = format!("{}/driver_override", device_path(function));
    Ok(control.write(&path, wanted.unwrap_or("\n"), BIND_LIMIT)?)
}

/// Fails if something of this host uses `device`, so that unbinding it would break that, or wait for it for ever.
pub(in crate::setup) fn nobody_uses(device: &PciDevice) -> Result<(), ActionError> {
    match guard::in_use(device).into_iter().find(|found| found.severity == Severity::Refuse) {
        Some(found) => Err(ActionError::InUse { subject: device.address.into(), by: found.evidence }),
        None => Ok(()),
    }
}

/// Takes the driver from `function`, if it has one; fails if somebody uses it.
pub(super) fn detach(control: &dyn Control, function: PciAddress) -> Result<(), ActionError> {
    if !await_unbind(control, function)? {
        return Ok(());
    }
    // Looked at once more right before: an unbind under a running guest waits until that ends.
    host::function(control.source(), function).as_ref().map_or(Ok(()), nobody_uses)?;
    let path = format!("{}/driver/unbind", device_path(function));
    Ok(control.write(&path, &function.to_string(), BIND_LIMIT)?)
}

/// Waits until the driver can be asked to let go; whether there still is one. A driver that is being loaded takes its
/// functions, those that udev finds right after they were created for instance, before it has the attribute (Linux:
/// drivers/base/bus.c, `bus_add_driver`).
fn await_unbind(control: &dyn Control, function: PciAddress) -> Result<bool, ActionError> {
    let directory = format!("{}/driver", device_path(function));
    for _ in 0..TRIES {
        match optional(&directory, control.source().list(&directory))? {
            None => return Ok(false),
            Some(attributes) if attributes.iter().any(|name| name == "unbind") => return Ok(true),
            Some(_) => control.pause(BETWEEN_TRIES),
        }
    }
    Err(ActionError::NotReached {
        subject: function.to_string(),
        expected: format!("{directory}/unbind to appear"),
        found: "a driver that is still being loaded, or cannot be taken from its functions".to_owned(),
    })
}

fn probe(control: &dyn Control, function: PciAddress) -> Result<(), ControlError> {
    control.write("/sys/bus/pci/drivers_probe", &function.to_string(), BIND_LIMIT)
}

/// Binds `name` and leaves `driver_override` as `keep`. The override names the driver in between, so that no other one
/// can take the function, and a virtual function binds although its physical function's autoprobe is off.
fn attach(
    control: &dyn Control,
    function: PciAddress,
    name: &str,
    keep: Option<&str>,
) -> Result<(), ActionError> {
    if driver(control, function)?.as_deref() != Some(name) {
        set_override(control, function, Some(name))?;
        detach(control, function)?;
        probe(control, function)?;
        let mut tries = 1;
        while driver(control, function)?.as_deref() != Some(name) {
            if tries == TRIES {
                return Err(ActionError::NotReached {
                    subject: function.to_string(),
                    expected: format!("driver {name}"),
                    found: driver(control, function)?.map_or_else(
                        || "no driver (the kernel log says why it did not take the function)".to_owned(),
                        |found| format!("driver {found}"),
                    ),
                });
            }
            tries += 1;
            control.pause(BETWEEN_TRIES);
            probe(control, function)?;
        }
    }
    set_override(control, function, keep)
}

/// Waits for the node by which a VFIO driver hands the function's group to user space.
pub(super) fn await_vfio_node(control: &dyn Control, function: PciAddress) -> Result<(), ActionError> {
    let link = format!("{}/iommu_group", device_path(function));
    let Some(group) = optional(&link, control.source().link_name(&link))? else { return Ok(()) };
    for _ in 0..TRIES {
        let nodes = optional("/dev/vfio", control.source().list("/dev/vfio"))?.unwrap_or_default();
        if nodes.contains(&group) {
            return Ok(());
        }
        control.pause(BETWEEN_TRIES);
    }
    Err(ActionError::NotReached {
        subject: function.to_string(),
        expected: format!("/dev/vfio/{group} to appear"),
        found: "no such node".to_owned(),
    })
}

/// Whether `driver` hands functions to user space.
#[must_use]
pub fn is_vfio(driver: &str) -> bool {
    // Variants for single vendors are called like mlx5_vfio_pci (Linux: drivers/vfio/pci).
    driver == "vfio-pci" || driver.ends_with("_vfio_pci") || driver.ends_with("-vfio-pci")
}

impl BindDriver {
    /// With the address that a virtual function really got.
    pub(super) fn resolve(self, control: &dyn Control) -> Result<Self, ActionError> {
        let Some(VfIndex { pf, index }) = self.vf else { return Ok(self) };
        Ok(Self { function: vf_count::vf_address(control, pf, index)?, ..self })
    }
}

impl Act for BindDriver {
    type State = FunctionState;

    fn observe(&self, control: &dyn Control) -> Result<FunctionState, ActionError> {
        FunctionState::observe(control, self.function)
    }

    fn act(&self, prior: &FunctionState, control: &dyn Control) -> Result<(), ActionError> {
        let function = self.function;
        match &self.driver {
            Some(name) => {
                // Before the old driver goes: no window without a driver that could have been avoided.
                let path = format!("/sys/bus/pci/drivers/{name}");
                if optional(&path, control.source().list(&path))?.is_none() {
                    control.load_module(name)?;
                }
                attach(control, function, name, prior.driver_override.as_deref())?;
                if is_vfio(name) { await_vfio_node(control, function) } else { Ok(()) }
            }
            None => {
                let path = format!("{}/modalias", device_path(function));
                if let Some(alias) = optional(&path, control.source().text(&path))?
                    // There may be no driver for it, and then it has none.
                    && let Err(error) = control.load_module(&alias)
                {
                    tracing::debug!(%function, %error, "no module");
                }
                set_override(control, function, None)?;
                if driver(control, function)?.as_deref().is_some_and(is_vfio) {
                    detach(control, function)?;
                }
                Ok(probe(control, function)?)
            }
        }
    }

    fn revert(&self, prior: &FunctionState, control: &dyn Control) -> Result<(), ActionError> {
        prior.restore(control, self.function)
    }

    fn already(&self, prior: &FunctionState) -> bool {
        // Without a driver the kernel has not chosen yet.
        (self.driver.is_some() || prior.driver.is_some()) && self.standing(prior, prior) == Standing::Applied
    }

    fn standing(&self, prior: &FunctionState, now: &FunctionState) -> Standing {
        if now.ids != prior.ids {
            return Standing::Drifted("another device at this address".to_owned());
        }
        let applied = match &self.driver {
            // An override that names this very driver is what a udev rule leaves at a boot.
            Some(name) => {
                now.driver.as_ref() == Some(name)
                    && (now.driver_override == prior.driver_override || now.driver_override == self.driver)
            }
            None => now.driver_override.is_none() && !now.driver.as_deref().is_some_and(is_vfio),
        };
        if applied {
            return Standing::Applied;
        }
        if now.is_back_to(prior) {
            return Standing::Before;
        }
        let ours =
            |found: &Option<String>| found.is_none() || *found == self.driver || *found == prior.driver;
        // Which driver the kernel would choose was not known beforehand.
        let driver_is_ours = self.driver.is_none() || ours(&now.driver);
        let override_is_ours = ours(&now.driver_override) || now.driver_override == prior.driver_override;
        if driver_is_ours && override_is_ours {
            return Standing::Between;
        }
        let name = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        Standing::Drifted(format!("driver {}, override {}", name(&now.driver), name(&now.driver_override)))
    }

    fn footprint(&self, prior: &FunctionState) -> Footprint {
        let needs = prior.physical_function.map(Into::into).into_iter().collect();
        Footprint { changes: vec![self.function.into()], needs }
    }

    fn describe(&self) -> String {
        let what = match self.vf {
            Some(VfIndex { pf, index }) => format!("{} (VF {index} of {pf})", self.function),
            None => self.function.to_string(),
        };
        match &self.driver {
            Some(driver) => format!("bind {what} to {driver}"),
            None => format!("give {what} back to the driver that the kernel chooses"),
        }
    }

    fn describe_undo(&self, prior: &FunctionState) -> String {
        match &prior.driver {
            Some(driver) => format!("bind {} to {driver} again", self.function),
            None => format!("unbind {}", self.function),
        }
    }
}

#[cfg(test)]
mod tests;
