//! VFIO: modules, parameters, the functions that vfio-pci is told to take, device nodes, memory locking.

mod access;
mod ids;
mod modules;
mod overrides;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Purpose, Question};

const VFIO: &[Purpose] = &[Purpose::Vfio, Purpose::Sriov];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "vfio-pci-driver",
        title: "the driver vfio-pci is there",
        purposes: VFIO,
        why: "vfio-pci is the driver that holds a function for a guest. It is a module on most systems, and is loaded when \
              it is asked for.",
        refs: &["Linux: Documentation/driver-api/vfio.rst"],
        run: Question::Host(modules::driver),
    },
    Check {
        id: "vfio-backend",
        title: "VFIO can map memory for devices",
        purposes: VFIO,
        why: "VFIO maps a guest's memory through vfio_iommu_type1 or through iommufd. Without either no group can be given \
              to a guest.",
        refs: &["Linux: Documentation/driver-api/vfio.rst", "Linux: Documentation/userspace-api/iommufd.rst"],
        run: Question::Host(modules::backend),
    },
    Check {
        id: "vfio-parameters",
        title: "vfio-pci has its usual parameters",
        purposes: VFIO,
        why: "Parameters of vfio-pci that once worked round the fault of one device hold for all: without masking of INTx \
              no line can be shared, and functions on the deny list can take the host down.",
        refs: &["Linux: drivers/vfio/pci/vfio_pci.c"],
        run: Question::Host(modules::parameters),
    },
    Check {
        id: "vfio-module-options",
        title: "options for vfio-pci reach it",
        purposes: VFIO,
        why: "Where vfio-pci is a part of the kernel, modprobe never loads it, and lines in /etc/modprobe.d do nothing. \
              Ubuntu builds it so.",
        refs: &["modprobe.d(5)", "Linux: Documentation/admin-guide/kernel-parameters.rst"],
        run: Question::Host(modules::options),
    },
    Check {
        id: "vfio-early-modules",
        title: "modules of VFIO that are loaded early exist",
        purposes: VFIO,
        why: "Guides name vfio_virqfd for the initial RAM file system. It is a part of vfio since Linux 6.2, and naming it \
              makes mkinitcpio and dracut fail. Files of dracut that do not end with .conf are not read.",
        refs: &["Linux 6.2: drivers/vfio/Makefile", "dracut.conf(5)"],
        run: Question::Host(modules::early),
    },
    Check {
        id: "vfio-ids-known",
        title: "each ID for vfio-pci is one of this host",
        purposes: VFIO,
        why: "vfio-pci takes functions by vendor and device ID. An ID that no function has takes nothing: it was copied, or \
              the card is another one now.",
        refs: &["Linux: drivers/vfio/pci/vfio_pci.c, ids"],
        run: Question::Host(ids::known),
    },
    Check {
        id: "vfio-ids-unique",
        title: "each ID for vfio-pci is that of one function",
        purposes: VFIO,
        why: "Equal cards have equal IDs. vfio-pci then takes all of them, the one that the host was to keep included.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-bus-pci, driver_override"],
        run: Question::Host(ids::unique),
    },
    Check {
        id: "vfio-ids-in-use",
        title: "no ID for vfio-pci is that of a function in use",
        purposes: VFIO,
        why: "At the next boot vfio-pci may come before the driver of a disk or a network card that has one of its IDs. The \
              host then does not find its root file system, or its network.",
        refs: &["Linux: drivers/vfio/pci/vfio_pci.c, ids"],
        run: Question::Host(ids::in_use),
    },
    Check {
        id: "vfio-ids-bound",
        title: "vfio-pci has the functions that it was told to take",
        purposes: VFIO,
        why: "The driver that comes first gets a function. Where the function's own driver is a part of the kernel or is \
              loaded from the initial RAM file system, vfio-pci comes too late.",
        refs: &["modprobe.d(5), softdep", "Linux: Documentation/ABI/testing/sysfs-bus-pci, driver_override"],
        run: Question::Host(ids::bound),
    },
    Check {
        id: "vfio-node-access",
        title: "this user may open VFIO's device nodes",
        purposes: VFIO,
        why: "Who runs a guest opens the node of the group that he gives to it. The kernel makes these nodes for root \
              alone.",
        refs: &["Linux: Documentation/driver-api/vfio.rst"],
        run: Question::Host(access::nodes),
    },
    Check {
        id: "vfio-overrides",
        title: "functions have the drivers that they are set to have",
        purposes: VFIO,
        why: "driver_override names the only driver that may take a function, and driverctl sets it at each boot by \
              address. After a card has moved, the override is another card's.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-bus-pci, driver_override", "driverctl(8)"],
        run: Question::Host(overrides::host),
    },
    Check {
        id: "vfio-function-override",
        title: "nothing keeps vfio-pci from this function",
        purposes: VFIO,
        why: "While driver_override names another driver, vfio-pci can neither be bound to a function by hand nor find it.",
        refs: &["Linux: Documentation/ABI/testing/sysfs-bus-pci, driver_override"],
        run: Question::Function(overrides::function),
    },
];
