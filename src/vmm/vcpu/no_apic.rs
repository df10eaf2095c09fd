//! A vCPU without a local APIC: CPUID that shows none, and the register that says whether it is on.
//!
//! What KVM offers by way of a local APIC (its own interrupts, ends of interrupts, calls between vCPUs) goes with it: a guest
//! that tried it would meet a general protection fault.

use std::io;

use kvm_bindings::CpuId;
use kvm_ioctls::VcpuFd;

use crate::spec::cpuid::local_apic::{
    EXTENDED_ECX_APIC_SPACE, FEATURES_EDX_APIC, LEAF_KVM_FEATURES, LEAF_POWER, POWER_EAX_ARAT, kvm,
};
use crate::spec::cpuid::{
    FEATURES_ECX_TSC_DEADLINE, FEATURES_ECX_X2APIC, LEAF_EXTENDED_FEATURES, LEAF_FEATURES,
};

/// What KVM does through the local APIC.
const KVM_NEEDS_APIC: u32 = kvm::ASYNC_PF
    | kvm::PV_EOI
    | kvm::PV_UNHALT
    | kvm::ASYNC_PF_VMEXIT
    | kvm::PV_SEND_IPI
    | kvm::POLL_CONTROL
    | kvm::PV_SCHED_YIELD
    | kvm::ASYNC_PF_INT
    | kvm::MSI_EXT_DEST_ID;

/// Takes the local APIC out of `leaves`.
pub(super) fn hide(leaves: &mut CpuId) {
    for entry in leaves.as_mut_slice() {
        match entry.function {
            LEAF_FEATURES => {
                entry.ecx &= !(FEATURES_ECX_X2APIC | FEATURES_ECX_TSC_DEADLINE);
                entry.edx &= !FEATURES_EDX_APIC;
            }
            LEAF_POWER => entry.eax &= !POWER_EAX_ARAT,
            // AMD repeats the bits of leaf 1; they are reserved on Intel.
            LEAF_EXTENDED_FEATURES => {
                entry.ecx &= !EXTENDED_ECX_APIC_SPACE;
                entry.edx &= !FEATURES_EDX_APIC;
            }
            LEAF_KVM_FEATURES => entry.eax &= !KVM_NEEDS_APIC,
            _ => {}
        }
    }
}

/// Turns it off: else KVM shows it in CPUID again (Linux: arch/x86/kvm/cpuid.c, `kvm_update_cpuid_runtime`).
pub(super) fn disable(vcpu: &VcpuFd) -> io::Result<()> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.apic_base = 0;
    Ok(vcpu.set_sregs(&sregs)?)
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    #[test]
    fn no_leaf_shows_an_apic_and_the_rest_stays() {
        let entry = |function| kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        let mut leaves = CpuId::from_entries(&[1, 6, 7, 0x4000_0001, 0x8000_0001].map(entry)).unwrap();
        hide(&mut leaves);
        let [features, power, other, kvm, extended] = leaves.as_slice() else { panic!() };
        assert_eq!((features.ecx, features.edx), (!(1 << 21 | 1 << 24), !(1 << 9)));
        assert_eq!(power.eax, !(1 << 2));
        assert_eq!(other.edx, u32::MAX);
        assert_eq!(kvm.eax & 0b1111_1100_1101_0000, 0);
        assert_eq!(kvm.eax & 0b1_0010_1011, 0b1_0010_1011, "clocks and stolen time stay");
        assert_eq!((extended.ecx, extended.edx), (!(1 << 3), !(1 << 9)));
    }
}
