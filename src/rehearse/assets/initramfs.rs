//! The two initial RAM file systems: of the emulated host, and of guests in it.
//!
//! Each is a static busybox, an `/init` script and a `/lib/modules` with the modules that are needed before, or
//! instead of, a root file system. Modules are stored uncompressed, so that loading them costs the emulated CPU the
//! least.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cache::fingerprint;
use super::cpio::Archive;
use super::modules::ModuleTree;
use super::{AssetsError, Cache, Kernel};
use crate::rehearse::progress::{Progress, during};

/// Raised when this file changes what it builds from the same inputs.
const FORMAT: u32 = 1;

struct Recipe {
    name: &'static str,
    init: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const HOST: Recipe = Recipe {
    name: "host",
    init: include_str!("../init/host.sh"),
    required: &["qemu_fw_cfg", "9pnet_virtio", "9p", "overlay", "virtio_console"],
    optional: &[
        "virtio-iommu",
        "kvm-amd",
        "kvm-intel",
        "igb",
        "igbvf",
        "e1000",
        "e1000e",
        "nvme",
        "virtio_net",
        "virtio-rng",
        "xhci-pci",
        "usb-storage",
        "sd_mod",
        "usbhid",
    ],
};

const GUEST: Recipe = Recipe {
    name: "guest",
    init: include_str!("../init/guest.sh"),
    required: &["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "igbvf", "igb", "nvme"],
    optional: &[
        "e1000",
        "e1000e",
        "pvpanic-pci",
        "pvpanic-mmio",
        "virtio-rng",
        "virtio_balloon",
        "xhci-pci",
        "usb-storage",
        "sd_mod",
        "virtio_scsi",
        "ahci",
        "i6300esb",
        "button",
        "evdev",
        "psmouse",
    ],
};

/// The emulated host's.
pub(super) fn host(
    cache: &Cache,
    kernel: &Kernel,
    busybox: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, AssetsError> {
    build(&HOST, cache, kernel, busybox, progress)
}

/// The guests'.
pub(super) fn guest(
    cache: &Cache,
    kernel: &Kernel,
    busybox: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, AssetsError> {
    build(&GUEST, cache, kernel, busybox, progress)
}

fn build(
    recipe: &Recipe,
    cache: &Cache,
    kernel: &Kernel,
    busybox: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, AssetsError> {
    let io = |source| AssetsError::Io { path: busybox.to_owned(), source };
    let identity = fs::metadata(busybox).map_err(io)?;
    let key = fingerprint(&(
        FORMAT,
        recipe.init,
        recipe.required,
        recipe.optional,
        &kernel.release,
        identity.len(),
        identity.mtime(),
        identity.mtime_nsec(),
    ));
    let name = format!("initrd/{}-{key}.img", recipe.name);
    let path = cache.path(&name);
    if path.exists() {
        return Ok(path);
    }
    let _lock = cache.lock()?;
    if path.exists() {
        return Ok(path); // built by another process while we waited
    }
    during(progress, &format!("building the {}'s initial RAM file system", recipe.name), || {
        let bytes = archive(recipe, kernel, &fs::read(busybox).map_err(io)?)?;
        cache.publish(&name, 0o644, &bytes)
    })
}

fn archive(recipe: &Recipe, kernel: &Kernel, busybox: &[u8]) -> Result<Vec<u8>, AssetsError> {
    let selection = ModuleTree::read(&kernel.modules)?.select(recipe.required, recipe.optional)?;
    let mut archive = Archive::default();
    let modules = format!("lib/modules/{}", kernel.release);
    for directory in
        ["bin", "dev", "etc", "lib", "lib/modules", &modules, "mnt", "proc", "root", "run", "sys", "tmp"]
    {
        archive.directory(directory)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.character_device("dev/null", 1, 3)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    archive.symlink("bin/sh", "busybox")?;
    archive.symlink("sbin", "bin")?;
    archive.file("init", 0o755, recipe.init.as_bytes())?;
    archive.file(&format!("{modules}/modules.dep"), 0o644, selection.dependencies.as_bytes())?;
    archive.file(&format!("{modules}/modules.alias"), 0o644, selection.aliases.as_bytes())?;
    for (name, content) in &selection.files {
        archive.file(&format!("{modules}/{name}"), 0o644, content)?;
    }
    Ok(archive.finish()?)
}
