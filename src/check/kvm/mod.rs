//! KVM: usable, by whom, with hardware behind it, and what it makes of the processor.

mod options;
#[cfg(test)]
pub(super) mod tests;
mod usable;

use super::{Check, Purpose, Question};

const GUESTS: &[Purpose] = &[Purpose::Kvm, Purpose::Vfio];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "kvm-usable",
        title: "KVM makes virtual machines",
        purposes: GUESTS,
        why: "KVM is the kernel's part of every virtual machine. It is asked for one here, and not guessed at: a \
              device file can be there with nothing behind it.",
        refs: &["Linux: Documentation/virt/kvm/api.rst, 4.1 and 4.2"],
        run: Question::Host(usable::usable),
    },
    Check {
        id: "kvm-hardware",
        title: "hardware stands behind KVM",
        purposes: &[Purpose::Kvm, Purpose::Vfio, Purpose::Performance],
        why: "A kernel can offer the whole of KVM without the processor's extension. It interprets guests' kernels \
              then, hundreds of times slower, and stock kernels may not boot. `thruway probe kvm --measure` tells by a \
              guest.",
        refs: &["Linux: Documentation/virt/kvm/api.rst, 1"],
        run: Question::Host(usable::hardware),
    },
    Check {
        id: "kvm-module",
        title: "KVM's module for this processor is loaded",
        purposes: GUESTS,
        why: "KVM has a module for each maker's extension, kvm_intel and kvm_amd. It is loaded at boot on most \
              distributions; a blacklist, a kernel without it or a refusal of the processor keeps it out.",
        refs: &["Linux: arch/x86/kvm/Kconfig"],
        run: Question::Host(usable::module),
    },
    Check {
        id: "kvm-permission",
        title: "this user may use KVM",
        purposes: &[Purpose::Kvm],
        why: "/dev/kvm belongs to group kvm. Who is in it runs virtual machines without being root, which is the safer \
              way.",
        refs: &["systemd: rules.d/50-udev-default.rules", "Linux: Documentation/virt/kvm/api.rst, 3"],
        run: Question::Host(usable::permission),
    },
    Check {
        id: "kvm-alone",
        title: "no other hypervisor holds the processor's extension",
        purposes: GUESTS,
        why: "One hypervisor at a time can use the extension. While VirtualBox or VMware holds it, KVM makes no \
              machine and answers EBUSY; while KVM holds it, they do not start.",
        refs: &["Linux: arch/x86/kvm/vmx/vmx.c, vmx_enable_virtualization_cpu"],
        run: Question::Host(usable::alone),
    },
    Check {
        id: "kvm-second-level-paging",
        title: "KVM uses second-level paging",
        purposes: &[Purpose::Kvm, Purpose::Performance],
        why: "EPT or NPT can be switched off by a parameter of KVM's module, for tests. KVM keeps shadow page tables \
              then, which makes guests much slower.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, kvm-intel.ept, kvm-amd.npt"],
        run: Question::Host(options::second_level_paging),
    },
    Check {
        id: "kvm-virtual-apic",
        title: "KVM lets the processor keep guests' interrupt controllers",
        purposes: &[Purpose::Performance],
        why: "With APICv or AVIC the processor carries out what guests do with their interrupt controllers. Without, \
              each interrupt between virtual CPUs and each end of one leaves the guest.",
        refs: &[
            "Linux: Documentation/admin-guide/kernel-parameters.txt, kvm-intel.enable_apicv, kvm-amd.avic",
        ],
        run: Question::Host(options::virtual_apic),
    },
    Check {
        id: "kvm-nested",
        title: "guests may run guests of their own",
        purposes: &[Purpose::Kvm],
        why: "Windows with virtualization-based security or WSL 2, and every hypervisor in a guest, need the extension \
              inside the guest. A parameter of KVM's module gives it; it is on by default since Linux 4.20.",
        refs: &["Linux: Documentation/virt/kvm/x86/running-nested-guests.rst"],
        run: Question::Host(options::nested),
    },
    Check {
        id: "kvm-ignored-msrs",
        title: "KVM reports accesses to unknown registers",
        purposes: &[Purpose::Kvm],
        why: "With ignore_msrs KVM answers 0 where a guest reads a register that it does not know, instead of the \
              fault that hardware gives. Guides set it for macOS and old Windows guests; in others it hides mistakes \
              and misleads drivers.",
        refs: &["Linux: Documentation/admin-guide/kernel-parameters.txt, kvm.ignore_msrs"],
        run: Question::Host(options::ignored_msrs),
    },
];
