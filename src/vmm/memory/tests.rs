//! RAM of every kind: written, read, cleared; and what a host cannot give.

use super::config::HugePages;
use super::*;
use crate::vmm::layout;
use crate::vmm::numa::NodeConfig;

#[test]
fn ram_round_trips_and_the_hole_below_four_gib_is_no_ram() {
    let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x2000).unwrap();
    let mut data = [0; 4];
    memory.write(layout::HIGH_RAM, b"high").unwrap();
    memory.read(layout::HIGH_RAM, &mut data).unwrap();
    assert_eq!(&data, b"high");
    for address in [layout::LOW_RAM_LIMIT - 2, layout::ECAM.start, layout::HIGH_RAM + 0x1FFD, u64::MAX - 1] {
        assert!(memory.read(address, &mut data).is_err(), "{address:#x}");
        assert!(memory.write(address, &data).is_err(), "{address:#x}");
    }
    assert_eq!(memory.regions().map(|r| r.size_bytes).sum::<u64>(), memory.size_bytes());
    assert_eq!(memory.end(), layout::HIGH_RAM + 0x2000);
}

#[test]
fn cleared_ram_reads_as_zeros_on_both_sides_of_the_hole() {
    let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x2000).unwrap();
    for address in [0x5000, layout::LOW_RAM_LIMIT - 8, layout::HIGH_RAM + 0x1FF8] {
        memory.write(address, &[0xA5; 8]).unwrap();
    }
    memory.clear().unwrap();
    let mut data = [1; 8];
    for address in [0x5000, layout::LOW_RAM_LIMIT - 8, layout::HIGH_RAM + 0x1FF8] {
        memory.read(address, &mut data).unwrap();
        assert_eq!(data, [0; 8], "{address:#x}");
    }
}

fn build(
    config: &MemoryConfig,
    nodes: &[NodeConfig],
    stop: impl Fn() -> bool,
) -> Result<GuestMemory, MemoryError> {
    let wanted = Wanted { config, nodes, holes: &[], is_pinned: false, physical_bits: 48 };
    GuestMemory::build(&wanted, Watch { progress: &|_, _| (), stop: &stop })
}

#[test]
fn ram_that_the_processor_cannot_address_is_refused() {
    let config = of(4 << 10);
    let wanted = Wanted { config: &config, nodes: &[], holes: &[], is_pinned: false, physical_bits: 32 };
    let error = GuestMemory::build(&wanted, Watch { progress: &|_, _| (), stop: &|| false }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest RAM ends at 0x150000000, and this host's processor has 32 address bits; ask for less"
    );
}

#[test]
fn ram_around_a_hole_is_whole_and_the_hole_is_no_ram() {
    let config = of(64);
    let holes = [0x200_0000..0x208_0000, 0x208_0000..0x210_0000];
    let wanted = Wanted { config: &config, nodes: &[], holes: &holes, is_pinned: false, physical_bits: 48 };
    let memory = GuestMemory::build(&wanted, Watch { progress: &|_, _| (), stop: &|| false }).unwrap();
    assert_eq!(memory.ranges(), [0..0x200_0000, 0x210_0000..0x410_0000]);
    assert!(memory.write(0x200_0000, &[1]).is_err());
    memory.write(0x1FF_FFFF, &[1]).unwrap();
    memory.write(0x210_0000, &[2]).unwrap();
    let mut data = [0];
    memory.read(0x210_0000, &mut data).unwrap();
    assert_eq!(data, [2], "regions lie one behind the other in the file");
}

fn built(config: &MemoryConfig) -> Result<GuestMemory, MemoryError> {
    build(config, &[], || false)
}

fn of(mebibytes: u64) -> MemoryConfig {
    MemoryConfig::from_value(ByteSize::from_mebibytes(mebibytes))
}

#[test]
fn private_and_named_memory_are_cleared_where_they_were_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ram");
    let shared = MemoryConfig { shared: true, ..of(16) };
    let named = MemoryConfig { file: Some(path.clone()), ..of(16) };
    for config in [of(16), shared, named] {
        let memory = built(&config).unwrap();
        memory.write(0x5FFE, &[0xA5; 4]).unwrap();
        memory.write((16 << 20) - 4, &[0xA5; 4]).unwrap();
        memory.clear().unwrap();
        for address in [0x5FFE, (16 << 20) - 4] {
            let mut data = [1; 4];
            memory.read(address, &mut data).unwrap();
            assert_eq!(data, [0; 4], "{config:?}");
        }
    }
    assert!(!path.exists());
}

#[test]
fn ram_lies_where_huge_pages_can_stand_behind_it() {
    for mebibytes in [16, 17, 3072] {
        for shared in [false, true] {
            let memory = built(&MemoryConfig { shared, ..of(mebibytes) }).unwrap();
            for region in memory.regions() {
                let (host, guest) = (region.host_address, region.guest_address);
                assert_eq!((host ^ guest) % (2 << 20), 0, "{mebibytes} MiB, shared: {shared}: {host:x}");
            }
        }
    }
}

#[test]
fn a_guest_larger_than_the_host_is_no_error_until_all_of_it_is_taken() {
    let huge = of(256 << 10);
    for shared in [false, true] {
        built(&MemoryConfig { shared, ..huge.clone() }).unwrap();
    }
    let error = built(&MemoryConfig { prefault: true, ..huge }).unwrap_err();
    assert!(matches!(error, MemoryError::HostMemory { .. }), "{error}");
    assert!(error.to_string().starts_with("guest RAM of 256GiB does not fit"), "{error}");
}

#[test]
fn memory_that_is_taken_and_stopped_is_given_back() {
    let config = MemoryConfig { prefault: true, ..of(256) };
    let stopped = build(&config, &[], || true);
    // Few hosts are that quick.
    assert!(matches!(stopped, Err(MemoryError::Interrupted) | Ok(_)));
}

#[test]
fn huge_pages_that_are_not_there_are_counted() {
    // More than any host has reserved.
    let error = built(&MemoryConfig { hugepages: HugePages::Size2MiB, ..of(256 << 10) }).unwrap_err();
    match &error {
        MemoryError::HugePages { needed, .. } => {
            assert_eq!(*needed, 128 << 10);
            assert!(error.to_string().contains("huge pages of 2MiB, and "), "{error}");
        }
        MemoryError::NoHugePages { .. } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn a_node_of_the_host_that_is_not_there_is_named() {
    let node = |host_node| NodeConfig {
        cpus: Default::default(),
        memory: ByteSize::from_mebibytes(16),
        host_node,
        distances: Vec::new(),
    };
    let bound = |number| build(&of(16), &[node(Some(number))], || false);
    let error = bound(1000).unwrap_err();
    assert!(error.to_string().starts_with("this host has no NUMA node 1000"), "{error}");
}

#[test]
fn files_load_exactly_or_not_at_all() {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"0123456789", 0).unwrap();
    memory.load(0x1000, &file, 2, 8).unwrap();
    let mut data = [0; 8];
    memory.read(0x1000, &mut data).unwrap();
    assert_eq!(&data, b"23456789");
    assert!(matches!(memory.load(0x1000, &file, 2, 9), Err(LoadError::File(_))));
    assert!(matches!(memory.load((1 << 20) - 4, &file, 0, 8), Err(LoadError::Access { .. })));
    assert!(matches!(memory.load(u64::MAX, &file, 0, 8), Err(LoadError::Access { .. })));
}
