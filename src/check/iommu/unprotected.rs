//! Functions handed out without an IOMMU, and accesses that one refused.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::iommu::NO_IOMMU_MODE;
use crate::host::kernel_log::KernelLog;

/// `iommu-no-iommu-mode`
pub(super) fn no_iommu_mode(facts: &HostFacts) -> Outcome {
    match &facts.iommu.no_iommu_mode {
        Fact::Known(true) => Outcome::warn("VFIO may hand functions out without an IOMMU")
            .evidence(NO_IOMMU_MODE, "Y")
            .cause("`enable_unsafe_noiommu_mode` was set, by modprobe.d, the command line or by hand")
            .remedy(Remedy::command(
                format!("echo N | sudo tee {NO_IOMMU_MODE}"),
                "until the next boot; take the option out of /etc/modprobe.d and the command line, too",
            )),
        Fact::Known(false) => {
            Outcome::pass("VFIO hands nothing out without an IOMMU").evidence(NO_IOMMU_MODE, "N")
        }
        Fact::NotPresent => {
            Outcome::pass("VFIO hands nothing out without an IOMMU").evidence(NO_IOMMU_MODE, "not there")
        }
        unread => Outcome::unread(unread, "whether no-IOMMU mode is allowed"),
    }
}

/// `iommu-faults`
pub(super) fn faults(facts: &HostFacts) -> Outcome {
    let faults = match &facts.iommu.faults {
        Fact::Known(faults) => faults,
        unread => return Outcome::unread(unread, "whether accesses were refused"),
    };
    if faults.count == 0 {
        return Outcome::pass("the kernel's log remembers no refused access")
            .evidence(KernelLog::SOURCE, "none");
    }
    let warn = Outcome::warn(format!("the IOMMU refused accesses: {} in the kernel's log", faults.count))
        .cause(
            "a device accessed memory that is not mapped for it: a driver's fault, a mapping that firmware forgot \
             (RMRR), a device that was still busy when its guest ended, or an attack",
        )
        .remedy(Remedy::advice(
            "find the function by the address in the message; update its driver and firmware, and reset it before \
             it is handed on",
        ));
    faults.messages.iter().fold(warn, |outcome, message| outcome.evidence(KernelLog::SOURCE, message))
}
