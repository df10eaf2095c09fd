//! How this system starts: which loader gives the kernel its arguments, what makes the initial RAM file system, and
//! whether its configuration can be changed by writing files at all.
//!
//! Read only by those who want to change it; not a part of [`super::HostFacts`]. Several loaders may be installed: what
//! systemd-boot tells of itself while it runs (the variable `LoaderInfo`) decides between it and GRUB.
//! Spec: Boot Loader Interface and Boot Loader Specification (uapi-group.org/specifications), kernel-install(8).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fact::Fact;
use super::source::Source;

/// Where arguments of the kernel are kept for the next boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "loader", rename_all = "snake_case")]
pub enum Loader {
    /// GRUB, whose configuration is generated from `/etc/default/grub`.
    Grub {
        /// Program that generates it.
        generator: String,
        /// What it generates.
        config: String,
        /// Whether it reads `/etc/default/grub.d`.
        drop_in: bool,
    },
    /// Entries of the Boot Loader Specification in files (systemd-boot).
    Entries {
        /// Where they are.
        directory: String,
    },
    /// Entries that grubby(8) keeps (Fedora, RHEL and theirs).
    Grubby {},
    /// An image-based system whose arguments rpm-ostree(1) keeps.
    RpmOstree {},
    /// Pop!_OS.
    Kernelstub {},
    /// Proxmox VE with systemd-boot: `/etc/kernel/cmdline`, copied by proxmox-boot-tool.
    ProxmoxBootTool {},
    /// Unified kernel images, built from `/etc/kernel/cmdline`.
    UnifiedImage {
        /// Program and arguments that build them.
        rebuild: Vec<String>,
    },
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grub { config, .. } => write!(f, "GRUB ({config})"),
            Self::Entries { directory } => write!(f, "boot entries ({directory})"),
            Self::Grubby {} => f.write_str("grubby"),
            Self::RpmOstree {} => f.write_str("rpm-ostree"),
            Self::Kernelstub {} => f.write_str("kernelstub"),
            Self::ProxmoxBootTool {} => f.write_str("proxmox-boot-tool (/etc/kernel/cmdline)"),
            Self::UnifiedImage { rebuild } => write!(f, "{} (/etc/kernel/cmdline)", rebuild.join(" ")),
        }
    }
}

/// What makes the initial RAM file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitramfsTool {
    /// Debian's.
    InitramfsTools,
    /// Fedora's, openSUSE's.
    Dracut,
    /// Arch's.
    Mkinitcpio,
}

/// How this system starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The system's name of itself (os-release(5), `ID`).
    pub os: Option<String>,
    /// Whether systemd is the first process.
    pub systemd: bool,
    /// Whether udev runs.
    pub udev: bool,
    /// Where the kernel's arguments are kept; none if that cannot be told.
    pub loader: Option<Loader>,
    /// What makes the initial RAM file system, if it is known.
    pub initramfs: Option<InitramfsTool>,
    /// Why files of the configuration are not to be edited, on a system that is described as a whole elsewhere.
    pub described_elsewhere: Option<&'static str>,
    /// Modules that are loaded by name before udev runs, each with the file that says so.
    pub early_modules: Vec<(String, String)>,
}

/// What the boot loader tells in its variable `name` (`LoaderInfo`), without a final NUL.
#[must_use]
pub fn loader_variable(source: &dyn Source, name: &str) -> Fact<String> {
    let path = format!("/sys/firmware/efi/efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
    source.read(&path).parse(&path, |bytes| {
        // The first four bytes are the variable's attributes (Linux: Documentation/filesystems/efivarfs.rst).
        let text = bytes.get(4..).ok_or("it is shorter than its attributes")?;
        let units: Vec<u16> = text
            .chunks_exact(2)
            .filter_map(|pair| Some(u16::from_le_bytes([*pair.first()?, *pair.get(1)?])))
            .collect();
        Ok::<_, &str>(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
    })
}

impl Boot {
    /// Reads it.
    #[must_use]
    pub fn collect(source: &dyn Source) -> Self {
        let os_release = known(source.text("/etc/os-release")).unwrap_or_default();
        let os = os_release
            .lines()
            .find_map(|line| line.strip_prefix("ID="))
            .map(|id| id.trim_matches(['"', '\'']).to_owned());
        let described_elsewhere = if exists(source, "/etc/NIXOS") || os.as_deref() == Some("nixos") {
            Some("NixOS builds /etc from its configuration")
        } else if os.as_deref() == Some("talos") {
            Some("Talos is configured by its machine configuration")
        } else {
            None
        };
        Self {
            systemd: exists(source, "/run/systemd/system"),
            udev: exists(source, "/run/udev/control"),
            loader: loader(source),
            initramfs: initramfs(source),
            early_modules: early_modules(source),
            os,
            described_elsewhere,
        }
    }
}

fn known<T>(fact: Fact<T>) -> Option<T> {
    match fact {
        Fact::Known(value) => Some(value),
        _ => None,
    }
}

/// Whether something of that name is in its directory, whatever it is.
fn exists(source: &dyn Source, path: &str) -> bool {
    let Some((directory, name)) = path.rsplit_once('/') else { return false };
    known(source.list(directory)).is_some_and(|names| names.iter().any(|other| other == name))
}

/// The first of `names` that is a program of the system.
fn program<'a>(source: &dyn Source, names: &[&'a str]) -> Option<&'a str> {
    let there = |name: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|bin| exists(source, &format!("{bin}/{name}")))
    };
    names.iter().find(there).copied()
}

