//! GRUB: arguments go into a file that its generator reads; what the generator would write is judged before it does.

use super::LOADER_LIMIT;
use super::entry::{common, words};
use crate::setup::action::{ActionError, unread};
use crate::setup::control::{Control, ControlError};
use crate::sys::system_file::SystemFile;

/// The settings of grub-mkconfig: a shell script.
const DEFAULTS: &str = "/etc/default/grub";

/// The beginning of our line. `_DEFAULT`: the entries for recovery stay as they are, as a way out.
const SETTING: &str = "GRUB_CMDLINE_LINUX_DEFAULT=\"${GRUB_CMDLINE_LINUX_DEFAULT-}";

/// GRUB on this host.
pub(super) struct Grub<'a> {
    pub(super) name: &'a str,
    pub(super) generator: &'a str,
    pub(super) config: &'a str,
    pub(super) drop_in: bool,
}

impl Grub<'_> {
    /// Our lines in the settings give `add` more and `remove` less than they did; without any they go.
    pub(super) fn edit(
        &self,
        control: &dyn Control,
        add: &[&str],
        remove: &[&str],
    ) -> Result<(), ActionError> {
        let path = self.file();
        let there = control.files().read(&path).map_err(ControlError::of_file(&path))?;
        let (text, mode, uid, gid) = match there {
            Some(SystemFile::Text { text, mode, uid, gid }) => (text, mode, uid, gid),
            Some(SystemFile::Link { .. }) => return Err(unread(&path, "it is a symbolic link")),
            None => {
                let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                (String::new(), 0o644, uid, gid)
            }
        };
        let (rest, mut arguments) = self.divided(&text);
        arguments.retain(|word| !remove.contains(&word.as_str()));
        for word in add {
            if !arguments.iter().any(|had| had == word) {
                arguments.push((*word).to_owned());
            }
        }
        let new = self.joined(rest, &arguments);
        if new == text {
            return Ok(());
        }
        if new.is_empty() && self.drop_in {
            control.remove_file(&path)?;
        } else {
            control.replace_file(&path, &SystemFile::Text { text: new, mode, uid, gid })?;
        }
        Ok(())
    }

    pub(super) fn file(&self) -> String {
        // Read in the order of their names: after those of the distribution.
        if self.drop_in { format!("{DEFAULTS}.d/zz-thruway-{}.cfg", self.name) } else { DEFAULTS.to_owned() }
    }

    fn begin(&self) -> String {
        format!("# Begin of what thruway apply --persist wrote for {}; thruway undo removes it.\n", self.name)
    }

    fn end(&self) -> String {
        format!("# End of what thruway wrote for {}.\n", self.name)
    }

    /// `text` without our lines, and the arguments in them.
    fn divided(&self, text: &str) -> (String, Vec<String>) {
        let parts = text.split_once(&self.begin()).and_then(|(before, rest)| {
            let (ours, after) = rest.split_once(&self.end())?;
            let arguments = ours.trim_end().strip_suffix('"').and_then(|line| line.strip_prefix(SETTING));
            Some((format!("{before}{after}"), words(arguments.unwrap_or_default())))
        });
        parts.unwrap_or_else(|| (text.to_owned(), Vec::new()))
    }

    fn joined(&self, mut rest: String, arguments: &[String]) -> String {
        if arguments.is_empty() {
            return rest;
        }
        if !rest.is_empty() && !rest.ends_with('\n') {
            rest.push('\n');
        }
        rest + &format!("{}{SETTING} {}\"\n{}", self.begin(), arguments.join(" "), self.end())
    }

    /// Puts in place what the generator makes, if no entry would lose its root. The generator would write over the
    /// configuration itself, and a power cut in the midst of that leaves a system that does not start.
    pub(super) fn generate(&self, control: &dyn Control) -> Result<(), ActionError> {
        let there = control.files().read(self.config).map_err(ControlError::of_file(self.config))?;
        let Some(SystemFile::Text { text, mode, uid, gid }) = there else {
            return Err(unread(self.config, "it is not a file"));
        };
        let new = control.run_tool(self.generator, &[], LOADER_LIMIT)?;
        let (before, after) = (rootless(&text), rootless(&new));
        if entries(&new).next().is_none() {
            return Err(unread(self.config, "it would have no entry for Linux any more"));
        }
        if after > before {
            let reason =
                format!("{after} of its entries would have no `root=`, and such a system does not start");
            return Err(unread(self.config, &reason));
        }
        if new != text {
            control.replace_file(self.config, &SystemFile::Text { text: new, mode, uid, gid })?;
        }
        Ok(())
    }
}

/// The arguments of each of this system's entries for Linux, those for recovery included. Memory tests and other systems are
/// entries of other parts of the generator, and have arguments of their own.
fn entries(config: &str) -> impl Iterator<Item = Vec<String>> {
    let mut is_ours = true;
    config.lines().filter_map(move |line| {
        if let Some(part) = line.strip_prefix("### BEGIN ") {
            is_ours = part
                .trim_end_matches(" ###")
                .rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("10_linux"));
        }
        let mut words = words(line).into_iter();
        let is_linux =
            words.next().is_some_and(|word| matches!(word.as_str(), "linux" | "linuxefi" | "linux16"));
        (is_ours && is_linux).then(|| words.skip(1).collect())
    })
}

fn rootless(config: &str) -> usize {
    entries(config).filter(|words| !words.iter().any(|word| word.starts_with("root="))).count()
}

/// The arguments that every ordinary entry has; those for recovery, which have none of ours, do not count.
pub(super) fn common_arguments(config: &str) -> Vec<String> {
    let is_recovery = |words: &Vec<String>| {
        words.iter().any(|word| matches!(word.as_str(), "single" | "recovery" | "rescue"))
    };
    common(entries(config).filter(|words| !is_recovery(words)))
}
