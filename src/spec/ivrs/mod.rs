//! The I/O Virtualization Reporting Structure, IVRS: which IOMMUs firmware offers on a machine of AMD, for which devices,
//! and which memory devices were promised to reach without them.
//!
//! AMD I/O Virtualization Technology (IOMMU) Specification, publication 48882, revision 3.10, section 5.2. The bytes may
//! be wrong in any way ([`super::sdt`]).

mod entry;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::pci::PciAddress;
use super::sdt::{
    self, Fault, Frame, Header, Record, TooShort, UnknownRecord, u8_at, u16_at, u32_at, u64_at,
};

pub use entry::{AcpiId, DeviceEntry, EntryKind, SpecialDevice};

/// Signature of the table.
pub const SIGNATURE: &str = "IVRS";

/// Where the blocks start (5.2.1).
const BLOCKS: usize = 48;

/// Types of blocks (5.2.2).
pub mod block {
    /// An IOMMU, with the features that the first revision knew.
    pub const IVHD_10: u8 = 0x10;
    /// The same IOMMU with its extended feature register.
    pub const IVHD_11: u8 = 0x11;
    /// The same IOMMU, and devices that are named by ACPI.
    pub const IVHD_40: u8 = 0x40;
    /// Memory of all devices.
    pub const IVMD_ALL: u8 = 0x20;
    /// Memory of one device.
    pub const IVMD_ONE: u8 = 0x21;
    /// Memory of a range of devices.
    pub const IVMD_RANGE: u8 = 0x22;
}

/// Bits of the IVinfo field (5.2.1).
pub mod iv_info {
    /// The extended feature register of IVHD blocks counts.
    pub const EFR_SUPPORTED: u32 = 1 << 0;
    /// DMA is remapped before the operating system runs.
    pub const DMA_REMAPPED_AT_BOOT: u32 = 1 << 1;
    /// Shift of the bits of physical address, 7 bits.
    pub const PHYSICAL_ADDRESS_SHIFT: u32 = 8;
    /// Shift of the bits of virtual address, 7 bits.
    pub const VIRTUAL_ADDRESS_SHIFT: u32 = 15;
    /// Mask of either, after shifting.
    pub const ADDRESS_MASK: u32 = 0x7F;
}

/// Bits of an IVMD block's flags (5.2.2).
pub mod memory_flags {
    /// Devices must reach it at its physical addresses.
    pub const UNITY: u8 = 1 << 0;
    /// Devices may read it.
    pub const READABLE: u8 = 1 << 1;
    /// Devices may write it.
    pub const WRITABLE: u8 = 1 << 2;
    /// DMA to it is not translated at all.
    pub const EXCLUSION: u8 = 1 << 3;
}

/// A decoded table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ivrs {
    /// Header.
    pub header: Header,
    /// The IVinfo field, as it stands in the table.
    pub iv_info: u32,
    /// [`iv_info::EFR_SUPPORTED`].
    pub efr_supported: bool,
    /// [`iv_info::DMA_REMAPPED_AT_BOOT`].
    pub dma_remapped_at_boot: bool,
    /// Bits of physical address.
    pub physical_address_bits: u8,
    /// Bits of virtual address.
    pub virtual_address_bits: u8,
    /// IOMMUs; the same one may stand in blocks of several revisions.
    pub units: Vec<Unit>,
    /// Memory that devices must reach at its physical addresses, or without translation.
    pub memory: Vec<Memory>,
    /// Blocks of unknown types, and such as are too short for their type.
    pub unknown_records: Vec<UnknownRecord>,
    /// What is wrong with the table.
    pub faults: Vec<Fault>,
}

