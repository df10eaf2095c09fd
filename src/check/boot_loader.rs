//! How kernel arguments are set and taken out with the boot loader of this host.
//!
//! Each step is the way that the distribution documents, so that its next kernel boots with the argument too. Steps that
//! add can be pasted as they stand. Where no tool can take a word out of a file, the step says what to edit.

use crate::host::HostFacts;
use crate::host::kernel::{ArgumentKeeper, Kernel};

/// What is to be done with arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Set them.
    Add,
    /// Take them out.
    Remove,
}

/// A step to follow, and what to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) text: String,
    pub(super) note: String,
}

/// How `arguments`, one or more with spaces between, are changed for the next boots of this host.
pub(super) fn step(facts: &HostFacts, change: Change, arguments: &str) -> Step {
    let kernel = &facts.kernel;
    let Some(keeper) = kernel.boot_loader.arguments_kept_by.known() else {
        return by_hand(change, arguments);
    };
    match keeper {
        ArgumentKeeper::Grub => grub(kernel, change, arguments, grub_menu(kernel)),
        ArgumentKeeper::ProxmoxGrub => grub(kernel, change, arguments, "sudo proxmox-boot-tool refresh"),
        ArgumentKeeper::ProxmoxBootTool => {
            command_line_file(change, arguments, "sudo proxmox-boot-tool refresh", "")
        }
        ArgumentKeeper::Sdbootutil => command_line_file(
            change,
            arguments,
            "sudo sdbootutil update-all-entries",
            "the file belongs to one snapshot; leave `root=` and `rootflags=` in it as they are",
        ),
        ArgumentKeeper::KernelInstall => command_line_file(
            change,
            arguments,
            kernel_install(kernel),
            "kernels installed later start from it too",
        ),
        ArgumentKeeper::UnifiedImage => command_line_file(
            change,
            arguments,
            image_builder(kernel),
            "the arguments are part of the kernel image; under Secure Boot it must be signed again",
        ),
        ArgumentKeeper::Grubby => {
            let option = if change == Change::Add { "args" } else { "remove-args" };
            Step {
                text: format!("sudo grubby --update-kernel=ALL --{option}=\"{arguments}\""),
                note: "if there is /etc/kernel/cmdline, change it too: kernels installed later start from it"
                    .to_owned(),
            }
        }
        ArgumentKeeper::Ostree => ostree(change, arguments),
        ArgumentKeeper::Kernelstub => {
            let option = if change == Change::Add { "a" } else { "d" };
            plain(format!("sudo kernelstub -{option} \"{arguments}\""))
        }
        ArgumentKeeper::BootEntries => Step {
            text: edit(change, arguments, "the line `options` of your entry in /boot/loader/entries/*.conf"),
            note: "entries may be on the EFI system partition instead: `bootctl list` shows the files"
                .to_owned(),
        },
        ArgumentKeeper::Extlinux => plain(format!(
            "{}, then: sudo update-extlinux",
            edit(change, arguments, "`default_kernel_opts` in /etc/update-extlinux.conf")
        )),
        ArgumentKeeper::NixOs => nixos(change, arguments),
        ArgumentKeeper::Talos => Step {
            text: edit(change, arguments, "`customization.extraKernelArgs` of the schematic of the image"),
            note: "make an image of it with the image factory, and upgrade the machine to that".to_owned(),
        },
    }
}

/// Whether the text of a step is a command line; the others are sentences.
pub(super) fn is_command(text: &str) -> bool {
    ["sudo ", "echo "].iter().any(|program| text.starts_with(program))
}

fn plain(text: String) -> Step {
    Step { text, note: String::new() }
}

/// `place` edited by hand.
fn edit(change: Change, arguments: &str, place: &str) -> String {
    match change {
        Change::Add => format!("add `{arguments}` to {place}"),
        Change::Remove => format!("take `{arguments}` out of {place}"),
    }
}

fn by_hand(change: Change, arguments: &str) -> Step {
    Step {
        text: edit(change, arguments, "the kernel command line"),
        note: "which boot loader keeps the command line could not be told here; see its manual".to_owned(),
    }
}

