//! The registers with which firmware switches an extension on or off, where they can be read.
//!
//! Few users may read them, and emulated processors answer 0 whatever they do: a register that says "off" decides, one
//! that says nothing does not. That nobody may read them is no gap to tell of, so they are absent then.

use serde::Serialize;

use super::virtualization::Extension;
use crate::host::fact::Fact;
use crate::host::source::Source;
use crate::spec::msr;

/// IA32_FEATURE_CONTROL of the first CPU (Intel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FeatureControl {
    /// The register.
    pub value: u64,
    /// It stays as it is until a reset.
    pub locked: bool,
    /// VMX may be used inside SMX (under tboot).
    pub vmx_inside_smx: bool,
    /// VMX may be used outside SMX.
    pub vmx_outside_smx: bool,
}

/// VM_CR of the first CPU (AMD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VmCr {
    /// The register.
    pub value: u64,
    /// SVM cannot be switched on.
    pub svm_disabled: bool,
    /// That stays so until a reset, or until a key is written.
    pub locked: bool,
}

/// Reads IA32_FEATURE_CONTROL.
pub(super) fn feature_control(source: &dyn Source, extension: Extension) -> Fact<FeatureControl> {
    register(source, extension == Extension::Vmx, msr::IA32_FEATURE_CONTROL).map(|value| FeatureControl {
        value,
        locked: value & msr::FEATURE_CONTROL_LOCKED != 0,
        vmx_inside_smx: value & msr::FEATURE_CONTROL_VMX_IN_SMX != 0,
        vmx_outside_smx: value & msr::FEATURE_CONTROL_VMX != 0,
    })
}

/// Reads VM_CR.
pub(super) fn vm_cr(source: &dyn Source, extension: Extension) -> Fact<VmCr> {
    register(source, extension == Extension::Svm, msr::VM_CR).map(|value| VmCr {
        value,
        svm_disabled: value & msr::VM_CR_SVMDIS != 0,
        locked: value & msr::VM_CR_LOCK != 0,
    })
}

fn register(source: &dyn Source, is_there: bool, register: u32) -> Fact<u64> {
    if !is_there {
        return Fact::NotPresent;
    }
    let value = source.msr(0, register);
    if value.is_unread() { Fact::NotPresent } else { value }
}
