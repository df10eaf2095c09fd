//! The guest's physical address map: where RAM, the ECAM window, the BAR windows and the interrupt controllers lie.
//!
//! RAM below 0xB000_0000, ECAM there, the 32-bit BAR window behind it, RAM again from 4 GiB, the 64-bit window above
//! the RAM. This is the map that stock OVMF asks for on a q35 machine; direct boot uses the same one.

use std::ops::Range;

/// RAM below 4 GiB ends here at the latest; the ECAM window begins here.
pub const LOW_RAM_LIMIT: u64 = 0xB000_0000;
/// PCI Express enhanced configuration access (PCIe 6.0, 7.2.2): 256 buses of 1 MiB.
pub const ECAM: Range<u64> = 0xB000_0000..0xC000_0000;
/// Highest bus number that the machine can have. Guests look at every device number of every bus that they are told of,
/// which costs them a second where exits are slow; so they are told of no more than there are.
pub const LAST_BUS: u8 = 0;
/// BARs below 4 GiB.
pub const MMIO32: Range<u64> = 0xC000_0000..0xFC00_0000;
/// I/O BARs.
pub const PIO: Range<u64> = 0xC000..0x1_0000;
/// First I/O APIC (82093AA, 3.0).
pub const IOAPIC: u64 = 0xFEC0_0000;
/// Local APIC (Intel SDM vol. 3, 11.4.1).
pub const LOCAL_APIC: u64 = 0xFEE0_0000;
/// Three pages for KVM's task state segment on Intel (KVM_SET_TSS_ADDR) and one for its identity map.
pub const KVM_TSS: u64 = 0xFFFB_D000;
/// Page for KVM's identity map on Intel (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
/// RAM above 4 GiB begins here.
pub const HIGH_RAM: u64 = 0x1_0000_0000;
/// ACPI power management registers (PM1a event block).
pub const PM_BASE: u16 = 0x600;

/// Conventional memory ends here; the rest below 640 KiB is where firmware keeps its data area.
pub const CONVENTIONAL_END: u64 = 0x9_FC00;
/// ACPI tables: the BIOS area below 1 MiB, where operating systems look for the root pointer by themselves
/// (ACPI 6.5, 5.2.5.1).
pub const ACPI_TABLES: Range<u64> = 0xE_0000..0x10_0000;
/// RAM that no firmware claims begins here; kernels are loaded from here on.
pub const KERNEL_START: u64 = 0x10_0000;

/// What an entry of the firmware's memory map is (ACPI 6.5, 15.1: address range types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// Usable RAM.
    Ram,
    /// Not to be used.
    Reserved,
}

impl MapKind {
    /// The number that BIOS, boot_params and hvm_start_info use.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Ram => 1,
            Self::Reserved => 2,
        }
    }
}

/// One entry of the memory map that firmware hands to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// Guest-physical addresses.
    pub range: Range<u64>,
    /// What lies there.
    pub kind: MapKind,
}

/// The memory map of a machine whose RAM occupies `ram`, ascending and without overlap.
#[must_use]
pub fn memory_map(ram: impl IntoIterator<Item = Range<u64>>) -> Vec<MapEntry> {
    let entry = |range, kind| MapEntry { range, kind };
    let mut map = vec![
        entry(0..CONVENTIONAL_END, MapKind::Ram),
        entry(CONVENTIONAL_END..KERNEL_START, MapKind::Reserved),
    ];
    let fixed = [
        entry(ECAM, MapKind::Reserved),
        entry(KVM_IDENTITY_MAP..KVM_IDENTITY_MAP + 4 * 0x1000, MapKind::Reserved),
    ];
    for range in ram {
        if range.start == 0 {
            map.push(entry(KERNEL_START..range.end.max(KERNEL_START), MapKind::Ram));
            map.extend(fixed.iter().cloned());
        } else {
            map.push(entry(range, MapKind::Ram));
        }
    }
    map
}

/// The ranges of guest-physical addresses that `size_bytes` of RAM in pages of `page_bytes` occupy, in ascending order. With
/// pages of 1 GiB, RAM below 4 GiB ends at the last whole one.
#[must_use]
pub fn ram_ranges(size_bytes: u64, page_bytes: u64) -> Vec<Range<u64>> {
    let low = size_bytes.min(LOW_RAM_LIMIT - LOW_RAM_LIMIT % page_bytes.max(1));
    let high = size_bytes - low;
    let mut ranges = Vec::with_capacity(2);
    ranges.push(0..low);
    if high > 0 {
        ranges.push(HIGH_RAM..HIGH_RAM.saturating_add(high));
    }
    ranges
}

/// The window for 64-bit BARs of a machine whose RAM ends at `ram_end` and whose CPUs drive `physical_bits` address
/// bits: from the next multiple of 4 GiB above RAM and 4 GiB, up to half of the address space so that neither a host's
/// narrower IOMMU nor AMD's reserved range below 1 TiB is touched.
#[must_use]
pub fn mmio64(ram_end: u64, physical_bits: u8) -> Range<u64> {
    let start = ram_end.max(HIGH_RAM).next_multiple_of(1 << 32);
    let end = 1u64 << u32::from(physical_bits.clamp(36, 39)).saturating_sub(1);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_split_around_the_windows_below_four_gib() {
        let low = |end| 0..end;
        let ranges = |size| ram_ranges(size, 4096);
        assert_eq!(ranges(1 << 30), vec![low(1 << 30)]);
        assert_eq!(ranges(LOW_RAM_LIMIT), vec![low(LOW_RAM_LIMIT)]);
        assert_eq!(ram_ranges(3 << 30, 1 << 30), vec![low(2 << 30), HIGH_RAM..HIGH_RAM + (1 << 30)]);
        assert_eq!(ram_ranges(3 << 30, 2 << 20)[0], low(LOW_RAM_LIMIT));
        assert_eq!(ranges(LOW_RAM_LIMIT + 4096), vec![low(LOW_RAM_LIMIT), HIGH_RAM..HIGH_RAM + 4096]);
    }

    #[test]
    fn the_memory_map_ascends_and_holds_all_ram_above_one_mib() {
        for size in [16 << 20, LOW_RAM_LIMIT, LOW_RAM_LIMIT + 4096, 64 << 30] {
            let map = memory_map(ram_ranges(size, 4096));
            assert!(map.iter().all(|entry| entry.range.start < entry.range.end));
            assert!(map.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{map:x?}");
            let ram: u64 = map
                .iter()
                .filter(|entry| entry.kind == MapKind::Ram)
                .map(|entry| entry.range.end - entry.range.start)
                .sum();
            assert_eq!(ram, size - (KERNEL_START - CONVENTIONAL_END));
        }
    }

    #[test]
    fn the_64_bit_window_begins_above_ram_and_is_never_inverted() {
        assert_eq!(mmio64(1 << 30, 39), 1 << 32..1 << 38);
        assert_eq!(mmio64(HIGH_RAM + 1, 39).start, 2 << 32);
        assert!(mmio64(1 << 40, 36).is_empty());
    }
}
