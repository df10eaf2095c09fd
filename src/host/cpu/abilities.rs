//! What the virtualization extension can do beyond running a guest at all, and what of that KVM uses.
//!
//! Silicon of Intel says it in registers that root alone may read, and that the kernel tells in the line `vmx flags` of
//! `/proc/cpuinfo` (since Linux 5.6); silicon of AMD says it in a CPUID leaf. What KVM makes of it stands in the
//! parameters of its module.

use serde::Serialize;

use super::info::CpuInfo;
use super::leaf_below;
use super::virtualization::Extension;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::{cpuid, msr};

/// Abilities of the extension. An ability that a maker's extension does not know by that name is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// The guest's addresses are translated by tables of its own: EPT, NPT.
    pub second_level_paging: Ability,
    /// Such tables may have pages of 1 GiB (Intel; at AMD wherever the processor has such pages).
    pub second_level_gigabyte_pages: Ability,
    /// Translations of guests stay cached beside those of the host: VPID, ASIDs.
    pub tagged_tlb: Ability,
    /// How many guests' translations can be told apart at once (AMD).
    pub address_space_ids: Fact<u32>,
    /// Guests run without paging and in real mode (Intel; AMD always could).
    pub unrestricted_guest: Ability,
    /// The processor keeps the guest's interrupt controller: APICv, AVIC.
    pub virtual_apic: Ability,
    /// The same for guests in x2APIC mode.
    pub virtual_x2apic: Ability,
    /// Interrupts reach a running guest without leaving it (Intel; at AMD a part of AVIC).
    pub posted_interrupts: Ability,
    /// Guests may be given the extension for guests of their own.
    pub nested: Ability,
}

/// Whether silicon has an ability and KVM uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ability {
    /// Whether the processor has it.
    pub in_silicon: Fact<bool>,
    /// Whether KVM uses it, by the parameter of its module; absent where that is not loaded or has no such parameter.
    pub in_use: Fact<bool>,
}

impl Extension {
    /// The parameter of KVM's module that is called `name` here.
    #[must_use]
    pub fn parameter(self, name: &str) -> String {
        format!("/sys/module/{}/parameters/{name}", self.module())
    }
}

/// Reads the abilities of an extension that the processor has.
pub(super) fn collect(source: &dyn Source, extension: Extension, info: &CpuInfo) -> Abilities {
    match extension {
        Extension::Vmx => intel(source, info),
        Extension::Svm => amd(source, info),
    }
}

fn intel(source: &dyn Source, info: &CpuInfo) -> Abilities {
    let silicon = VmxSilicon { source, flags: info.value("vmx flags") };
    let in_use = |name| parse::flag(source, &Extension::Vmx.parameter(name));
    let secondary = |flag, bit| silicon.has(flag, msr::VMX_SECONDARY_CONTROLS, bit);
    let virtual_apic = secondary("vapic_reg", msr::vmx::APIC_REGISTERS)
        .and_then(|registers| secondary("vid", msr::vmx::INTERRUPT_DELIVERY).map(|vid| registers && vid));
    let apicv = in_use("enable_apicv");
    let ability = |in_silicon, in_use| Ability { in_silicon, in_use };
    Abilities {
        second_level_paging: ability(secondary("ept", msr::vmx::EPT), in_use("ept")),
        second_level_gigabyte_pages: ability(
            silicon.has_capability("ept_1gb", msr::VMX_EPT_VPID, msr::vmx::EPT_1GIB_PAGES),
            Fact::NotPresent,
        ),
        tagged_tlb: ability(secondary("vpid", msr::vmx::VPID), in_use("vpid")),
        address_space_ids: Fact::NotPresent,
        unrestricted_guest: ability(
            secondary("unrestricted_guest", msr::vmx::UNRESTRICTED_GUEST),
            in_use("unrestricted_guest"),
        ),
        virtual_apic: ability(virtual_apic, apicv.clone()),
        virtual_x2apic: ability(
            silicon.control(msr::VMX_SECONDARY_CONTROLS, msr::vmx::X2APIC),
            apicv.clone(),
        ),
        posted_interrupts: ability(
            silicon.has("posted_intr", msr::VMX_PIN_CONTROLS, msr::vmx::POSTED_INTERRUPTS),
            apicv,
        ),
        nested: ability(Fact::Known(true), in_use("nested")),
    }
}

