//! Tables for firmware that puts them where it likes: the tables as files of fw_cfg, and the commands that join them.
//!
//! QEMU: hw/acpi/bios-linker-loader.c describes the commands; OVMF and SeaBIOS carry them out. Pointers in the files are
//! offsets into the file that they point to; a checksum is zero until the command that makes it.

use std::ops::Range;

/// Name of the file with the commands.
pub const LOADER: &str = "etc/table-loader";
/// Name of the file with all tables but the root pointer.
pub const TABLES: &str = "etc/acpi/tables";
/// Name of the file with the root pointer.
pub const ROOT_POINTER: &str = "etc/acpi/rsdp";

/// Bytes of a command.
const COMMAND_BYTES: usize = 128;
/// Bytes of a file's name in a command, with its final NUL.
const NAME_BYTES: usize = 56;

/// What commands do.
mod command {
    pub(super) const ALLOCATE: u32 = 1;
    pub(super) const ADD_POINTER: u32 = 2;
    pub(super) const ADD_CHECKSUM: u32 = 3;
}

/// Anywhere below 4 GiB.
const ZONE_HIGH: u8 = 1;
/// Between 0F_0000h and 10_0000h, where operating systems look for the root pointer.
const ZONE_FSEG: u8 = 2;

/// A pointer in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    /// Where it stands.
    pub(super) at: usize,
    /// Its width in bytes: 4 or 8.
    pub(super) bytes: u8,
}

/// A byte by which others sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    /// Where it stands.
    pub(super) at: usize,
    /// What sums to zero.
    pub(super) over: Range<usize>,
}

/// What of the tables depends on where they lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) pointers: Vec<Pointer>,
    pub(super) checksums: Vec<Checksum>,
}

/// The three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Of [`LOADER`].
    pub loader: Vec<u8>,
    /// Of [`TABLES`].
    pub tables: Vec<u8>,
    /// Of [`ROOT_POINTER`].
    pub root_pointer: Vec<u8>,
}

/// The tables in `bytes`, which were made for guest-physical address `base`: `root_bytes` of root pointer, the others from
/// `tables_at` on.
pub(super) fn files(bytes: &[u8], base: u64, root_bytes: usize, tables_at: usize, links: &Links) -> Files {
    let mut bytes = bytes.to_vec();
    let origin = base.saturating_add(tables_at as u64);
    for Pointer { at, bytes: width } in &links.pointers {
        let Some(field) = bytes.get_mut(*at..at.saturating_add(usize::from(*width))) else { continue };
        let mut value = [0; 8];
        for (byte, source) in value.iter_mut().zip(field.iter()) {
            *byte = *source;
        }
        let offset = u64::from_le_bytes(value).wrapping_sub(origin).to_le_bytes();
        for (byte, source) in field.iter_mut().zip(offset) {
            *byte = source;
        }
    }
    for Checksum { at, .. } in &links.checksums {
        if let Some(byte) = bytes.get_mut(*at) {
            *byte = 0;
        }
    }
    // Where a byte of the block stands: in which file, and at which offset.
    let place = |at: usize| match at.checked_sub(tables_at) {
        Some(offset) => (TABLES, offset),
        None => (ROOT_POINTER, at),
    };
    let mut loader = Vec::new();
    let allocate = |name, alignment: u32, zone| {
        command(command::ALLOCATE, &[&self::name(name), &alignment.to_le_bytes(), &[zone]])
    };
    loader.extend(allocate(ROOT_POINTER, 16, ZONE_FSEG));
    loader.extend(allocate(TABLES, 64, ZONE_HIGH));
    for Pointer { at, bytes } in &links.pointers {
        let (file, offset) = place(*at);
        let parts: [&[u8]; 4] = [&name(file), &name(TABLES), &low32(offset), &[*bytes]];
        loader.extend(command(command::ADD_POINTER, &parts));
    }
    for Checksum { at, over } in &links.checksums {
        let ((file, offset), (_, start)) = (place(*at), place(over.start));
        let parts: [&[u8]; 4] = [&name(file), &low32(offset), &low32(start), &low32(over.len())];
        loader.extend(command(command::ADD_CHECKSUM, &parts));
    }
    Files {
        loader,
        root_pointer: bytes.get(..root_bytes).unwrap_or_default().to_vec(),
        tables: bytes.split_off(tables_at.min(bytes.len())),
    }
}

fn command(kind: u32, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(COMMAND_BYTES, 0);
    bytes
}

fn name(text: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (byte, source) in bytes.iter_mut().zip(text.bytes()) {
        *byte = source;
    }
    bytes
}

fn low32(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}
