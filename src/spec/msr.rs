//! Model-specific registers: those with which firmware switches virtualization on and off, and those that a machine
//! monitor sets before a guest starts.

/// IA32_FEATURE_CONTROL (Intel SDM volume 4, table 2-2).
pub const IA32_FEATURE_CONTROL: u32 = 0x3A;
/// IA32_FEATURE_CONTROL: locked until reset.
pub const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMX may be used inside SMX.
pub const FEATURE_CONTROL_VMX_IN_SMX: u64 = 1 << 1;
/// IA32_FEATURE_CONTROL: VMX may be used outside SMX.
pub const FEATURE_CONTROL_VMX: u64 = 1 << 2;

/// VM_CR (AMD APM volume 2, 15.30.1).
pub const VM_CR: u32 = 0xC001_0114;
/// VM_CR.LOCK: SVMDIS and LOCK cannot be written.
pub const VM_CR_LOCK: u64 = 1 << 3;
/// VM_CR.SVMDIS: SVM cannot be enabled.
pub const VM_CR_SVMDIS: u64 = 1 << 4;

/// IA32_APIC_BASE (Intel SDM volume 4, table 2-2; AMD APM volume 2, 16.3.1).
pub const APIC_BASE: u32 = 0x1B;
/// IA32_APIC_BASE.EXTD: the interrupt controller is in the mode x2APIC.
pub const APIC_BASE_X2APIC: u64 = 1 << 10;
/// IA32_VMX_PINBASED_CTLS: its upper half holds the controls that may be set (Intel SDM volume 3, A.3.1).
pub const VMX_PIN_CONTROLS: u32 = 0x481;
/// IA32_VMX_PROCBASED_CTLS2: its upper half holds the controls that may be set (A.3.3).
pub const VMX_SECONDARY_CONTROLS: u32 = 0x48B;
/// IA32_VMX_EPT_VPID_CAP (A.10).
pub const VMX_EPT_VPID: u32 = 0x48C;

/// What VMX can do, by bits of its registers.
pub mod vmx {
    /// [`VMX_PIN_CONTROLS`](super::VMX_PIN_CONTROLS): process posted interrupts (Intel SDM volume 3, table 25-5).
    pub const POSTED_INTERRUPTS: u64 = 1 << 7;
    /// [`VMX_SECONDARY_CONTROLS`](super::VMX_SECONDARY_CONTROLS): enable EPT (table 25-7).
    pub const EPT: u64 = 1 << 1;
    /// The same: virtualize x2APIC mode.
    pub const X2APIC: u64 = 1 << 4;
    /// The same: enable VPID.
    pub const VPID: u64 = 1 << 5;
    /// The same: unrestricted guest.
    pub const UNRESTRICTED_GUEST: u64 = 1 << 7;
    /// The same: APIC-register virtualization.
    pub const APIC_REGISTERS: u64 = 1 << 8;
    /// The same: virtual-interrupt delivery.
    pub const INTERRUPT_DELIVERY: u64 = 1 << 9;
    /// [`VMX_EPT_VPID`](super::VMX_EPT_VPID): EPT may have pages of 1 GiB.
    pub const EPT_1GIB_PAGES: u64 = 1 << 17;
}

/// Time stamp counter (Intel SDM volume 4, table 2-2).
pub const TSC: u32 = 0x10;
/// Offset that software added to the time stamp counter.
pub const TSC_ADJUST: u32 = 0x3B;
/// IA32_MISC_ENABLE.
pub const MISC_ENABLE: u32 = 0x1A0;
/// IA32_MISC_ENABLE: fast string operations, on after firmware.
pub const MISC_ENABLE_FAST_STRINGS: u64 = 1 << 0;

/// Memory type range registers (Intel SDM volume 3, 12.11).
pub mod mtrr {
    /// Base of variable range 0; its mask follows, then the next range.
    pub const BASE_0: u32 = 0x200;
    /// Default type and enables.
    pub const DEFAULT_TYPE: u32 = 0x2FF;
    /// [`DEFAULT_TYPE`]: the registers are in force.
    pub const ENABLE: u64 = 1 << 11;
    /// Type: uncacheable.
    pub const UNCACHEABLE: u64 = 0;
    /// Type: write back.
    pub const WRITE_BACK: u64 = 6;
    /// In a mask register: the range is in force.
    pub const VALID: u64 = 1 << 11;
}

/// What Intel's manual calls a register that a machine monitor sets (Intel SDM volume 4, table 2-2).
#[must_use]
pub fn name(index: u32) -> Option<String> {
    Some(match index {
        MISC_ENABLE => "IA32_MISC_ENABLE".to_owned(),
        mtrr::DEFAULT_TYPE => "IA32_MTRR_DEF_TYPE".to_owned(),
        mtrr::BASE_0..=0x213 => {
            let (range, is_mask) = ((index - mtrr::BASE_0) / 2, index % 2 == 1);
            format!("IA32_MTRR_PHYS{}{range}", if is_mask { "MASK" } else { "BASE" })
        }
        _ => return None,
    })
}
