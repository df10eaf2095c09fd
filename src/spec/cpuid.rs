//! The CPUID instruction: leaves and feature bits that virtualization depends on.
//!
//! Intel SDM volume 2A, CPUID (June 2024); AMD APM volume 3 (24594 rev. 3.36), appendix E; the hypervisor leaves from
//! Linux: Documentation/virt/kvm/x86/cpuid.rst and the Hypervisor Top Level Functional Specification 6.0b, 2.4.

pub mod local_apic;

use serde::{Deserialize, Serialize};

/// Highest basic leaf, vendor string.
pub const LEAF_VENDOR: u32 = 0;
/// Family, model, stepping and feature bits.
pub const LEAF_FEATURES: u32 = 1;
/// Deterministic cache parameters (Intel).
pub const LEAF_CACHES: u32 = 4;
/// Structured extended features.
pub const LEAF_STRUCTURED_FEATURES: u32 = 7;
/// Performance monitoring (Intel).
pub const LEAF_PERFORMANCE: u32 = 0xA;
/// Extended topology.
pub const LEAF_TOPOLOGY: u32 = 0xB;
/// State that XSAVE saves.
pub const LEAF_XSAVE: u32 = 0xD;
/// Software guard extensions.
pub const LEAF_SGX: u32 = 0x12;
/// Processor trace.
pub const LEAF_TRACE: u32 = 0x14;
/// Key locker.
pub const LEAF_KEY_LOCKER: u32 = 0x19;
/// Tiles of AMX.
pub const LEAF_AMX: u32 = 0x1D;
/// Products of tiles.
pub const LEAF_AMX_PRODUCTS: u32 = 0x1E;
/// Extended topology, version 2.
pub const LEAF_TOPOLOGY_V2: u32 = 0x1F;
/// First leaf of the range that hypervisors answer.
pub const LEAF_HYPERVISOR: u32 = 0x4000_0000;
/// Where KVM announces itself when it shows Hyper-V's leaves in the first place.
pub const LEAF_HYPERVISOR_SECOND: u32 = 0x4000_0100;
/// Highest extended leaf.
pub const LEAF_EXTENDED: u32 = 0x8000_0000;
/// Extended feature bits.
pub const LEAF_EXTENDED_FEATURES: u32 = 0x8000_0001;
/// Version of AVX10.
pub const LEAF_AVX10: u32 = 0x24;
/// First of the three leaves of the processor's name.
pub const LEAF_NAME: u32 = 0x8000_0002;
/// Address sizes; core count on AMD.
pub const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
/// SVM revision and features.
pub const LEAF_SVM: u32 = 0x8000_000A;
/// Cache topology (AMD).
pub const LEAF_CACHES_AMD: u32 = 0x8000_001D;
/// Processor topology (AMD).
pub const LEAF_TOPOLOGY_AMD: u32 = 0x8000_001E;
/// Extended topology (AMD).
pub const LEAF_TOPOLOGY_AMD_V2: u32 = 0x8000_0026;

/// CPUID.1:ECX: MONITOR and MWAIT.
pub const FEATURES_ECX_MONITOR: u32 = 1 << 3;
/// CPUID.1:ECX: the local APIC's timer takes a TSC value.
pub const FEATURES_ECX_TSC_DEADLINE: u32 = 1 << 24;
/// CPUID.1:EDX: the package has more than one logical processor.
pub const FEATURES_EDX_HTT: u32 = 1 << 28;
/// CPUID.80000001h:ECX: the cores of a package report their number (AMD).
pub const EXTENDED_ECX_CMP_LEGACY: u32 = 1 << 1;
/// CPUID.80000001h:ECX: leaves 8000001Dh and 8000001Eh are there (AMD).
pub const EXTENDED_ECX_TOPOEXT: u32 = 1 << 22;
/// Leaves 0Bh and 1Fh, ECX bits 15:8: the sub-leaf is about the logical processors of a core.
pub const TOPOLOGY_LEVEL_SMT: u32 = 1 << 8;
/// Leaves 0Bh and 1Fh, ECX bits 15:8: the sub-leaf is about the cores of a package.
pub const TOPOLOGY_LEVEL_CORE: u32 = 2 << 8;
/// Leaf 1Fh, ECX bits 15:8: the sub-leaf is about the dies of a package.
pub const TOPOLOGY_LEVEL_DIE: u32 = 5 << 8;

/// Components of the state that XSAVE saves, as bits of XCR0 (Intel SDM volume 1, 13.1).
pub mod xsave {
    /// The upper halves of the AVX registers.
    pub const AVX: u64 = 1 << 2;
    /// Bounds registers and their configuration.
    pub const MPX: u64 = 0b11 << 3;
    /// Mask registers and the upper parts of the AVX-512 registers.
    pub const AVX512: u64 = 0b111 << 5;
    /// Protection keys.
    pub const PKRU: u64 = 1 << 9;
    /// Tiles and their configuration.
    pub const AMX: u64 = 0b11 << 17;
    /// Bytes of the legacy region and the header, which are always there (13.4).
    pub const LEGACY_BYTES: u32 = 576;
}

