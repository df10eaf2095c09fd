//! The guest's physical address map: where RAM, the ECAM window, the BAR windows and the interrupt controllers lie.
//!
//! RAM below 0xB000_0000, ECAM there, the 32-bit BAR window behind it, RAM again from 4 GiB, the 64-bit window above
//! the RAM. This is the map that stock OVMF asks for on a q35 machine; direct boot uses the same one.

use std::ops::Range;

/// RAM below 4 GiB ends here at the latest; the ECAM window begins here.
pub const LOW_RAM_LIMIT: u64 = 0xB000_0000;
/// PCI Express enhanced configuration access (PCIe 6.0, 7.2.2): 256 buses of 1 MiB.
pub const ECAM: Range<u64> = 0xB000_0000..0xC000_0000;
/// BARs below 4 GiB, up to the I/O APIC: OVMF places them at the front, SeaBIOS at the end (src/fw/pciinit.c).
pub const MMIO32: Range<u64> = 0xC000_0000..IOAPIC;
/// I/O BARs.
pub const PIO: Range<u64> = 0x6000..0x1_0000;
/// First I/O APIC (82093AA, 3.0).
pub const IOAPIC: u64 = 0xFEC0_0000;
/// Local APIC (Intel SDM vol. 3, 11.4.1).
pub const LOCAL_APIC: u64 = 0xFEE0_0000;
/// Three pages for KVM's task state segment on Intel (KVM_SET_TSS_ADDR).
pub const KVM_TSS: u64 = 0xFEFF_D000;
/// Page for KVM's identity map on Intel (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP: u64 = 0xFEFF_C000;
/// Firmware and its variables lie at the end of this range, where the processor starts (Intel SDM vol. 3, 10.1.4).
pub const FLASH: Range<u64> = 0xFF00_0000..0x1_0000_0000;
/// RAM above 4 GiB begins here.
pub const HIGH_RAM: u64 = 0x1_0000_0000;
/// ACPI power management registers (PM1a event block).
pub const PM_BASE: u16 = 0x600;

/// Conventional memory ends here; the rest below 640 KiB is where firmware keeps its data area.
pub const CONVENTIONAL_END: u64 = 0x9_FC00;
/// ACPI tables: the BIOS area below 1 MiB, where operating systems look for the root pointer by themselves
/// (ACPI 6.5, 5.2.5.1).
pub const ACPI_TABLES: Range<u64> = 0xE_0000..0xF_0000;
/// SMBIOS: entry point and table, where operating systems look for the former (SMBIOS 3.7, 5.2.2).
pub const SMBIOS: Range<u64> = 0xF_0000..0x10_0000;
/// What of the host RAM has to keep away from it does so from here on.
pub const HOLES_FROM: u64 = 16 << 20;
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
        } else {
            map.push(entry(range, MapKind::Ram));
        }
    }
    map.extend(fixed);
    map.sort_by_key(|entry| entry.range.start);
    map
}

/// The ranges of guest-physical addresses that `size_bytes` of RAM in pages of `page_bytes` occupy, in ascending order: whole
/// pages, none of them in one of `holes`. Holes below [`HOLES_FROM`] are filled: payloads need RAM there.
#[must_use]
pub fn ram_ranges(size_bytes: u64, page_bytes: u64, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let page = page_bytes.max(1);
    let mut holes: Vec<Range<u64>> = holes
        .iter()
        .filter(|hole| hole.start >= HOLES_FROM && hole.start < hole.end)
        .map(|hole| {
            hole.start - hole.start % page..hole.end.checked_next_multiple_of(page).unwrap_or(u64::MAX)
        })
        .collect();
    holes.sort_by_key(|hole| hole.start);
    let mut left = size_bytes;
    let mut ranges = Vec::new();
    for space in [0..LOW_RAM_LIMIT - LOW_RAM_LIMIT % page, HIGH_RAM..u64::MAX - u64::MAX % page] {
        let mut start = space.start;
        let here = holes.iter().filter(|hole| hole.end > space.start && hole.start < space.end);
        for next in here.cloned().chain(std::iter::once(space.end..space.end)) {
            let length = next.start.saturating_sub(start).min(left);
            if length > 0 {
                ranges.push(start..start + length);
            }
            left -= length;
            start = start.max(next.end);
        }
    }
    ranges
}

