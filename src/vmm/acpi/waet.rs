//! WAET: which work-arounds an operating system can leave out (Microsoft, "Windows ACPI Emulated Devices Table" 1.0).

use crate::vmm::acpi::table;

/// Reading register C once is enough to have another interrupt of the clock.
const RTC_GOOD: u32 = 1 << 0;
/// One read of the power management timer is right.
const PM_TIMER_GOOD: u32 = 1 << 1;

/// Both.
pub(super) fn build() -> Vec<u8> {
    table(*b"WAET", 1, &(RTC_GOOD | PM_TIMER_GOOD).to_le_bytes())
}
