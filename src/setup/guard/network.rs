//! Network interfaces that the host is reached over, or reaches others over.

use super::{Guard, Objection, Rule, consent, refuse, unseen};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::usage::{Interface, SYSTEM_PLACES};

impl Guard<'_> {
    pub(super) fn network(&self, device: &PciDevice) -> Vec<Objection> {
        let interfaces = match &device.usage.interfaces {
            Fact::Known(interfaces) => interfaces,
            Fact::NotPresent => return Vec::new(),
            _ => return vec![unseen(device, "which network interfaces it has")],
        };
        let found = interfaces.iter().flat_map(|interface| {
            [self.interface(device, interface), self.remote_storage(device, interface)]
        });
        found.flatten().collect()
    }

    fn interface(&self, device: &PciDevice, interface: &Interface) -> Option<Objection> {
        let Interface { name, uppers, default_route, routes, .. } = interface;
        let above = uppers.iter().map(|upper| format!(" below {upper}")).collect::<String>();
        match (default_route, routes) {
            (Fact::Known(true), _) if self.is_elsewhere(device, |other| &other.default_route) => {
                Some(consent(
                    Rule::DefaultRoute,
                    device,
                    format!("a default route of this host leads over {name}{above}"),
                ))
            }
            (Fact::Known(true), _) => Some(refuse(
                Rule::OnlyDefaultRoute,
                device,
                format!("the only default route of this host leads over {name}{above}"),
                "give the host another way out first",
            )),
            (Fact::Known(false), Fact::Known(true)) if self.consents.remote_session => {
                if self.is_elsewhere(device, |other| &other.routes) {
                    let evidence =
                        format!("routes lead over {name}{above}, and this session came over the network");
                    Some(consent(Rule::SessionPath, device, evidence))
                } else {
                    Some(refuse(
                        Rule::SessionPath,
                        device,
                        format!("this session came over the network, and only {name}{above} has routes"),
                        "do it from a console, or give the host another way in first",
                    ))
                }
            }
            (Fact::Known(false), Fact::Known(_)) => None,
            (Fact::Known(false), _) if !self.consents.remote_session => None,
            _ => Some(unseen(device, &format!("whether routes lead over {name}"))),
        }
    }

    /// Which of several ways files come is not told: with another one it is for the user to say.
    fn remote_storage(&self, device: &PciDevice, interface: &Interface) -> Option<Objection> {
        let Interface { name, uppers, routes, .. } = interface;
        if *routes == Fact::Known(false) {
            return None;
        }
        let mounts = match &self.facts.remote_mounts {
            Fact::Known(mounts) => mounts,
            Fact::NotPresent => return None,
            _ => return Some(unseen(device, "what of this host's files comes over the network")),
        };
        let runs = mounts.iter().find(|mount| SYSTEM_PLACES.contains(&mount.at.as_str()));
        let mount = runs.or(mounts.first())?;
        let above = uppers.iter().map(|upper| format!(" below {upper}")).collect::<String>();
        if runs.is_some() && !self.is_elsewhere(device, |other| &other.routes) {
            return Some(refuse(
                Rule::RemoteStorage,
                device,
                format!("this host has {} by {}, and only {name}{above} has routes", mount.at, mount.by),
                "give the host another way to it first",
            ));
        }
        let evidence =
            format!("this host has {} by {}, which may come over {name}{above}", mount.at, mount.by);
        Some(consent(Rule::RemoteStorage, device, evidence))
    }

    /// Whether `what` also holds for an interface of a function that stays.
    fn is_elsewhere(&self, device: &PciDevice, what: impl Fn(&Interface) -> &Fact<bool>) -> bool {
        self.facts
            .pci
            .functions()
            .iter()
            .filter(|other| self.stays(other, device))
            .filter_map(|other| other.usage.interfaces.known())
            .flatten()
            .any(|interface| *what(interface) == Fact::Known(true))
    }
}
