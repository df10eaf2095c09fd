//! ELF kernels with a PVH entry point: uncompressed Linux (`vmlinux`), and other kernels that carry Xen's note.
//!
//! Xen: docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h; ELF: System V ABI, chapters 4 and 5.

use crate::vmm::boot::cmdline::Cmdline;
use crate::vmm::boot::{BootError, Damage, Entry, Placement, Source, load_initrd, low, low_ram_end};
use crate::vmm::layout::KERNEL_START;

/// Longest command line in bytes: what Linux copies on x86 (COMMAND_LINE_SIZE), without the NUL.
pub(super) const CMDLINE_LIMIT: usize = 2047;

/// `XEN_HVM_START_MAGIC_VALUE`.
const START_MAGIC: u32 = 0x336E_C578;
const START_VERSION: u32 = 1;
/// Sizes of hvm_start_info and of an entry of its module list, in bytes.
const START_INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;
/// Note `XEN_ELFNOTE_PHYS32_ENTRY` of owner `Xen`.
const PHYS32_ENTRY: u32 = 18;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More than any kernel has; a header that claims more is a lie.
const MAX_PROGRAM_HEADERS: u16 = 128;
const MAX_NOTES: u64 = 1 << 20;

/// A part of the file that goes into RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) file_offset: u64,
    pub(super) file_size: u64,
    pub(super) address: u64,
    /// First address beyond it, with the zeros that follow the file's bytes.
    pub(super) end: u64,
}

/// A checked ELF kernel.
#[derive(Debug, Clone)]
pub struct Image {
    segments: Vec<Segment>,
    entry: u32,
}

fn number<const N: usize>(data: &[u8], offset: usize) -> [u8; N] {
    data.get(offset..).and_then(|data| data.first_chunk()).copied().unwrap_or([0; N])
}

pub(super) fn word(data: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(number(data, offset))
}

pub(super) fn dword(data: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(number(data, offset))
}

fn qword(data: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(number(data, offset))
}

impl Image {
    /// Reads the program headers and looks for the entry point; `head` is the file's beginning.
    ///
    /// # Errors
    /// [`BootError::NotAKernel`] for ELF files of another kind, [`BootError::Damaged`] for headers that lie.
    pub(super) fn parse(kernel: &Source, head: &[u8]) -> Result<Self, BootError> {
        let damaged = |problem| kernel.damaged(problem);
        let other = |hint| BootError::NotAKernel { path: kernel.path.clone(), hint };
        if head.len() < ELF_HEADER {
            return Err(damaged(Damage::Truncated("ELF header")));
        }
        if head.get(4..6) != Some(&[CLASS_64, LITTLE_ENDIAN]) || word(head, 0x12) != MACHINE_X86_64 {
            return Err(other(" (it is an ELF file, but not for 64-bit x86)"));
        }
        let (offset, size, count) = (qword(head, 0x20), word(head, 0x36), word(head, 0x38));
        if usize::from(size) != PROGRAM_HEADER {
            return Err(damaged(Damage::Field { field: "program header size", value: size.into() }));
        }
        if count == 0 || count > MAX_PROGRAM_HEADERS {
            return Err(damaged(Damage::Field { field: "program header count", value: count.into() }));
        }
        let length = PROGRAM_HEADER * usize::from(count);
        let headers = kernel.peek(offset, length)?;
        if headers.len() < length {
            return Err(damaged(Damage::Truncated("program headers")));
        }
        let mut segments = Vec::new();
        let mut entry = None;
        for header in headers.chunks_exact(PROGRAM_HEADER) {
            match dword(header, 0) {
                PT_LOAD => segments.extend(load_segment(header, kernel)?),
                PT_NOTE if entry.is_none() => {
                    let (offset, size) = (qword(header, 8), qword(header, 0x20));
                    let size = usize::try_from(size.min(MAX_NOTES)).unwrap_or(0);
                    entry = pvh_entry(&kernel.peek(offset, size)?);
                }
                _ => {}
            }
        }
        let entry = entry.ok_or_else(|| {
            other(" (it is an ELF file without the PVH note: build the kernel with CONFIG_PVH=y, or use its bzImage)")
        })?;
        if segments.is_empty() {
            return Err(damaged(Damage::Truncated("loadable segments")));
        }
        if !segments.iter().any(|segment| (segment.address..segment.end).contains(&u64::from(entry))) {
            return Err(damaged(Damage::Field { field: "PVH entry point", value: entry.into() }));
        }
        Ok(Self { segments, entry })
    }

