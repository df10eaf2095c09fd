//! Every leaf against the topology and against the others, for every topology that there is.

use super::testing::{entry, leaf, vendor};
use super::*;
use crate::vmm::vcpu::topology::testing as topologies;

/// A host whose processor has all leaves, with contents that belong to another topology.
fn host(name: &[u8; 4]) -> CpuId {
    CpuId::from_entries(&[
        vendor(name, 0x1F),
        entry(1, 0, [0, 0x0710_0800, 0, 0]),
        entry(4, 0, [0x1C00_4121, 0, 0, 0]),
        entry(4, 3, [0x1C03_C163, 0, 0, 0]),
        entry(4, 4, [0; 4]),
        entry(0xB, 0, [1, 2, 0x100, 7]),
        entry(0x1F, 0, [1, 2, 0x100, 7]),
        entry(0x8000_0000, 0, [0x8000_0026, 0, 0, 0]),
        entry(0x8000_0001, 0, [0, 0, 0x0040_0002, 0]),
        entry(0x8000_0008, 0, [0x3028, 0, 0x700F, 0]),
        entry(0x8000_001D, 0, [0x1C00_4121, 0, 0, 0]),
        entry(0x8000_001D, 3, [0x1C03_C163, 0, 0, 0]),
        entry(0x8000_001E, 0, [7, 0x0107, 1, 0]),
        entry(0x8000_0026, 0, [1; 4]),
    ])
    .unwrap()
}