fn entries(source: &dyn Source) -> Option<String> {
    let directories = ["/efi", "/boot/efi", "/boot"].map(|esp| format!("{esp}/loader/entries"));
    directories.into_iter().find(|directory| {
        known(source.list(directory)).is_some_and(|names| names.iter().any(|name| name.ends_with(".conf")))
    })
}

fn unified_images(source: &dyn Source) -> bool {
    ["/efi", "/boot/efi", "/boot"].iter().any(|esp| {
        known(source.list(&format!("{esp}/EFI/Linux")))
            .is_some_and(|names| names.iter().any(|name| name.ends_with(".efi")))
    })
}

fn runs_systemd_boot(source: &dyn Source) -> Option<bool> {
    known(loader_variable(source, "LoaderInfo")).map(|info| info.starts_with("systemd-boot"))
}

fn loader(source: &dyn Source) -> Option<Loader> {
    if exists(source, "/run/ostree-booted") && program(source, &["rpm-ostree"]).is_some() {
        return Some(Loader::RpmOstree {});
    }
    if exists(source, "/etc/kernelstub/configuration") && program(source, &["kernelstub"]).is_some() {
        return Some(Loader::Kernelstub {});
    }
    let systemd_boot = runs_systemd_boot(source);
    let proxmox = exists(source, "/etc/kernel/proxmox-boot-uuids");
    if proxmox && exists(source, "/etc/kernel/cmdline") && systemd_boot != Some(false) {
        return Some(Loader::ProxmoxBootTool {});
    }
    let entries = entries(source);
    if let (Some(directory), Some(true)) = (&entries, systemd_boot) {
        return Some(Loader::Entries { directory: directory.clone() });
    }
    if systemd_boot == Some(true) && unified_images(source) {
        let rebuild: &[&str] = match program(source, &["mkinitcpio", "kernel-install"])? {
            "mkinitcpio" => &["mkinitcpio", "-P"],
            _ => &["kernel-install", "add-all"],
        };
        return Some(Loader::UnifiedImage { rebuild: rebuild.iter().map(|&word| word.to_owned()).collect() });
    }
    if entries.is_some() && program(source, &["grubby"]).is_some() {
        return Some(Loader::Grubby {});
    }
    if exists(source, "/etc/default/grub")
        && let Some(generator) = program(source, &["grub-mkconfig", "grub2-mkconfig"])
    {
        let configs = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
        let config = configs.into_iter().find(|config| exists(source, config))?.to_owned();
        let generator = generator.to_owned();
        // A change that Debian makes to its generator, and Ubuntu, Mint and Proxmox inherit.
        let drop_in = exists(source, "/etc/debian_version");
        return Some(Loader::Grub { generator, config, drop_in });
    }
    entries.map(|directory| Loader::Entries { directory })
}

fn initramfs(source: &dyn Source) -> Option<InitramfsTool> {
    Some(match program(source, &["update-initramfs", "mkinitcpio", "dracut"])? {
        "update-initramfs" => InitramfsTool::InitramfsTools,
        "mkinitcpio" => InitramfsTool::Mkinitcpio,
        _ => InitramfsTool::Dracut,
    })
}

