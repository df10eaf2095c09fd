//! MCFG: where memory-mapped configuration space lies (PCI Firmware Specification 3.3, 4.1.2).

use crate::vmm::acpi::table;
use crate::vmm::layout;

/// One allocation: segment 0, the buses up to `last_bus`. Guests look at every device number of every bus that they are told
/// of, which costs them a second where exits are slow; so they are told of no more than there are.
pub(super) fn build(last_bus: u8) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(layout::ECAM.start.to_le_bytes());
    body.extend(0u16.to_le_bytes());
    body.extend([0, last_bus]);
    body.extend([0; 4]);
    table(*b"MCFG", 1, &body)
}
