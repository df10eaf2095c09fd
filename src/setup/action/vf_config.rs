//! A virtual function has certain settings, as its physical function's driver keeps them: MAC address, VLAN, trust.
//!
//! They are read and set over rtnetlink on the physical function's network interface, and end with the virtual function.
//! Two traps. A driver also lists an address that the function chose itself; written back as the one from before it would
//! be pinned, so where the function's own interface says that it did not get the address from the device, none was set.
//! And a driver reads its address when it is bound: so one of this host goes while the address changes, and comes back
//! with the new one; otherwise its interface would go on with an address that the device no longer lets through.
//! Spec: Linux: include/uapi/linux/if_link.h, `IFLA_VF_*`; Documentation/ABI/testing/sysfs-class-net, `addr_assign_type`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bind_driver::{self, FunctionState, VfIndex, is_vfio};
use super::{
    Act, ActionError, BETWEEN_TRIES, BIND_LIMIT, Footprint, Standing, TRIES, device_path, optional, present,
    required,
};
use crate::host::source::VfLink;
use crate::setup::control::{Control, VfSetting};
use crate::setup::goal::{VfGoal, VfLinkState};
use crate::spec::ethernet::MacAddress;
use crate::spec::pci::PciAddress;
use crate::sys::netlink;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfConfig {
    /// The virtual function; of one that is still to be created, where it will be.
    pub function: PciAddress,
    /// Which virtual function of which physical function it is.
    pub vf: VfIndex,
    /// What should be so.
    pub settings: VfSettings,
}

/// Some of the settings of a virtual function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfSettings {
    /// MAC address; zero for none, so that the function chooses its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// VLAN; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u32>,
    /// Whether it is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Whether it can send only from its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    /// What it may always send, in Mbit/s; 0 for no promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tx_rate_mbps: Option<u32>,
    /// What it may send at most, in Mbit/s; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tx_rate_mbps: Option<u32>,
    /// State of its link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLinkState>,
}

impl From<&VfGoal> for VfSettings {
    fn from(goal: &VfGoal) -> Self {
        Self {
            mac: goal.mac,
            vlan: goal.vlan,
            trust: goal.trust,
            spoof_check: goal.spoof_check,
            min_tx_rate_mbps: goal.min_tx_rate_mbps,
            max_tx_rate_mbps: goal.max_tx_rate_mbps,
            link_state: goal.link_state,
        }
    }
}

impl From<&VfLink> for VfSettings {
    fn from(link: &VfLink) -> Self {
        let states = [VfLinkState::Auto, VfLinkState::Enable, VfLinkState::Disable];
        Self {
            mac: link.mac.as_deref().and_then(|mac| mac.parse().ok()),
            vlan: link.vlan,
            trust: link.trusted,
            spoof_check: link.spoof_check,
            min_tx_rate_mbps: link.min_tx_rate_mbps,
            max_tx_rate_mbps: link.max_tx_rate_mbps,
            link_state: states.into_iter().find(|state| link.link_state.as_deref() == Some(state.name())),
        }
    }
}

impl VfSettings {
    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that `other` does not have, or has otherwise.
    #[must_use]
    pub fn but(&self, other: &Self) -> Self {
        fn differing<T: PartialEq + Copy>(mine: Option<T>, other: Option<T>) -> Option<T> {
            mine.filter(|mine| other != Some(*mine))
        }
        self.with(other, differing, differing, differing, differing)
    }

    /// Those of `all` that are named here.
    fn among(&self, all: &Self) -> Self {
        fn named<T>(mine: Option<T>, other: Option<T>) -> Option<T> {
            mine.and(other)
        }
        self.with(all, named, named, named, named)
    }

    fn with(
        &self,
        other: &Self,
        mac: impl Fn(Option<MacAddress>, Option<MacAddress>) -> Option<MacAddress>,
        number: impl Fn(Option<u32>, Option<u32>) -> Option<u32>,
        switch: impl Fn(Option<bool>, Option<bool>) -> Option<bool>,
        link: impl Fn(Option<VfLinkState>, Option<VfLinkState>) -> Option<VfLinkState>,
    ) -> Self {
        Self {
            mac: mac(self.mac, other.mac),
            vlan: number(self.vlan, other.vlan),
            trust: switch(self.trust, other.trust),
            spoof_check: switch(self.spoof_check, other.spoof_check),
            min_tx_rate_mbps: number(self.min_tx_rate_mbps, other.min_tx_rate_mbps),
            max_tx_rate_mbps: number(self.max_tx_rate_mbps, other.max_tx_rate_mbps),
            link_state: link(self.link_state, other.link_state),
        }
    }

