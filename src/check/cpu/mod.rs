//! The processor: virtualization extension and what it can do, addresses, agreement of all CPUs.

mod abilities;
mod addresses;
mod agreement;
mod extension;
#[cfg(test)]
pub(super) mod tests;

use super::{Check, Outcome, Purpose, Question};
use crate::host::HostFacts;
use crate::host::cpu::Extension;
use crate::host::fact::Fact;

pub(super) use extension::evidence;

const GUESTS: &[Purpose] = &[Purpose::Kvm, Purpose::Vfio];
const SPEED: &[Purpose] = &[Purpose::Performance];

/// The checks of this file.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "cpu-virtualization",
        title: "the processor's virtualization extension can be used",
        purposes: &[Purpose::Kvm, Purpose::Vfio, Purpose::Performance],
        why: "Guests run in hardware by an extension of the processor: VT-x at Intel, SVM (AMD-V) at AMD. It may be \
              missing, switched off in the firmware setup or by a kernel argument, or hidden by the hypervisor below; \
              each has another cure.",
        refs: &[
            "Intel SDM volume 3, 24.6",
            "AMD 24593 rev. 3.42, 15.4",
            "Linux: arch/x86/kernel/cpu/feat_ctl.c",
        ],
        run: Question::Host(extension::virtualization),
    },
    Check {
        id: "cpu-second-level-paging",
        title: "the processor translates guests' addresses itself",
        purposes: &[Purpose::Kvm, Purpose::Performance],
        why: "With EPT or NPT the processor follows the guest's page tables and the host's at once. Without, KVM keeps \
              shadow copies of the guest's tables, and every change of them leaves the guest.",
        refs: &["Intel SDM volume 3, 29.3", "AMD 24593 rev. 3.42, 15.25"],
        run: Question::Host(abilities::second_level_paging),
    },
    Check {
        id: "cpu-tagged-tlb",
        title: "translations of guests stay cached",
        purposes: SPEED,
        why: "With VPIDs (Intel) or ASIDs (AMD) the processor keeps cached translations of guest and host apart. \
              Without, it drops all of them at every entry and exit.",
        refs: &["Intel SDM volume 3, 29.1", "AMD 24593 rev. 3.42, 15.16"],
        run: Question::Host(abilities::tagged_tlb),
    },
    Check {
        id: "cpu-unrestricted-guest",
        title: "guests run in real mode without help",
        purposes: &[Purpose::Kvm],
        why: "Firmware and boot loaders of guests start in real mode. Processors of Intel before Westmere cannot run \
              that in a guest: KVM interprets it, slowly and not completely.",
        refs: &["Intel SDM volume 3, 26.6"],
        run: Question::Host(abilities::unrestricted_guest),
    },
    Check {
        id: "cpu-address-width",
        title: "addresses leave room for devices above memory",
        purposes: &[Purpose::Vfio],
        why: "A guest sees the address width of the host. Large BARs of devices lie above memory; where the width ends \
              soon behind it, a guest with a GPU has no place for them.",
        refs: &["Intel SDM volume 2A, CPUID 80000008H", "PCIe 6.0, 7.5.1.2.1"],
        run: Question::Host(addresses::width),
    },
    Check {
        id: "cpu-same-features",
        title: "all CPUs can do the same",
        purposes: GUESTS,
        why: "A guest's virtual CPU moves between CPUs. Where they differ, KVM may refuse to start on some of them, \
              and a guest may meet an instruction that the next CPU does not have.",
        refs: &["Linux: arch/x86/kvm/vmx/vmx.c, vmx_check_processor_compat"],
        run: Question::Host(agreement::features),
    },
    Check {
        id: "cpu-same-microcode",
        title: "all CPUs run the same microcode",
        purposes: GUESTS,
        why: "CPUs with different microcode differ in their errata and in the protection that they offer against side \
              channels. It happens when an update reached some of them only.",
        refs: &["Linux: Documentation/arch/x86/microcode.rst"],
        run: Question::Host(agreement::microcode),
    },
    Check {
        id: "cpu-bare-metal",
        title: "the host is not itself a virtual machine",
        purposes: SPEED,
        why: "In a virtual machine each exit of a guest goes through the hypervisor below as well, which costs many \
              times as much; and what that hypervisor does not show, no guest here can have.",
        refs: &["Linux: Documentation/virt/kvm/x86/running-nested-guests.rst"],
        run: Question::Host(extension::bare_metal),
    },
];

/// The extension that the processor has, or the answer where it has none or nobody can say.
fn in_silicon(facts: &HostFacts) -> Result<Extension, Outcome> {
    let virtualization = &facts.cpu.virtualization;
    match (&virtualization.in_silicon, virtualization.extension) {
        (Fact::Known(true), Some(extension)) => Ok(extension),
        (Fact::Known(_), _) => Err(Outcome::not_applicable("the processor has no virtualization extension")),
        (_, _) if virtualization.usable == Fact::Known(false) => {
            Err(Outcome::not_applicable("the processor shows no virtualization extension"))
        }
        (unread, _) => Err(Outcome::unread(unread, "whether the processor has a virtualization extension")),
    }
}
