//! Capability lists: finding the entries of a hostile one, and describing entries of our own.
//!
//! The walkers take a copy of the configuration space, because that of a passed-through function is not ours to trust:
//! each offset is visited once, so a list that loops or leaves the space ends there (PCI 3.0, 6.7; PCIe 6.0, 7.6.3).

use crate::spec::pci::{CONFIG_SPACE_SIZE, CapabilityId, EXTENDED_CONFIG_SPACE_SIZE, Status, header};

/// A capability to be placed in a [`ConfigSpace`](super::config_space::ConfigSpace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Its identifier.
    pub id: CapabilityId,
    /// Its registers behind the two bytes of the list header.
    pub body: Vec<u8>,
    /// Which bits of `body` the guest can write; missing bytes are read-only.
    pub writable: Vec<u8>,
}

/// An entry of a conventional capability list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityEntry {
    /// What it is.
    pub id: CapabilityId,
    /// Its first byte in configuration space; a multiple of 4, from 0x40.
    pub offset: u16,
}

/// An entry of the PCI Express extended capability list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedCapabilityEntry {
    /// Its identifier (PCI Code and ID 1.11, chapter 3).
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
    /// Its first byte in configuration space; a multiple of 4, from 0x100.
    pub offset: u16,
}

/// The conventional capabilities of a type 0 or type 1 header, in list order.
#[must_use]
pub fn capabilities(config: &[u8]) -> Vec<CapabilityEntry> {
    let byte = |offset: u16| config.get(usize::from(offset)).copied();
    let mut entries: Vec<CapabilityEntry> = Vec::new();
    let status = byte(header::STATUS).unwrap_or(0);
    if !Status::from_bits_retain(u16::from(status)).contains(Status::CAPABILITIES) {
        return entries;
    }
    let mut next = byte(header::CAPABILITIES);
    while let Some(offset) = next.map(|pointer| u16::from(pointer & !0b11)) {
        let inside = (header::END..CONFIG_SPACE_SIZE).contains(&offset);
        if !inside || entries.iter().any(|entry| entry.offset == offset) {
            break;
        }
        let Some(id) = byte(offset) else { break };
        if id == 0xFF {
            break;
        }
        entries.push(CapabilityEntry { id: CapabilityId(id), offset });
        next = byte(offset + 1);
    }
    entries
}

/// The extended capabilities, in list order; none for a conventional function.
#[must_use]
pub fn extended_capabilities(config: &[u8]) -> Vec<ExtendedCapabilityEntry> {
    let dword = |offset: u16| {
        let bytes = config.get(usize::from(offset)..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let mut entries: Vec<ExtendedCapabilityEntry> = Vec::new();
    let mut offset = CONFIG_SPACE_SIZE;
    while (CONFIG_SPACE_SIZE..EXTENDED_CONFIG_SPACE_SIZE).contains(&offset)
        && !entries.iter().any(|entry| entry.offset == offset)
    {
        let Some(head) = dword(offset) else { break };
        if head == 0 || head == u32::MAX {
            break;
        }
        let [low, high, upper, top] = head.to_le_bytes();
        let id = u16::from_le_bytes([low, high]);
        entries.push(ExtendedCapabilityEntry { id, version: upper & 0xF, offset });
        offset = (u16::from_le_bytes([upper, top]) >> 4) & !0b11;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(pairs: &[(usize, u8)]) -> Vec<u8> {
        let mut config = vec![0; usize::from(EXTENDED_CONFIG_SPACE_SIZE)];
        config[usize::from(header::STATUS)] = 0x10;
        for (offset, value) in pairs {
            config[*offset] = *value;
        }
        config
    }

    #[test]
    fn a_list_is_walked_in_its_order() {
        let config = space(&[(0x34, 0x50), (0x50, 0x11), (0x51, 0x40), (0x40, 0x05), (0x41, 0)]);
        let found: Vec<_> = capabilities(&config).iter().map(|entry| (entry.id.0, entry.offset)).collect();
        assert_eq!(found, [(0x11, 0x50), (0x05, 0x40)]);
    }

    #[test]
    fn loops_header_pointers_and_short_copies_end_the_walk() {
        let looped = space(&[(0x34, 0x40), (0x40, 0x05), (0x41, 0x43)]);
        assert_eq!(capabilities(&looped).len(), 1);
        assert!(capabilities(&space(&[(0x34, 0x10)])).is_empty());
        assert!(capabilities(&space(&[(0x34, 0xFC)])[..0x40]).is_empty());
        assert!(capabilities(&[]).is_empty());
        let without = {
            let mut c = space(&[(0x34, 0x40), (0x40, 5)]);
            c[6] = 0;
            c
        };
        assert!(capabilities(&without).is_empty());
    }

    #[test]
    fn extended_lists_end_at_loops_zero_and_ones() {
        let mut config = space(&[]);
        assert!(extended_capabilities(&config).is_empty());
        config[0x100..0x104].copy_from_slice(&0x1401_0001_u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x1001_0010_u32.to_le_bytes());
        let found = extended_capabilities(&config);
        assert_eq!(
            found.iter().map(|entry| (entry.id, entry.offset)).collect::<Vec<_>>(),
            [(1, 0x100), (0x10, 0x140)]
        );
        config[0x100..0x104].fill(0xFF);
        assert!(extended_capabilities(&config).is_empty());
    }
}
