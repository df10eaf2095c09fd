//! What a boot does with a persisted goal: waits until the devices are there, and makes sure that they are those.

use std::time::Duration;

use super::goal::companions;
use super::{Expected, PersistedGoal};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::select::resolve;
use crate::host::{self, HostFacts};
use crate::setup::control::Control;
use crate::setup::goal::Selector;
use crate::spec::pci::PciIds;

/// How long the devices of a persisted goal are waited for, once the system starts.
pub const PATIENCE: Duration = Duration::from_secs(60);
const NAP: Duration = Duration::from_millis(500);

/// Why a persisted goal is not made so in this boot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A device did not come.
    #[error("{what} is not there {} s after the start; nothing was changed. If it was moved or taken out: thruway undo", PATIENCE.as_secs())]
    Missing {
        /// The device.
        what: String,
    },
    /// Another device is in its place.
    #[error(
        "{path} is another device than when this was persisted ({expected} then, {found} now); nothing was changed. thruway undo, and persist it anew"
    )]
    Replaced {
        /// The bridges to it.
        path: String,
        /// Vendor and device ID then.
        expected: String,
        /// Those of now.
        found: String,
    },
}

/// The facts of the host, once every device of `goal` is there.
///
/// # Errors
/// [`RestoreError`].
pub fn wait(control: &dyn Control, goal: &PersistedGoal) -> Result<HostFacts, RestoreError> {
    let mut waited = Duration::ZERO;
    loop {
        let facts = host::collect(control.source());
        let missing = missing(&facts, goal)?;
        let Some(what) = missing else {
            // An interface that is there may still get its name from udev, and what is planned goes by names.
            return match control.run_tool("udevadm", &["settle", "--timeout=60"], PATIENCE * 2) {
                Ok(_) => Ok(host::collect(control.source())),
                Err(error) => {
                    tracing::debug!(%error, "udev is not waited for");
                    Ok(facts)
                }
            };
        };
        if waited >= PATIENCE {
            return Err(RestoreError::Missing { what });
        }
        control.pause(NAP);
        waited += NAP;
    }
}

/// What is in other company than when it was persisted, each in one sentence: firmware was updated, a card was moved, a kernel
/// sees other bridges. Whether a guest may still have it is for the guard.
#[must_use]
pub fn in_other_company(facts: &HostFacts, goal: &PersistedGoal) -> Vec<String> {
    let list = |ids: &[PciIds]| match ids {
        [] => "nothing".to_owned(),
        ids => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let differs = |expected: &Expected| {
        let address = resolve(facts, &Selector::Path(expected.path.clone())).ok()?;
        let now = companions(facts, facts.device(address)?);
        let text = || {
            format!(
                "{address} shares its IOMMU group with {} now, and with {} when it was persisted",
                list(&now),
                list(&expected.group)
            )
        };
        (expected.driver.is_some() && now != expected.group).then(text)
    };
    goal.expects.iter().filter_map(differs).collect()
}

/// The first device that is not there, or not ready.
fn missing(facts: &HostFacts, goal: &PersistedGoal) -> Result<Option<String>, RestoreError> {
    for expected in &goal.expects {
        let path = expected.path.to_string();
        let Some(device) = resolve(facts, &Selector::Path(expected.path.clone()))
            .ok()
            .and_then(|address| facts.device(address))
        else {
            return Ok(Some(format!("the device at {path} ({})", expected.ids)));
        };
        let found = (device.vendor_id.known().copied(), device.device_id.known().copied());
        if found != (Some(expected.ids.vendor), Some(expected.ids.device)) {
            let text = |id: Option<u16>| id.map_or_else(|| "unknown".to_owned(), |id| format!("{id:04x}"));
            let found = format!("{}:{}", text(found.0), text(found.1));
            return Err(RestoreError::Replaced { path, expected: expected.ids.to_string(), found });
        }
    }
    for sriov in &goal.host.sriov {
        let pf = resolve(facts, &sriov.pf).ok().and_then(|address| facts.device(address));
        if !pf.is_some_and(|pf| is_ready(pf, sriov.vfs.iter().any(|vf| vf.mac.is_some()))) {
            return Ok(Some(format!("the driver of {}", sriov.pf)));
        }
    }
    Ok(None)
}

/// Whether virtual functions can be made: its driver has it, and if it is a network card, its interface is there.
fn is_ready(pf: &PciDevice, needs_interface: bool) -> bool {
    /// PCI Code and ID Assignment, 1.14: network controllers.
    const NETWORK: u32 = 0x02;
    let is_network = pf.class.known().is_some_and(|class| class >> 16 == NETWORK);
    let has_interface = pf.usage.interfaces.known().is_some_and(|interfaces| !interfaces.is_empty());
    matches!(pf.driver, Fact::Known(_)) && (has_interface || !(is_network || needs_interface))
}
