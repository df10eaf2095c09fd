//! Disks: something with sectors that a guest reads and writes, however the host stores it.

mod create;
mod raw;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vm_memory::VolatileSlice;

use crate::vmm::virtio::devices::block::ImageFormat;

pub use create::{CreateError, Created, Space, create, rounded};

/// A disk. Offsets and lengths are bytes; callers keep them inside the capacity. Calls may come from several threads.
pub trait Disk: Send + Sync {
    /// Size in bytes, a multiple of 512.
    fn capacity_bytes(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Fills `pieces` from byte `offset`.
    ///
    /// # Errors
    /// What the host said; part of `pieces` may be filled.
    fn read(&self, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes `pieces` to byte `offset`.
    ///
    /// # Errors
    /// What the host said; part of the data may be written.
    fn write(&self, pieces: &[VolatileSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes everything durable whose write returned before.
    ///
    /// # Errors
    /// What the host said. From then on every flush fails: the host may have dropped data that it could not write.
    fn flush(&self) -> io::Result<()>;

    /// The guest does not need these bytes any more; afterwards they read as anything.
    ///
    /// # Errors
    /// What the host said. A host that cannot deallocate is no error.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes these bytes read as zeros.
    ///
    /// # Errors
    /// What the host said.
    fn write_zeroes(&self, offset: u64, length: u64, space: ZeroedSpace) -> io::Result<()>;
}

/// What becomes of the storage behind zeroed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroedSpace {
    /// It stays allocated.
    Keep,
    /// It may be given back to the host.
    MayFree,
}

/// Whether the guest may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads only; other machines may read the image as well.
    ReadOnly,
    /// Reads and writes; nobody else may have the image.
    ReadWrite,
}

/// Why an image cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host refused to open it.
    #[error("cannot open disk image {path}")]
    Open {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It can be read but not written.
    #[error("disk image {path} cannot be written; add `readonly` to give it to the guest as it is")]
    ReadOnly {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("{path} is neither a file nor a block device, so it cannot be a disk")]
    NotADisk {
        /// The path.
        path: PathBuf,
    },
    /// Less than one sector.
    #[error("disk image {path} has {size_bytes} bytes; a disk has at least one sector of 512")]
    TooSmall {
        /// The image.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// Somebody else has it, in a way that does not go with what was asked.
    #[error("disk image {path} is in use by {}; stop that first", holder_text(*.holder))]
    InUse {
        /// The image.
        path: PathBuf,
        /// Who holds the lock, if it could be found out.
        holder: Option<u32>,
    },
    /// The file system of the image has no locks.
    #[error("cannot lock disk image {path}")]
    Lock {
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

/// Opens and locks the image at `path`. Its content is never looked at to find out its format: the guest can write it.
///
/// # Errors
/// [`DiskError`], which names the file and the remedy.
pub fn open(path: &Path, format: ImageFormat, access: Access) -> Result<Arc<dyn Disk>, DiskError> {
    match format {
        ImageFormat::Raw => raw::RawDisk::open(path, access).map(|disk| Arc::new(disk) as Arc<dyn Disk>),
    }
}
