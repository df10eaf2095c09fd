//! The kernel: how it was built, its version, the arguments of its command line, modules that it is kept from.

mod arguments;
mod built;
mod modules;
#[cfg(test)]
pub(super) mod tests;
mod version;

use super::{Check, Purpose, Question};

pub(super) use arguments::without_effect;

const KVM: &[Purpose] = &[Purpose::Kvm];
const VFIO: &[Purpose] = &[Purpose::Vfio, Purpose::Sriov];
const SRIOV: &[Purpose] = &[Purpose::Sriov];
const SPEED: &[Purpose] = &[Purpose::Performance];
const ANY: &[Purpose] = &[Purpose::Kvm, Purpose::Vfio, Purpose::Sriov];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "kernel-version",
        title: "the kernel is new enough",
        purposes: VFIO,
        why: "What the kernel tells about groups and resets, and how it hands devices out, grew over the years. With an old \
              one some answers stay unknown, and some devices cannot be reset as they should.",
        refs: &[
            "Linux: Documentation/ABI/testing/sysfs-bus-pci, reset_method",
            "kernel.org: longterm releases",
        ],
        run: Question::Host(version::version),
    },
    Check {
        id: "kernel-config-kvm",
        title: "the kernel is built with KVM for this processor",
        purposes: KVM,
        why: "KVM has a common part and one for each maker's processors. Without the right one there is no /dev/kvm, \
              whatever firmware says.",
        refs: &["Linux: arch/x86/kvm/Kconfig"],
        run: Question::Host(built::kvm),
    },
    Check {
        id: "kernel-config-vfio",
        title: "the kernel is built with VFIO",
        purposes: VFIO,
        why: "VFIO hands devices out. Kernels for virtual machines of clouds are often built without it.",
        refs: &["Linux: drivers/vfio/Kconfig", "Linux: drivers/vfio/pci/Kconfig"],
        run: Question::Host(built::vfio),
    },
    Check {
        id: "kernel-config-iommu",
        title: "the kernel is built with the driver of this IOMMU",
        purposes: VFIO,
        why: "Each maker's IOMMU has its own driver. Without it the IOMMU stays off, and no argument changes that.",
        refs: &["Linux: drivers/iommu/intel/Kconfig", "Linux: drivers/iommu/amd/Kconfig"],
        run: Question::Host(built::iommu),
    },
    Check {
        id: "kernel-config-interrupt-remapping",
        title: "the kernel is built to remap interrupts",
        purposes: VFIO,
        why: "Without IRQ_REMAP interrupts are not remapped, and VFIO refuses to hand devices out.",
        refs: &["Linux: drivers/iommu/Kconfig, IRQ_REMAP"],
        run: Question::Host(built::interrupt_remapping),
    },
    Check {
        id: "kernel-config-sriov",
        title: "the kernel is built with SR-IOV",
        purposes: SRIOV,
        why: "Without PCI_IOV the kernel makes no virtual functions: there is no sriov_numvfs, with any device.",
        refs: &["Linux: drivers/pci/Kconfig, PCI_IOV"],
        run: Question::Host(built::sriov),
    },
    Check {
        id: "kernel-config-hugetlbfs",
        title: "the kernel is built with reserved huge pages",
        purposes: SPEED,
        why: "Huge pages that are reserved for guests spare most of their TLB misses. They need HUGETLBFS.",
        refs: &["Linux: Documentation/admin-guide/mm/hugetlbpage.rst"],
        run: Question::Host(built::hugetlbfs),
    },
    Check {
        id: "kernel-arguments",
        title: "arguments of the kernel do what they are for",
        purposes: ANY,
        why: "The kernel passes over arguments that it does not know, and says nothing. Misspelt ones, values that do not \
              exist and parameters of other kernels look as if they worked.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.rst"],
        run: Question::Host(arguments::effective),
    },
    Check {
        id: "kernel-repeated-arguments",
        title: "no argument takes another one back",
        purposes: ANY,
        why: "Boot loaders put a command line together from several files. Where two of them set one parameter, the last \
              one wins, and the other only looks as if it counted.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.rst"],
        run: Question::Host(arguments::repeated),
    },
    Check {
        id: "kernel-pci-arguments",
        title: "no argument takes features of PCI away",
        purposes: VFIO,
        why: "Arguments such as `pci=nomsi` were copied to quiet a fault of one device. They change all: virtual functions \
              need message interrupts, groups need the extended configuration space.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, pci", "PCIe 6.0, 9.3.2"],
        run: Question::Host(arguments::pci),
    },
    Check {
        id: "kernel-interrupt-controllers",
        title: "the kernel uses the interrupt controllers",
        purposes: ANY,
        why: "Without the APICs and firmware's tables there is no remapping of interrupts and, with `nolapic`, one \
              processor only.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, noapic, nolapic, acpi"],
        run: Question::Host(arguments::interrupt_controllers),
    },
    Check {
        id: "kernel-held-back",
        title: "the kernel uses all processors and memory",
        purposes: &[Purpose::Kvm, Purpose::Performance],
        why: "`maxcpus`, `nr_cpus` and `mem` keep the kernel from a part of the machine. Guests cannot have it either.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, maxcpus, nr_cpus, mem"],
        run: Question::Host(arguments::held_back),
    },
    Check {
        id: "kernel-blacklist",
        title: "no module of KVM or VFIO is kept out",
        purposes: &[Purpose::Kvm, Purpose::Vfio],
        why: "A module that is blacklisted is not loaded for its device by itself; one with `install NAME /bin/false` or in \
              `module_blacklist` is not loaded at all.",
        refs: &["modprobe.d(5)", "Linux: Documentation/admin-guide/kernel-parameters.txt, module_blacklist"],
        run: Question::Host(modules::blacklist),
    },
];