/// Debian and its kin read /etc/default/grub.d behind /etc/default/grub, so that a file of our own does. Others have
/// the one file. GRUB_CMDLINE_LINUX_DEFAULT stands last on the command line, and recovery entries leave it out: a way
/// back (GNU GRUB manual, 6.1).
fn grub(kernel: &Kernel, change: Change, arguments: &str, menu: &str) -> Step {
    let debian = kernel.distribution.is_like("debian");
    match change {
        Change::Add if debian => Step {
            text: format!(
                "echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {arguments}\"' | \
                 sudo tee -a /etc/default/grub.d/90-passthrough.cfg && {menu}"
            ),
            note: "the recovery entry of the menu boots without it".to_owned(),
        },
        Change::Add => Step {
            text: format!(
                "sudo sed -i 's/^GRUB_CMDLINE_LINUX_DEFAULT=\\([\"'\\'']\\)/&{arguments} /' /etc/default/grub && {menu}"
            ),
            note: "the recovery entry of the menu boots without it".to_owned(),
        },
        Change::Remove => plain(format!(
            "take `{arguments}` out of GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub{}, \
             then: {menu}",
            if debian { " and /etc/default/grub.d/*.cfg" } else { "" }
        )),
    }
}

/// The command that writes GRUB's menu.
fn grub_menu(kernel: &Kernel) -> &'static str {
    let distribution = &kernel.distribution;
    if distribution.is_like("debian") {
        "sudo update-grub"
    } else if distribution.is_like("suse") || distribution.is_like("opensuse") {
        "sudo grub2-mkconfig -o /boot/grub2/grub.cfg"
    } else {
        "sudo grub-mkconfig -o /boot/grub/grub.cfg"
    }
}

/// /etc/kernel/cmdline is one line.
fn command_line_file(change: Change, arguments: &str, apply: &str, note: &str) -> Step {
    let text = match change {
        Change::Add => {
            let escaped = arguments.replace(['/'], "\\/");
            format!("sudo sed -i '1s/$/ {escaped}/' /etc/kernel/cmdline && {apply}")
        }
        Change::Remove => format!("{}, then: {apply}", edit(change, arguments, "/etc/kernel/cmdline")),
    };
    Step { text, note: note.to_owned() }
}

/// The command that writes the running kernel's boot entry again.
fn kernel_install(kernel: &Kernel) -> &'static str {
    if kernel.distribution.is_like("debian") {
        "sudo kernel-install add \"$(uname -r)\" \"/boot/vmlinuz-$(uname -r)\""
    } else {
        "sudo kernel-install add \"$(uname -r)\" \"/usr/lib/modules/$(uname -r)/vmlinuz\""
    }
}

/// The command that makes the unified kernel image again.
fn image_builder(kernel: &Kernel) -> &'static str {
    if kernel.distribution.is_like("arch") { "sudo mkinitcpio -P" } else { kernel_install(kernel) }
}

fn ostree(change: Change, arguments: &str) -> Step {
    let option = if change == Change::Add { "append-if-missing" } else { "delete-if-present" };
    let options: String =
        arguments.split_ascii_whitespace().map(|one| format!(" --{option}={one}")).collect();
    plain(format!("sudo rpm-ostree kargs{options}"))
}

