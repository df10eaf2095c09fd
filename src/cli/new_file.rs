//! A file that a command makes: it must not be there before, and is there as a whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cli::{Exit, Failure};

/// Refuses a place that is taken, before any work is done for it.
///
/// # Errors
/// Something is at `path`: wrong usage.
pub(super) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

/// Writes the file, readable for its owner only; what cannot be written as a whole is removed.
///
/// # Errors
/// Something is at `path`, or it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    create(path, bytes).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::caused(format!("cannot write {}", path.display()), Exit::Host, error),
    })
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(path)))
}

fn exists(path: &Path) -> Failure {
    let path = path.display();
    Failure::new(Exit::Usage, format!("{path} exists; name another file, or remove that one first"))
}
