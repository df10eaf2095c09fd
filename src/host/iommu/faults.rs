//! Accesses that an IOMMU refused, from the kernel's log.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel_log::KernelLog;

/// Refused accesses. The kernel limits the rate of these messages: the real number may be larger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Messages.
    pub count: usize,
    /// The first of them.
    pub messages: Vec<String>,
}

/// How many messages are kept: a fault repeats itself thousands of times.
const KEPT: usize = 10;

/// Refused accesses in `log`.
pub(super) fn collect(log: &KernelLog) -> Fact<Faults> {
    log.0.as_ref().map(|messages| {
        let faults = || messages.iter().filter(|message| is_fault(message));
        Faults { count: faults().count(), messages: faults().take(KEPT).cloned().collect() }
    })
}

/// `DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x..`, in older kernels `DMAR:[DMA Write] Request
/// device ..` (Linux: drivers/iommu/intel/dmar.c); `AMD-Vi: Event logged [IO_PAGE_FAULT ..]`, in newer kernels after
/// the function's name (drivers/iommu/amd/iommu.c).
fn is_fault(message: &str) -> bool {
    let of_intel = message.contains("DMAR") && message.contains("Request device [");
    let of_amd = message.contains("AMD-Vi: Event logged [");
    of_intel || of_amd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_both_makers_are_told_from_other_messages() {
        for fault in [
            "DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x06] PTE Read access",
            "DMAR:[DMA Write] Request device [00:14.0] fault addr bd000000",
            "ixgbe 0000:02:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0001 address=0x0 flags=0x0]",
        ] {
            assert!(is_fault(fault), "{fault}");
        }
        for other in ["DMAR: IOMMU enabled", "DMAR: DRHD: handling fault status reg 2", "AMD-Vi: Found IOMMU"]
        {
            assert!(!is_fault(other), "{other}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_not_a_log_without_faults() {
        assert!(collect(&KernelLog(Fact::Denied { source: "/dev/kmsg".to_owned() })).is_unread());
        let many = vec!["DMAR: [DMA Read] Request device [01:00.0]".to_owned(); 1000];
        let faults = collect(&KernelLog(Fact::Known(many)));
        assert_eq!(faults.known().map(|faults| (faults.count, faults.messages.len())), Some((1000, KEPT)));
    }
}
