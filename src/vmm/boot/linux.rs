//! Linux bzImage: the x86 boot protocol, by its 64-bit entry point where it has one, else by the 32-bit one.
//!
//! Linux: Documentation/arch/x86/boot.rst and zero-page.rst. Offsets are those of the file's first sector, which are
//! also those of `struct boot_params`.

use crate::vmm::boot::cmdline::Cmdline;
use crate::vmm::boot::{BootError, Damage, Entry, Placement, Source, load_initrd, low};
use crate::vmm::layout::KERNEL_START;

/// Bytes at the start of the file that hold the whole setup header of every protocol version.
pub(super) const HEADER_PROBE: usize = 0x1000;

/// Offsets of the fields that are used.
mod field {
    pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(super) const E820_ENTRIES: usize = 0x1E8;
    pub(super) const SETUP_SECTS: usize = 0x1F1;
    pub(super) const BOOT_FLAG: usize = 0x1FE;
    pub(super) const JUMP: usize = 0x200;
    pub(super) const HEADER: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21C;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22C;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const E820_TABLE: usize = 0x2D0;
}

/// Entries that the zero page has room for.
const E820_MAX: usize = 128;
const SECTOR: u64 = 512;
const LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;
/// "Undefined" boot loader.
const LOADER_UNDEFINED: u8 = 0xFF;
const PAGE: usize = 0x1000;

/// A checked setup header.
#[derive(Debug, Clone)]
pub struct Header {
    /// The header's bytes, from [`field::SETUP_SECTS`] on, as they go into the zero page.
    bytes: Vec<u8>,
    /// Where the 32/64-bit part begins in the file, in bytes.
    code_offset: u64,
    code_size: u64,
    protocol: u16,
    entry_64: bool,
    cmdline_size: u32,
    initrd_addr_max: u32,
    /// First address beyond what the kernel uses before it has a memory manager.
    end: u64,
}

