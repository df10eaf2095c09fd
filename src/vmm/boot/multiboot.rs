//! Multiboot 1 kernels: 32-bit ELF files, or files whose header says itself where they go (the "a.out kludge").
//!
//! Multiboot Specification 0.6.96: header 3.1, machine state 3.2, information 3.3. The header stands somewhere in the first
//! 8 KiB of a file of any format, so files of a format of their own are recognized first. An initial RAM disk is the first
//! module. Screen modes are not set: a kernel that asks for one starts without.

use crate::vmm::boot::cmdline::Cmdline;
use crate::vmm::boot::pvh::{Segment, dword, word};
use crate::vmm::boot::{BootError, Damage, Entry, Placement, Source, low, low_ram_end};
use crate::vmm::layout::{CONVENTIONAL_END, KERNEL_START};

/// Bytes at the start of a file in which the header lies, whole.
const SEARCHED: usize = 8192;
const MAGIC: u32 = 0x1BAD_B002;
/// What the kernel finds in EAX.
pub const BOOTED: u32 = 0x2BAD_B002;
/// Longest text for the kernel or a module, in bytes without its NUL.
pub(super) const CMDLINE_LIMIT: usize = 2047;
/// Longest first word of a text, with its space.
pub(super) const NAME_LIMIT: usize = 256;
/// Most modules.
pub const MAX_MODULES: usize = 16;
/// Room for one text.
const TEXT: u64 = 0x800;
const PAGE: u64 = 0x1000;
const KIB: u64 = 1024;
const LOADER: &[u8] = b"thruway\0";

/// In the BIOS data area: the segment of the extended area behind it, and KiB of base memory (IBM Personal System/2 and
/// Personal Computer BIOS Interface Technical Reference, "BIOS Data Area").
const BIOS_EXTENDED_DATA_SEGMENT: u64 = 0x40E;
const BIOS_BASE_MEMORY: u64 = 0x413;
/// The extended area has one KiB, and says so in its first byte.
const EXTENDED_DATA_SEGMENT: u16 = 0x9FC0;
const BASE_MEMORY_KIB: u16 = 639;
const EXTENDED_DATA_KIB: u8 = 1;
const _: () = assert!(CONVENTIONAL_END == 0x9_FC00, "what the BIOS data area says");

/// Header flags (3.1.2). The low 16 are requirements.
mod flag {
    pub(super) const PAGE_ALIGNED: u32 = 1 << 0;
    pub(super) const MEMORY_INFORMATION: u32 = 1 << 1;
    /// A screen mode is wanted.
    pub(super) const VIDEO: u32 = 1 << 2;
    pub(super) const REQUIREMENTS: u32 = 0xFFFF;
    /// The header says where the file goes.
    pub(super) const ADDRESSES: u32 = 1 << 16;
}

/// Which fields of the information are valid (3.3).
mod info {
    pub(super) const MEMORY: u32 = 1 << 0;
    pub(super) const CMDLINE: u32 = 1 << 2;
    pub(super) const MODULES: u32 = 1 << 3;
    pub(super) const MEMORY_MAP: u32 = 1 << 6;
    pub(super) const LOADER: u32 = 1 << 9;
    /// Bytes, with the fields for a screen that are not used.
    pub(super) const SIZE: u64 = 116;
}

/// A 32-bit ELF file (System V ABI, Intel386 supplement, and chapters 4 and 5).
mod elf {
    pub(super) const HEADER: usize = 52;
    pub(super) const PROGRAM_HEADER: usize = 32;
    /// 32 bits, little endian.
    pub(super) const IDENTITY: [u8; 6] = *b"\x7FELF\x01\x01";
    pub(super) const MACHINE_386: u16 = 3;
    pub(super) const PT_LOAD: u32 = 1;
    /// More than any kernel has; a header that claims more is a lie.
    pub(super) const MAX_PROGRAM_HEADERS: u16 = 128;
}

/// A checked kernel.
#[derive(Debug, Clone)]
pub struct Image {
    segments: Vec<Segment>,
    entry: u32,
}

/// A file that is handed to the kernel, with its text.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) source: Source,
    pub(super) cmdline: Cmdline,
}

impl Image {
    /// Reads the header and finds out what goes where; none if there is no header.
    ///
    /// # Errors
    /// [`BootError::Damaged`] for headers that lie, [`BootError::NotAKernel`] for files that this protocol cannot load.
    pub(super) fn parse(kernel: &Source) -> Result<Option<Self>, BootError> {
        let head = kernel.peek(0, SEARCHED)?;
        let Some(at) = header_at(&head) else { return Ok(None) };
        let flags = dword(&head, at + 4);
        let supported = flag::PAGE_ALIGNED | flag::MEMORY_INFORMATION | flag::VIDEO;
        if flags & flag::REQUIREMENTS & !supported != 0 {
            let value = u64::from(flags);
            return Err(kernel.damaged(Damage::Field { field: "set of multiboot requirements", value }));
        }
        if flags & flag::VIDEO != 0 {
            tracing::debug!("the kernel would like a screen mode; there is none");
        }
        let image = if flags & flag::ADDRESSES != 0 {
            from_addresses(kernel, &head, at)?
        } else if head.starts_with(&elf::IDENTITY) {
            from_elf(kernel, &head)?
        } else {
            let hint = " (it has a multiboot header without addresses, and is no 32-bit ELF file)";
            return Err(BootError::NotAKernel { path: kernel.path.clone(), hint });
        };
        let entry = u64::from(image.entry);
        if !image.segments.iter().any(|segment| (segment.address..segment.end).contains(&entry)) {
            return Err(kernel.damaged(Damage::Field { field: "entry point", value: entry }));
        }
        Ok(Some(image))
    }

