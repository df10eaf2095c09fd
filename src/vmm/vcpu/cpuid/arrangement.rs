//! What CPUID says of the topology: one arrangement, told by seven leaves that must agree.

use kvm_bindings::kvm_cpuid_entry2;

use super::is_amd;
use crate::spec::cpuid::{
    EXTENDED_ECX_CMP_LEGACY, EXTENDED_ECX_TOPOEXT, FEATURES_EDX_HTT, LEAF_ADDRESS_SIZES, LEAF_CACHES,
    LEAF_CACHES_AMD, LEAF_EXTENDED, LEAF_EXTENDED_FEATURES, LEAF_FEATURES, LEAF_TOPOLOGY, LEAF_TOPOLOGY_AMD,
    LEAF_TOPOLOGY_AMD_V2, LEAF_TOPOLOGY_V2, LEAF_VENDOR, TOPOLOGY_LEVEL_CORE, TOPOLOGY_LEVEL_DIE,
    TOPOLOGY_LEVEL_SMT,
};
use crate::vmm::vcpu::topology::Topology;

/// Puts `topology` into `entries`, for the vCPU with this index.
pub(super) fn put(entries: &mut Vec<kvm_cpuid_entry2>, topology: Topology, index: u8) {
    let amd = is_amd(entries);
    let apic_id = u32::from(topology.apic_id(index));
    make_room(entries, topology, amd);
    let has = |function: u32| entries.iter().any(|entry| entry.function == function);
    let lists: Vec<u32> =
        [LEAF_TOPOLOGY, LEAF_TOPOLOGY_V2].into_iter().filter(|function| has(*function)).collect();
    let extended = has(LEAF_TOPOLOGY_AMD);
    // AMD's version 2 leaf is left out; its guests use 0Bh, 1Fh or 8000001Eh.
    entries.retain(|entry| !lists.contains(&entry.function) && entry.function != LEAF_TOPOLOGY_AMD_V2);
    for entry in entries.iter_mut() {
        change(entry, topology, apic_id, Vendor { amd, extended });
    }
    for function in lists {
        entries.extend(levels(function, topology, apic_id));
    }
}

/// What decides how leaves are read.
#[derive(Debug, Clone, Copy)]
struct Vendor {
    amd: bool,
    /// Leaf 8000001Eh is there.
    extended: bool,
}

/// Makes sure that there are leaves to tell of threads and dies: the processors that KVM is asked of have neither, or older
/// ones do not have the leaf.
fn make_room(entries: &mut Vec<kvm_cpuid_entry2>, topology: Topology, amd: bool) {
    let mut need = |last_of: u32, function: u32| {
        if !entries.iter().any(|entry| entry.function == function) {
            entries.push(kvm_cpuid_entry2 { function, ..Default::default() });
        }
        for entry in entries.iter_mut().filter(|entry| entry.function == last_of) {
            entry.eax = entry.eax.max(function);
        }
    };
    if topology.dies() > 1 {
        need(LEAF_VENDOR, LEAF_TOPOLOGY_V2);
    }
    if topology.threads() > 1 || topology.dies() > 1 {
        need(LEAF_VENDOR, LEAF_TOPOLOGY);
        if amd {
            need(LEAF_EXTENDED, LEAF_TOPOLOGY_AMD);
        }
    }
}

fn change(entry: &mut kvm_cpuid_entry2, topology: Topology, apic_id: u32, vendor: Vendor) {
    let package = u32::from(topology.per_package());
    match entry.function {
        LEAF_FEATURES => {
            // Bits 31:24 APIC ID, 23:16 APIC IDs in the package, 15:0 as they are.
            entry.ebx = entry.ebx & 0xFFFF | apic_id << 24 | 1 << (topology.package_shift() + 16);
            set(&mut entry.edx, FEATURES_EDX_HTT, package > 1);
        }
        LEAF_CACHES if entry.eax & 0x1F != 0 => {
            // Bits 31:26 APIC IDs of cores in the package less one, 25:14 APIC IDs that share the cache less one.
            let cores = (1u32 << (topology.package_shift() - topology.core_shift())) - 1;
            entry.eax = entry.eax & 0x3FFF | cores.min(0x3F) << 26 | (sharing(entry.eax, topology) - 1) << 14;
        }
        LEAF_CACHES_AMD if entry.eax & 0x1F != 0 => {
            entry.eax = entry.eax & !(0xFFF << 14) | (sharing(entry.eax, topology) - 1) << 14;
        }
        LEAF_EXTENDED_FEATURES if vendor.amd => {
            set(&mut entry.ecx, EXTENDED_ECX_CMP_LEGACY, package > 1);
            set(&mut entry.ecx, EXTENDED_ECX_TOPOEXT, vendor.extended);
        }
        // Bits 15:12 width of the ID in the package, 7:0 vCPUs of it less one; reserved on Intel.
        LEAF_ADDRESS_SIZES if vendor.amd => {
            entry.ecx = entry.ecx & !0xF0FF | topology.package_shift() << 12 | (package - 1);
        }
        LEAF_TOPOLOGY_AMD => {
            // EAX APIC ID; EBX bits 15:8 threads of a core less one, 7:0 core; ECX bits 10:8 dies of the package less one,
            // 7:0 die.
            let core = apic_id >> topology.core_shift() & 0xFF;
            let die = apic_id >> topology.die_shift();
            entry.eax = apic_id;
            entry.ebx = u32::from(topology.threads() - 1) << 8 | core;
            entry.ecx = u32::from(topology.dies() - 1).min(7) << 8 | die;
            entry.edx = 0;
        }
        _ => {}
    }
}

/// APIC IDs that share the cache of which `eax` tells the level: the core's first two levels, the die's third. Powers of two,
/// since those whose IDs agree above it share it.
fn sharing(eax: u32, topology: Topology) -> u32 {
    let level = eax >> 5 & 7;
    1 << if level >= 3 { topology.die_shift() } else { topology.core_shift() }
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on { *register |= bit } else { *register &= !bit }
}

/// Sub-leaves of leaf 0Bh or 1Fh: threads, cores, in 1Fh dies if there are several, end. Each tells how far an APIC ID is
/// shifted to become that of the next level.
fn levels(function: u32, topology: Topology, apic_id: u32) -> Vec<kvm_cpuid_entry2> {
    let package = (topology.package_shift(), topology.per_package());
    let mut levels = vec![(topology.core_shift(), topology.threads(), TOPOLOGY_LEVEL_SMT)];
    if function == LEAF_TOPOLOGY_V2 && topology.dies() > 1 {
        levels.push((topology.die_shift(), topology.per_die(), TOPOLOGY_LEVEL_CORE));
        levels.push((package.0, package.1, TOPOLOGY_LEVEL_DIE));
    } else {
        levels.push((package.0, package.1, TOPOLOGY_LEVEL_CORE));
    }
    levels.push((0, 0, 0));
    (0..)
        .zip(levels)
        .map(|(index, (shift, processors, kind))| kvm_cpuid_entry2 {
            function,
            index,
            flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: processors.into(),
            ecx: index | kind,
            edx: apic_id,
            ..Default::default()
        })
        .collect()
}