fn nixos(change: Change, arguments: &str) -> Step {
    let text = match change {
        Change::Add => {
            let list: Vec<_> = arguments.split_ascii_whitespace().map(|one| format!("\"{one}\"")).collect();
            format!("set `boot.kernelParams = [ {} ];` in the configuration", list.join(" "))
        }
        Change::Remove => edit(change, arguments, "`boot.kernelParams` in the configuration"),
    };
    plain(format!("{text}, then: sudo nixos-rebuild boot"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::collect;
    use crate::host::source::fake::{Entry, FakeHost};

    fn text(change: Change, arguments: &str, entries: &[(&str, Entry<'_>)]) -> String {
        step(&collect(&FakeHost::new(entries).source()), change, arguments).text
    }

    const GRUB: (&str, Entry<'_>) = ("/etc/default/grub", Entry::Text("GRUB_CMDLINE_LINUX=\"\""));

    fn release(text: &str) -> (&str, Entry<'_>) {
        ("/etc/os-release", Entry::Text(text))
    }

    #[test]
    fn debian_gets_a_file_of_its_own_and_update_grub() {
        assert_eq!(
            text(Change::Add, "intel_iommu=on", &[release("ID=linuxmint\nID_LIKE=\"ubuntu debian\""), GRUB]),
            "echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT intel_iommu=on\"' | sudo tee -a \
             /etc/default/grub.d/90-passthrough.cfg && sudo update-grub"
        );
    }

    #[test]
    fn what_can_be_pasted_is_told_from_what_must_be_read() {
        let debian = &[release("ID=debian"), GRUB][..];
        assert!(is_command(&text(Change::Add, "a=b", debian)));
        assert!(is_command(&text(Change::Add, "a=b", &[release("ID=fedora"), GRUB])));
        assert!(!is_command(&text(Change::Remove, "a=b", debian)));
        assert!(!is_command(&text(Change::Add, "a=b", &[release("ID=nixos")])));
        assert!(!is_command(&text(Change::Add, "a=b", &[])));
    }

    #[test]
    fn each_grub_has_its_own_way_to_write_the_menu() {
        let menu = |id: &str| text(Change::Add, "a=b", &[release(id), GRUB]);
        assert!(menu("ID=arch").ends_with("&& sudo grub-mkconfig -o /boot/grub/grub.cfg"));
        let leap = "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"";
        assert!(menu(leap).ends_with("&& sudo grub2-mkconfig -o /boot/grub2/grub.cfg"));
        assert_eq!(menu("ID=fedora"), "sudo grubby --update-kernel=ALL --args=\"a=b\"");
    }

    #[test]
    fn the_edit_of_a_grub_file_adds_the_argument_whatever_quotes_it_has() {
        let step = text(Change::Add, "a=b,c", &[release("ID=arch"), GRUB]);
        let (edit, _) = step.split_once(" && ").unwrap();
        for (before, after) in [
            ("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n", "GRUB_CMDLINE_LINUX_DEFAULT=\"a=b,c quiet\"\n"),
            ("GRUB_CMDLINE_LINUX_DEFAULT=''\n", "GRUB_CMDLINE_LINUX_DEFAULT='a=b,c '\n"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), before).unwrap();
            let edit = edit.replace("sudo ", "").replace("/etc/default/grub", file.path().to_str().unwrap());
            let done = std::process::Command::new("sh").args(["-c", &edit]).status().unwrap();
            assert!(done.success());
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), after);
        }
    }

    #[test]
    fn every_argument_is_an_option_of_its_own_where_the_tool_wants_that() {
        let ostree = ("/run/ostree-booted", Entry::Bytes(b""));
        assert_eq!(
            text(Change::Add, "a=1 b", std::slice::from_ref(&ostree)),
            "sudo rpm-ostree kargs --append-if-missing=a=1 --append-if-missing=b"
        );
        assert_eq!(text(Change::Remove, "a=1", &[ostree]), "sudo rpm-ostree kargs --delete-if-present=a=1");
        assert_eq!(
            text(Change::Add, "a=1 b", &[release("ID=nixos")]),
            "set `boot.kernelParams = [ \"a=1\" \"b\" ];` in the configuration, then: sudo nixos-rebuild boot"
        );
    }

    #[test]
    fn proxmox_refreshes_its_boot_partitions() {
        let uuids = ("/etc/kernel/proxmox-boot-uuids", Entry::Text("4F2A-11C7"));
        assert!(
            text(Change::Add, "a=b", &[release("ID=debian"), GRUB, uuids])
                .ends_with("90-passthrough.cfg && sudo proxmox-boot-tool refresh")
        );
    }

    #[test]
    fn without_a_known_loader_the_step_says_so() {
        let facts = collect(&FakeHost::new(&[]).source());
        let step = step(&facts, Change::Remove, "a=b");
        assert_eq!(step.text, "take `a=b` out of the kernel command line");
        assert!(step.note.contains("could not be told"));
    }
}
