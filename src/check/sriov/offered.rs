//! Whether any device offers virtual functions.

use super::{attribute, names};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::firmware::Setting;
use crate::host::pci::PciDevice;
use crate::spec::pcie::ExtendedCapabilityId;

/// `sriov-offered`
pub(super) fn offered(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which devices offer virtual functions";
    let Fact::Known(functions) = &facts.pci.devices else {
        return Outcome::unread(&facts.pci.devices, SUBJECT);
    };
    let total = |function: &PciDevice| function.sriov.as_ref()?.total_vfs.known().copied();
    let offering: Vec<_> = functions
        .iter()
        .filter_map(|function| Some((function, total(function).filter(|total| *total > 0)?)))
        .collect();
    if !offering.is_empty() {
        let pass = Outcome::pass(format!(
            "virtual functions are offered by {}",
            names(offering.iter().map(|(function, _)| *function))
        ));
        return offering.iter().fold(pass, |outcome, (function, total)| {
            outcome.evidence(attribute(function, "sriov_totalvfs"), total)
        });
    }
    let silent: Vec<_> = functions.iter().filter(|function| has_capability(function) == Some(true)).collect();
    if !silent.is_empty() {
        return off(facts, &silent);
    }
    let unread = functions.iter().find(|function| {
        has_capability(function).is_none()
            || function.sriov.as_ref().is_some_and(|sriov| sriov.total_vfs.is_unread())
    });
    match unread {
        Some(function) => match &function.sriov {
            Some(sriov) => Outcome::unread(&sriov.total_vfs, SUBJECT),
            None => Outcome::unread(&function.config.extended_capabilities, SUBJECT),
        },
        None => Outcome::not_applicable("no device has the capability"),
    }
}

/// Whether the function has the SR-IOV capability; `None` if its list could not be read.
fn has_capability(function: &PciDevice) -> Option<bool> {
    let capabilities = function.config.extended_capabilities.known()?;
    Some(capabilities.iter().any(|capability| capability.id == ExtendedCapabilityId::SR_IOV.0))
}

/// The capability is there and the kernel offers nothing: it leaves functions alone whose TotalVFs is 0 (Linux:
/// drivers/pci/iov.c, `sriov_init`).
fn off(facts: &HostFacts, silent: &[&PciDevice]) -> Outcome {
    let fail = Outcome::fail(format!(
        "{} can have virtual functions and offers none",
        names(silent.iter().copied())
    ))
    .cause("SR-IOV is off in the device's own firmware or in the machine's: the capability's total is 0")
    .remedy(Remedy::advice(
        "switch SR-IOV on in the device's firmware with its maker's tool (mlxconfig SRIOV_EN and NUM_OF_VFS, \
             bnxtnvm, Intel's bootutil or the card's own setup page)",
    ))
    .remedy(Remedy::firmware(facts, Setting::Sriov));
    silent.iter().fold(fail, |outcome, function| {
        outcome
            .evidence(attribute(function, "config"), "extended capability 0010h")
            .evidence(attribute(function, "sriov_totalvfs"), "0 or not there")
    })
}
