//! The payload: a kernel, perhaps an initial RAM disk, and a command line, put into RAM with the state in which its
//! boot protocol expects the first CPU; or [`firmware`], which starts as it does on a PC.
//!
//! The kind of kernel is told by its content unless the configuration names it: [`linux`] for a bzImage, [`pvh`] for a 64-bit
//! ELF file, [`multiboot`] for whatever else has its header. Files are opened and
//! their headers checked before the machine is built; [`Payload::load`] may run again for each reset. Kernel files are
//! untrusted: every number in them is a claim, bounded before it is used.

pub mod cmdline;
pub mod firmware;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod linux;
pub mod multiboot;
pub mod pvh;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::vmm::config::{BootConfig, Protocol};
use crate::vmm::layout::MapEntry;
use crate::vmm::memory::{AccessError, GuestMemory, LoadError};
use crate::vmm::smbios::Interface;
use cmdline::Cmdline;
use firmware::{Firmware, FirmwareError};

/// Why a payload cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be opened or read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// `kernel`, `initrd`, `module` or `firmware`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file is no regular file.
    #[error("{what} {} is not a regular file", path.display())]
    NotAFile {
        /// `kernel`, `initrd`, `module` or `firmware`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file has no content.
    #[error("{what} {} is empty", path.display())]
    Empty {
        /// `kernel`, `initrd`, `module` or `firmware`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is none of the formats that can be started.
    #[error(
        "{} is not a kernel: it is neither a Linux bzImage nor a 64-bit ELF file with a PVH entry point nor a multiboot image{hint}",
        path.display()
    )]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it looks like, and what to do then.
        hint: &'static str,
    },
    /// The file is none of the format that the configuration names.
    #[error("{} is {what}; write `protocol: auto` to have it started as what it is", path.display())]
    Protocol {
        /// The file.
        path: PathBuf,
        /// What it is not.
        what: &'static str,
    },
    /// Modules for a kernel that takes none.
    #[error("{} takes no modules: it is no multiboot image", path.display())]
    Modules {
        /// The kernel.
        path: PathBuf,
    },
    /// The format is right, a header is not.
    #[error("kernel {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Damage,
    },
    /// Kernel, initrd and their working space do not fit into RAM.
    #[error(
        "{what} needs RAM up to {needed:#x}, the machine's first block of RAM ends at {available:#x}: give it more memory"
    )]
    TooLarge {
        /// What does not fit.
        what: &'static str,
        /// First address beyond it.
        needed: u64,
        /// First address beyond usable RAM.
        available: u64,
    },
    /// The command line has a control character.
    #[error("the kernel command line has a control character at byte {position}")]
    CmdlineCharacter {
        /// Offset in bytes.
        position: usize,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {length} bytes; this kernel takes at most {limit}")]
    CmdlineLength {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The file could not be loaded.
    #[error("cannot load {what} {}", path.display())]
    Load {
        /// `kernel`, `initrd`, `module` or `firmware`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: LoadError,
    },
    /// Firmware, or its variables.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// There is neither.
    #[error("there is neither a kernel nor firmware to start")]
    Nothing,
    /// The boot protocol's own data could not be written.
    #[error("cannot write boot data")]
    BootData(#[from] AccessError),
}

/// What is wrong with a kernel file of a known format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends inside something that its header announces.
    #[error("it ends inside its {0}; it is truncated, or its header lies")]
    Truncated(&'static str),
    /// A header field has a value that makes no sense.
    #[error("its {field} is {value:#x}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The boot protocol is older than what can be started.
    #[error("it has boot protocol {major}.{minor:02}; at least 2.06 is needed")]
    OldProtocol {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// It has to be loaded below 1 MiB (zImage).
    #[error("it is a zImage, which has to lie below 640 KiB; only bzImages are supported")]
    LoadedLow,
    /// Two parts of it, or a part and the boot data, claim the same memory.
    #[error("its segment at {0:#x} lies outside of the RAM that a kernel may be loaded to (from 1 MiB)")]
    Placement(u64),
}

/// Who programs processors and chipset after power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programming {
    /// Firmware in the guest: registers begin as the hardware's do.
    ByFirmware,
    /// Nobody: registers begin as firmware would leave them.
    Done,
}

/// What starts.
#[derive(Debug)]
pub enum Start {
    /// A kernel, by its boot protocol.
    Kernel(Payload),
    /// Firmware, and by it whatever it finds.
    Firmware(Firmware),
}

impl Start {
    /// Opens the files of `config` and checks everything that can be checked without the machine.
    ///
    /// # Errors
    /// [`BootError`]: which file, what is wrong with it.
    pub fn open(config: &BootConfig) -> Result<Self, BootError> {
        match Firmware::open(config)? {
            Some(firmware) => Ok(Self::Firmware(firmware)),
            None => Payload::open(config).map(Self::Kernel),
        }
    }

    /// What the guest is started by, for SMBIOS.
    #[must_use]
    pub fn interface(&self) -> Interface {
        match self {
            Self::Kernel(_) => Interface::Other,
            Self::Firmware(firmware) => firmware.interface(),
        }
    }

    /// Who programs the machine.
    #[must_use]
    pub fn programming(&self) -> Programming {
        match self {
            Self::Kernel(_) => Programming::Done,
            Self::Firmware(_) => Programming::ByFirmware,
        }
    }
}

/// State of the first CPU at the payload's first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// As after power-on: real mode, at the last 16 bytes below 4 GiB (Intel SDM vol. 3, 10.1.4).
    PowerOn,
    /// 64-bit mode, identity-mapped by page tables that the loader wrote (Linux: Documentation/arch/x86/boot.rst).
    Long {
        /// First instruction.
        rip: u64,
        /// Address of the zero page.
        rsi: u64,
    },
    /// 32-bit protected mode with flat segments, paging off.
    Protected {
        /// First instruction.
        eip: u32,
        /// Address of hvm_start_info (PVH), in EBX.
        ebx: u32,
        /// Address of the zero page (Linux 32-bit protocol), in ESI.
        esi: u32,
    },
    /// As [`Self::Protected`], with the magic number in EAX that multiboot kernels look for.
    Multiboot {
        /// First instruction.
        eip: u32,
        /// Address of the multiboot information, in EBX.
        info: u32,
    },
}

/// An opened and checked payload.
#[derive(Debug)]
pub struct Payload {
    kernel: Source,
    image: Image,
    initrd: Option<multiboot::Module>,
    modules: Vec<multiboot::Module>,
    cmdline: Cmdline,
}

/// A regular file of the payload.
#[derive(Debug)]
pub(crate) struct Source {
    what: &'static str,
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

#[derive(Debug)]
enum Image {
    Linux(linux::Header),
    Pvh(pvh::Image),
    Multiboot(multiboot::Image),
}

/// Where the parts of a payload may go.
pub(crate) struct Placement<'a> {
    memory: &'a GuestMemory,
    map: &'a [MapEntry],
    rsdp: u64,
}

impl Source {
    fn open(what: &'static str, path: &Path) -> Result<Self, BootError> {
        let read = |source| BootError::Read { what, path: path.to_owned(), source };
        // The type is looked at before the file is opened: opening a FIFO would wait for its writer.
        if !std::fs::metadata(path).map_err(read)?.is_file() {
            return Err(BootError::NotAFile { what, path: path.to_owned() });
        }
        let file = File::open(path).map_err(read)?;
        let size_bytes = file.metadata().map_err(read)?.len();
        if size_bytes == 0 {
            return Err(BootError::Empty { what, path: path.to_owned() });
        }
        Ok(Self { what, path: path.to_owned(), file, size_bytes })
    }

    /// Up to `length` bytes at `offset`; fewer where the file ends.
    fn peek(&self, offset: u64, length: usize) -> Result<Vec<u8>, BootError> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; length.min(left)];
        self.file.read_exact_at(&mut data, offset).map_err(|source| BootError::Read {
            what: self.what,
            path: self.path.clone(),
            source,
        })?;
        Ok(data)
    }

    fn damaged(&self, problem: Damage) -> BootError {
        BootError::Damaged { path: self.path.clone(), problem }
    }

    fn load(&self, memory: &GuestMemory, address: u64, offset: u64, length: u64) -> Result<(), BootError> {
        memory.load(address, &self.file, offset, length).map_err(|source| BootError::Load {
            what: self.what,
            path: self.path.clone(),
            source,
        })
    }
}

