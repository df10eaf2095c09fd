//! The places in which boot loaders keep arguments, as lists of words that can be read and edited.

use std::collections::BTreeMap;

use super::entry::{common, edited_entry, edited_line, is_linux, options, root, words};
use super::{KernelArguments, LOADER_LIMIT, grub};
use crate::host::boot::Loader;
use crate::setup::action::trial_boot::TRIAL;
use crate::setup::action::{ActionError, optional, required, unread};
use crate::setup::control::{Control, ControlError};
use crate::sys::system_file::SystemFile;

/// From which kernel-install and image builders take the arguments of kernels that are still to come (kernel-install(8)).
const CMDLINE: &str = "/etc/kernel/cmdline";
/// What kernelstub keeps.
const KERNELSTUB: &str = "/etc/kernelstub/configuration";

/// The places of one loader.
pub(super) struct Places<'a> {
    wanted: &'a KernelArguments,
    control: &'a dyn Control,
}

impl<'a> Places<'a> {
    pub(super) fn new(wanted: &'a KernelArguments, control: &'a dyn Control) -> Self {
        Self { wanted, control }
    }

    /// The words of every place.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Vec<String>>, ActionError> {
        let mut found = BTreeMap::new();
        match &self.wanted.loader {
            Loader::Grub { config, .. } => {
                let text = self.text(config)?.ok_or_else(|| unread(config, "it does not exist"))?;
                found.insert(config.clone(), grub::common_arguments(&text));
            }
            Loader::Entries { directory } => {
                let names = required(directory, self.control.source().list(directory))?;
                let running = words(&self.text("/proc/cmdline")?.unwrap_or_default());
                let own = root(&running);
                let stays = |name: &&String| name.ends_with(".conf") && !name.starts_with(TRIAL);
                for name in names.iter().filter(stays) {
                    let path = format!("{directory}/{name}");
                    // Without a kernel of Linux (a memory test), or with another root: not an entry of this system.
                    if let Some(text) = self.text(&path)?.filter(|text| is_linux(text)) {
                        let words = options(&text);
                        if root(&words).is_none_or(|root| own.is_none_or(|own| root == own)) {
                            found.insert(path, words);
                        }
                    }
                }
                self.cmdline(&mut found)?;
            }
            Loader::ProxmoxBootTool {} | Loader::UnifiedImage { .. } => {
                self.cmdline(&mut found)?;
                if found.is_empty() {
                    return Err(unread(
                        CMDLINE,
                        "it does not exist; write the kernel's arguments there first",
                    ));
                }
            }
            Loader::Grubby {} => {
                let answer = self.control.run_tool("grubby", &["--info=ALL"], LOADER_LIMIT)?;
                let entries = answer.lines().filter_map(|line| line.strip_prefix("args="));
                found.insert("grubby".to_owned(), common(entries.map(|line| words(line.trim_matches('"')))));
                self.cmdline(&mut found)?;
            }
            Loader::RpmOstree {} => {
                let answer = self.control.run_tool("rpm-ostree", &["kargs"], LOADER_LIMIT)?;
                found.insert("rpm-ostree".to_owned(), words(&answer));
            }
            Loader::Kernelstub {} => {
                found.insert("kernelstub".to_owned(), self.kernelstub()?);
            }
        }
        Ok(found)
    }

    fn cmdline(&self, found: &mut BTreeMap<String, Vec<String>>) -> Result<(), ActionError> {
        if let Some(text) = self.text(CMDLINE)? {
            found.insert(CMDLINE.to_owned(), words(&text));
        }
        Ok(())
    }

    fn kernelstub(&self) -> Result<Vec<String>, ActionError> {
        let text = self.text(KERNELSTUB)?.ok_or_else(|| unread(KERNELSTUB, "it does not exist"))?;
        let document: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unread(KERNELSTUB, &error.to_string()))?;
        let options = document.pointer("/user/kernel_options").and_then(serde_json::Value::as_array);
        let options = options.ok_or_else(|| unread(KERNELSTUB, "it has no user.kernel_options"))?;
        Ok(options.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect())
    }

    fn text(&self, path: &str) -> Result<Option<String>, ActionError> {
        optional(path, self.control.source().text(path))
    }

    /// Adds and takes away words of one place. Nothing is written if that changes nothing.
    pub(super) fn edit(&self, place: &str, add: &[&str], remove: &[&str]) -> Result<(), ActionError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        match (&self.wanted.loader, place) {
            (Loader::Grub { generator, config, drop_in }, _) => {
                let grub = grub::Grub { name: &self.wanted.name, generator, config, drop_in: *drop_in };
                grub.edit(self.control, add, remove)
            }
            (_, CMDLINE) => self.edit_file(place, |text| edited_line(text, add, remove)),
            (Loader::Entries { .. }, _) => self.edit_file(place, |text| edited_entry(text, add, remove)),
            (Loader::Grubby {}, _) => {
                let mut arguments = vec!["--update-kernel=ALL".to_owned()];
                arguments.extend((!add.is_empty()).then(|| format!("--args={}", add.join(" "))));
                arguments.extend((!remove.is_empty()).then(|| format!("--remove-args={}", remove.join(" "))));
                self.run("grubby", &arguments)
            }
            (Loader::RpmOstree {}, _) => {
                let mut arguments = vec!["kargs".to_owned()];
                arguments.extend(add.iter().map(|word| format!("--append-if-missing={word}")));
                arguments.extend(remove.iter().map(|word| format!("--delete-if-present={word}")));
                self.run("rpm-ostree", &arguments)
            }
            (Loader::Kernelstub {}, _) => {
                for (option, words) in [("--add-options", add), ("--delete-options", remove)] {
                    if !words.is_empty() {
                        self.run("kernelstub", &[option.to_owned(), words.join(" ")])?;
                    }
                }
                Ok(())
            }
            (Loader::ProxmoxBootTool {} | Loader::UnifiedImage { .. }, _) => Ok(()),
        }
    }

    /// Makes what the loader reads out of what was edited.
    pub(super) fn commit(&self) -> Result<(), ActionError> {
        match &self.wanted.loader {
            Loader::Grub { generator, config, drop_in } => {
                let grub = grub::Grub { name: &self.wanted.name, generator, config, drop_in: *drop_in };
                grub.generate(self.control)
            }
            Loader::ProxmoxBootTool {} => self.run("proxmox-boot-tool", &["refresh".to_owned()]),
            Loader::UnifiedImage { rebuild } => match rebuild.split_first() {
                Some((program, arguments)) => self.run(program, arguments),
                None => Ok(()),
            },
            Loader::Entries { .. } | Loader::Grubby {} | Loader::RpmOstree {} | Loader::Kernelstub {} => {
                Ok(())
            }
        }
    }

    /// Directories that would be made, outermost first.
    pub(super) fn missing_directories(&self) -> Result<Vec<String>, ActionError> {
        let Loader::Grub { generator, config, drop_in } = &self.wanted.loader else { return Ok(Vec::new()) };
        let path = grub::Grub { name: &self.wanted.name, generator, config, drop_in: *drop_in }.file();
        Ok(self.control.files().missing_directories(&path).map_err(ControlError::of_file(&path))?)
    }

    fn run(&self, program: &str, arguments: &[String]) -> Result<(), ActionError> {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Ok(self.control.run_tool(program, &arguments, LOADER_LIMIT).map(drop)?)
    }

    fn edit_file(&self, path: &str, edit: impl FnOnce(&str) -> String) -> Result<(), ActionError> {
        let there = self.control.files().read(path).map_err(ControlError::of_file(path))?;
        let Some(SystemFile::Text { text, mode, uid, gid }) = there else {
            return Err(unread(path, "it is not a file"));
        };
        let new = edit(&text);
        if new == text {
            return Ok(());
        }
        if root(&words(&text)) != root(&words(&new)) {
            return Err(unread(path, "it would lose `root=`, and a system without it does not start"));
        }
        self.control.replace_file(path, &SystemFile::Text { text: new, mode, uid, gid })?;
        Ok(())
    }
}