fn number<const N: usize>(data: &[u8], offset: usize) -> Option<[u8; N]> {
    data.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

impl Header {
    /// The header in `head`, the file's first [`HEADER_PROBE`] bytes; none if this is no bzImage.
    ///
    /// # Errors
    /// [`BootError::Damaged`] where it is one, but a broken or too old one.
    pub(super) fn parse(kernel: &Source, head: &[u8]) -> Result<Option<Self>, BootError> {
        let word = |offset| number(head, offset).map_or(0, u16::from_le_bytes);
        let dword = |offset| number(head, offset).map_or(0, u32::from_le_bytes);
        let qword = |offset| number(head, offset).map_or(0, u64::from_le_bytes);
        let byte = |offset: usize| head.get(offset).copied().unwrap_or(0);
        if word(field::BOOT_FLAG) != 0xAA55 || head.get(field::HEADER..field::VERSION) != Some(b"HdrS") {
            return Ok(None);
        }
        let damaged = |problem| kernel.damaged(problem);
        let protocol = word(field::VERSION);
        if protocol < 0x0206 {
            let [minor, major] = protocol.to_le_bytes();
            return Err(damaged(Damage::OldProtocol { major, minor }));
        }
        if byte(field::LOADFLAGS) & LOADED_HIGH == 0 {
            return Err(damaged(Damage::LoadedLow));
        }
        // "For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
        let setup_sectors = match byte(field::SETUP_SECTS) {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let code_offset = (setup_sectors + 1) * SECTOR;
        // The jump instruction's operand says where the header ends.
        let header_end = field::HEADER + usize::from(byte(field::JUMP + 1));
        let bytes = head
            .get(field::SETUP_SECTS..header_end.max(field::CMDLINE_SIZE + 4))
            .ok_or_else(|| damaged(Damage::Truncated("setup header")))?
            .to_vec();
        let code_size = kernel.size_bytes.saturating_sub(code_offset);
        if code_size < 2 * SECTOR {
            return Err(damaged(Damage::Truncated("setup code")));
        }
        let syssize = u64::from(dword(0x1F4)) * 16;
        if syssize.saturating_sub(16) > code_size {
            return Err(damaged(Damage::Truncated("kernel code")));
        }
        let in_header = |offset: usize, length: usize| offset + length <= header_end;
        let (pref_address, init_size) = if protocol >= 0x020A && in_header(field::INIT_SIZE, 4) {
            (qword(field::PREF_ADDRESS), u64::from(dword(field::INIT_SIZE)))
        } else {
            (KERNEL_START, 0)
        };
        let end = pref_address
            .max(KERNEL_START)
            .checked_add(init_size)
            .ok_or_else(|| damaged(Damage::Field { field: "preferred address", value: pref_address }))?
            .max(KERNEL_START + code_size);
        Ok(Some(Self {
            bytes,
            code_offset,
            code_size,
            protocol,
            entry_64: protocol >= 0x020C && word(field::XLOADFLAGS) & XLF_KERNEL_64 != 0,
            cmdline_size: dword(field::CMDLINE_SIZE),
            initrd_addr_max: dword(field::INITRD_ADDR_MAX),
            end,
        }))
    }

    /// Where setup code ends and the kernel's own begins, in bytes.
    pub(super) fn code_offset(&self) -> u64 {
        self.code_offset
    }

    /// Longest command line in bytes, without the NUL.
    pub(super) fn cmdline_limit(&self) -> usize {
        // What a loader can take for granted is 255; more than one page makes no sense for any kernel.
        let size = if self.cmdline_size == 0 { 255 } else { self.cmdline_size };
        usize::try_from(size).unwrap_or(PAGE).min(PAGE - 1)
    }

    /// Loads kernel and initrd, writes zero page, command line and, for the 64-bit entry, page tables.
    pub(super) fn load(
        &self,
        kernel: &Source,
        initrd: Option<&Source>,
        cmdline: &Cmdline,
        place: &Placement<'_>,
    ) -> Result<Entry, BootError> {
        let limit = match self.initrd_addr_max {
            0 => 0x3800_0000,
            max => u64::from(max) + 1,
        };
        let (ramdisk, ramdisk_size) = load_initrd(initrd, place, self.end, limit)?;
        kernel.load(place.memory, KERNEL_START, self.code_offset, self.code_size)?;

        let memory = place.memory;
        memory.write(low::CMDLINE, &cmdline.with_nul(self.cmdline_limit())?)?;
        let mut page = vec![0; PAGE];
        let mut put = |offset: usize, data: &[u8]| {
            if let Some(target) = page.get_mut(offset..offset + data.len()) {
                target.copy_from_slice(data);
            }
        };
        put(field::SETUP_SECTS, &self.bytes);
        put(field::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
        put(field::CMD_LINE_PTR, &low32(low::CMDLINE));
        put(field::RAMDISK_IMAGE, &low32(ramdisk));
        put(field::RAMDISK_SIZE, &low32(ramdisk_size));
        put(field::ACPI_RSDP_ADDR, &place.rsdp.to_le_bytes());
        for (index, entry) in place.map.iter().take(E820_MAX).enumerate() {
            let offset = field::E820_TABLE + 20 * index;
            put(offset, &entry.range.start.to_le_bytes());
            put(offset + 8, &(entry.range.end - entry.range.start).to_le_bytes());
            put(offset + 16, &entry.kind.code().to_le_bytes());
        }
        put(field::E820_ENTRIES, &[u8::try_from(place.map.len().min(E820_MAX)).unwrap_or(0)]);
        memory.write(low::ZERO_PAGE, &page)?;

        if self.entry_64 {
            write_page_tables(place)?;
            // The 64-bit entry point is 512 bytes into the code ("startup_64 at 0x200").
            Ok(Entry::Long { rip: KERNEL_START + 0x200, rsi: low::ZERO_PAGE })
        } else {
            tracing::debug!(protocol = self.protocol, "no 64-bit entry point; using the 32-bit one");
            let [eip, esi] = [KERNEL_START, low::ZERO_PAGE].map(|address| u32::from_le_bytes(low32(address)));
            Ok(Entry::Protected { eip, ebx: 0, esi })
        }
    }
}

/// The low half of an address below 4 GiB, as bytes.
fn low32(address: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = address.to_le_bytes();
    [a, b, c, d]
}

/// Identity-maps the first 4 GiB by 2 MiB pages (Intel SDM vol. 3, 4.5): kernel, zero page, command line and initrd all
/// lie there.
fn write_page_tables(place: &Placement<'_>) -> Result<(), BootError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    const TABLE: u64 = PAGE as u64;
    const DIRECTORIES: u64 = 4;
    let pointers = low::PAGE_TABLES + TABLE;
    let directories = pointers + TABLE;
    let mut tables = Vec::with_capacity(6 * PAGE);
    let mut table = |entries: &mut dyn Iterator<Item = u64>| {
        let end = tables.len() + PAGE;
        tables.extend(entries.flat_map(u64::to_le_bytes));
        tables.resize(end, 0);
    };
    table(&mut std::iter::once(pointers | PRESENT_WRITABLE));
    table(&mut (0..DIRECTORIES).map(|index| (directories + index * TABLE) | PRESENT_WRITABLE));
    for directory in 0..DIRECTORIES {
        table(&mut (0..512).map(|index| (directory << 30 | index << 21) | PRESENT_WRITABLE | LARGE));
    }
    Ok(place.memory.write(low::PAGE_TABLES, &tables)?)
}
