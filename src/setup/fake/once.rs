//! Boot entries that the fake host's loaders start once: GRUB's environment block, systemd-boot's variables.

use std::fs;
use std::io;

use super::{FakeKernel, errno};

const GRUBENV: &str = "/boot/grub/grubenv";
const ENTRIES: &str = "/boot/efi/loader/entries";
const EMPTY: &str = "# GRUB Environment Block\n";

/// The file of a loader's variable.
fn variable(name: &str) -> String {
    format!("/sys/firmware/efi/efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
}

impl FakeKernel {
    /// What a loader tells in its variable `name`; nothing if it is absent.
    pub(in crate::setup) fn tell_by_loader(&self, name: &str, value: Option<&str>) {
        let path = variable(name);
        match value {
            Some(value) => {
                let units: String = value.chars().chain(['\0']).flat_map(|c| [c, '\0']).collect();
                fs::create_dir_all(self.at("/sys/firmware/efi/efivars")).unwrap();
                fs::write(self.at(&path), format!("\u{6}\0\0\0{units}")).unwrap();
            }
            None => {
                let _ = fs::remove_file(self.at(&path));
            }
        }
    }

    /// Where GRUB keeps its environment.
    pub(super) fn make_grubenv(&self) {
        fs::write(self.at(GRUBENV), EMPTY).unwrap();
    }

    /// The next boot begins: the loader forgets which entry it was to start once.
    pub(in crate::setup) fn boot_once(&self) {
        if self.at(GRUBENV).exists() {
            self.make_grubenv();
        }
        self.tell_by_loader("LoaderEntryOneShot", None);
    }

    /// As [`FakeKernel::tool_effect`], for the programs of one boot; none if `program` is another one.
    pub(super) fn once_effect(
        &self,
        program: &str,
        arguments: &[&str],
        acts: bool,
    ) -> Option<io::Result<String>> {
        let nothing = Ok(String::new());
        Some(match (program, arguments) {
            ("grub-probe", ["--target=abstraction", _]) => Ok("\n".to_owned()),
            ("grub-probe", ["--target=fs", _]) => {
                Ok(self.text("/boot/file-system").unwrap_or("ext2".to_owned()))
            }
            ("grub-reboot" | "grub-editenv" | "bootctl", _) if !acts => match arguments {
                ["list", ..] => Ok(self.listed()),
                _ => nothing,
            },
            ("grub-reboot", [entry]) => {
                fs::write(self.at(GRUBENV), format!("{EMPTY}next_entry={entry}\n")).unwrap();
                nothing
            }
            ("grub-editenv", [_, "unset", "next_entry"]) => {
                self.make_grubenv();
                nothing
            }
            ("bootctl", ["set-oneshot", entry]) => {
                self.tell_by_loader("LoaderEntryOneShot", Some(*entry).filter(|entry| !entry.is_empty()));
                nothing
            }
            ("bootctl" | "grub-reboot" | "grub-editenv", _) => Err(errno(libc::EINVAL)),
            _ => return None,
        })
    }

    /// The first of the entries with a key to sort by, else the last, is what starts always.
    fn listed(&self) -> String {
        let mut names: Vec<_> = fs::read_dir(self.at(ENTRIES))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".conf"))
            .collect();
        names.sort();
        let has_key = |name: &&String| {
            self.text(&format!("{ENTRIES}/{name}")).is_some_and(|text| text.contains("sort-key"))
        };
        let first = names.iter().find(has_key).or(names.last()).cloned();
        let entry = |name: &String| {
            let text = self.text(&format!("{ENTRIES}/{name}")).unwrap();
            let title = text.lines().find_map(|line| line.strip_prefix("title ")).unwrap_or(name);
            let mark = if Some(name) == first.as_ref() { " (default)" } else { "" };
            format!("        title: {title}{mark}\n           id: {name}\n")
        };
        names.iter().map(entry).collect()
    }
}