    /// As rtnetlink takes them. What can only be set together with another one leaves that as `now` has it.
    fn as_set(&self, now: &VfLink) -> Vec<VfSetting> {
        let rates = (self.min_tx_rate_mbps, self.max_tx_rate_mbps);
        let rates = (rates != (None, None)).then(|| VfSetting::TxRate {
            min_mbps: rates.0.or(now.min_tx_rate_mbps).unwrap_or_default(),
            max_mbps: rates.1.or(now.max_tx_rate_mbps).unwrap_or_default(),
        });
        let priority = now.vlan_priority.unwrap_or_default();
        let link = self.link_state.map(|state| match state {
            VfLinkState::Auto => netlink::VfLinkState::Auto,
            VfLinkState::Enable => netlink::VfLinkState::Enable,
            VfLinkState::Disable => netlink::VfLinkState::Disable,
        });
        let settings = [
            self.mac.map(VfSetting::Mac),
            self.vlan.map(|number| VfSetting::Vlan { number, priority }),
            self.trust.map(VfSetting::Trust),
            self.spoof_check.map(VfSetting::SpoofCheck),
            rates,
            link.map(VfSetting::LinkState),
        ];
        settings.into_iter().flatten().collect()
    }
}

impl fmt::Display for VfSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.as_set(&VfLink::default());
        f.write_str(&settings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// The settings that are concerned, and what is bound to the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfState {
    settings: VfSettings,
    /// Present where the address is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<FunctionState>,
}

impl VfState {
    /// The function, if a driver of this host has it.
    fn of_host(&self) -> Option<&FunctionState> {
        self.function
            .as_ref()
            .filter(|function| function.driver.as_deref().is_some_and(|name| !is_vfio(name)))
    }

    fn driver(&self) -> Option<&str> {
        self.function.as_ref()?.driver.as_deref()
    }

    /// Whether the driver that a function of this host had in `prior` went for a new address, and is not back in full.
    fn lacks_driver_of(&self, prior: &Self) -> bool {
        prior.of_host().is_some_and(|before| match &self.function {
            Some(now) if now.driver.is_some() && now.driver != before.driver => false,
            Some(now) => !now.is_back_to(before),
            None => false,
        })
    }
}

impl VfConfig {
    /// With the address that the function really got.
    pub(super) fn resolve(self, control: &dyn Control) -> Result<Self, ActionError> {
        Ok(Self { function: self.present(control)?, ..self })
    }

    /// Where the function is.
    fn present(&self, control: &dyn Control) -> Result<PciAddress, ActionError> {
        let VfIndex { pf, index } = self.vf;
        let path = format!("{}/virtfn{index}", device_path(pf));
        let name = control.source().link_name(&path).parse(&path, |name| name.parse::<PciAddress>());
        let function = optional(&path, name)?.ok_or(ActionError::Gone(self.function.into()))?;
        present(control, function)?;
        Ok(function)
    }

    /// The physical function's interface, and what its driver says of this function.
    fn link(&self, control: &dyn Control) -> Result<(String, VfLink), ActionError> {
        let VfIndex { pf, index } = self.vf;
        let net = format!("{}/net", device_path(pf));
        let names = optional(&net, control.source().list(&net))?.unwrap_or_default();
        let links = required("rtnetlink", control.source().vf_links())?;
        let told = links.into_iter().filter(|link| names.contains(&link.interface)).find_map(|link| {
            let vf = link.vfs.into_iter().find(|vf| vf.index == index)?;
            Some((link.interface, vf))
        });
        told.ok_or_else(|| ActionError::Unread {
            path: net,
            reason: format!("no network interface of {pf} tells of its virtual function {index}"),
        })
    }

    /// Makes the settings those of `wanted`, from whatever they are.
    fn write(&self, wanted: &VfSettings, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        let (interface, link) = self.link(control)?;
        for setting in wanted.but(&now.settings).as_set(&link) {
            if matches!(setting, VfSetting::TxRate { .. }) {
                self.await_carrier(&interface, control)?;
            }
            control.set_vf(&interface, self.vf.index, setting, BIND_LIMIT)?;
        }
        Ok(())
    }