/// Spec: modules-load.d(5), initramfs-tools(7), mkinitcpio.conf(5).
fn early_modules(source: &dyn Source) -> Vec<(String, String)> {
    let mut files = vec!["/etc/modules".to_owned(), "/etc/initramfs-tools/modules".to_owned()];
    for directory in ["/etc/modules-load.d", "/usr/lib/modules-load.d"] {
        let names = known(source.list(directory)).unwrap_or_default();
        files.extend(
            names.iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{directory}/{name}")),
        );
    }
    let mut modules = Vec::new();
    for file in files {
        let text = known(source.text(&file)).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        let names = lines.filter_map(|line| line.split_whitespace().next());
        modules.extend(names.map(|name| (name.replace('-', "_"), file.clone())));
    }
    let mkinitcpio = "/etc/mkinitcpio.conf";
    let text = known(source.text(mkinitcpio)).unwrap_or_default();
    let list = text.lines().find_map(|line| line.trim().strip_prefix("MODULES=("));
    let names = list.and_then(|list| list.split(')').next()).into_iter().flat_map(str::split_whitespace);
    modules.extend(names.map(|name| (name.trim_matches('"').replace('-', "_"), mkinitcpio.to_owned())));
    modules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::TreeSource;
    use crate::host::source::fake::memory_dir;

    fn boot(files: &[(&str, &str)]) -> Boot {
        let root = memory_dir();
        for (path, text) in files {
            let place = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, text).unwrap();
        }
        Boot::collect(&TreeSource::open(root.path()).unwrap())
    }

    fn loader_info(text: &str) -> String {
        let units: String = text.chars().flat_map(|c| [c, '\0']).collect();
        format!("\u{6}\0\0\0{units}")
    }

    const LOADER_INFO: &str = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    const GRUB: [(&str, &str); 3] =
        [("/etc/default/grub", ""), ("/usr/sbin/grub-mkconfig", ""), ("/boot/grub/grub.cfg", "")];
    const ENTRY: (&str, &str) = ("/boot/efi/loader/entries/a.conf", "options root=/dev/vda");

    #[test]
    fn the_loader_is_told_by_what_it_says_of_itself_and_by_what_is_installed() {
        let systemd = loader_info("systemd-boot 252.39");
        let running = (LOADER_INFO, systemd.as_str());
        let other = loader_info("refind 0.14");
        let grub = |drop_in| {
            Some(Loader::Grub {
                generator: "grub-mkconfig".to_owned(),
                config: "/boot/grub/grub.cfg".to_owned(),
                drop_in,
            })
        };
        let entries = Some(Loader::Entries { directory: "/boot/efi/loader/entries".to_owned() });
        let [a, b, c] = GRUB;
        let debian = ("/etc/debian_version", "12.9");

        assert_eq!(boot(&GRUB).loader, grub(false));
        assert_eq!(boot(&[a, b, c, debian]).loader, grub(true));
        assert_eq!(boot(&[a, b, c, ENTRY, running]).loader, entries);
        assert_eq!(boot(&[a, b, c, ENTRY, (LOADER_INFO, &other)]).loader, grub(false));
        assert_eq!(boot(&[ENTRY]).loader, entries);
        assert_eq!(boot(&[ENTRY, ("/usr/sbin/grubby", "")]).loader, Some(Loader::Grubby {}));
        let ostree =
            [("/run/ostree-booted", ""), ("/usr/bin/rpm-ostree", ""), ENTRY, ("/usr/sbin/grubby", "")];
        assert_eq!(boot(&ostree).loader, Some(Loader::RpmOstree {}));
        let pop = [("/etc/kernelstub/configuration", "{}"), ("/usr/bin/kernelstub", ""), ENTRY, running];
        assert_eq!(boot(&pop).loader, Some(Loader::Kernelstub {}));
        let proxmox =
            [("/etc/kernel/proxmox-boot-uuids", "1"), ("/etc/kernel/cmdline", "root=ZFS=x"), running];
        assert_eq!(boot(&proxmox).loader, Some(Loader::ProxmoxBootTool {}));
        let arch = [("/efi/EFI/Linux/arch.efi", ""), ("/usr/bin/mkinitcpio", ""), running];
        let rebuild = vec!["mkinitcpio".to_owned(), "-P".to_owned()];
        assert_eq!(boot(&arch).loader, Some(Loader::UnifiedImage { rebuild }));
        assert_eq!(boot(&[("/etc/default/grub", "")]).loader, None);
    }

    #[test]
    fn the_rest_of_a_system_is_read() {
        let found = boot(&[
            ("/etc/os-release", "NAME=x\nID=\"nixos\"\n"),
            ("/usr/sbin/update-initramfs", ""),
            ("/etc/modules", "# none\nvfio-pci ids=1\n"),
            ("/etc/mkinitcpio.conf", "MODULES=(amdgpu i915)\n"),
        ]);

        assert_eq!((found.systemd, found.udev, found.os.as_deref()), (false, false, Some("nixos")));
        assert!(found.described_elsewhere.is_some());
        assert_eq!(found.initramfs, Some(InitramfsTool::InitramfsTools));
        let names: Vec<_> = found.early_modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["vfio_pci", "amdgpu", "i915"]);
    }
}