impl Payload {
    /// Opens the files of `config` and checks everything that can be checked without the machine.
    ///
    /// # Errors
    /// [`BootError`]: which file, what is wrong with it.
    pub fn open(config: &BootConfig) -> Result<Self, BootError> {
        let kernel = Source::open("kernel", config.kernel.as_deref().ok_or(BootError::Nothing)?)?;
        let image = recognize(&kernel, config.protocol)?;
        tracing::info!(kernel = %kernel.path.display(), protocol = image.name(), "what the kernel is");
        if !config.modules.is_empty() && !matches!(image, Image::Multiboot(_)) {
            return Err(BootError::Modules { path: kernel.path });
        }
        let module = |what, path: &Path, cmdline: &str| {
            let (source, cmdline) = (Source::open(what, path)?, Cmdline::new(cmdline)?);
            // With a word for the file's name in front.
            cmdline.with_nul(multiboot::CMDLINE_LIMIT - multiboot::NAME_LIMIT)?;
            Ok::<_, BootError>(multiboot::Module { source, cmdline })
        };
        let initrd = config.initrd.as_deref().map(|path| module("initrd", path, "")).transpose()?;
        let modules = config.modules.iter().map(|one| module("module", &one.file, &one.cmdline));
        let modules = modules.collect::<Result<Vec<_>, _>>()?;
        let cmdline = Cmdline::new(&config.cmdline)?;
        cmdline.with_nul(match &image {
            Image::Linux(header) => header.cmdline_limit(),
            Image::Pvh(_) => pvh::CMDLINE_LIMIT,
            Image::Multiboot(_) => multiboot::CMDLINE_LIMIT - multiboot::NAME_LIMIT,
        })?;
        Ok(Self { kernel, image, initrd, modules, cmdline })
    }