    /// Loads kernel and initrd and writes hvm_start_info with what hangs on it.
    pub(super) fn load(
        &self,
        kernel: &Source,
        initrd: Option<&Source>,
        cmdline: &Cmdline,
        place: &Placement<'_>,
    ) -> Result<Entry, BootError> {
        let end = self.segments.iter().map(|segment| segment.end).max().unwrap_or(KERNEL_START);
        let (module, module_size) = load_initrd(initrd, place, end, low_ram_end(place.memory))?;
        for segment in &self.segments {
            kernel.load(place.memory, segment.address, segment.file_offset, segment.file_size)?;
        }
        let memory = place.memory;
        memory.write(low::CMDLINE, &cmdline.with_nul(CMDLINE_LIMIT)?)?;

        let modules = low::START_INFO + START_INFO_SIZE;
        let map = modules + MODULE_SIZE;
        let module_count = u32::from(initrd.is_some());
        let map_count = u32::try_from(place.map.len()).unwrap_or(0);
        let mut data = Vec::with_capacity(512);
        data.extend(START_MAGIC.to_le_bytes());
        data.extend(START_VERSION.to_le_bytes());
        data.extend(0u32.to_le_bytes());
        data.extend(module_count.to_le_bytes());
        data.extend(if initrd.is_some() { modules } else { 0 }.to_le_bytes());
        data.extend(low::CMDLINE.to_le_bytes());
        data.extend(place.rsdp.to_le_bytes());
        data.extend(map.to_le_bytes());
        data.extend(map_count.to_le_bytes());
        data.extend(0u32.to_le_bytes());
        // Module list: address, size, command line, reserved.
        for value in [module, module_size, 0, 0] {
            data.extend(value.to_le_bytes());
        }
        for entry in place.map {
            data.extend(entry.range.start.to_le_bytes());
            data.extend((entry.range.end - entry.range.start).to_le_bytes());
            data.extend(entry.kind.code().to_le_bytes());
            data.extend(0u32.to_le_bytes());
        }
        memory.write(low::START_INFO, &data)?;
        let ebx = u32::try_from(low::START_INFO).unwrap_or(0);
        Ok(Entry::Protected { eip: self.entry, ebx, esi: 0 })
    }
}

/// The segment that a PT_LOAD header describes; none if it is empty.
fn load_segment(header: &[u8], kernel: &Source) -> Result<Option<Segment>, BootError> {
    let (file_offset, address) = (qword(header, 8), qword(header, 0x18));
    let (file_size, size) = (qword(header, 0x20), qword(header, 0x28));
    if size == 0 {
        return Ok(None);
    }
    if file_size > size {
        return Err(kernel.damaged(Damage::Field { field: "segment's file size", value: file_size }));
    }
    if file_offset.checked_add(file_size).is_none_or(|end| end > kernel.size_bytes) {
        return Err(kernel.damaged(Damage::Truncated("segments")));
    }
    let end = address
        .checked_add(size)
        .filter(|_| address >= KERNEL_START)
        .ok_or_else(|| kernel.damaged(Damage::Placement(address)))?;
    Ok(Some(Segment { file_offset, file_size, address, end }))
}

/// The PVH entry point among `notes` (ELF: name size, descriptor size, type, then both padded to four bytes).
fn pvh_entry(mut notes: &[u8]) -> Option<u32> {
    const HEADER: usize = 12;
    let padded = |size: u32| usize::try_from(size).ok()?.checked_next_multiple_of(4);
    while notes.len() >= HEADER {
        let (name_size, value_size, kind) = (dword(notes, 0), dword(notes, 4), dword(notes, 8));
        let value_at = HEADER.checked_add(padded(name_size)?)?;
        let next = value_at.checked_add(padded(value_size)?)?;
        let name = notes.get(HEADER..HEADER.checked_add(usize::try_from(name_size).ok()?)?)?;
        let value = notes.get(value_at..value_at.checked_add(usize::try_from(value_size).ok()?)?)?;
        if kind == PHYS32_ENTRY && name == b"Xen\0" {
            return match value.len() {
                4 => Some(dword(value, 0)),
                8 => u32::try_from(qword(value, 0)).ok(),
                _ => None,
            };
        }
        notes = notes.get(next..).unwrap_or(&[]);
    }
    None
}
