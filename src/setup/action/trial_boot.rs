//! The kernel has these arguments in the next boot alone.
//!
//! A copy of the boot entry that this boot came from, with the arguments, is started once: by GRUB's `next_entry`
//! (grub-reboot(8)) or systemd-boot's `LoaderEntryOneShot` (bootctl(1)). A host that does not come up with them comes up
//! without them when it is switched off and on. What every boot has stays as it is; the copy stays in the loader's menu until
//! undo. Only where the loader really forgets the choice: GRUB cannot write to every file system, and an entry among those of
//! systemd-boot may become the one that always starts.
//! Spec: GNU GRUB manual, 6.1 (`GRUB_DEFAULT`) and 16.2 (environment block); Boot Loader Interface and Boot Loader
//! Specification (uapi-group.org/specifications).

mod entries;
mod grub;

use serde::{Deserialize, Serialize};

use super::kernel_arguments::LOADER_LIMIT;
use super::kernel_arguments::entry::say;
use super::{Act, ActionError, Footprint, Object, Standing, unread};
use crate::host::boot::Loader;
use crate::setup::control::{Control, ControlError};
use crate::sys::system_file::SystemFile;

/// How the names of our boot entries begin.
pub(super) const TRIAL: &str = "thruway-trial-";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialBoot {
    /// Whose arguments they are: part of the entry's name.
    pub name: String,
    /// The loader; [`Self::is_possible`] with it.
    pub loader: Loader,
    /// The arguments, each one word.
    pub arguments: Vec<String>,
}

/// A trial that is, or is not, arranged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialState {
    /// Our entry, as its file has it.
    entry: Option<String>,
    /// The entry that the loader starts once, if one is chosen.
    chosen: Option<String>,
}

/// What a loader is asked for.
trait Once {
    /// The file of our entry.
    fn file(&self) -> String;
    /// Our entry, if the file has it.
    fn find(&self, file: &str) -> Option<String>;
    /// The file's text with `entry` as ours, or without ours.
    fn with(&self, file: &str, entry: Option<&str>) -> String;
    /// The entry that is chosen for one boot.
    fn chosen(&self, control: &dyn Control) -> Result<Option<String>, ActionError>;
    /// Chooses one, or none.
    fn choose(&self, control: &dyn Control, entry: Option<&str>) -> Result<(), ActionError>;
    /// How the loader names ours.
    fn id(&self) -> String;
    /// A copy of the entry that this boot came from, with the arguments; and that the loader will forget the choice.
    fn entry(&self, control: &dyn Control) -> Result<String, ActionError>;
    /// That the loader does not start ours unless it is chosen, now that it is there.
    fn stays_aside(&self, control: &dyn Control) -> Result<(), ActionError>;
}

impl TrialBoot {
    /// Whether `loader` can start an entry once.
    #[must_use]
    pub fn is_possible(loader: &Loader) -> bool {
        matches!(loader, Loader::Grub { .. } | Loader::Entries { .. })
    }

    fn once(&self) -> Result<Box<dyn Once + '_>, ActionError> {
        match &self.loader {
            Loader::Grub { generator, config, .. } => {
                Ok(Box::new(grub::Once { trial: self, generator, config }))
            }
            Loader::Entries { directory } => Ok(Box::new(entries::Once { trial: self, directory })),
            other => Err(unread(&other.to_string(), "it starts no entry once")),
        }
    }

    fn id(&self) -> String {
        format!("{TRIAL}{}", self.name)
    }
}

fn text(path: &str, control: &dyn Control) -> Result<Option<(String, u32, u32, u32)>, ActionError> {
    match control.files().read(path).map_err(ControlError::of_file(path))? {
        None => Ok(None),
        Some(SystemFile::Text { text, mode, uid, gid }) => Ok(Some((text, mode, uid, gid))),
        Some(SystemFile::Link { .. }) => Err(unread(path, "it is a symbolic link")),
    }
}

/// Makes `entry` ours in its file, which goes when nothing is left in it.
fn put(once: &dyn Once, control: &dyn Control, entry: Option<&str>) -> Result<(), ActionError> {
    let path = once.file();
    let there = text(&path, control)?;
    let (before, mode, uid, gid) = there.clone().unwrap_or_else(|| {
        (String::new(), 0o644, nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    });
    let text = once.with(&before, entry);
    if text == before {
        return Ok(());
    }
    if text.is_empty() {
        return Ok(control.remove_file(&path)?);
    }
    Ok(control.replace_file(&path, &SystemFile::Text { text, mode, uid, gid })?)
}

/// Chooses `entry` and reads back that it is chosen.
fn choose(once: &dyn Once, control: &dyn Control, entry: Option<&str>) -> Result<(), ActionError> {
    if once.chosen(control)?.as_deref() == entry {
        return Ok(());
    }
    once.choose(control, entry)?;
    let found = once.chosen(control)?;
    if found.as_deref() == entry {
        return Ok(());
    }
    let said = |entry: Option<&str>| entry.unwrap_or("none").to_owned();
    Err(ActionError::NotReached {
        subject: "the entry that the loader starts once".to_owned(),
        expected: said(entry),
        found: said(found.as_deref()),
    })
}

impl Act for TrialBoot {
    type State = TrialState;

    fn observe(&self, control: &dyn Control) -> Result<TrialState, ActionError> {
        let once = self.once()?;
        let there = text(&once.file(), control)?;
        let entry = there.and_then(|(text, ..)| once.find(&text));
        Ok(TrialState { entry, chosen: once.chosen(control)? })
    }

    fn act(&self, _prior: &TrialState, control: &dyn Control) -> Result<(), ActionError> {
        let once = self.once()?;
        let entry = once.entry(control)?;
        put(&*once, control, Some(&entry))?;
        once.stays_aside(control)?;
        choose(&*once, control, Some(&once.id()))
    }

    fn revert(&self, prior: &TrialState, control: &dyn Control) -> Result<(), ActionError> {
        let once = self.once()?;
        // One that was started is forgotten, and one that somebody else chose since is theirs.
        if once.chosen(control)?.is_some_and(|chosen| chosen == once.id()) {
            choose(&*once, control, prior.chosen.as_deref())?;
        }
        put(&*once, control, prior.entry.as_deref())
    }

    fn standing(&self, prior: &TrialState, now: &TrialState) -> Standing {
        let has_all = |entry: &String| {
            self.arguments.iter().all(|wanted| entry.split_whitespace().any(|word| word == wanted))
        };
        match &now.entry {
            Some(entry) if has_all(entry) => Standing::Applied,
            entry if *entry == prior.entry => Standing::Before,
            Some(_) => Standing::Drifted("our boot entry with other arguments".to_owned()),
            None => Standing::Between,
        }
    }

    fn already(&self, prior: &TrialState) -> bool {
        // Once it was started it is to be chosen again.
        self.standing(prior, prior) == Standing::Applied
            && self.once().is_ok_and(|once| prior.chosen == Some(once.id()))
    }

    fn footprint(&self, _prior: &TrialState) -> Footprint {
        let file = self.once().map(|once| Object::File(once.file()));
        Footprint { changes: file.into_iter().collect(), needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("give the kernel {} in the next boot alone, by {}", say(&self.arguments), self.loader)
    }

    fn describe_undo(&self, _prior: &TrialState) -> String {
        format!("remove the boot entry {}", self.id())
    }
}

#[cfg(test)]
mod tests;