    /// Puts everything into RAM: kernel, initrd, command line, `map` and the address of the ACPI root pointer. RAM must
    /// be clear.
    ///
    /// # Errors
    /// [`BootError`], for example where the payload does not fit.
    pub fn load(&self, memory: &GuestMemory, map: &[MapEntry], rsdp: u64) -> Result<Entry, BootError> {
        let place = Placement { memory, map, rsdp };
        let gdt: Vec<u8> = GDT_ENTRIES.into_iter().flat_map(u64::to_le_bytes).collect();
        memory.write(GDT, &gdt)?;
        let initrd = self.initrd.as_ref().map(|initrd| &initrd.source);
        match &self.image {
            Image::Linux(header) => header.load(&self.kernel, initrd, &self.cmdline, &place),
            Image::Pvh(image) => image.load(&self.kernel, initrd, &self.cmdline, &place),
            Image::Multiboot(image) => {
                let modules: Vec<_> = self.initrd.iter().chain(&self.modules).collect();
                image.load(&self.kernel, &modules, &self.cmdline, &place)
            }
        }
    }
}

impl Image {
    /// As it is called in a configuration.
    fn name(&self) -> &'static str {
        match self {
            Self::Linux(_) => "linux",
            Self::Pvh(_) => "pvh",
            Self::Multiboot(_) => "multiboot",
        }
    }
}

fn recognize(kernel: &Source, protocol: Protocol) -> Result<Image, BootError> {
    let is_not = |what| BootError::Protocol { path: kernel.path.clone(), what };
    match protocol {
        Protocol::Auto => recognize_any(kernel),
        Protocol::Linux => {
            let head = kernel.peek(0, linux::HEADER_PROBE)?;
            let header = linux::Header::parse(kernel, &head)?.ok_or_else(|| is_not("no Linux bzImage"))?;
            Ok(Image::Linux(header))
        }
        Protocol::Pvh => {
            let head = kernel.peek(0, linux::HEADER_PROBE)?;
            if !head.starts_with(b"\x7FELF") {
                return Err(is_not("no ELF file"));
            }
            pvh::Image::parse(kernel, &head).map(Image::Pvh)
        }
        Protocol::Multiboot => {
            let image = multiboot::Image::parse(kernel)?;
            Ok(Image::Multiboot(image.ok_or_else(|| is_not("no multiboot image"))?))
        }
    }
}