/// What VMX can do: by the kernel's flags, else by the registers.
struct VmxSilicon<'a> {
    source: &'a dyn Source,
    flags: Fact<String>,
}

impl VmxSilicon<'_> {
    /// Whether `flag` is told, or bit `bit` of a register of controls may be set.
    fn has(&self, flag: &str, register: u32, bit: u64) -> Fact<bool> {
        self.flag(flag).unwrap_or_else(|| self.control(register, bit))
    }

    /// Whether `flag` is told, or a bit of a register of capabilities is set.
    fn has_capability(&self, flag: &str, register: u32, bit: u64) -> Fact<bool> {
        self.flag(flag).unwrap_or_else(|| self.register(register).map(|value| value & bit != 0))
    }

    fn flag(&self, flag: &str) -> Option<Fact<bool>> {
        let flags = self.flags.known()?;
        Some(Fact::Known(flags.split_ascii_whitespace().any(|word| word == flag)))
    }

    /// The upper half of such a register holds the bits that may be 1 (Intel SDM volume 3, A.3).
    fn control(&self, register: u32, bit: u64) -> Fact<bool> {
        self.register(register).map(|value| value >> 32 & bit != 0)
    }

    /// Few users may read it; where nobody can, that is no gap to tell of.
    fn register(&self, register: u32) -> Fact<u64> {
        let value = self.source.msr(0, register);
        if value.is_unread() { Fact::NotPresent } else { value }
    }
}