/// CPUID.1:ECX: Virtual Machine Extensions.
pub const FEATURES_ECX_VMX: u32 = 1 << 5;
/// CPUID.1:ECX: the interrupt controller has the mode x2APIC.
pub const FEATURES_ECX_X2APIC: u32 = 1 << 21;
/// CPUID.1:ECX: a hypervisor is present; hardware returns 0.
pub const FEATURES_ECX_HYPERVISOR: u32 = 1 << 31;
/// CPUID.80000001h:ECX: Secure Virtual Machine.
pub const EXTENDED_ECX_SVM: u32 = 1 << 2;
/// CPUID.80000001h:EDX: pages of 1 GiB.
pub const EXTENDED_EDX_1GIB_PAGES: u32 = 1 << 26;
/// CPUID.8000000Ah:EDX: nested paging.
pub const SVM_EDX_NPT: u32 = 1 << 0;
/// CPUID.8000000Ah:EDX: advanced virtual interrupt controller.
pub const SVM_EDX_AVIC: u32 = 1 << 13;
/// CPUID.8000000Ah:EDX: the same for guests in x2APIC mode.
pub const SVM_EDX_X2AVIC: u32 = 1 << 18;

/// What one leaf returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuidLeaf {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidLeaf {
    /// The vendor string of leaf 0, which lies in EBX, EDX, ECX.
    #[must_use]
    pub fn vendor(&self) -> String {
        text(&[self.ebx, self.edx, self.ecx])
    }

    /// The signature of a hypervisor leaf, which lies in EBX, ECX, EDX.
    #[must_use]
    pub fn signature(&self) -> String {
        text(&[self.ebx, self.ecx, self.edx])
    }

    /// A third of the processor's name: all four registers.
    #[must_use]
    pub fn name_part(&self) -> String {
        text(&[self.eax, self.ebx, self.ecx, self.edx])
    }

    /// Family, model and stepping of leaf 1, extended fields added in (Intel SDM 2A, figure 3-6; APM 3, E.3.2).
    #[must_use]
    pub fn family_model_stepping(&self) -> (u32, u32, u32) {
        let field = |shift: u32, width: u32| self.eax >> shift & ((1 << width) - 1);
        let (base_family, base_model) = (field(8, 4), field(4, 4));
        let family = if base_family == 0xF { base_family + field(20, 8) } else { base_family };
        let model =
            if matches!(base_family, 0x6 | 0xF) { field(16, 4) << 4 | base_model } else { base_model };
        (family, model, field(0, 4))
    }
}

/// Registers as the ASCII text they carry; whatever does not print becomes `.`, the padding goes.
fn text(registers: &[u32]) -> String {
    registers
        .iter()
        .flat_map(|register| register.to_le_bytes())
        .skip_while(|byte| *byte == 0)
        .map(|byte| match byte {
            0 => '\0',
            0x20..=0x7E => char::from(byte),
            _ => '.',
        })
        .collect::<String>()
        .trim_end_matches('\0')
        .replace('\0', ".")
}

/// The name of the hypervisor that signs its leaf with `signature`.
#[must_use]
pub fn hypervisor_name(signature: &str) -> Option<&'static str> {
    Some(match signature {
        "KVMKVMKVM" | "Linux KVM Hv" => "KVM",
        "TCGTCGTCGTCG" => "QEMU TCG",
        "Microsoft Hv" => "Hyper-V",
        "VMwareVMware" => "VMware",
        "XenVMMXenVMM" => "Xen",
        "VBoxVBoxVBox" => "VirtualBox",
        "bhyve bhyve " => "bhyve",
        "ACRNACRNACRN" => "ACRN",
        "QNXQVMBSQG" => "QNX",
        "SRESRESRESRE" => "LMHS",
        "prl hyperv  " | " lrpepyh  vr" => "Parallels",
        "HAXMHAXMHAXM" => "HAXM",
        "NVMMNVMMNVMM" => "NVMM",
        "OpenBSDVMM58" => "OpenBSD vmm",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_and_signature_take_registers_in_their_order() {
        let intel = CpuidLeaf { eax: 0x16, ebx: 0x756E_6547, ecx: 0x6C65_746E, edx: 0x4965_6E69 };
        let kvm = CpuidLeaf { eax: 0x4000_0001, ebx: 0x4B4D_564B, ecx: 0x564B_4D56, edx: 0x4D };
        assert_eq!(intel.vendor(), "GenuineIntel");
        assert_eq!(kvm.signature(), "KVMKVMKVM");
        assert_eq!(hypervisor_name(&kvm.signature()), Some("KVM"));
    }

    #[test]
    fn extended_family_and_model_are_added() {
        let milan = CpuidLeaf { eax: 0x00A0_0F11, ..CpuidLeaf::default() };
        let sapphire_rapids = CpuidLeaf { eax: 0x0008_06F8, ..CpuidLeaf::default() };
        assert_eq!(milan.family_model_stepping(), (0x19, 0x01, 1));
        assert_eq!(sapphire_rapids.family_model_stepping(), (6, 0x8F, 8));
    }

    #[test]
    fn bytes_that_do_not_print_become_dots() {
        let garbage = CpuidLeaf { eax: 0, ebx: 0xFFFF_FF41, ecx: 0, edx: 0 };
        assert_eq!(garbage.signature(), "A...");
    }
}