/// The window for 64-bit BARs of a machine whose RAM ends at `ram_end` and whose CPUs drive `physical_bits` address
/// bits: from the next multiple of 4 GiB above RAM and 4 GiB, up to 256 GiB so that neither a host's narrower IOMMU nor AMD's
/// reserved range below 1 TiB is touched, or half of a smaller address space. RAM that leaves too little below that moves the
/// end up, as far as the processor reaches.
#[must_use]
pub fn mmio64(ram_end: u64, physical_bits: u8) -> Range<u64> {
    let start = ram_end.max(HIGH_RAM).next_multiple_of(1 << 32);
    let reach = 1u64 << u32::from(physical_bits.clamp(36, 52));
    let usual = (reach / 2).min(1 << 38);
    let least = LEAST_MMIO64.min(reach / 4);
    let end =
        if usual.saturating_sub(start) >= least { usual } else { start.saturating_add(least).min(reach) };
    start..end.max(start)
}

/// What BARs above 4 GiB get at least, where the processor addresses four times as much.
const LEAST_MMIO64: u64 = 64 << 30;
/// Like [`mmio64`], for a machine whose firmware places BARs: up to the end of the address space, because OVMF chooses its
/// window by the width of addresses and the RAM (edk2: OvmfPkg/Library/PlatformInitLib/MemDetect.c).
#[must_use]
pub fn mmio64_of_firmware(ram_end: u64, physical_bits: u8) -> Range<u64> {
    let start = ram_end.max(HIGH_RAM).next_multiple_of(1 << 32);
    start..(1u64 << u32::from(physical_bits.clamp(36, 52))).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_split_around_the_windows_below_four_gib() {
        let low = |end| 0..end;
        let ranges = |size| ram_ranges(size, 4096, &[]);
        assert_eq!(ranges(1 << 30), vec![low(1 << 30)]);
        assert_eq!(ranges(LOW_RAM_LIMIT), vec![low(LOW_RAM_LIMIT)]);
        assert_eq!(ram_ranges(3 << 30, 1 << 30, &[]), vec![low(2 << 30), HIGH_RAM..HIGH_RAM + (1 << 30)]);
        assert_eq!(ram_ranges(3 << 30, 2 << 20, &[])[0], low(LOW_RAM_LIMIT));
        assert_eq!(ranges(LOW_RAM_LIMIT + 4096), vec![low(LOW_RAM_LIMIT), HIGH_RAM..HIGH_RAM + 4096]);
    }

    #[test]
    fn ram_keeps_away_from_holes_and_is_as_much_as_without() {
        let holes =
            [0x8000_1000..0x8000_3000, 0x4000_0000..0x4000_1000, 0x10_0000..0x20_0000, 5 << 30..6 << 30];
        let ranges = ram_ranges(6 << 30, 4096, &holes);
        assert_eq!(ranges[..3], [0..0x4000_0000, 0x4000_1000..0x8000_1000, 0x8000_3000..LOW_RAM_LIMIT]);
        assert_eq!((ranges[3].clone(), ranges[4].start), (HIGH_RAM..5 << 30, 6 << 30));
        assert_eq!(ranges.iter().map(|range| range.end - range.start).sum::<u64>(), 6 << 30);
        let huge = ram_ranges(4 << 30, 2 << 20, &holes);
        assert!(
            huge.iter().all(|range| range.start % (2 << 20) == 0 && range.end % (2 << 20) == 0),
            "{huge:x?}"
        );
        assert_eq!(huge[1], 0x4020_0000..0x8000_0000);
        // Overlapping, beyond, and at the very end of what there is.
        let odd =
            [0x9000_0000..0xA000_0000, 0x9800_0000..0x9900_0000, 0xFEE0_0000..0xFEF0_0000, 1 << 60..u64::MAX];
        let ranges = ram_ranges(3 << 30, 4096, &odd);
        assert_eq!(ranges[..2], [0..0x9000_0000, 0xA000_0000..LOW_RAM_LIMIT]);
        let map = memory_map(ranges);
        assert!(map.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "{map:x?}");
    }

    #[test]
    fn the_memory_map_ascends_and_holds_all_ram_above_one_mib() {
        for size in [16 << 20, LOW_RAM_LIMIT, LOW_RAM_LIMIT + 4096, 64 << 30] {
            let map = memory_map(ram_ranges(size, 4096, &[]));
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
        assert_eq!(mmio64(1 << 30, 36), 1 << 32..1 << 35);
        assert_eq!(mmio64(30 << 30, 36), 32 << 30..48 << 30);
        assert_eq!(mmio64((256 << 30) + 1, 48), 260 << 30..324 << 30);
        assert_eq!(mmio64(100 << 30, 48), 100 << 30..1 << 38);
    }
}
