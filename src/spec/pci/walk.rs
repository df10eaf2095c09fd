//! The capability lists of a function's configuration space, as bytes that may be wrong in any way.
//!
//! PCI 3.0, 6.7 (conventional list); PCIe 6.0, 7.6 (extended list). Both are linked lists whose links a broken or
//! hostile function chooses: each place is visited once, and what ends a list early is told.

use super::{CONFIG_SPACE_SIZE, CapabilityId, EXTENDED_CONFIG_SPACE_SIZE, Status, header};

/// A capability of the conventional list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundCapability {
    /// Identifier.
    pub id: CapabilityId,
    /// Offset of its header.
    pub offset: u16,
}

/// A capability of the extended list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundExtendedCapability {
    /// Identifier.
    pub id: u16,
    /// Version of its structure.
    pub version: u8,
    /// Offset of its header.
    pub offset: u16,
}

/// What ended a list before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenList {
    /// A link leads to a place that was visited already.
    #[error("the list returns to {0:#x}")]
    Loop(u16),
    /// A link leads outside the area in which capabilities lie.
    #[error("the list leads to {0:#x}, where no capability can be")]
    Outside(u16),
    /// A link leads behind the bytes that were read.
    #[error("the list leads to {0:#x}, behind the bytes that could be read")]
    Truncated(u16),
}

/// The capabilities that a walk found, and what ended it early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk<T> {
    /// In the list's order.
    pub found: Vec<T>,
    /// Why the walk ended before the list did.
    pub broken: Option<BrokenList>,
}

/// Reads `N` bytes at `offset`.
fn bytes<const N: usize>(config: &[u8], offset: u16) -> Option<[u8; N]> {
    let start = usize::from(offset);
    config.get(start..start.checked_add(N)?)?.try_into().ok()
}

/// Reads the 16-bit register at `offset` of `config`, if it is there.
#[must_use]
pub fn read_u16(config: &[u8], offset: u16) -> Option<u16> {
    bytes(config, offset).map(u16::from_le_bytes)
}

/// Reads the 32-bit register at `offset` of `config`, if it is there.
#[must_use]
pub fn read_u32(config: &[u8], offset: u16) -> Option<u32> {
    bytes(config, offset).map(u32::from_le_bytes)
}

/// Whether the header says that there is a conventional list; `None` if the header is not all there.
#[must_use]
pub fn has_capabilities(config: &[u8]) -> Option<bool> {
    let status = Status::from_bits_retain(read_u16(config, header::STATUS)?);
    (config.len() >= usize::from(header::END)).then_some(status.contains(Status::CAPABILITIES))
}

/// Walks the conventional list of `config`, which holds a whole header.
#[must_use]
pub fn capabilities(config: &[u8]) -> Walk<FoundCapability> {
    let mut walk = Walk { found: Vec::new(), broken: None };
    if has_capabilities(config) != Some(true) {
        return walk;
    }
    let mut seen = [false; CONFIG_SPACE_SIZE as usize];
    let mut next = bytes::<1>(config, header::CAPABILITIES).map_or(0, |[pointer]| pointer & !0b11);
    while next != 0 {
        let offset = u16::from(next);
        if offset < header::END {
            walk.broken = Some(BrokenList::Outside(offset));
            break;
        }
        match seen.get_mut(usize::from(next)) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                walk.broken = Some(BrokenList::Loop(offset));
                break;
            }
        }
        let Some([id, link]) = bytes(config, offset) else {
            walk.broken = Some(BrokenList::Truncated(offset));
            break;
        };
        if id == 0xFF {
            walk.broken = Some(BrokenList::Outside(offset)); // all ones: nothing answers there
            break;
        }
        walk.found.push(FoundCapability { id: CapabilityId(id), offset });
        next = link & !0b11;
    }
    walk
}

/// Walks the extended list of `config`. A function without one has zeros or ones at its start (PCIe 6.0, 7.6.2).
#[must_use]
pub fn extended_capabilities(config: &[u8]) -> Walk<FoundExtendedCapability> {
    let mut walk = Walk { found: Vec::new(), broken: None };
    let mut seen = [false; EXTENDED_CONFIG_SPACE_SIZE as usize / 4];
    let mut offset = CONFIG_SPACE_SIZE;
    loop {
        if offset < CONFIG_SPACE_SIZE {
            walk.broken = Some(BrokenList::Outside(offset));
            break;
        }
        match seen.get_mut(usize::from(offset / 4)) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                walk.broken = Some(BrokenList::Loop(offset));
                break;
            }
        }
        let Some(header) = read_u32(config, offset) else {
            walk.broken = Some(BrokenList::Truncated(offset));
            break;
        };
        if matches!(header, 0 | u32::MAX) {
            if header == u32::MAX && offset != CONFIG_SPACE_SIZE {
                walk.broken = Some(BrokenList::Outside(offset));
            }
            break;
        }
        let [low, high, version_and_link, link_high] = header.to_le_bytes();
        let id = u16::from_le_bytes([low, high]);
        // Identifier 0 is a place holder with a link and without registers.
        if id != 0 {
            walk.found.push(FoundExtendedCapability { id, version: version_and_link & 0xF, offset });
        }
        offset = (u16::from_le_bytes([version_and_link, link_high]) >> 4) & !0b11;
        if offset == 0 {
            break;
        }
    }
    walk
}

