//! A small guest to start in the emulated host: the generic initial RAM file system with a script appended.
//!
//! The guest loads the drivers of the devices that it has, runs the script with a busybox shell and powers off. What it
//! prints about itself begins with `thruway-guest:` (see `init/guest.sh`).

use std::fs;
use std::path::{Path, PathBuf};

use super::assets::{Archive, AssetsError};
use super::{Assets, RehearseError};

/// Writes `directory/NAME.initrd`: the guests' initial RAM file system of `assets`, with `script` as what it runs.
///
/// # Errors
/// When a file cannot be read or written.
pub fn guest_initrd(
    assets: &Assets,
    directory: &Path,
    name: &str,
    script: &str,
) -> Result<PathBuf, RehearseError> {
    let base = &assets.guest_initrd;
    let mut bytes = fs::read(base).map_err(|source| RehearseError::Io { path: base.clone(), source })?;
    let mut archive = Archive::default();
    archive.file("script", 0o755, script.as_bytes()).map_err(AssetsError::from)?;
    bytes.extend(archive.finish().map_err(AssetsError::from)?);
    let path = directory.join(format!("{name}.initrd"));
    fs::write(&path, bytes).map_err(|source| RehearseError::Io { path: path.clone(), source })?;
    Ok(path)
}
