//! Single Root I/O Virtualization: the extended capability of a physical function, and where its virtual ones are.
//!
//! PCI Express Base Specification 6.0, 9.3.3 (SR-IOV Extended Capability) and 9.2.1.2 (VF discovery).

use crate::spec::pci::BAR_COUNT;
use crate::spec::pci::walk::{read_u16, read_u32};

/// Offsets from the capability's header, in bytes.
mod offset {
    pub(super) const CAPABILITIES: u16 = 0x04;
    pub(super) const CONTROL: u16 = 0x08;
    pub(super) const INITIAL_VFS: u16 = 0x0C;
    pub(super) const TOTAL_VFS: u16 = 0x0E;
    pub(super) const NUM_VFS: u16 = 0x10;
    pub(super) const FIRST_VF: u16 = 0x14;
    pub(super) const VF_STRIDE: u16 = 0x16;
    pub(super) const VF_DEVICE_ID: u16 = 0x1A;
    pub(super) const SUPPORTED_PAGE_SIZES: u16 = 0x1C;
    pub(super) const SYSTEM_PAGE_SIZE: u16 = 0x20;
    pub(super) const VF_BARS: u16 = 0x24;
}

/// The registers of the capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// SR-IOV Capabilities.
    pub capabilities: u32,
    /// SR-IOV Control.
    pub control: u16,
    /// InitialVFs: without VF migration the same as TotalVFs.
    pub initial_vfs: u16,
    /// TotalVFs.
    pub total_vfs: u16,
    /// NumVFs.
    pub num_vfs: u16,
    /// First VF Offset; it may change with NumVFs and the ARI bit.
    pub first_vf_offset: u16,
    /// VF Stride; likewise.
    pub vf_stride: u16,
    /// VF Device ID.
    pub vf_device_id: u16,
    /// Supported Page Sizes: bit N for 2^(12+N) bytes.
    pub supported_page_sizes: u32,
    /// System Page Size, one bit of the same.
    pub system_page_size: u32,
    /// VF BAR0 to VF BAR5: one address for all virtual functions each.
    pub vf_bars: [u32; BAR_COUNT],
}

impl Registers {
    /// Reads the capability whose header is at `start` of `config`; `None` if it is not all there.
    #[must_use]
    pub fn read(config: &[u8], start: u16) -> Option<Self> {
        let word = |offset: u16| read_u16(config, start.checked_add(offset)?);
        let double = |offset: u16| read_u32(config, start.checked_add(offset)?);
        let mut vf_bars = [0; BAR_COUNT];
        for (bar, register) in (offset::VF_BARS..).step_by(4).zip(&mut vf_bars) {
            *register = double(bar)?;
        }
        Some(Self {
            vf_bars,
            capabilities: double(offset::CAPABILITIES)?,
            control: word(offset::CONTROL)?,
            initial_vfs: word(offset::INITIAL_VFS)?,
            total_vfs: word(offset::TOTAL_VFS)?,
            num_vfs: word(offset::NUM_VFS)?,
            first_vf_offset: word(offset::FIRST_VF)?,
            vf_stride: word(offset::VF_STRIDE)?,
            vf_device_id: word(offset::VF_DEVICE_ID)?,
            supported_page_sizes: double(offset::SUPPORTED_PAGE_SIZES)?,
            system_page_size: double(offset::SYSTEM_PAGE_SIZE)?,
        })
    }

    /// Whether VF BAR `index` is there and not the upper half of the one before it: its register holds an address or the
    /// type of one. A 32-bit BAR without an address reads as 0, like one that is not there.
    #[must_use]
    pub fn has_vf_bar(self, index: usize) -> bool {
        let is_64_bit =
            |index: usize| self.vf_bars.get(index).is_some_and(|register| register & 0b111 == 0b100);
        let is_upper_half = (0..index).fold(false, |upper, index| !upper && is_64_bit(index));
        !is_upper_half && self.vf_bars.get(index).is_some_and(|register| *register != 0)
    }

    /// VF Enable, bit 0 of the control register.
    #[must_use]
    pub const fn enabled(self) -> bool {
        self.control & 1 != 0
    }

    /// VF Memory Space Enable, bit 3.
    #[must_use]
    pub const fn memory_enabled(self) -> bool {
        self.control >> 3 & 1 != 0
    }

    /// ARI Capable Hierarchy, bit 4: virtual functions may have function numbers above 7.
    #[must_use]
    pub const fn ari_hierarchy(self) -> bool {
        self.control >> 4 & 1 != 0
    }
}

/// The sizes of a page-size register, in bytes.
pub fn page_sizes_bytes(register: u32) -> impl Iterator<Item = u64> {
    (0..u32::BITS).filter(move |bit| register >> bit & 1 != 0).map(|bit| 1 << (12 + bit))
}

/// The requester ID of virtual function `index` (from 0) of the physical function with requester ID `physical`; `None`
/// if it lies beyond the last bus.
#[must_use]
pub fn requester_id(physical: u16, first_vf_offset: u16, vf_stride: u16, index: u16) -> Option<u16> {
    physical.checked_add(first_vf_offset)?.checked_add(vf_stride.checked_mul(index)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The capability of an igb (82576) at 160h, two of eight virtual functions enabled.
    fn igb() -> Vec<u8> {
        let mut config = vec![0; 0x1A0];
        for (offset, bytes) in [
            (0x160, &[0x10, 0x00, 0x01, 0x00][..]),
            (0x168, &[0x19, 0x00, 0x00, 0x00, 0x08, 0x00, 0x08, 0x00, 0x02, 0x00]),
            (0x174, &[0x80, 0x00, 0x02, 0x00, 0x00, 0x00, 0xCA, 0x10]),
            (0x17C, &[0x53, 0x05, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00]),
            (0x184, &[0x0C, 0x00, 0x00, 0xFE, 0x01, 0x00, 0x00, 0x00]),
            (0x190, &[0x0C]),
        ] {
            config[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        config
    }

    #[test]
    fn the_registers_of_an_82576_are_read() {
        let igb = Registers::read(&igb(), 0x160).unwrap();
        assert_eq!((igb.total_vfs, igb.initial_vfs, igb.num_vfs), (8, 8, 2));
        assert_eq!((igb.first_vf_offset, igb.vf_stride, igb.vf_device_id), (128, 2, 0x10CA));
        assert!(igb.enabled() && igb.memory_enabled() && igb.ari_hierarchy());
        let bars: Vec<_> = (0..7).filter(|bar| igb.has_vf_bar(*bar)).collect();
        assert_eq!(bars, [0, 3]);
        let sizes: Vec<_> = page_sizes_bytes(igb.supported_page_sizes).collect();
        assert_eq!(sizes, [4 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]);
    }

    #[test]
    fn a_capability_that_is_cut_off_is_none() {
        assert_eq!(Registers::read(&igb()[..0x180], 0x160), None);
        assert_eq!(Registers::read(&igb(), 0xFFFC), None);
    }

    #[test]
    fn virtual_functions_are_told_by_offset_and_stride() {
        assert_eq!(requester_id(0x0100, 128, 2, 0), Some(0x0180));
        assert_eq!(requester_id(0x0100, 128, 2, 7), Some(0x018E));
        assert_eq!(requester_id(0xFF00, 128, 2, 64), None);
        assert_eq!(requester_id(0x0100, 1, u16::MAX, 2), None);
    }
}