/// A processor of the time before threads and dies.
fn old_host() -> CpuId {
    CpuId::from_entries(&[
        vendor(b"Auth", 1),
        entry(1, 0, [0, 0x0710_0800, 0, 0]),
        entry(0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        entry(0x8000_0001, 0, [0; 4]),
        entry(0x8000_0008, 0, [0x3028, 0, 0, 0]),
    ])
    .unwrap()
}

fn topology(numbers: [u8; 4]) -> Topology {
    Topology::new(numbers).unwrap()
}

/// The levels that leaf `function` tells: shift, members, kind.
fn levels(cpuid: &CpuId, function: u32) -> Vec<(u32, u32, u32)> {
    let sub_leaves = (0..).map_while(|index| leaf(cpuid, function, index));
    let told: Vec<_> = sub_leaves.map(|entry| (entry.eax, entry.ebx, entry.ecx >> 8)).collect();
    assert_eq!(told.last(), Some(&(0, 0, 0)), "the list has an end");
    told[..told.len() - 1].to_vec()
}

#[test]
fn leaves_agree_with_each_other_in_every_topology() {
    let (intel, amd) = (host(b"Genu"), host(b"Auth"));
    for topology in topologies::all() {
        let package = u32::from(topology.per_package());
        let die = u32::from(topology.per_die());
        for index in [0, topology.count() / 2, topology.count() - 1] {
            let apic_id = u32::from(topology.apic_id(index));
            for host in [&intel, &amd] {
                let cpuid = leaves(host, topology, index).unwrap();
                // Leaf 1: initial APIC ID, IDs of the package, more than one of them.
                let first = leaf(&cpuid, 1, 0).unwrap();
                assert_eq!((first.ebx >> 24, first.ebx & 0xFFFF), (apic_id, 0x0800), "{topology:?}");
                assert_eq!(first.edx >> 28 & 1 == 1, package > 1, "{topology:?}");
                let ids_of_package = first.ebx >> 16 & 0xFF;
                // Leaf 0Bh: threads, then all of the package.
                let short = levels(&cpuid, 0xB);
                assert_eq!(short.len(), 2);
                let (core_shift, threads, _) = short[0];
                let (package_shift, in_package, _) = short[1];
                assert_eq!((threads, in_package), (topology.threads().into(), package), "{topology:?}");
                assert_eq!(1 << package_shift, ids_of_package, "{topology:?}");
                // Leaf 1Fh: the same ends, with dies between.
                let long = levels(&cpuid, 0x1F);
                assert_eq!(
                    (long[0], long.last().map(|last| (last.0, last.1))),
                    (short[0], Some((package_shift, in_package)))
                );
                let kinds: Vec<u32> = long.iter().map(|level| level.2).collect();
                assert_eq!(kinds, if topology.dies() > 1 { vec![1, 2, 5] } else { vec![1, 2] });
                assert_eq!(long[1].1, die, "{topology:?}");
                let die_shift = long[1].0;
                for function in [0xB, 0x1F] {
                    for index in 0..3 {
                        assert_eq!(leaf(&cpuid, function, index).unwrap().edx, apic_id);
                    }
                }
                // Leaf 4: IDs of cores in the package, IDs that share a cache.
                let private = leaf(&cpuid, 4, 0).unwrap().eax;
                let shared = leaf(&cpuid, 4, 3).unwrap().eax;
                assert_eq!((private >> 26) + 1, 1 << (package_shift - core_shift).min(6), "{topology:?}");
                assert_eq!((private >> 14 & 0xFFF) + 1, 1 << core_shift, "{topology:?}");
                assert_eq!((shared >> 14 & 0xFFF) + 1, 1 << die_shift, "{topology:?}");
                assert_eq!((private & 0x3FFF, shared & 0x3FFF), (0x0121, 0x0163));
            }
            // AMD's own leaves.
            let cpuid = leaves(&amd, topology, index).unwrap();
            let sizes = leaf(&cpuid, 0x8000_0008, 0).unwrap();
            assert_eq!((sizes.ecx >> 12 & 0xF, sizes.ecx & 0xFF), (topology.package_shift(), package - 1));
            let unit = leaf(&cpuid, 0x8000_001E, 0).unwrap();
            assert_eq!(
                (unit.eax, unit.ebx >> 8),
                (apic_id, u32::from(topology.threads()) - 1),
                "{topology:?}"
            );
            assert_eq!(unit.ebx & 0xFF, apic_id >> topology.core_shift(), "{topology:?}");
            assert_eq!(unit.ecx & 0xFF, apic_id >> topology.die_shift(), "{topology:?}");
            assert_eq!(unit.ecx >> 8, u32::from(topology.dies() - 1).min(7), "{topology:?}");
            let cache = leaf(&cpuid, 0x8000_001D, 3).unwrap().eax;
            assert_eq!((cache >> 14 & 0xFFF) + 1, 1 << topology.die_shift(), "{topology:?}");
            let extended = leaf(&cpuid, 0x8000_0001, 0).unwrap().ecx;
            assert_eq!(extended >> 1 & 1 == 1, package > 1, "{topology:?}");
            assert!(leaf(&cpuid, 0x8000_0026, 0).is_none());
        }
    }
}

#[test]
fn one_cpu_is_no_multiprocessor_and_what_is_not_topology_stays() {
    let cpuid = leaves(&host(b"Genu"), topology([1; 4]), 0).unwrap();
    assert_eq!(leaf(&cpuid, 4, 4).unwrap().eax, 0, "the end of the list of caches");
    assert_eq!(leaf(&cpuid, 0x8000_0008, 0).unwrap().ecx, 0x700F, "reserved on Intel");
    assert_eq!(leaf(&cpuid, 0x8000_0001, 0).unwrap().ecx, 0x0040_0002, "AMD's bits");
}

#[test]
fn a_processor_without_the_leaves_gets_those_that_tell_of_threads_and_dies() {
    let plain = leaves(&old_host(), topology([2, 1, 2, 1]), 3).unwrap();
    assert!([0xB, 0x1F, 0x8000_001E].iter().all(|function| leaf(&plain, *function, 0).is_none()));
    assert_eq!(leaf(&plain, 0, 0).unwrap().eax, 1);
    let threaded = leaves(&old_host(), topology([1, 1, 2, 2]), 3).unwrap();
    assert_eq!(leaf(&threaded, 0, 0).unwrap().eax, 0xB);
    assert_eq!(leaf(&threaded, 0x8000_0000, 0).unwrap().eax, 0x8000_001E);
    assert_eq!(leaf(&threaded, 0x8000_001E, 0).unwrap().ebx, 0x0101);
    assert_eq!(leaf(&threaded, 0x8000_0001, 0).unwrap().ecx >> 22 & 1, 1, "the leaf is announced");
    let of_dies = leaves(&old_host(), topology([1, 2, 1, 1]), 1).unwrap();
    assert_eq!(leaf(&of_dies, 0, 0).unwrap().eax, 0x1F);
    assert_eq!(levels(&of_dies, 0x1F), [(0, 1, 1), (0, 1, 2), (1, 2, 5)]);
}

#[test]
fn physical_bits_come_from_the_host() {
    assert_eq!(physical_bits(&host(b"Auth")), 40);
    assert_eq!(physical_bits(&CpuId::from_entries(&[]).unwrap()), 36);
}
