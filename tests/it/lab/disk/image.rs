//! The disks that emulated hosts boot from: built once by `build.sh`, kept in the cache, copied for each test.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::Lab;

/// The boot loader of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loader {
    /// GRUB; arguments of the kernel come from `/etc/default/grub` and its drop-ins by `update-grub`.
    Grub,
    /// systemd-boot; arguments of the kernel come from `/etc/kernel/cmdline` by `kernel-install`.
    SystemdBoot,
}

impl Loader {
    fn file(self) -> &'static str {
        match self {
            Self::Grub => "grub.raw",
            Self::SystemdBoot => "systemd-boot.raw",
        }
    }
}

/// Where the root file system begins on a disk: behind 1 MiB and the EFI system partition, as `build.sh` puts it.
pub(crate) const ROOT_OFFSET_BYTES: u64 = 257 << 20;
/// The firmware, and the variables that it begins with. Debian's package ovmf.
pub(super) const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// What makes a disk.
const RECIPE: [(&str, &str); 4] = [
    ("build.sh", include_str!("build.sh")),
    ("agent.sh", include_str!("agent.sh")),
    ("agent.service", include_str!("agent.service")),
    ("modules", include_str!("modules")),
];
/// Programs that build and fill a disk, and the packages that bring them.
const PROGRAMS: [(&str, &str); 7] = [
    ("debootstrap", "debootstrap"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("strip", "binutils"),
];

/// The disk with `loader`; built, with its sibling, when it is not in the cache. An error says what is missing.
pub(crate) fn disk(lab: &Lab, loader: Loader) -> Result<PathBuf, String> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(name, _)| program(name).is_none()).map(|(_, package)| *package).collect();
    missing.extend(FIRMWARE.iter().any(|path| !Path::new(path).exists()).then_some("ovmf"));
    if !missing.is_empty() {
        return Err(format!("a disk needs the packages {} (tests/run installs them)", missing.join(", ")));
    }
    let release = &lab.assets().kernel.release;
    let disks = lab.assets().cache.path("disks");
    let ready = disks.join(key(release));
    fs::create_dir_all(&disks).unwrap();
    let lock = File::create(disks.join("lock")).unwrap();
    lock.lock().unwrap();
    if !ready.exists() {
        build(&disks, release, &ready)?;
    }
    Ok(ready.join(loader.file()))
}

/// What names the disks of this recipe with this kernel.
fn key(release: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (RECIPE, release).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Builds both disks beside their place and moves them there.
fn build(disks: &Path, release: &str, ready: &Path) -> Result<(), String> {
    let fresh = tempfile::tempdir_in(disks).unwrap();
    fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let recipe = tempfile::tempdir_in(disks).unwrap();
    for (name, content) in RECIPE {
        fs::write(recipe.path().join(name), content).unwrap();
    }
    let output = as_root()?
        .arg("bash")
        .arg(recipe.path().join("build.sh"))
        .args([fresh.path(), recipe.path(), Path::new(release)])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("a disk cannot be built: {error}"))?;
    assert!(
        output.status.success(),
        "building the disks failed ({})\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    fs::rename(fresh.keep(), ready).unwrap();
    Ok(())
}

/// The beginning of a command that runs as root, which chroot needs.
fn as_root() -> Result<Command, String> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Command::new("env"));
    }
    let mut command = Command::new("sudo");
    command.arg("-n");
    let mut probe = Command::new("sudo");
    let able = probe.args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    able.is_ok_and(|status| status.success())
        .then_some(command)
        .ok_or_else(|| "building a disk needs root, or sudo that asks for no password".to_owned())
}

/// Where a program is; a system's own directories are not on every user's PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