/// I/O Virtualization Hardware Definition, IVHD (5.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Type of the block.
    pub block_type: u8,
    /// Whether a block of a later revision describes the same IOMMU; software uses the latest that it knows (5.2.2).
    pub superseded: bool,
    /// Flags, which say how the IOMMU wants to be used.
    pub flags: u8,
    /// Requester ID of the IOMMU.
    pub device_id: u16,
    /// Its address on the PCI bus.
    pub address: PciAddress,
    /// Offset of its capability, in bytes.
    pub capability_offset: u16,
    /// Physical address of its registers.
    pub base: u64,
    /// PCI segment of its devices.
    pub segment: u16,
    /// The field IOMMU info: number of its interrupt message and unit ID.
    pub info: u16,
    /// Features (type 10h) or attributes (later types).
    pub features: u32,
    /// Image of the extended feature register (later types).
    pub extended_features: Option<u64>,
    /// Image of the second extended feature register (later types).
    pub extended_features_2: Option<u64>,
    /// Its devices.
    pub entries: Vec<DeviceEntry>,
}

/// I/O Virtualization Memory Definition, IVMD (5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Type of the block.
    pub block_type: u8,
    /// PCI segment of the devices.
    pub segment: u16,
    /// Requester ID of the first device.
    pub start_device: u16,
    /// Requester ID of the last device.
    pub end_device: u16,
    /// First physical address.
    pub base: u64,
    /// Length in bytes.
    pub length_bytes: u64,
    /// [`memory_flags`], as they stand in the table.
    pub flags: u8,
    /// [`memory_flags::UNITY`].
    pub unity: bool,
    /// [`memory_flags::READABLE`].
    pub readable: bool,
    /// [`memory_flags::WRITABLE`].
    pub writable: bool,
    /// [`memory_flags::EXCLUSION`].
    pub exclusion: bool,
}

/// How blocks are framed: type and flags, 8 bits each, length, 16 bits (5.2.2).
const FRAME: Frame = Frame { what: "block", header: 4, length: |block| usize::from(u16_at(block, 2)) };

/// Decodes a table.
///
/// # Errors
/// The bytes do not hold the fixed part of the table. Everything else that is wrong is in [`Ivrs::faults`].
pub fn parse(bytes: &[u8]) -> Result<Ivrs, TooShort> {
    let mut faults = Vec::new();
    let header = Header::parse(bytes, SIGNATURE, BLOCKS, &mut faults)?;
    let table = header.body(bytes, BLOCKS);
    let info = u32_at(bytes, 36);
    let bits = |shift: u32| u8::try_from(info >> shift & iv_info::ADDRESS_MASK).unwrap_or_default();
    let mut ivrs = Ivrs {
        header,
        iv_info: info,
        efr_supported: info & iv_info::EFR_SUPPORTED != 0,
        dma_remapped_at_boot: info & iv_info::DMA_REMAPPED_AT_BOOT != 0,
        physical_address_bits: bits(iv_info::PHYSICAL_ADDRESS_SHIFT),
        virtual_address_bits: bits(iv_info::VIRTUAL_ADDRESS_SHIFT),
        units: Vec::new(),
        memory: Vec::new(),
        unknown_records: Vec::new(),
        faults,
    };
    let blocks = sdt::records(table.get(BLOCKS..).unwrap_or_default(), BLOCKS, FRAME, &mut ivrs.faults);
    for record in &blocks {
        if ivrs.add(record).is_none() {
            let Record { offset, length: length_bytes, bytes } = *record;
            let kind = u16::from(u8_at(bytes, 0));
            ivrs.unknown_records.push(UnknownRecord { kind, length_bytes, offset });
        }
    }
    ivrs.mark_superseded();
    Ok(ivrs)
}

impl Ivrs {
    /// Decodes `record` and puts it where it belongs; `None` if its type is unknown or its fields are not there.
    fn add(&mut self, record: &Record<'_>) -> Option<()> {
        match u8_at(record.bytes, 0) {
            kind @ (block::IVHD_10 | block::IVHD_11 | block::IVHD_40) => {
                record.has("IVHD block", unit_length(kind), &mut self.faults).then_some(())?;
                let unit = unit(record, &mut self.faults);
                self.units.push(unit);
            }
            block::IVMD_ALL | block::IVMD_ONE | block::IVMD_RANGE => {
                record.has("IVMD block", 32, &mut self.faults).then_some(())?;
                let memory = memory(record, &mut self.faults);
                self.memory.push(memory);
            }
            _ => return None,
        }
        Some(())
    }

