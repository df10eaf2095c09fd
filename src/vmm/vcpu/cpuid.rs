//! What the guest's CPUID instruction answers: the features that [`features`] selects of KVM's offer, with this machine's
//! topology put in by [`arrangement`].
//!
//! Every leaf that says something about the topology says the same.

mod arrangement;
mod features;
#[cfg(test)]
mod tests;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use crate::spec::cpuid::LEAF_ADDRESS_SIZES;
use crate::vmm::vcpu::topology::Topology;

pub use features::{FeatureError, select};

/// Physical address bits where leaf 80000008h is missing (Intel SDM vol. 3, 4.1.4).
const DEFAULT_PHYSICAL_BITS: u8 = 36;

/// Physical address bits of a guest that sees `supported`.
#[must_use]
pub fn physical_bits(supported: &CpuId) -> u8 {
    supported
        .as_slice()
        .iter()
        .find(|entry| entry.function == LEAF_ADDRESS_SIZES)
        .map_or(DEFAULT_PHYSICAL_BITS, |entry| entry.eax.to_le_bytes()[0])
}

/// Signature and features of leaf 1: EAX and EDX, as SMBIOS repeats them (SMBIOS 3.7, 7.5.3).
#[must_use]
pub fn processor_id(selected: &CpuId) -> [u32; 2] {
    let leaf = selected.as_slice().iter().find(|entry| entry.function == 1);
    leaf.map_or([0; 2], |leaf| [leaf.eax, leaf.edx])
}

/// Whether the local APIC's timer can be set to a TSC value, which KVM emulates but does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TscDeadline(pub bool);

/// Answers for the vCPU with this index in `topology`, with the features of `selected`. None if the list would become longer
/// than KVM takes.
#[must_use]
pub fn leaves(selected: &CpuId, topology: Topology, index: u8) -> Option<CpuId> {
    let mut entries = selected.as_slice().to_vec();
    arrangement::put(&mut entries, topology, index);
    CpuId::from_entries(&entries).ok()
}

fn is_amd(entries: &[kvm_cpuid_entry2]) -> bool {
    const AMD: u32 = u32::from_le_bytes(*b"Auth");
    const HYGON: u32 = u32::from_le_bytes(*b"Hygo");
    entries.iter().any(|entry| entry.function == 0 && matches!(entry.ebx, AMD | HYGON))
}

/// Leaves for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(crate) fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
    }

    /// Leaf 0: the last leaf, and the first four letters of the vendor's name.
    pub(crate) fn vendor(name: &[u8; 4], last: u32) -> kvm_cpuid_entry2 {
        entry(0, 0, [last, u32::from_le_bytes(*name), 0, 0])
    }

    pub(crate) fn leaf(cpuid: &CpuId, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index).copied()
    }
}
