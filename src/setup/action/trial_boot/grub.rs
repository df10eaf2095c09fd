//! GRUB: an entry in `custom.cfg`, which its generated configuration reads, and `next_entry` in its environment block.

use super::{LOADER_LIMIT, TrialBoot};
use crate::setup::action::kernel_arguments::entry::{root, words};
use crate::setup::action::{ActionError, optional, required, unread};
use crate::setup::control::Control;

/// GRUB on this host.
pub(super) struct Once<'a> {
    pub(super) trial: &'a TrialBoot,
    pub(super) generator: &'a str,
    pub(super) config: &'a str,
}

/// File systems that GRUB reads and never writes, so that it would start the entry at every boot (GRUB 2.12,
/// util/grub.d/00_header.in).
const UNWRITABLE: [&str; 8] = ["btrfs", "cpiofs", "newc", "odc", "romfs", "squash4", "tarfs", "zfs"];

impl Once<'_> {
    fn directory(&self) -> &str {
        self.config.rsplit_once('/').map_or("/boot/grub", |(directory, _)| directory)
    }

    fn environment(&self) -> String {
        format!("{}/grubenv", self.directory())
    }

    /// Fedora and openSUSE call GRUB's programs `grub2-..`.
    fn tool(&self, name: &str) -> String {
        let prefix = if self.generator.starts_with("grub2-") { "grub2" } else { "grub" };
        format!("{prefix}-{name}")
    }

    fn begin(&self) -> String {
        format!("# Begin of the entry that thruway apply --trial-boot made for {}.\n", self.trial.name)
    }

    fn end(&self) -> String {
        format!("# End of the entry that thruway made for {}.\n", self.trial.name)
    }

    fn divided<'f>(&self, file: &'f str) -> Option<(&'f str, &'f str, &'f str)> {
        let (before, rest) = file.split_once(&self.begin())?;
        let (ours, after) = rest.split_once(&self.end())?;
        Some((before, ours, after))
    }

    /// Fails unless GRUB can take `next_entry` away again.
    fn forgets(&self, control: &dyn Control) -> Result<(), ActionError> {
        let probe = |target: &str| {
            let target = format!("--target={target}");
            let answer = control.run_tool(&self.tool("probe"), &[&target, self.directory()], LOADER_LIMIT)?;
            Ok::<_, ActionError>(answer.trim().to_owned())
        };
        let (layers, file_system) = (probe("abstraction")?, probe("fs")?);
        if layers.is_empty() && !UNWRITABLE.contains(&file_system.as_str()) {
            return Ok(());
        }
        Err(ActionError::NotReached {
            subject: self.directory().to_owned(),
            expected: "a place that GRUB can write to, as it would start the entry at every boot otherwise"
                .to_owned(),
            found: if layers.is_empty() { file_system } else { format!("{file_system} on {layers}") },
        })
    }
}

impl super::Once for Once<'_> {
    fn file(&self) -> String {
        format!("{}/custom.cfg", self.directory())
    }

    fn find(&self, file: &str) -> Option<String> {
        self.divided(file).map(|(_, ours, _)| ours.to_owned())
    }

    fn with(&self, file: &str, entry: Option<&str>) -> String {
        let mut text = match self.divided(file) {
            Some((before, _, after)) => format!("{before}{after}"),
            None => file.to_owned(),
        };
        if let Some(entry) = entry {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text += &format!("{}{entry}{}", self.begin(), self.end());
        }
        text
    }

    fn chosen(&self, control: &dyn Control) -> Result<Option<String>, ActionError> {
        let path = self.environment();
        let text = optional(&path, control.source().text(&path))?.unwrap_or_default();
        let chosen = text.lines().find_map(|line| line.strip_prefix("next_entry="));
        Ok(chosen.filter(|id| !id.is_empty()).map(str::to_owned))
    }

    fn choose(&self, control: &dyn Control, entry: Option<&str>) -> Result<(), ActionError> {
        let path = self.environment();
        let (tool, arguments) = match entry {
            Some(entry) => (self.tool("reboot"), vec![entry]),
            None => (self.tool("editenv"), vec![path.as_str(), "unset", "next_entry"]),
        };
        Ok(control.run_tool(&tool, &arguments, LOADER_LIMIT).map(drop)?)
    }

    fn id(&self) -> String {
        self.trial.id()
    }

    fn entry(&self, control: &dyn Control) -> Result<String, ActionError> {
        self.forgets(control)?;
        let config = required(self.config, control.source().text(self.config))?;
        if !config.contains("custom.cfg") {
            return Err(unread(self.config, "it reads no custom.cfg, into which the entry would go"));
        }
        let running = required("/proc/cmdline", control.source().text("/proc/cmdline"))?;
        let running = words(&running);
        let body = body(&config, &running).ok_or_else(|| {
            unread(self.config, "no entry of it starts the kernel and the system that run; reboot first")
        })?;
        let arguments = self.trial.arguments.join(" ");
        let mut entry =
            format!("menuentry 'Tried once by thruway ({})' --id {} {{\n", self.trial.name, self.id());
        for line in body {
            let end = if kernel(line).is_some() { format!(" {arguments}\n") } else { "\n".to_owned() };
            entry += line.trim_end();
            entry += &end;
        }
        Ok(entry + "}\n")
    }

    fn stays_aside(&self, _control: &dyn Control) -> Result<(), ActionError> {
        // `default` names an entry, or counts those before ours: custom.cfg is read last.
        Ok(())
    }
}

/// The kernel that a line of an entry loads.
fn kernel(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    matches!(words.next()?, "linux" | "linuxefi" | "linux16").then(|| words.next())?
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The lines between the braces of the first entry of `config` that starts the kernel and the root of `running`.
fn body<'c>(config: &'c str, running: &[String]) -> Option<Vec<&'c str>> {
    let image = running.iter().find_map(|word| word.strip_prefix("BOOT_IMAGE=")).map(base)?;
    let mut lines = config.lines();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("menuentry ") {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let body: Vec<_> = lines.by_ref().take_while(|line| line.trim_end() != end).collect();
        let starts = |line: &&str| {
            let words = words(line);
            kernel(line).map(base) == Some(image)
                && root(&words) == root(running)
                && !words.iter().any(|word| matches!(word.as_str(), "single" | "recovery" | "rescue"))
        };
        if body.iter().any(starts) {
            return Some(body);
        }
    }
    None
}