    /// Loads kernel and modules, and writes what the kernel is told.
    pub(super) fn load(
        &self,
        kernel: &Source,
        modules: &[&Module],
        cmdline: &Cmdline,
        place: &Placement<'_>,
    ) -> Result<Entry, BootError> {
        let memory = place.memory;
        let available = low_ram_end(memory).min(1 << 32);
        let end = self.segments.iter().map(|segment| segment.end).max().unwrap_or(KERNEL_START);
        let too_large = |what, needed| BootError::TooLarge { what, needed, available };
        if end > available {
            return Err(too_large("the kernel", end));
        }
        for segment in &self.segments {
            kernel.load(memory, segment.address, segment.file_offset, segment.file_size)?;
        }

        // Behind each other: information, memory map, list of modules; then texts.
        let map_at = low::START_INFO + info::SIZE.next_multiple_of(8);
        let map: Vec<u8> = place.map.iter().flat_map(map_entry).collect();
        let list_at = (map_at + map.len() as u64).next_multiple_of(8);
        let mut texts = Vec::new();
        let mut text_at = |source: &Source, cmdline: &Cmdline| {
            let address = low::CMDLINE + texts.len() as u64 * TEXT;
            let mut text = first_word(source);
            let room = CMDLINE_LIMIT.saturating_sub(text.len());
            text.extend(cmdline.with_nul(room)?);
            texts.push((address, text));
            Ok::<u64, BootError>(address)
        };
        let cmdline_at = text_at(kernel, cmdline)?;
        let mut list = Vec::new();
        let mut next = end;
        for module in modules {
            let start = next.next_multiple_of(PAGE);
            next = start.checked_add(module.source.size_bytes).filter(|end| *end <= available).ok_or_else(
                || too_large("the kernel with its modules", start.saturating_add(module.source.size_bytes)),
            )?;
            module.source.load(memory, start, 0, module.source.size_bytes)?;
            let text = text_at(&module.source, &module.cmdline)?;
            for value in [start, next, text, 0] {
                list.extend(low32(value));
            }
        }
        for (address, text) in &texts {
            memory.write(*address, text)?;
        }
        let loader_at = low::CMDLINE + texts.len() as u64 * TEXT;
        memory.write(loader_at, LOADER)?;
        memory.write(map_at, &map)?;
        memory.write(list_at, &list)?;

        // Kernels look for room below 640 KiB by what a PC's BIOS says of it, since loaders of this protocol come after one.
        memory.write(BIOS_EXTENDED_DATA_SEGMENT, &EXTENDED_DATA_SEGMENT.to_le_bytes())?;
        memory.write(BIOS_BASE_MEMORY, &BASE_MEMORY_KIB.to_le_bytes())?;
        memory.write(CONVENTIONAL_END, &[EXTENDED_DATA_KIB])?;

        let upper = (low_ram_end(memory).min(1 << 32)).saturating_sub(KERNEL_START) / KIB;
        let mut flags = info::MEMORY | info::CMDLINE | info::MEMORY_MAP | info::LOADER;
        if !modules.is_empty() {
            flags |= info::MODULES;
        }
        let fields: [(usize, u64); 9] = [
            (0, flags.into()),
            (4, CONVENTIONAL_END / KIB),
            (8, upper),
            (16, cmdline_at),
            (20, modules.len() as u64),
            (24, list_at),
            (44, map.len() as u64),
            (48, map_at),
            (64, loader_at),
        ];
        let mut information = vec![0; usize::try_from(info::SIZE).unwrap_or(0)];
        for (offset, value) in fields {
            if let Some(field) = information.get_mut(offset..offset + 4) {
                field.copy_from_slice(&low32(value));
            }
        }
        memory.write(low::START_INFO, &information)?;
        let info = u32::from_le_bytes(low32(low::START_INFO));
        Ok(Entry::Multiboot { eip: self.entry, info })
    }
}

/// Offset of the header in `head`: on a boundary of four bytes, its first three fields add up to nothing.
fn header_at(head: &[u8]) -> Option<usize> {
    let head = head.get(..SEARCHED).unwrap_or(head);
    (0..head.len().saturating_sub(11)).step_by(4).find(|at| {
        let fields = [0, 4, 8].map(|field| dword(head, at + field));
        let sum = fields.iter().fold(0u32, |sum, field| sum.wrapping_add(*field));
        fields.first() == Some(&MAGIC) && sum == 0
    })
}