fn recognize_any(kernel: &Source) -> Result<Image, BootError> {
    // Enough for the setup header of Linux and the ELF header.
    let head = kernel.peek(0, linux::HEADER_PROBE)?;
    if let Some(header) = linux::Header::parse(kernel, &head)? {
        return Ok(Image::Linux(header));
    }
    // A 64-bit ELF file that has both is started by what is newer.
    if head.starts_with(b"\x7FELF") {
        return match pvh::Image::parse(kernel, &head) {
            Err(BootError::NotAKernel { path, hint }) => multiboot::Image::parse(kernel)?
                .map(Image::Multiboot)
                .ok_or(BootError::NotAKernel { path, hint }),
            other => other.map(Image::Pvh),
        };
    }
    if let Some(image) = multiboot::Image::parse(kernel)? {
        return Ok(Image::Multiboot(image));
    }
    let hint = match head.as_slice() {
        [0x1F, 0x8B, ..] => " (it looks like a gzip file: unpack it first)",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => " (it looks like a zstd file: unpack it first)",
        [0xFD, b'7', b'z', b'X', b'Z', ..] => " (it looks like an xz file: unpack it first)",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
            " (it looks like a package: take the vmlinuz out of it)"
        }
        _ => "",
    };
    Err(BootError::NotAKernel { path: kernel.path.clone(), hint })
}

/// End of the first block of RAM: kernel and initrd have to lie below it.
fn low_ram_end(memory: &GuestMemory) -> u64 {
    memory.ranges().first().map_or(0, |range| range.end)
}

/// Loads `initrd` as high as possible below `limit`, above `kernel_end`; its address and size.
fn load_initrd(
    initrd: Option<&Source>,
    place: &Placement<'_>,
    kernel_end: u64,
    limit: u64,
) -> Result<(u64, u64), BootError> {
    const PAGE: u64 = 0x1000;
    let available = low_ram_end(place.memory).min(limit);
    let too_large = |what, needed| BootError::TooLarge { what, needed, available };
    if kernel_end > available {
        return Err(too_large("the kernel", kernel_end));
    }
    let Some(initrd) = initrd else { return Ok((0, 0)) };
    let floor = kernel_end.next_multiple_of(PAGE);
    let address = available
        .checked_sub(initrd.size_bytes)
        .map(|address| address & !(PAGE - 1))
        .filter(|address| *address >= floor)
        .ok_or_else(|| too_large("the kernel with its initrd", floor.saturating_add(initrd.size_bytes)))?;
    initrd.load(place.memory, address, 0, initrd.size_bytes)?;
    Ok((address, initrd.size_bytes))
}

/// Where the boot protocols' own data lies: below 640 KiB, out of the way of real-mode data and of each other.
mod low {
    /// Global descriptor table.
    pub(super) const GDT: u64 = 0x500;
    /// hvm_start_info, its module list and its memory map.
    pub(super) const START_INFO: u64 = 0x6000;
    /// Linux's zero page.
    pub(super) const ZERO_PAGE: u64 = 0x7000;
    /// Top-level page table; the tables below it follow.
    pub(super) const PAGE_TABLES: u64 = 0x9000;
    /// The command line.
    pub(super) const CMDLINE: u64 = 0x2_0000;
}

/// Guest-physical address of the GDT that both protocols' segments come from: null, code 64, code 32, data.
pub const GDT: u64 = low::GDT;
/// Its entries.
pub const GDT_ENTRIES: [u64; 5] = [
    0,
    // Selector 8: 32-bit code, for PVH.
    0x00CF_9B00_0000_FFFF,
    // Selector 10h, Linux's __BOOT_CS: 64-bit code.
    0x00AF_9B00_0000_FFFF,
    // Selector 18h, __BOOT_DS: data.
    0x00CF_9300_0000_FFFF,
    // Selector 20h: task state segment.
    0x0000_8B00_0000_0067,
];
/// Guest-physical address of the top-level page table of [`Entry::Long`].
pub const PAGE_TABLES: u64 = low::PAGE_TABLES;

#[cfg(test)]
mod tests;
