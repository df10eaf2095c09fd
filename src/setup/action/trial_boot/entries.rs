//! systemd-boot: an entry in a file of its own, and the variable `LoaderEntryOneShot` of the firmware.

use super::{LOADER_LIMIT, TRIAL, TrialBoot, text};
use crate::host::boot::loader_variable;
use crate::setup::action::kernel_arguments::entry::{edited_entry, value};
use crate::setup::action::{ActionError, optional, required, unread};
use crate::setup::control::Control;

/// systemd-boot on this host.
pub(super) struct Once<'a> {
    pub(super) trial: &'a TrialBoot,
    pub(super) directory: &'a str,
}

impl Once<'_> {
    fn title(&self) -> String {
        format!("Tried once by thruway ({})", self.trial.name)
    }
}

/// `a+3-1.conf` is `a.conf` with its boots counted (systemd.io: Automatic Boot Assessment).
fn uncounted(file: &str) -> String {
    let stem = file.strip_suffix(".conf").unwrap_or(file);
    let is_count = |count: &str| count.chars().all(|c| c.is_ascii_digit() || c == '-');
    let stem = stem.rsplit_once('+').filter(|(_, count)| is_count(count)).map_or(stem, |(stem, _)| stem);
    format!("{stem}.conf")
}

impl super::Once for Once<'_> {
    fn file(&self) -> String {
        format!("{}/{}", self.directory, self.id())
    }

    fn find(&self, file: &str) -> Option<String> {
        Some(file.to_owned())
    }

    fn with(&self, _file: &str, entry: Option<&str>) -> String {
        entry.unwrap_or_default().to_owned()
    }

    fn chosen(&self, control: &dyn Control) -> Result<Option<String>, ActionError> {
        let chosen = optional("LoaderEntryOneShot", loader_variable(control.source(), "LoaderEntryOneShot"))?;
        Ok(chosen.filter(|id| !id.is_empty()))
    }

    fn choose(&self, control: &dyn Control, entry: Option<&str>) -> Result<(), ActionError> {
        let arguments = ["set-oneshot", entry.unwrap_or_default()];
        Ok(control.run_tool("bootctl", &arguments, LOADER_LIMIT).map(drop)?)
    }

    fn id(&self) -> String {
        format!("{}.conf", self.trial.id())
    }

    fn entry(&self, control: &dyn Control) -> Result<String, ActionError> {
        let variable = "LoaderEntrySelected";
        let selected = required(variable, loader_variable(control.source(), variable))?;
        let names = required(self.directory, control.source().list(self.directory))?;
        // The loader tells it in small letters.
        let is_selected = |name: &&String| uncounted(name).eq_ignore_ascii_case(&uncounted(&selected));
        let name = names.iter().find(is_selected).ok_or_else(|| {
            unread(self.directory, &format!("{selected}, which this boot came from, is not there any more"))
        })?;
        if name.starts_with(TRIAL) {
            return Err(unread(name, "this boot is a trial itself; boot as always first"));
        }
        let path = format!("{}/{name}", self.directory);
        let (text, ..) = text(&path, control)?.ok_or_else(|| unread(&path, "it does not exist"))?;
        let add: Vec<_> = self.trial.arguments.iter().map(String::as_str).collect();
        let copy = edited_entry(&text, &add, &[]);
        // Entries without a key to sort by come after those with one.
        let others = copy.lines().filter(|line| {
            ["title", "sort-key", "machine-id", "version"].iter().all(|key| value(line, key).is_none())
        });
        let mut entry = format!("title {}\n", self.title());
        for line in others {
            entry += &format!("{line}\n");
        }
        Ok(entry)
    }

    fn stays_aside(&self, control: &dyn Control) -> Result<(), ActionError> {
        let answer = control.run_tool("bootctl", &["list", "--no-pager"], LOADER_LIMIT)?;
        // Behind an entry's title stands, in parentheses, what it is: `(default)`.
        let found = match answer.lines().find_map(|line| line.split_once(&self.title())) {
            Some((_, marks)) if !marks.contains("(default)") => return Ok(()),
            Some(_) => "that one",
            None => "it not among its entries",
        };
        Err(ActionError::NotReached {
            subject: "the entry that systemd-boot always starts".to_owned(),
            expected: "another one than that which is tried once (set `default` in loader.conf)".to_owned(),
            found: found.to_owned(),
        })
    }
}