/// What the addresses in the header at `at` say (3.1.3).
fn from_addresses(kernel: &Source, head: &[u8], at: usize) -> Result<Image, BootError> {
    const END: usize = 32;
    if head.len() < at + END {
        return Err(kernel.damaged(Damage::Truncated("multiboot header")));
    }
    let field = |offset: usize| u64::from(dword(head, at + offset));
    let (header, load, load_end, bss_end) = (field(12), field(16), field(20), field(24));
    let entry = dword(head, at + 28);
    let wrong = |field, value| kernel.damaged(Damage::Field { field, value });
    // The header is where it says, so the file's part begins so many bytes before it.
    let before = header.checked_sub(load).ok_or_else(|| wrong("load address", load))?;
    let file_offset = (at as u64).checked_sub(before).ok_or_else(|| wrong("header address", header))?;
    let left = kernel.size_bytes.saturating_sub(file_offset);
    let file_size = match load_end {
        0 => left,
        end => end.checked_sub(load).ok_or_else(|| wrong("load end address", end))?,
    };
    if file_size > left {
        return Err(kernel.damaged(Damage::Truncated("part to be loaded")));
    }
    let loaded_end = load + file_size;
    let end = match bss_end {
        0 => loaded_end,
        end if end >= loaded_end => end,
        end => return Err(wrong("bss end address", end)),
    };
    if load < KERNEL_START {
        return Err(kernel.damaged(Damage::Placement(load)));
    }
    Ok(Image { segments: vec![Segment { file_offset, file_size, address: load, end }], entry })
}

/// What a 32-bit ELF file's program headers say.
fn from_elf(kernel: &Source, head: &[u8]) -> Result<Image, BootError> {
    let damaged = |problem| kernel.damaged(problem);
    if head.len() < elf::HEADER {
        return Err(damaged(Damage::Truncated("ELF header")));
    }
    let (machine, size, count) = (word(head, 0x12), word(head, 0x2A), word(head, 0x2C));
    if machine != elf::MACHINE_386 {
        return Err(damaged(Damage::Field { field: "machine", value: machine.into() }));
    }
    if usize::from(size) != elf::PROGRAM_HEADER {
        return Err(damaged(Damage::Field { field: "program header size", value: size.into() }));
    }
    if count == 0 || count > elf::MAX_PROGRAM_HEADERS {
        return Err(damaged(Damage::Field { field: "program header count", value: count.into() }));
    }
    let length = elf::PROGRAM_HEADER * usize::from(count);
    let headers = kernel.peek(dword(head, 0x1C).into(), length)?;
    if headers.len() < length {
        return Err(damaged(Damage::Truncated("program headers")));
    }
    let mut entry = dword(head, 0x18);
    let virtual_entry = u64::from(entry);
    let mut segments = Vec::new();
    for header in headers.chunks_exact(elf::PROGRAM_HEADER) {
        let field = |offset| u64::from(dword(header, offset));
        let (file_offset, linked, address) = (field(4), field(8), field(12));
        let (file_size, size) = (field(16), field(20));
        if dword(header, 0) != elf::PT_LOAD || size == 0 {
            continue;
        }
        if file_size > size {
            return Err(damaged(Damage::Field { field: "segment's file size", value: file_size }));
        }
        if file_offset + file_size > kernel.size_bytes {
            return Err(damaged(Damage::Truncated("segments")));
        }
        if address < KERNEL_START {
            return Err(damaged(Damage::Placement(address)));
        }
        // The entry point is an address as linked; what is loaded elsewhere is entered elsewhere.
        if (linked..linked + size).contains(&virtual_entry)
            && let Ok(moved) = u32::try_from(virtual_entry - linked + address)
        {
            entry = moved;
        }
        segments.push(Segment { file_offset, file_size, address, end: address + size });
    }
    if segments.is_empty() {
        return Err(damaged(Damage::Truncated("loadable segments")));
    }
    Ok(Image { segments, entry })
}

/// An entry of the memory map: its own size without this field, address, length, type.
fn map_entry(entry: &crate::vmm::layout::MapEntry) -> Vec<u8> {
    const SIZE: u32 = 20;
    let mut bytes = SIZE.to_le_bytes().to_vec();
    bytes.extend(entry.range.start.to_le_bytes());
    bytes.extend((entry.range.end - entry.range.start).to_le_bytes());
    bytes.extend(entry.kind.code().to_le_bytes());
    bytes
}

/// The file's name and a space: kernels take the first word for what was loaded and skip it.
fn first_word(source: &Source) -> Vec<u8> {
    let name = source.path.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let mut word: String = name.chars().take(NAME_LIMIT - 1).map(plain).collect();
    word.push(' ');
    word.into_bytes()
}

/// The low half of an address below 4 GiB, as bytes.
fn low32(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
