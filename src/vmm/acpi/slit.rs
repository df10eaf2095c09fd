//! SLIT: how far NUMA nodes are from each other (ACPI 6.5, 5.2.17).

use crate::vmm::acpi::table;

/// `distances` has a row for each node, with a distance for each.
pub(super) fn build(distances: &[Vec<u8>]) -> Vec<u8> {
    let mut body = (distances.len() as u64).to_le_bytes().to_vec();
    body.extend(distances.iter().flatten());
    table(*b"SLIT", 1, &body)
}
