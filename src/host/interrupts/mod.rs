//! Interrupts: the ways in which they can reach a guest on this host, the mode of the processors' interrupt
//! controllers, and which CPUs serve what is passed through.
//!
//! Linux: Documentation/core-api/irq/irq-affinity.rst; proc_interrupts(5).

mod delivery;
mod listed;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::iommu::Iommu;
use crate::host::kernel::Kernel;
use crate::host::kernel_log::KernelLog;
use crate::host::kvm::Kvm;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;
use crate::spec::{cpuid, msr};

pub use delivery::{Delivery, POSTING_PARAMETERS, VirtualControllers, Ways};
pub use listed::{GuestInterrupt, GuestInterruptKind};

/// CPUs that serve an interrupt unless told otherwise.
pub const DEFAULT_AFFINITY: &str = "/proc/irq/default_smp_affinity";

/// Interrupts of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Interrupts {
    /// The ways in which interrupts can reach a guest here, the fastest last.
    pub delivery: Ways,
    /// Whether KVM leaves interrupt controllers to the processor (APICv, AVIC); absent where no module of KVM is
    /// loaded that could.
    pub virtual_controllers: Fact<VirtualControllers>,
    /// Whether the processor has the mode x2APIC.
    pub x2apic_supported: Fact<bool>,
    /// Whether its interrupt controllers are in it.
    pub x2apic_enabled: Fact<bool>,
    /// Identifiers to which the IOMMU remaps interrupts; absent where it does not.
    pub remapping_mode: Fact<RemappingMode>,
    /// CPUs that serve an interrupt unless told otherwise.
    pub default_affinity: Fact<CpuList>,
    /// Interrupts of functions that are passed through now, by number.
    pub of_guests: Fact<Vec<GuestInterrupt>>,
}

/// Identifiers to which an IOMMU remaps interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RemappingMode {
    /// Of 8 bits: 255 processors.
    Xapic,
    /// Of 32 bits.
    X2apic,
}

/// What has been read of the host before its interrupts.
pub(super) struct Known<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) log: &'a KernelLog,
    pub(super) kvm: &'a Kvm,
    pub(super) iommu: &'a Iommu,
}

/// `/proc/interrupts`: a line for each interrupt, with a column for each CPU.
pub(super) fn list(source: &dyn Source) -> Fact<String> {
    listed::read(source)
}

/// Reads the interrupts of a host. `list` is what [`list`] gave.
pub(super) fn collect(source: &dyn Source, list: &Fact<String>, known: &Known<'_>) -> Interrupts {
    let x2apic_supported = match source.cpuid(cpuid::LEAF_FEATURES, 0) {
        Fact::Known(leaf) => Fact::Known(leaf.ecx & cpuid::FEATURES_ECX_X2APIC != 0),
        unknown => unknown.map(|_| false),
    };
    let virtual_controllers = delivery::controllers(source, known.kernel);
    Interrupts {
        delivery: delivery::collect(&virtual_controllers, known),
        virtual_controllers,
        x2apic_enabled: x2apic_enabled(source, known.log, &x2apic_supported),
        x2apic_supported,
        remapping_mode: remapping_mode(known.log, &known.iommu.interrupt_remapping),
        default_affinity: source
            .text(DEFAULT_AFFINITY)
            .parse(DEFAULT_AFFINITY, |text| CpuList::parse_mask(&text)),
        of_guests: list.as_ref().map(|text| listed::of_guests(source, text)),
    }
}

/// The register says so to root; the kernel's log says so to those who may read it, as long as it remembers.
fn x2apic_enabled(source: &dyn Source, log: &KernelLog, supported: &Fact<bool>) -> Fact<bool> {
    if *supported == Fact::Known(false) {
        return Fact::Known(false);
    }
    let register = source.msr(0, msr::APIC_BASE);
    if let Fact::Known(value) = register {
        return Fact::Known(value & msr::APIC_BASE_X2APIC != 0);
    }
    // Linux: arch/x86/kernel/apic/apic.c.
    if log
        .first(&["x2apic enabled", "x2apic: enabled by BIOS", "cluster x2apic", "physical x2apic"])
        .is_some()
    {
        return Fact::Known(true);
    }
    if log.first(&["x2apic disabled", "x2apic is disabled"]).is_some() {
        return Fact::Known(false);
    }
    match register {
        Fact::NotPresent => Fact::Unreadable {
            source: "/dev/cpu/0/msr".to_owned(),
            reason: "the module msr is not loaded, and the kernel's log does not tell".to_owned(),
        },
        unread => unread.map(|_| false),
    }
}

/// Linux: drivers/iommu/intel/irq_remapping.c; drivers/iommu/amd/init.c.
fn remapping_mode(log: &KernelLog, remapping: &Fact<bool>) -> Fact<RemappingMode> {
    match remapping {
        Fact::Known(true) => {}
        Fact::Known(false) => return Fact::NotPresent,
        unknown => return unknown.as_ref().map(|_| RemappingMode::Xapic),
    }
    if log.first(&["IRQ remapping in x2apic mode", "AMD-Vi: X2APIC enabled"]).is_some() {
        return Fact::Known(RemappingMode::X2apic);
    }
    if log.first(&["IRQ remapping in xapic mode", "AMD-Vi: Interrupt remapping enabled"]).is_some() {
        return Fact::Known(RemappingMode::Xapic);
    }
    match &log.0 {
        Fact::Known(_) | Fact::NotPresent => Fact::Unreadable {
            source: KernelLog::SOURCE.to_owned(),
            reason: "the log does not tell, or does not remember".to_owned(),
        },
        unread => unread.as_ref().map(|_| RemappingMode::Xapic),
    }
}
