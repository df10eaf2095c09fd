//! Virtual functions: offered, made by a driver, with room and protection.

mod drivers;
mod fit;
mod network;
mod offered;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Outcome, Purpose, Question};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::sriov::Sriov;

const SRIOV: &[Purpose] = &[Purpose::Sriov];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "sriov-offered",
        title: "a device offers virtual functions",
        purposes: SRIOV,
        why: "Virtual functions let several guests share a device, each with a function of its own. Devices offer them \
              by a capability; their firmware or the machine's may set its total to 0.",
        refs: &["PCIe 6.0, 9.3.3", "Linux: Documentation/PCI/pci-iov-howto.rst"],
        run: Question::Host(offered::offered),
    },
    Check {
        id: "sriov-driver",
        title: "drivers can make virtual functions",
        purposes: SRIOV,
        why: "The kernel makes virtual functions through the physical function's driver. Without a driver that can, \
              writing to sriov_numvfs fails with ENOENT.",
        refs: &["Linux: drivers/pci/iov.c, sriov_numvfs_store", "Linux: Documentation/PCI/pci-iov-howto.rst"],
        run: Question::Host(drivers::able),
    },
    Check {
        id: "sriov-fit",
        title: "all virtual functions fit",
        purposes: SRIOV,
        why: "Virtual functions need bus numbers that the port above leads to, and memory for their BARs. Firmware gives \
              out both at start; what it did not give, the kernel refuses later with `not enough MMIO resources for \
              SR-IOV` or `bus out of range`.",
        refs: &["PCIe 6.0, 9.2.1.2 and 9.3.3.14", "Linux: drivers/pci/iov.c, sriov_enable"],
        run: Question::Host(fit::fit),
    },
    Check {
        id: "sriov-autoprobe",
        title: "new virtual functions get drivers",
        purposes: SRIOV,
        why: "While sriov_drivers_autoprobe is 0, the kernel binds no driver to new virtual functions, and binding one by \
              hand fails with ENODEV. Tools that create functions for guests leave it so when they die halfway.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-bus-pci, sriov_drivers_autoprobe"],
        run: Question::Host(drivers::autoprobe),
    },
    Check {
        id: "sriov-physical-link",
        title: "physical functions with virtual ones are up",
        purposes: SRIOV,
        why: "Most drivers give virtual functions no carrier while the physical function's interface is down: the guest's \
              link stays down, whatever it does.",
        refs: &["Linux: Documentation/networking/device_drivers/ethernet/intel/igb.rst"],
        run: Question::Host(network::physical_link),
    },
    Check {
        id: "sriov-protection",
        title: "virtual functions cannot pose as others",
        purposes: SRIOV,
        why: "A trusted virtual function, or one without spoof check, may send with any address and see frames of others: \
              the guest that has it could pose as another guest or as the host.",
        refs: &["ip-link(8), vf NUM spoofchk, trust"],
        run: Question::Host(network::protection),
    },
];

/// The physical functions that offer virtual ones, or the answer where there is none or nobody can say.
fn physical<'a>(facts: &'a HostFacts, subject: &str) -> Result<Vec<(&'a PciDevice, &'a Sriov)>, Outcome> {
    let Fact::Known(functions) = &facts.pci.devices else {
        return Err(Outcome::unread(&facts.pci.devices, subject));
    };
    let found: Vec<_> =
        functions.iter().filter_map(|function| Some((function, function.sriov.as_ref()?))).collect();
    if found.is_empty() {
        return Err(Outcome::not_applicable("no function offers virtual functions"));
    }
    Ok(found)
}

/// An attribute of a function, as the place of evidence.
fn attribute(function: &PciDevice, name: &str) -> String {
    format!("/sys/bus/pci/devices/{}/{name}", function.address)
}

/// Addresses in a row.
fn names<'a>(functions: impl IntoIterator<Item = &'a PciDevice>) -> String {
    functions.into_iter().map(|function| function.address.to_string()).collect::<Vec<_>>().join(", ")
}
