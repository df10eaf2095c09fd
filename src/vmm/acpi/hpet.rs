//! HPET: where the high precision timers are (IA-PC HPET Specification 1.0a, 3.2.4).

use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use crate::vmm::acpi::{aml, table};
use crate::vmm::chipset::hpet;

/// The first block of timers.
pub(super) fn build() -> Vec<u8> {
    let mut body = hpet::BLOCK_ID.to_le_bytes().to_vec();
    body.extend(aml(&GAS::new(AddressSpace::SystemMemory, 0, 0, AccessSize::Undefined, hpet::BASE)));
    // Sequence number
    body.push(0);
    body.extend(hpet::MINIMUM_TICKS.to_le_bytes());
    // No page protection is promised
    body.push(0);
    table(*b"HPET", 1, &body)
}
