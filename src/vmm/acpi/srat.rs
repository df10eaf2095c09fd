//! SRAT: which processors and which memory belong to which NUMA node (ACPI 6.5, 5.2.16).

use std::ops::Range;

use crate::vmm::acpi::table;

const LOCAL_APIC: u8 = 0;
const MEMORY: u8 = 1;
const ENABLED: u32 = 1 << 0;

/// A node; its number is its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// APIC IDs of its vCPUs.
    pub apic_ids: Vec<u8>,
    /// Guest-physical addresses of its memory.
    pub ranges: Vec<Range<u64>>,
}

pub(super) fn build(nodes: &[Node]) -> Vec<u8> {
    let mut body = Vec::new();
    // Reserved: 1 for older readers, and zeros.
    body.extend(1u32.to_le_bytes());
    body.extend(0u64.to_le_bytes());
    for (domain, node) in (0u32..).zip(nodes) {
        // The domain's lowest byte stands apart from the others.
        let [low, high @ ..] = domain.to_le_bytes();
        for id in &node.apic_ids {
            body.extend([LOCAL_APIC, 16, low, *id]);
            body.extend(ENABLED.to_le_bytes());
            body.push(0); // local SAPIC EID
            body.extend(high);
            body.extend(0u32.to_le_bytes()); // clock domain
        }
        for range in &node.ranges {
            body.extend([MEMORY, 40]);
            body.extend(domain.to_le_bytes());
            body.extend(0u16.to_le_bytes());
            body.extend(range.start.to_le_bytes());
            body.extend((range.end - range.start).to_le_bytes());
            body.extend(0u32.to_le_bytes());
            body.extend(ENABLED.to_le_bytes());
            body.extend(0u64.to_le_bytes());
        }
    }
    table(*b"SRAT", 3, &body)
}