/// How many bytes of a configuration space hold its header, its lists and the registers that they lead to, by its first
/// bytes `config`. Whoever reads that many and asks again, until there are so many, has them all: each 32 bits are an
/// access to the device, and most of the 4 KiB are empty.
#[must_use]
pub fn bytes_wanted(config: &[u8]) -> usize {
    /// More than the registers of any capability that is decoded here.
    const REGISTERS: u16 = 0x100;
    let header = config.get(..usize::from(header::END));
    let wanted = match header {
        None => header::END,
        Some(header) if header.iter().all(|byte| *byte == 0xFF) => header::END, // nothing answers
        Some(_) if has_capabilities(config) != Some(true) => header::END,
        Some(_) if config.len() < usize::from(CONFIG_SPACE_SIZE) => CONFIG_SPACE_SIZE,
        Some(_) if !capabilities(config).found.iter().any(|found| found.id == CapabilityId::EXPRESS) => {
            CONFIG_SPACE_SIZE
        }
        Some(_) => {
            let Walk { found, broken } = extended_capabilities(config);
            let last = found.iter().map(|found| found.offset).max().unwrap_or(CONFIG_SPACE_SIZE);
            let last = match broken {
                Some(BrokenList::Truncated(offset)) => last.max(offset),
                _ => last,
            };
            last.saturating_add(REGISTERS).min(EXTENDED_CONFIG_SPACE_SIZE)
        }
    };
    wanted.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with a capability list at `first`, in `size` bytes.
    fn config(size: usize, first: u8, links: &[(usize, u8, u8)]) -> Vec<u8> {
        let mut config = vec![0; size];
        config[6] = 0x10;
        config[0x34] = first;
        for &(offset, id, next) in links {
            config[offset] = id;
            config[offset + 1] = next;
        }
        config
    }

    #[test]
    fn a_list_is_walked_in_its_order() {
        let walk =
            capabilities(&config(256, 0x40, &[(0x40, 0x01, 0x60), (0x60, 0x10, 0x50), (0x50, 0x11, 0)]));
        assert_eq!(walk.broken, None);
        assert_eq!(
            walk.found.iter().map(|c| (c.id.0, c.offset)).collect::<Vec<_>>(),
            [(1, 0x40), (0x10, 0x60), (0x11, 0x50)]
        );
    }

    #[test]
    fn a_loop_ends_the_walk_and_is_told() {
        let walk = capabilities(&config(256, 0x40, &[(0x40, 0x01, 0x50), (0x50, 0x05, 0x40)]));
        assert_eq!(walk.found.len(), 2);
        assert_eq!(walk.broken, Some(BrokenList::Loop(0x40)));
    }

    #[test]
    fn a_link_into_the_header_or_behind_the_bytes_ends_the_walk() {
        assert_eq!(capabilities(&config(256, 0x10, &[])).broken, Some(BrokenList::Outside(0x10)));
        assert_eq!(capabilities(&config(64, 0x40, &[])).broken, Some(BrokenList::Truncated(0x40)));
    }

    #[test]
    fn reserved_low_bits_of_links_are_ignored() {
        let walk = capabilities(&config(256, 0x43, &[(0x40, 0x05, 0)]));
        assert_eq!((walk.found.len(), walk.broken), (1, None));
    }

    #[test]
    fn the_extended_list_skips_place_holders_and_stops_at_loops() {
        let mut config = vec![0; 4096];
        config[0x100..0x104].copy_from_slice(&0x1401_0000_u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x1801_000D_u32.to_le_bytes());
        config[0x180..0x184].copy_from_slice(&0x1402_0010_u32.to_le_bytes());
        let walk = extended_capabilities(&config);
        assert_eq!(
            walk.found.iter().map(|c| (c.id, c.version, c.offset)).collect::<Vec<_>>(),
            [(0x0D, 1, 0x140), (0x10, 2, 0x180)]
        );
        assert_eq!(walk.broken, Some(BrokenList::Loop(0x140)));
    }

    /// How much of `config` is read in all.
    fn read(config: &[u8]) -> usize {
        let mut length = 0;
        loop {
            let wanted = bytes_wanted(&config[..length]).min(config.len());
            if wanted <= length {
                return length;
            }
            length = wanted;
        }
    }

    #[test]
    fn no_more_is_wanted_than_the_lists_lead_to() {
        assert_eq!(read(&[0; 4096]), 64);
        assert_eq!(read(&[0xFF; 4096]), 64);
        assert_eq!(read(&config(4096, 0x40, &[(0x40, 0x05, 0)])), 256);
        let mut express = config(4096, 0x40, &[(0x40, 0x10, 0)]);
        assert_eq!(read(&express), 512);
        express[0x100..0x104].copy_from_slice(&0x4001_000D_u32.to_le_bytes());
        express[0x400..0x404].copy_from_slice(&0x0001_0010_u32.to_le_bytes());
        assert_eq!(read(&express), 0x500);
        express[0x400..0x404].copy_from_slice(&0xFFC1_0010_u32.to_le_bytes());
        assert_eq!(read(&express), 4096);
        assert_eq!(read(&express[..256]), 256);
        assert_eq!(read(&express[..64]), 64);
    }

    #[test]
    fn zeros_and_ones_are_no_extended_list() {
        for byte in [0, 0xFF] {
            let walk = extended_capabilities(&[byte; 4096]);
            assert_eq!((walk.found.len(), walk.broken), (0, None));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_walks_are_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..4200)) {
            let mut bytes = bytes;
            if let Some(status) = bytes.get_mut(6) {
                *status |= 0x10;
            }
            prop_assert!(capabilities(&bytes).found.len() <= 48);
            prop_assert!(extended_capabilities(&bytes).found.len() <= 960);
            prop_assert!(bytes_wanted(&bytes) <= 4096);
        }
    }
}
