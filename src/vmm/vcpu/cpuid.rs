//! What the guest's CPUID instruction answers: what KVM offers on this host, with this machine's topology put in.
//!
//! One socket, as many cores as vCPUs, one thread each; APIC IDs ascend from 0. Every leaf that says something about the
//! topology says the same. Nested virtualization is hidden: what the guest does not need is not exposed.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use crate::spec::cpuid::{
    EXTENDED_ECX_CMP_LEGACY, EXTENDED_ECX_SVM, FEATURES_ECX_HYPERVISOR, FEATURES_ECX_MONITOR,
    FEATURES_ECX_TSC_DEADLINE, FEATURES_ECX_VMX, FEATURES_EDX_HTT, LEAF_ADDRESS_SIZES, LEAF_CACHES,
    LEAF_CACHES_AMD, LEAF_EXTENDED_FEATURES, LEAF_FEATURES, LEAF_SVM, LEAF_TOPOLOGY, LEAF_TOPOLOGY_AMD,
    LEAF_TOPOLOGY_AMD_V2, LEAF_TOPOLOGY_V2, TOPOLOGY_LEVEL_CORE, TOPOLOGY_LEVEL_SMT,
};

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

/// Whether the local APIC's timer can be set to a TSC value, which KVM emulates but does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TscDeadline(pub bool);

/// Answers for vCPU `id` (also its APIC ID) of `count`. None if the list would become longer than KVM takes.
#[must_use]
pub fn leaves(supported: &CpuId, id: u8, count: u8, tsc_deadline: TscDeadline) -> Option<CpuId> {
    let (id, count) = (u32::from(id), u32::from(count.max(1)));
    let core_bits = count.next_power_of_two().trailing_zeros();
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !is_topology(entry.function) && entry.function != LEAF_SVM)
        .copied()
        .collect();
    for entry in &mut entries {
        match entry.function {
            LEAF_FEATURES => {
                // Bits 31:24 APIC ID, 23:16 APIC IDs in the package, 15:0 as they are.
                entry.ebx = entry.ebx & 0xFFFF | id << 24 | 1 << (core_bits + 16);
                entry.ecx |= FEATURES_ECX_HYPERVISOR;
                entry.ecx &= !(FEATURES_ECX_MONITOR | FEATURES_ECX_VMX);
                set(&mut entry.ecx, FEATURES_ECX_TSC_DEADLINE, tsc_deadline.0);
                set(&mut entry.edx, FEATURES_EDX_HTT, count > 1);
            }
            LEAF_CACHES if entry.eax & 0x1F != 0 => {
                // Bits 31:26 cores in the package, 25:14 logical processors that share the cache: all share level 3.
                let sharing = if entry.eax >> 5 & 7 >= 3 { count } else { 1 };
                entry.eax = entry.eax & 0x3FFF | (count.next_power_of_two() - 1) << 26 | (sharing - 1) << 14;
            }
            LEAF_CACHES_AMD if entry.eax & 0x1F != 0 => {
                let sharing = if entry.eax >> 5 & 7 >= 3 { count } else { 1 };
                entry.eax = entry.eax & !(0xFFF << 14) | (sharing - 1) << 14;
            }
            LEAF_EXTENDED_FEATURES => {
                entry.ecx &= !EXTENDED_ECX_SVM;
                set(&mut entry.ecx, EXTENDED_ECX_CMP_LEGACY, is_amd(supported) && count > 1);
            }
            // Bits 15:12 width of the core number, 7:0 cores less one; reserved on Intel.
            LEAF_ADDRESS_SIZES if is_amd(supported) => {
                entry.ecx = entry.ecx & !0xF0FF | core_bits << 12 | (count - 1);
            }
            // EAX APIC ID, EBX bits 7:0 core number (one thread each), ECX node 0 of 1.
            LEAF_TOPOLOGY_AMD => {
                (entry.eax, entry.ebx, entry.ecx) = (id, id, 0);
            }
            _ => {}
        }
    }
    for function in [LEAF_TOPOLOGY, LEAF_TOPOLOGY_V2] {
        if supported.as_slice().iter().any(|entry| entry.function == function) {
            entries.extend(topology(function, id, count, core_bits));
        }
    }
    CpuId::from_entries(&entries).ok()
}

/// Leaves that are made anew rather than changed. AMD's version 2 leaf is left out; its guests use 0Bh or 8000001Eh.
fn is_topology(function: u32) -> bool {
    matches!(function, LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 | LEAF_TOPOLOGY_AMD_V2)
}

fn is_amd(supported: &CpuId) -> bool {
    const AMD: u32 = u32::from_le_bytes(*b"Auth");
    const HYGON: u32 = u32::from_le_bytes(*b"Hygo");
    supported.as_slice().iter().any(|entry| entry.function == 0 && matches!(entry.ebx, AMD | HYGON))
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on { *register |= bit } else { *register &= !bit }
}

