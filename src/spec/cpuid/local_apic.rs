//! Bits of CPUID that speak of the local APIC, or of what KVM does through it.

/// Thermal and power management.
pub const LEAF_POWER: u32 = 6;
/// What KVM offers a guest that knows it; see [`kvm`].
pub const LEAF_KVM_FEATURES: u32 = 0x4000_0001;

/// EDX of leaf 1, and on AMD of leaf 80000001h: there is a local APIC, and it is on.
pub const FEATURES_EDX_APIC: u32 = 1 << 9;
/// EAX of [`LEAF_POWER`]: the local APIC's timer runs in every power state.
pub const POWER_EAX_ARAT: u32 = 1 << 2;
/// ECX of leaf 80000001h: the local APIC has registers beyond the usual ones (AMD).
pub const EXTENDED_ECX_APIC_SPACE: u32 = 1 << 3;

/// EAX of [`LEAF_KVM_FEATURES`] (Linux: Documentation/virt/kvm/x86/cpuid.rst).
pub mod kvm {
    /// Page faults that tell of a page that the host has to fetch.
    pub const ASYNC_PF: u32 = 1 << 4;
    /// Ends of interrupts through memory.
    pub const PV_EOI: u32 = 1 << 6;
    /// Waking a halted vCPU by a call.
    pub const PV_UNHALT: u32 = 1 << 7;
    /// The same page faults as exits of a nested guest.
    pub const ASYNC_PF_VMEXIT: u32 = 1 << 10;
    /// Interrupts between vCPUs by a call.
    pub const PV_SEND_IPI: u32 = 1 << 11;
    /// The guest can keep the host from polling while it is halted.
    pub const POLL_CONTROL: u32 = 1 << 12;
    /// Yielding to a vCPU that an interrupt was sent to.
    pub const PV_SCHED_YIELD: u32 = 1 << 13;
    /// The page that was fetched is told of by an interrupt.
    pub const ASYNC_PF_INT: u32 = 1 << 14;
    /// Messages with more than 8 bits of destination.
    pub const MSI_EXT_DEST_ID: u32 = 1 << 15;
}
