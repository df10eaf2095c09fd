//! Interrupts: how fast they reach guests, and which CPUs they are kept away from.

mod affinity;
mod delivery;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Purpose, Question};

const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "interrupts-virtual-controllers",
        title: "KVM uses interrupt controllers in hardware",
        purposes: SPEED,
        why: "With APICv or AVIC the processor delivers interrupts to a running guest and handles what the guest does \
              with its controller. Without it each of these leaves the guest, and the IOMMU cannot post interrupts.",
        refs: &[
            "Intel SDM volume 3, chapter 31 (APIC virtualization)",
            "AMD APM volume 2, 15.29",
            "Linux: Documentation/virt/kvm/x86/errata.rst",
        ],
        run: Question::Host(delivery::controllers),
    },
    Check {
        id: "interrupts-msi",
        title: "devices may interrupt by message",
        purposes: &[Purpose::Vfio, Purpose::Sriov],
        why: "Virtual functions have no interrupt lines, only messages (MSI, MSI-X). Devices that fall back to lines \
              share them, and each interrupt of a guest's device is masked and unmasked by the host.",
        refs: &["PCIe 6.0, 9.3.4.1.8", "Linux: Documentation/PCI/msi-howto.rst"],
        run: Question::Host(delivery::messages),
    },
    Check {
        id: "interrupts-x2apic",
        title: "interrupt controllers reach every CPU",
        purposes: &[Purpose::Kvm, Purpose::Performance],
        why: "xAPIC has identifiers of 8 bits: of a machine with more than 255 CPUs the kernel runs only as many as \
              these reach. x2APIC has 32 bits.",
        refs: &["Intel SDM volume 3, 12.12", "Linux: Documentation/arch/x86/boot.rst, nox2apic"],
        run: Question::Host(delivery::x2apic),
    },
    Check {
        id: "interrupts-default-affinity",
        title: "interrupts stay off isolated CPUs",
        purposes: SPEED,
        why: "isolcpus keeps tasks away and, unless told so, not interrupts: the host's devices go on to stop the \
              guests that run there. An `irqaffinity=` that was copied from another machine defeats isolation.",
        refs: &["Linux: Documentation/core-api/irq/irq-affinity.rst", "kernel-parameters.txt, irqaffinity"],
        run: Question::Host(affinity::by_default),
    },
    Check {
        id: "interrupts-of-guests",
        title: "interrupts of guests' devices stay off isolated CPUs",
        purposes: SPEED,
        why: "An interrupt of a passed-through device that is not posted is served by a CPU of the host. On an isolated \
              one it stops the guest that runs there, which may be another one.",
        refs: &["Linux: Documentation/core-api/irq/irq-affinity.rst"],
        run: Question::Host(affinity::of_guests),
    },
    Check {
        id: "interrupts-balancing",
        title: "irqbalance keeps off isolated partitions",
        purposes: SPEED,
        why: "irqbalance leaves alone the CPUs that were isolated at boot. Of partitions that control groups isolate at \
              run time it knows nothing, and moves interrupts there.",
        refs: &["irqbalance(1), IRQBALANCE_BANNED_CPULIST", "Linux: Documentation/admin-guide/cgroup-v2.rst"],
        run: Question::Host(affinity::balancing),
    },
];
