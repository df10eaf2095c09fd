//! Drivers of physical functions: can they make virtual ones, and does the kernel probe drivers for these?

use super::{attribute, names, physical};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;

/// Drivers of Linux's own tree that set `sriov_configure` in their `struct pci_driver` (Linux 6.12), sorted.
const ABLE: [&str; 38] = [
    "420xx",
    "4xxx",
    "be2net",
    "bnx2x",
    "bnxt_en",
    "c3xxx",
    "c62x",
    "cxgb4",
    "dfl-pci",
    "dh895xcc",
    "fm10k",
    "funeth",
    "hisi_hpre",
    "hisi_sec2",
    "hisi_zip",
    "hns3",
    "i40e",
    "ice",
    "idpf",
    "igb",
    "ionic",
    "ixgbe",
    "mlx4_core",
    "mlx5_core",
    "nfp",
    "nvme",
    "octeon_ep",
    "pci-pf-stub",
    "pds_core",
    "qede",
    "qlcnic",
    "rvu_af",
    "rvu_nicpf",
    "sfc",
    "sfc_ef100",
    "thunder-nic",
    "virtio-pci",
    "xe",
];

/// Whether a function's driver can make virtual functions; `None` where that is not known of it.
fn is_able(function: &PciDevice, has_vfs: bool) -> Option<bool> {
    match &function.driver {
        Fact::NotPresent => Some(false),
        _ if has_vfs => Some(true),
        Fact::Known(driver) if ABLE.binary_search(&driver.as_str()).is_ok() => Some(true),
        _ => None,
    }
}

/// `sriov-driver`
pub(super) fn able(facts: &HostFacts) -> Outcome {
    let physical = match physical(facts, "which drivers can make virtual functions") {
        Ok(physical) => physical,
        Err(outcome) => return outcome,
    };
    let ability =
        physical.iter().map(|(function, sriov)| (*function, is_able(function, !sriov.vfs.is_empty())));
    let unable: Vec<_> =
        ability.clone().filter(|(_, able)| *able == Some(false)).map(|(function, _)| function).collect();
    if let Some(first) = unable.first() {
        let warn = Outcome::warn(format!(
            "no driver can make virtual functions of {}",
            names(unable.iter().copied())
        ))
        .cause("no driver is bound to the physical function")
        .remedy(Remedy::command(
            format!("echo {} | sudo tee /sys/bus/pci/drivers_probe", first.address),
            "binds the driver that the kernel has for it; load its module first, and clear driver_override",
        ));
        return unable
            .iter()
            .fold(warn, |outcome, function| outcome.evidence(attribute(function, "driver"), "not there"));
    }
    if let Some((function, _)) = ability.clone().find(|(_, able)| able.is_none()) {
        return match &function.driver {
            Fact::Known(driver) => Outcome::unknown(format!(
                "whether the driver {driver} can make virtual functions of {} is not known",
                function.address
            ))
            .evidence(attribute(function, "driver"), driver),
            unread => Outcome::unread(unread, "the driver of a physical function"),
        };
    }
    let pass = Outcome::pass("the drivers of all physical functions can make virtual ones");
    physical.iter().fold(pass, |outcome, (function, _)| {
        outcome.evidence(attribute(function, "driver"), function.driver.known().map_or("", String::as_str))
    })
}

/// `sriov-autoprobe`
pub(super) fn autoprobe(facts: &HostFacts) -> Outcome {
    const FILE: &str = "sriov_drivers_autoprobe";
    let physical = match physical(facts, "whether new virtual functions get drivers") {
        Ok(physical) => physical,
        Err(outcome) => return outcome,
    };
    let off: Vec<_> = physical
        .iter()
        .filter(|(_, sriov)| sriov.drivers_autoprobe == Fact::Known(false))
        .map(|(function, _)| *function)
        .collect();
    if let Some(first) = off.first() {
        let warn = Outcome::warn(format!(
            "new virtual functions of {} get no driver",
            names(off.iter().copied())
        ))
        .cause("sriov_drivers_autoprobe is 0: somebody set it and did not set it back")
        .remedy(Remedy::command(
            format!("echo 1 | sudo tee {}", attribute(first, FILE)),
            "for functions that are made later; those that exist are probed by writing to drivers_probe",
        ));
        return off.iter().fold(warn, |outcome, function| outcome.evidence(attribute(function, FILE), 0));
    }
    if let Some((_, sriov)) = physical.iter().find(|(_, sriov)| sriov.drivers_autoprobe.is_unread()) {
        return Outcome::unread(&sriov.drivers_autoprobe, "whether new virtual functions get drivers");
    }
    let pass = Outcome::pass("new virtual functions get drivers");
    physical.iter().fold(pass, |outcome, (function, _)| outcome.evidence(attribute(function, FILE), 1))
}

#[cfg(test)]
mod tests {
    use super::ABLE;

    #[test]
    fn the_drivers_are_sorted_as_the_search_needs() {
        assert!(ABLE.is_sorted());
    }
}
