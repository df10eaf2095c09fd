//! The kernel has these arguments in the next boots.
//!
//! What is compared is what the boot loader will give, not what somebody wrote somewhere: the generated configuration of GRUB,
//! the entries of systemd-boot, the answers of grubby and rpm-ostree. Only words are added and taken away, never lines, so
//! that what others change in between stays; and only those that a place did not have, so that an argument that was
//! there before us is there after us. An entry that would lose its `root=` is an error before the loader's
//! configuration is written.
//! Spec: Boot Loader Specification (uapi-group.org/specifications); kernel-install(8); grub-mkconfig's `GRUB_CMDLINE_LINUX_DEFAULT`
//! (GNU GRUB manual, 6.1); grubby(8); rpm-ostree(1); `/etc/kernelstub/configuration` of kernelstub.

pub(super) mod entry;
mod grub;
mod places;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, Footprint, Object, Standing};
use crate::host::boot::Loader;
use crate::setup::control::Control;
use entry::say;
use places::Places;

/// How long a boot loader's program may take: grub-mkconfig looks at all disks, image builders build.
pub(super) const LOADER_LIMIT: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelArguments {
    /// Whose arguments they are: part of the names of files that are made for them.
    pub name: String,
    /// Where they are kept.
    pub loader: Loader,
    /// The arguments, each one word.
    pub arguments: Vec<String>,
}

/// Which of the arguments each place had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentsState {
    /// By place: a boot entry's file, or what a program keeps.
    had: BTreeMap<String, Vec<String>>,
    /// Directories of what is edited that did not exist, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl KernelArguments {
    fn missing_from(&self, had: &[String]) -> Vec<&str> {
        self.arguments.iter().filter(|argument| !had.contains(argument)).map(String::as_str).collect()
    }
}

impl Act for KernelArguments {
    type State = ArgumentsState;

    fn observe(&self, control: &dyn Control) -> Result<ArgumentsState, ActionError> {
        let mut had = BTreeMap::new();
        for (place, words) in Places::new(self, control).read()? {
            let ours = self.arguments.iter().filter(|argument| words.contains(argument)).cloned().collect();
            had.insert(place, ours);
        }
        if had.is_empty() {
            return Err(ActionError::Gone(Object::KernelArguments));
        }
        Ok(ArgumentsState { had, missing: Places::new(self, control).missing_directories()? })
    }

    fn act(&self, prior: &ArgumentsState, control: &dyn Control) -> Result<(), ActionError> {
        let places = Places::new(self, control);
        for (place, had) in &prior.had {
            places.edit(place, &self.missing_from(had), &[])?;
        }
        places.commit()
    }

    fn revert(&self, prior: &ArgumentsState, control: &dyn Control) -> Result<(), ActionError> {
        let places = Places::new(self, control);
        // Entries that came since were made from those that had ours; one that is gone needs nothing.
        for place in places.read()?.keys() {
            let had = prior.had.get(place).map_or(&[][..], Vec::as_slice);
            places.edit(place, &[], &self.missing_from(had))?;
        }
        for directory in prior.missing.iter().rev() {
            control.remove_empty_directory(directory)?;
        }
        places.commit()
    }

    fn standing(&self, prior: &ArgumentsState, now: &ArgumentsState) -> Standing {
        let all = |words: &Vec<String>| self.missing_from(words).is_empty();
        let as_before =
            |(place, words): (&String, &Vec<String>)| prior.had.get(place).is_none_or(|had| had == words);
        if now.had.values().all(all) {
            Standing::Applied
        } else if now.had.iter().all(as_before) {
            Standing::Before
        } else {
            Standing::Between
        }
    }

    fn footprint(&self, _prior: &ArgumentsState) -> Footprint {
        Footprint { changes: vec![Object::KernelArguments], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("give the kernel {} from the next boot on, by {}", say(&self.arguments), self.loader)
    }

    fn describe_undo(&self, _prior: &ArgumentsState) -> String {
        format!(
            "give the kernel no {} any more from the next boot on, by {}",
            say(&self.arguments),
            self.loader
        )
    }
}

#[cfg(test)]
mod tests;