/// Sub-leaves of leaf 0Bh or 1Fh: threads, cores, end.
fn topology(function: u32, id: u32, count: u32, core_bits: u32) -> [kvm_cpuid_entry2; 3] {
    let level = |index: u32, shift: u32, processors: u32, kind: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: processors,
        ecx: index | kind,
        edx: id,
        ..Default::default()
    };
    [level(0, 0, 1, TOPOLOGY_LEVEL_SMT), level(1, core_bits, count, TOPOLOGY_LEVEL_CORE), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(vendor: &[u8; 4]) -> CpuId {
        let entry = |function, index, eax, ebx, ecx, edx| kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        };
        CpuId::from_entries(&[
            entry(0, 0, 0x1F, u32::from_le_bytes(*vendor), 0, 0),
            entry(1, 0, 0, 0x0710_0800, !FEATURES_ECX_HYPERVISOR, 0),
            entry(4, 0, 0x1C00_4121, 0, 0, 0),
            entry(4, 3, 0x1C03_C163, 0, 0, 0),
            entry(4, 4, 0, 0, 0, 0),
            entry(0xB, 0, 1, 2, 0x100, 7),
            entry(0x1F, 0, 1, 2, 0x100, 7),
            entry(0x8000_0001, 0, 0, 0, u32::MAX, 0),
            entry(0x8000_0008, 0, 0x3028, 0, 0x700F, 0),
            entry(0x8000_000A, 0, 1, 8, 0, 0),
            entry(0x8000_001E, 0, 7, 0x0107, 1, 0),
            entry(0x8000_0026, 0, 1, 1, 1, 1),
        ])
        .unwrap()
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> Option<kvm_cpuid_entry2> {
        cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index).copied()
    }

    #[test]
    fn every_leaf_tells_the_same_topology() {
        let cpuid = leaves(&host(b"Auth"), 5, 6, TscDeadline(true)).unwrap();
        assert_eq!(leaf(&cpuid, 1, 0).unwrap().ebx, 0x0508_0800, "APIC ID 5, 8 APIC IDs");
        assert_eq!(leaf(&cpuid, 4, 0).unwrap().eax >> 14, 7 << 12, "8 core IDs, private level 1");
        assert_eq!(leaf(&cpuid, 4, 3).unwrap().eax >> 14, 7 << 12 | 5, "level 3 shared by 6");
        for function in [0xB, 0x1F] {
            let cores = leaf(&cpuid, function, 1).unwrap();
            assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (3, 6, 0x201, 5));
            assert_eq!(leaf(&cpuid, function, 0).unwrap().edx, 5);
        }
        assert_eq!(leaf(&cpuid, 0x8000_0008, 0).unwrap().ecx, 0x3005);
        assert_eq!(leaf(&cpuid, 0x8000_001E, 0).unwrap().eax, 5);
        assert!(leaf(&cpuid, 0x8000_0026, 0).is_none());
    }

    #[test]
    fn one_cpu_is_no_multiprocessor_and_the_end_of_the_cache_list_stays() {
        let cpuid = leaves(&host(b"Genu"), 0, 1, TscDeadline(true)).unwrap();
        assert_eq!(leaf(&cpuid, 1, 0).unwrap().edx & FEATURES_EDX_HTT, 0);
        assert_eq!(leaf(&cpuid, 4, 4).unwrap().eax, 0);
        assert_eq!(leaf(&cpuid, 0x8000_0008, 0).unwrap().ecx, 0x700F, "reserved on Intel: as it was");
    }

    #[test]
    fn nested_virtualization_and_monitor_are_hidden_and_the_deadline_timer_follows_kvm() {
        for deadline in [true, false] {
            let cpuid = leaves(&host(b"Auth"), 0, 1, TscDeadline(deadline)).unwrap();
            let ecx = leaf(&cpuid, 1, 0).unwrap().ecx;
            assert_eq!(ecx & (FEATURES_ECX_VMX | FEATURES_ECX_MONITOR), 0);
            assert_ne!(ecx & FEATURES_ECX_HYPERVISOR, 0);
            assert_eq!(ecx & FEATURES_ECX_TSC_DEADLINE != 0, deadline);
            assert_eq!(leaf(&cpuid, 0x8000_0001, 0).unwrap().ecx & EXTENDED_ECX_SVM, 0);
            assert!(leaf(&cpuid, 0x8000_000A, 0).is_none());
        }
    }

    #[test]
    fn physical_bits_come_from_the_host() {
        assert_eq!(physical_bits(&host(b"Auth")), 40);
        assert_eq!(physical_bits(&CpuId::from_entries(&[]).unwrap()), 36);
    }
}