    fn mark_superseded(&mut self) {
        let latest: Vec<_> =
            self.units.iter().map(|unit| (unit.segment, unit.device_id, unit.block_type)).collect();
        for unit in &mut self.units {
            let later = |&(segment, device, kind): &(u16, u16, u8)| {
                (segment, device) == (unit.segment, unit.device_id) && kind > unit.block_type
            };
            unit.superseded = latest.iter().any(later);
        }
    }
}

/// Bytes of an IVHD block before its device entries; later types have two feature registers more.
fn unit_length(block_type: u8) -> usize {
    if block_type == block::IVHD_10 { 24 } else { 40 }
}

/// The IOMMU of a block whose fields are there.
fn unit(record: &Record<'_>, faults: &mut Vec<Fault>) -> Unit {
    let Record { offset, bytes, .. } = *record;
    let block_type = u8_at(bytes, 0);
    let entries = unit_length(block_type);
    let register = |offset| (offset < entries).then(|| u64_at(bytes, offset));
    let (device_id, segment) = (u16_at(bytes, 4), u16_at(bytes, 16));
    Unit {
        block_type,
        superseded: false,
        flags: u8_at(bytes, 1),
        device_id,
        address: PciAddress::from_requester_id(u32::from(segment), device_id),
        capability_offset: u16_at(bytes, 6),
        base: u64_at(bytes, 8),
        segment,
        info: u16_at(bytes, 18),
        features: u32_at(bytes, 20),
        extended_features: register(24),
        extended_features_2: register(32),
        entries: entry::parse(
            bytes.get(entries..).unwrap_or_default(),
            offset.saturating_add(entries),
            faults,
        ),
    }
}

/// The memory of a block whose fields are there.
fn memory(record: &Record<'_>, faults: &mut Vec<Fault>) -> Memory {
    let Record { offset, bytes, .. } = *record;
    let (device, auxiliary) = (u16_at(bytes, 4), u16_at(bytes, 6));
    let block_type = u8_at(bytes, 0);
    let (start_device, end_device) = match block_type {
        block::IVMD_ONE => (device, device),
        block::IVMD_RANGE => (device, auxiliary),
        _ => (0, u16::MAX),
    };
    let (base, length_bytes) = (u64_at(bytes, 16), u64_at(bytes, 24));
    if start_device > end_device || base.checked_add(length_bytes).is_none() {
        faults.push(Fault::Range { what: "IVMD block", offset });
    }
    let flags = u8_at(bytes, 1);
    Memory {
        block_type,
        segment: u16_at(bytes, 8),
        start_device,
        end_device,
        base,
        length_bytes,
        flags,
        unity: flags & memory_flags::UNITY != 0,
        readable: flags & memory_flags::READABLE != 0,
        writable: flags & memory_flags::WRITABLE != 0,
        exclusion: flags & memory_flags::EXCLUSION != 0,
    }
}

/// Decodes anything, for fuzzers and tests: no panic, and what is told lies in the bytes.
///
/// # Panics
/// The decoder tells more than the bytes can hold.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(ivrs) = parse(bytes) else { return assert!(bytes.len() < BLOCKS) };
    let entries: usize = ivrs.units.iter().map(|unit| unit.entries.len()).sum();
    let fixed = ivrs.units.len() * 24 + entries * 4 + ivrs.memory.len() * 32 + ivrs.unknown_records.len() * 4;
    assert!(fixed <= bytes.len() - BLOCKS, "{ivrs:#?}");
    assert!(ivrs.unknown_records.iter().all(|record| record.offset < bytes.len()));
    for fault in &ivrs.faults {
        assert!(!fault.to_string().is_empty());
    }
}
