//! What the machine itself runs on: the chipset, what keeps it cool, its memory.

use super::{Objection, Rule, consent, refuse, unseen};
use crate::host::pci::PciDevice;
use crate::spec::pci::ClassCode;

/// Drivers that watch temperatures (Linux: drivers/thermal/intel).
const THERMAL: [&str; 3] = ["intel_pch_thermal", "proc_thermal", "proc_thermal_pci"];

/// What the machine would miss if `device` went.
pub(super) fn machine(device: &PciDevice, class: ClassCode) -> Option<Objection> {
    let driver = device.driver.known().map(String::as_str);
    if driver.is_some_and(|driver| THERMAL.contains(&driver)) {
        return Some(refuse(
            Rule::Thermal,
            device,
            "it keeps the machine from overheating",
            "leave it with the host; name another function",
        ));
    }
    // CXL 3.1, 8.1.12.1: memory devices have class 0502h. What the host has of it may be a part of its memory.
    if (class.base, class.sub) == (0x05, 0x02) {
        return Some(refuse(
            Rule::Memory,
            device,
            "it is memory (CXL), of which the host may have some in use",
            "leave it with the host; name another function",
        ));
    }
    if device.vendor_id.is_unread() {
        return Some(unseen(device, "who made it, and so whether it is a part of the chipset,"));
    }
    let part = device.chipset_part()?;
    Some(consent(Rule::Chipset, device, format!("it is {part}")))
}
