//! MCFG: where memory-mapped configuration space lies (PCI Firmware Specification 3.3, 4.1.2).

use crate::vmm::acpi::table;
use crate::vmm::layout;

/// One allocation: segment 0, the buses that there are.
pub(super) fn build() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(layout::ECAM.start.to_le_bytes());
    body.extend(0u16.to_le_bytes());
    body.extend([0, layout::LAST_BUS]);
    body.extend([0; 4]);
    table(*b"MCFG", 1, &body)
}