fn amd(source: &dyn Source, info: &CpuInfo) -> Abilities {
    let leaf = leaf_below(source, cpuid::LEAF_EXTENDED, cpuid::LEAF_SVM);
    let in_use = |name| parse::flag(source, &Extension::Svm.parameter(name));
    let silicon = |flag: &str, bit: u32| match &leaf {
        Fact::Known(leaf) => Fact::Known(leaf.edx & bit != 0),
        // The kernel drops what does not work; a flag that it shows is one that silicon has.
        unread if unread.is_unread() && info.flag(flag) == Fact::Known(true) => Fact::Known(true),
        other => other.as_ref().map(|_| false),
    };
    let ids = leaf.as_ref().map(|leaf| leaf.ebx);
    let avic = in_use("avic");
    let ability = |in_silicon, in_use| Ability { in_silicon, in_use };
    Abilities {
        second_level_paging: ability(silicon("npt", cpuid::SVM_EDX_NPT), in_use("npt")),
        tagged_tlb: ability(ids.as_ref().map(|ids| *ids > 1), Fact::NotPresent),
        address_space_ids: ids,
        virtual_apic: ability(silicon("avic", cpuid::SVM_EDX_AVIC), avic.clone()),
        virtual_x2apic: ability(silicon("x2avic", cpuid::SVM_EDX_X2AVIC), avic),
        nested: ability(Fact::Known(true), in_use("nested")),
        ..Abilities::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cpu::info::CPUINFO;
    use crate::host::source::answers::{Answer, MsrEntry};
    use crate::host::source::fake::{Entry, FakeHost};

    fn abilities(host: &FakeHost, extension: Extension) -> Abilities {
        collect(&host.source(), extension, &CpuInfo::read(&host.source()))
    }

    fn answer_msr(host: &FakeHost, registers: &[(u32, u64)]) {
        host.answer(|answers| {
            answers.msr = registers
                .iter()
                .map(|&(register, value)| MsrEntry { cpu: 0, register, value: Answer::Given(value) })
                .collect();
        });
    }

    #[test]
    fn the_kernels_flags_tell_what_vmx_can_and_the_parameters_what_kvm_uses() {
        let host = FakeHost::new(&[
            (CPUINFO, Entry::Text("vmx flags\t: posted_intr ept_1gb ept unrestricted_guest vapic_reg vid")),
            ("/sys/module/kvm_intel/parameters/ept", Entry::Text("Y")),
            ("/sys/module/kvm_intel/parameters/enable_apicv", Entry::Text("N")),
            ("/sys/module/kvm_intel/parameters/nested", Entry::Text("1")),
        ]);
        let intel = abilities(&host, Extension::Vmx);
        let ability = |in_silicon, in_use| Ability { in_silicon: Fact::Known(in_silicon), in_use };
        assert_eq!(intel.second_level_paging, ability(true, Fact::Known(true)));
        assert_eq!(intel.tagged_tlb, ability(false, Fact::NotPresent));
        assert_eq!(intel.virtual_apic, ability(true, Fact::Known(false)));
        assert_eq!(intel.nested, ability(true, Fact::Known(true)));
        assert_eq!(intel.second_level_gigabyte_pages.in_silicon, Fact::Known(true));
        assert_eq!(intel.virtual_x2apic.in_silicon, Fact::NotPresent);
    }

    #[test]
    fn without_those_flags_the_registers_tell_and_only_their_upper_half() {
        let host = FakeHost::new(&[(CPUINFO, Entry::Text("flags\t: vmx"))]);
        let allowed = (msr::vmx::EPT | msr::vmx::X2APIC | msr::vmx::APIC_REGISTERS) << 32;
        answer_msr(&host, &[(msr::VMX_SECONDARY_CONTROLS, allowed | msr::vmx::VPID), (msr::VMX_EPT_VPID, 0)]);
        let intel = abilities(&host, Extension::Vmx);
        assert_eq!(intel.second_level_paging.in_silicon, Fact::Known(true));
        assert_eq!(intel.virtual_x2apic.in_silicon, Fact::Known(true));
        assert_eq!(intel.tagged_tlb.in_silicon, Fact::Known(false));
        assert_eq!(intel.virtual_apic.in_silicon, Fact::Known(false));
        assert_eq!(intel.second_level_gigabyte_pages.in_silicon, Fact::Known(false));
        assert_eq!(intel.posted_interrupts.in_silicon, Fact::NotPresent);
    }

    #[test]
    fn a_leaf_of_cpuid_tells_what_svm_can() {
        let host = FakeHost::new(&[
            ("/sys/module/kvm_amd/parameters/npt", Entry::Text("N")),
            ("/sys/module/kvm_amd/parameters/avic", Entry::Text("Y")),
        ]);
        let features = cpuid::SVM_EDX_NPT | cpuid::SVM_EDX_X2AVIC;
        host.answer_cpuid(&[
            (cpuid::LEAF_EXTENDED, [cpuid::LEAF_SVM, 0, 0, 0]),
            (cpuid::LEAF_SVM, [1, 0x8000, 0, features]),
        ]);
        let amd = abilities(&host, Extension::Svm);
        let ability = |in_silicon, in_use| Ability { in_silicon: Fact::Known(in_silicon), in_use };
        assert_eq!(amd.second_level_paging, ability(true, Fact::Known(false)));
        assert_eq!(
            (amd.address_space_ids, amd.tagged_tlb),
            (Fact::Known(0x8000), ability(true, Fact::NotPresent))
        );
        assert_eq!(amd.virtual_apic, ability(false, Fact::Known(true)));
        assert_eq!(amd.virtual_x2apic, ability(true, Fact::Known(true)));
        assert_eq!(amd.unrestricted_guest, Ability::default());
    }

    #[test]
    fn a_flag_proves_an_ability_that_no_leaf_tells_and_its_absence_disproves_none() {
        let host = FakeHost::new(&[(CPUINFO, Entry::Text("flags\t: svm npt"))]);
        let amd = abilities(&host, Extension::Svm);
        assert_eq!(amd.second_level_paging.in_silicon, Fact::Known(true));
        assert!(amd.virtual_apic.in_silicon.is_unread());
    }
}
