//! The boot loader, and who keeps the kernel arguments of the next boot.
//!
//! Told by what each tool leaves in the file system, so that a captured host answers as the live one does. Who keeps
//! the arguments matters more than which loader runs: on most distributions a tool writes the loader's own files and
//! would write over a change made there.

use serde::Serialize;

use super::distribution::{Distribution, assigned};
use crate::host::fact::Fact;
use crate::host::source::Source;

/// The loader's own name (UAPI Group: Boot Loader Interface, `LoaderInfo`); UTF-16 behind four bytes of attributes
/// (Linux: Documentation/filesystems/efivarfs.rst).
const LOADER_INFO: &str = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The stub of a unified kernel image, if it booted one (UAPI Group: Boot Loader Interface, `StubInfo`).
const STUB_INFO: &str = "/sys/firmware/efi/efivars/StubInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// What GRUB's menu is made from (GNU GRUB manual, 6.1).
pub(super) const GRUB_DEFAULTS: &str = "/etc/default/grub";
/// The arguments that kernel-install(8) gives to new boot entries.
pub(super) const KERNEL_COMMAND_LINE: &str = "/etc/kernel/cmdline";

/// How this host boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootLoader {
    /// What the loader calls itself: `systemd-boot 255.4`; absent where it leaves no name: firmware that is not UEFI, and
    /// most GRUBs.
    pub name: Fact<String>,
    /// Who keeps the kernel arguments of the next boot; absent where no keeper that we know left a trace.
    pub arguments_kept_by: Fact<ArgumentKeeper>,
}

/// Who keeps the kernel arguments of the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentKeeper {
    /// GRUB, whose menu is made from /etc/default/grub.
    Grub,
    /// grubby(8), in Boot Loader Specification entries: Fedora, Red Hat and their kin.
    Grubby,
    /// rpm-ostree(1): image-based Fedora.
    Ostree,
    /// kernel-install(8), from /etc/kernel/cmdline.
    KernelInstall,
    /// sdbootutil(8), from /etc/kernel/cmdline: openSUSE with Boot Loader Specification entries.
    Sdbootutil,
    /// A unified kernel image, which carries its arguments.
    UnifiedImage,
    /// Boot Loader Specification entries that people write themselves.
    BootEntries,
    /// proxmox-boot-tool, from /etc/kernel/cmdline.
    ProxmoxBootTool,
    /// proxmox-boot-tool, from /etc/default/grub.
    ProxmoxGrub,
    /// kernelstub: Pop!_OS.
    Kernelstub,
    /// The configuration of NixOS.
    NixOs,
    /// update-extlinux: Alpine.
    Extlinux,
    /// The machine configuration of Talos, from which an image is made.
    Talos,
}

pub(super) fn collect(source: &dyn Source, distribution: &Distribution) -> BootLoader {
    let name = loader_variable(source, LOADER_INFO);
    BootLoader { arguments_kept_by: keeper(source, distribution, &name), name }
}

/// A string that the loader left in firmware's variables.
fn loader_variable(source: &dyn Source, path: &str) -> Fact<String> {
    source.read(path).parse(path, |bytes| {
        let units = bytes.get(4..).unwrap_or_default().chunks_exact(2);
        let units: Vec<_> = units
            .filter_map(|unit| unit.try_into().ok().map(u16::from_le_bytes))
            .take_while(|unit| *unit != 0)
            .collect();
        match String::from_utf16(&units) {
            Ok(name) if !name.is_empty() => Ok(name),
            _ => Err("not a string in UTF-16"),
        }
    })
}

