//! What firmware can ask for: items by number, and files by name, which are items as well.
//!
//! QEMU: docs/specs/fw_cfg.rst. Numbers of the file directory are big endian; what an item holds is little endian unless it
//! says otherwise.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Numbers of items (QEMU: include/standard-headers/linux/qemu_fw_cfg.h).
pub mod key {
    /// `QEMU`.
    pub const SIGNATURE: u16 = 0x00;
    /// Which interfaces there are, 32 bits.
    pub const ID: u16 = 0x01;
    /// The machine's UUID, 16 bytes as SMBIOS has them.
    pub const UUID: u16 = 0x02;
    /// Bytes of RAM, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// No display, 16 bits.
    pub const NO_GRAPHICS: u16 = 0x04;
    /// Processors that run, 16 bits.
    pub const CPU_COUNT: u16 = 0x05;
    /// Bytes of the kernel behind its setup code, 32 bits.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Bytes of the initial RAM disk, 32 bits.
    pub const INITRD_SIZE: u16 = 0x0B;
    /// Whether to offer a menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0E;
    /// Processors that there can be, 16 bits.
    pub const MAX_CPUS: u16 = 0x0F;
    /// The kernel behind its setup code.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// Bytes of the command line with its NUL, 32 bits.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The command line.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Bytes of the kernel's setup code, 32 bits.
    pub const SETUP_SIZE: u16 = 0x17;
    /// The kernel's setup code.
    pub const SETUP_DATA: u16 = 0x18;
    /// The file directory.
    pub const DIRECTORY: u16 = 0x19;
    /// The first file; the others follow.
    pub const FIRST_FILE: u16 = 0x20;
    /// The ISA timer is wired to input 2 of the I/O APIC, 8 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

/// Longest name of a file, in bytes without its final NUL.
const MAX_NAME: usize = 55;

/// What an item holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of a file of the host.
    File {
        /// The file.
        file: Arc<File>,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

impl Content {
    /// Bytes that can be read.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Copies bytes from `offset` on; what lies behind the end reads as zero.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(0);
        let left = self.length().saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let data = data.get_mut(..count).unwrap_or_default();
        match self {
            _ if data.is_empty() => Ok(()),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                for (target, source) in data.iter_mut().zip(bytes.iter().skip(start)) {
                    *target = *source;
                }
                Ok(())
            }
            Self::File { file, offset: start, .. } => file.read_exact_at(data, start.saturating_add(offset)),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Items and files, gathered.
#[derive(Debug, Default)]
pub struct Items {
    by_key: BTreeMap<u16, Content>,
    files: BTreeMap<String, Content>,
}

impl Items {
    /// Adds, or replaces, the item with this number.
    pub fn item(&mut self, key: u16, content: impl Into<Content>) {
        self.by_key.insert(key, content.into());
    }

    /// Adds, or replaces, the file with this name of at most 55 bytes.
    pub fn file(&mut self, name: &str, content: impl Into<Content>) {
        debug_assert!(name.len() <= MAX_NAME, "{name}");
        self.files.insert(name.to_owned(), content.into());
    }

    /// All items by their numbers, with those that every machine has: files in the order of their names.
    pub(super) fn finish(mut self) -> BTreeMap<u16, Content> {
        /// Port-wise reading, and DMA.
        const INTERFACES: u32 = 0b11;
        self.item(key::SIGNATURE, b"QEMU".to_vec());
        self.item(key::ID, INTERFACES.to_le_bytes().to_vec());
        let mut directory = u32::try_from(self.files.len()).unwrap_or(0).to_be_bytes().to_vec();
        for ((name, content), key) in std::mem::take(&mut self.files).into_iter().zip(key::FIRST_FILE..) {
            directory.extend(u32::try_from(content.length()).unwrap_or(u32::MAX).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut padded = name.into_bytes();
            padded.resize(MAX_NAME + 1, 0);
            directory.extend(padded);
            self.by_key.insert(key, content);
        }
        self.item(key::DIRECTORY, directory);
        self.by_key
    }
}
