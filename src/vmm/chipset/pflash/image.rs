//! What a flash chip or a ROM holds: a copy in memory, which the guest reads, and perhaps a file that keeps it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::sys::mmap::Mapping;

/// The content. Its file, if it has one, follows every change; it is the owner's to have locked.
#[derive(Debug)]
pub struct Image {
    memory: File,
    mapping: Arc<Mapping>,
    size_bytes: u64,
    kept_in: Option<File>,
}

impl Image {
    /// A copy of `size_bytes` (whole pages) of `source` from byte `offset`.
    ///
    /// # Errors
    /// What the kernel answered, or `UnexpectedEof` where the file ends early.
    pub fn copy(source: &File, offset: u64, size_bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(size_bytes).map_err(io::Error::other)?;
        let memory = File::from(memfd_create("flash", MFdFlags::MFD_CLOEXEC)?);
        memory.set_len(size_bytes)?;
        let mut buffer = vec![0; length.min(1 << 16)];
        let mut at = 0;
        while at < size_bytes {
            let part = usize::try_from(size_bytes - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            source.read_exact_at(part, offset + at)?;
            memory.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        let mapping = Arc::new(Mapping::new(&memory, 0, length, true)?);
        Ok(Self { memory, mapping, size_bytes, kept_in: None })
    }

    /// Keeps what is written from now on in `file`, whose content this is.
    #[must_use]
    pub fn kept_in(self, file: File) -> Self {
        Self { kept_in: Some(file), ..self }
    }

    /// Length in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The memory in which it lies.
    #[must_use]
    pub fn memory(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Copies what is stored from byte `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` behind the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(data, offset)
    }

    /// Stores `data` from byte `offset` on.
    ///
    /// # Errors
    /// `InvalidInput` where it does not fit; what the file's write answered: nothing changed in memory then.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(file) = &self.kept_in {
            file.write_all_at(data, offset)?;
        }
        self.memory.write_all_at(data, offset)
    }

    /// Has the file's content on its disk.
    ///
    /// # Errors
    /// What fdatasync(2) answered.
    pub fn sync(&self) -> io::Result<()> {
        self.kept_in.as_ref().map_or(Ok(()), File::sync_data)
    }
}
