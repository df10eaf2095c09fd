//! The places in which boot loaders keep arguments, as lists of words that can be read and edited.

use std::collections::BTreeMap;

use super::{KernelArguments, LOADER_LIMIT, grub};
use crate::host::boot::Loader;
use crate::setup::action::{ActionError, optional, required};
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

/// Words for people: `a b`.
pub(super) fn say(words: &[String]) -> String {
    format!("`{}`", words.join(" "))
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
                for name in names.iter().filter(|name| name.ends_with(".conf")) {
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

pub(super) fn unread(path: &str, reason: &str) -> ActionError {
    ActionError::Unread { path: path.to_owned(), reason: reason.to_owned() }
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The word that says where the system is.
fn root(words: &[String]) -> Option<&str> {
    words.iter().map(String::as_str).find(|word| word.starts_with("root="))
}

/// The words that all of `lists` have.
pub(super) fn common(lists: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    lists
        .reduce(|mut common, list| {
            common.retain(|word| list.contains(word));
            common
        })
        .unwrap_or_default()
}

/// The rest of a line of a boot entry with that key.
fn value<'t>(line: &'t str, key: &str) -> Option<&'t str> {
    let rest = line.trim_start().strip_prefix(key)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

fn is_linux(entry: &str) -> bool {
    entry.lines().any(|line| value(line, "linux").is_some())
}

fn options(entry: &str) -> Vec<String> {
    entry.lines().filter_map(|line| value(line, "options")).flat_map(words).collect()
}

/// A line of words, with some more and some less; where they stand and how far apart stays.
fn edited_line(text: &str, add: &[&str], remove: &[&str]) -> String {
    let (line, end) = text.split_at(text.trim_end().len());
    let mut line = without(line, remove);
    let had = words(&line);
    for word in add.iter().filter(|word| !had.iter().any(|other| other == *word)) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line + end
}

/// A boot entry with some words more at the end of its last line of options, and some less in all of them.
fn edited_entry(text: &str, add: &[&str], remove: &[&str]) -> String {
    let last = text.lines().filter(|line| value(line, "options").is_some()).count();
    let had = options(text);
    let add: Vec<_> = add.iter().copied().filter(|word| !had.iter().any(|other| other == word)).collect();
    let mut seen = 0;
    let mut new: String = text
        .split_inclusive('\n')
        .map(|line| {
            if value(line, "options").is_none() {
                return line.to_owned();
            }
            seen += 1;
            edited_line(line, if seen == last { &add } else { &[] }, remove)
        })
        .collect();
    if last == 0 && !add.is_empty() {
        if !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&format!("options {}\n", add.join(" ")));
    }
    new
}

/// `line` without `remove`, each word with the space before it.
fn without(line: &str, remove: &[&str]) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word_at = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let (space, tail) = rest.split_at(word_at);
        let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
        if !remove.contains(&word) {
            kept.push_str(space);
            kept.push_str(word);
        }
        rest = tail;
    }
    if kept.starts_with(' ') && !line.starts_with(' ') { kept.trim_start().to_owned() } else { kept }
}
