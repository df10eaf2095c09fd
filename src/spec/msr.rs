//! Model-specific registers: those with which firmware switches virtualization on and off, and those that a machine
//! monitor sets before a guest starts.

/// IA32_FEATURE_CONTROL (Intel SDM volume 4, table 2-2).
pub const IA32_FEATURE_CONTROL: u32 = 0x3A;
/// IA32_FEATURE_CONTROL: locked until reset.
pub const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMX may be used outside SMX.
pub const FEATURE_CONTROL_VMX: u64 = 1 << 2;

/// VM_CR (AMD APM volume 2, 15.30.1).
pub const VM_CR: u32 = 0xC001_0114;
/// VM_CR.SVMDIS: SVM cannot be enabled.
pub const VM_CR_SVMDIS: u64 = 1 << 4;

/// IA32_APIC_BASE (Intel SDM volume 4, table 2-2; AMD APM volume 2, 16.3.1).
pub const APIC_BASE: u32 = 0x1B;
/// IA32_APIC_BASE.EXTD: the interrupt controller is in the mode x2APIC.
pub const APIC_BASE_X2APIC: u64 = 1 << 10;

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