    /// Some drivers take rates only while the link's speed is known, which it is some time after it was brought up.
    fn await_carrier(&self, interface: &str, control: &dyn Control) -> Result<(), ActionError> {
        let path = format!("{}/net/{interface}/carrier", device_path(self.vf.pf));
        for _ in 0..TRIES {
            // EINVAL while the interface is down: then waiting does not help.
            let carrier = control.source().text(&path);
            if carrier.known().is_none_or(|carrier| carrier.trim() != "0") {
                break;
            }
            control.pause(BETWEEN_TRIES);
        }
        Ok(())
    }

    /// `listed`, unless the function's own interface chose it.
    fn set_by_host(&self, listed: MacAddress, control: &dyn Control) -> Result<MacAddress, ActionError> {
        /// The interface has the address that the device gave it.
        const NET_ADDR_PERM: &str = "0";
        let net = format!("{}/net", device_path(self.function));
        for name in optional(&net, control.source().list(&net))?.unwrap_or_default() {
            let read = |attribute: &str| {
                let path = format!("{net}/{name}/{attribute}");
                optional(&path, control.source().text(&path))
            };
            let is_its_own = read("address")?.and_then(|text| text.trim().parse().ok()) == Some(listed);
            if is_its_own && read("addr_assign_type")?.is_some_and(|kind| kind.trim() != NET_ADDR_PERM) {
                return Ok(MacAddress::ZERO);
            }
        }
        Ok(listed)
    }

    fn text(&self, settings: &VfSettings) -> String {
        let VfIndex { pf, index } = self.vf;
        format!("set {} (VF {index} of {pf}) to {settings}", self.function)
    }
}

impl Act for VfConfig {
    type State = VfState;

    fn observe(&self, control: &dyn Control) -> Result<VfState, ActionError> {
        let function = self.present(control)?;
        let (interface, link) = self.link(control)?;
        let mut settings = self.settings.among(&VfSettings::from(&link));
        let named = self.settings.as_set(&link);
        if let Some(untold) = named.iter().find(|setting| {
            let told = settings.as_set(&link);
            !told.iter().any(|told| told.name() == setting.name())
        }) {
            return Err(ActionError::Unread {
                path: format!("virtual function {} of {interface}", self.vf.index),
                reason: format!(
                    "its driver does not tell {}, so that could not be put back; leave that out",
                    untold.name()
                ),
            });
        }
        let mut state = None;
        if let Some(listed) = settings.mac {
            settings.mac = Some(self.set_by_host(listed, control)?);
            state = Some(FunctionState::observe(control, function)?);
        }
        Ok(VfState { settings, function: state })
    }

    fn act(&self, prior: &VfState, control: &dyn Control) -> Result<(), ActionError> {
        let rebound = prior.of_host().filter(|_| self.settings.mac != prior.settings.mac);
        if rebound.is_some() {
            bind_driver::detach(control, self.function)?;
        }
        self.write(&self.settings, control)?;
        rebound.map_or(Ok(()), |function| function.restore(control, self.function))
    }

    fn revert(&self, prior: &VfState, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        let is_ours = now.driver().is_none() || now.driver() == prior.driver();
        let rebound = prior.of_host().filter(|_| is_ours);
        if rebound.is_some() && now.settings.mac != prior.settings.mac {
            bind_driver::detach(control, self.function)?;
        }
        self.write(&prior.settings, control)?;
        match rebound {
            Some(before) if !FunctionState::observe(control, self.function)?.is_back_to(before) => {
                before.restore(control, self.function)
            }
            _ => Ok(()),
        }
    }

    fn standing(&self, prior: &VfState, now: &VfState) -> Standing {
        let (goal, before, found) = (&self.settings, &prior.settings, &now.settings);
        let foreign = found.but(goal).but(before);
        if !foreign.is_empty() {
            Standing::Drifted(foreign.to_string())
        } else if now.lacks_driver_of(prior) {
            Standing::Between
        } else if goal.but(found).is_empty() {
            Standing::Applied
        } else if before.but(found).is_empty() {
            Standing::Before
        } else {
            Standing::Between
        }
    }

    fn footprint(&self, _prior: &VfState) -> Footprint {
        Footprint { changes: vec![self.function.into()], needs: vec![self.vf.pf.into()] }
    }

    fn describe(&self) -> String {
        self.text(&self.settings)
    }

    fn describe_undo(&self, prior: &VfState) -> String {
        self.text(&prior.settings)
    }
}

#[cfg(test)]
mod tests;