/// The first keeper whose traces are there; those that write another's files come before it.
fn keeper(source: &dyn Source, distribution: &Distribution, name: &Fact<String>) -> Fact<ArgumentKeeper> {
    let there = |path: &str| source.read(path).map(|_| ());
    let is = |id: &str| distribution.id.known().is_some_and(|own| own == id);
    let boots = |loader: &str| name.known().is_some_and(|name| name.starts_with(loader));
    if is("nixos") {
        return Fact::Known(ArgumentKeeper::NixOs);
    }
    if is("talos") {
        return Fact::Known(ArgumentKeeper::Talos);
    }
    if there("/run/ostree-booted").known().is_some() {
        return Fact::Known(ArgumentKeeper::Ostree);
    }
    if there("/etc/kernel/proxmox-boot-uuids").known().is_some() {
        // On machines that it set up for UEFI, proxmox-boot-tool uses systemd-boot, else GRUB.
        let direct = boots("systemd-boot");
        return Fact::Known(if direct {
            ArgumentKeeper::ProxmoxBootTool
        } else {
            ArgumentKeeper::ProxmoxGrub
        });
    }
    if there("/etc/kernelstub/configuration").known().is_some() {
        return Fact::Known(ArgumentKeeper::Kernelstub);
    }
    let suse_loader = source.text("/etc/sysconfig/bootloader").map(|text| assigned(&text, "LOADER_TYPE"));
    if let Fact::Known(Some(loader)) = suse_loader
        && matches!(loader.as_str(), "systemd-boot" | "grub2-bls")
    {
        return Fact::Known(ArgumentKeeper::Sdbootutil);
    }
    let own_line = there(KERNEL_COMMAND_LINE);
    if own_line.known().is_some() && there(STUB_INFO).known().is_some() {
        return Fact::Known(ArgumentKeeper::UnifiedImage);
    }
    if boots("systemd-boot") {
        return match own_line {
            Fact::NotPresent => Fact::Known(ArgumentKeeper::BootEntries),
            there => there.map(|()| ArgumentKeeper::KernelInstall),
        };
    }
    match there(GRUB_DEFAULTS) {
        Fact::NotPresent => there("/etc/update-extlinux.conf").map(|()| ArgumentKeeper::Extlinux),
        // grubby writes this file too, and the entries that count.
        there if ["fedora", "rhel"].iter().any(|id| distribution.is_like(id)) => {
            there.map(|()| ArgumentKeeper::Grubby)
        }
        there => there.map(|()| ArgumentKeeper::Grub),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::kernel::distribution;
    use crate::host::source::fake::{Entry, FakeHost};

    /// A variable of the firmware that holds `text`.
    fn variable(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(units).collect()
    }

    fn keeper_of(entries: &[(&str, Entry<'_>)]) -> Fact<ArgumentKeeper> {
        let host = FakeHost::new(entries);
        let source = host.source();
        collect(&source, &distribution::collect(&source)).arguments_kept_by
    }

    const DEBIAN: (&str, Entry<'_>) = ("/etc/os-release", Entry::Text("ID=debian"));
    const GRUB: (&str, Entry<'_>) = (GRUB_DEFAULTS, Entry::Text("GRUB_CMDLINE_LINUX=\"\""));
    const OWN_LINE: (&str, Entry<'_>) = (KERNEL_COMMAND_LINE, Entry::Text("root=/dev/sda1"));

    #[test]
    fn grub_is_kept_by_its_defaults_except_where_grubby_is() {
        assert_eq!(keeper_of(&[DEBIAN, GRUB]), Fact::Known(ArgumentKeeper::Grub));
        let rocky = ("/etc/os-release", Entry::Text("ID=rocky\nID_LIKE=\"rhel centos fedora\""));
        assert_eq!(keeper_of(&[rocky, GRUB]), Fact::Known(ArgumentKeeper::Grubby));
    }

    #[test]
    fn systemd_boot_takes_entries_or_the_line_of_kernel_install_or_an_image() {
        let bytes = variable("systemd-boot 257.2");
        let loader = (LOADER_INFO, Entry::Bytes(&bytes));
        let arch = ("/etc/os-release", Entry::Text("ID=arch"));
        assert_eq!(keeper_of(&[arch.clone(), loader.clone()]), Fact::Known(ArgumentKeeper::BootEntries));
        let lines = [arch, loader, OWN_LINE];
        assert_eq!(keeper_of(&lines), Fact::Known(ArgumentKeeper::KernelInstall));
        let stub = (STUB_INFO, Entry::Bytes(&bytes));
        assert_eq!(keeper_of(&[OWN_LINE, stub]), Fact::Known(ArgumentKeeper::UnifiedImage));
    }

    #[test]
    fn proxmox_has_two_loaders() {
        let uuids = ("/etc/kernel/proxmox-boot-uuids", Entry::Text("4F2A-11C7"));
        let bytes = variable("systemd-boot 252.12");
        let loader = (LOADER_INFO, Entry::Bytes(&bytes));
        let both = [DEBIAN, GRUB, OWN_LINE, uuids.clone(), loader];
        assert_eq!(keeper_of(&both), Fact::Known(ArgumentKeeper::ProxmoxBootTool));
        assert_eq!(keeper_of(&[DEBIAN, GRUB, uuids]), Fact::Known(ArgumentKeeper::ProxmoxGrub));
    }

    #[test]
    fn systems_with_a_keeper_of_their_own_go_before_grub() {
        let nix = ("/etc/os-release", Entry::Text("ID=nixos"));
        assert_eq!(keeper_of(&[nix, GRUB]), Fact::Known(ArgumentKeeper::NixOs));
        let ostree = ("/run/ostree-booted", Entry::Bytes(b""));
        assert_eq!(keeper_of(&[GRUB, ostree]), Fact::Known(ArgumentKeeper::Ostree));
        let pop = ("/etc/kernelstub/configuration", Entry::Text("{}"));
        assert_eq!(keeper_of(&[pop, GRUB]), Fact::Known(ArgumentKeeper::Kernelstub));
        let suse = ("/etc/sysconfig/bootloader", Entry::Text("LOADER_TYPE=\"grub2-bls\""));
        assert_eq!(keeper_of(&[suse, GRUB]), Fact::Known(ArgumentKeeper::Sdbootutil));
        let suse = ("/etc/sysconfig/bootloader", Entry::Text("LOADER_TYPE=\"grub2-efi\""));
        assert_eq!(keeper_of(&[suse, GRUB]), Fact::Known(ArgumentKeeper::Grub));
    }

    #[test]
    fn no_trace_is_no_keeper_and_a_denied_trace_is_unknown() {
        assert_eq!(keeper_of(&[DEBIAN]), Fact::NotPresent);
        let host = FakeHost::new(&[DEBIAN, GRUB]);
        let source = host.source_without(&[GRUB_DEFAULTS]);
        let loader = collect(&source, &distribution::collect(&source));
        assert!(loader.arguments_kept_by.is_unread());
    }

    #[test]
    fn a_loader_variable_of_odd_length_or_without_text_is_unreadable() {
        for bytes in [&[][..], &[6, 0, 0, 0, b'x'], &[6, 0, 0, 0, 0, 0xD8, b'x', 0, 0, 0]] {
            let host = FakeHost::new(&[(LOADER_INFO, Entry::Bytes(bytes))]);
            assert!(loader_variable(&host.source(), LOADER_INFO).is_unread(), "{bytes:?}");
        }
    }
}
