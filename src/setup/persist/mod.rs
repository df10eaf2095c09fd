//! What makes a goal so again at every boot.
//!
//! Four parts, each a file or some, written by [`Install`] steps of the same plan, so that they are journaled and taken back
//! like everything else:
//!
//! - the *persisted goal* ([`PersistedGoal`], `/etc/thruway/boot.d/NAME.yaml`), in which functions have names that no
//!   renumbering of buses changes, and the IDs that the device had;
//! - a *unit* ([`units`]) that makes it so before the network is configured, by the same plan, guard and journal;
//! - a *udev rule* ([`udev`]) that keeps a device from the host's driver until then, in the initial RAM file system too where
//!   its driver is loaded there ([`initramfs`]), and against drivers that are loaded by name ([`modprobe`]);
//! - *arguments* of the kernel, for what only a boot can give ([`KernelArguments`]).
//!
//! [`SKIP`] on the kernel's command line switches all of them off for one boot, but for the arguments. The unit takes a
//! device from a driver only past the guard; the rule takes none from anybody.
//!
//! [`steps`] is pure. What a boot does with a persisted goal is [`restore`].

pub mod initramfs;
pub mod limits;
pub mod modprobe;
pub mod restore;
pub mod udev;
pub mod units;

mod goal;
#[cfg(test)]
mod tests;

pub use goal::{Expected, PersistedGoal, PersistedGoalError};

use super::action::install::{Content, Install, NewFile, Refresh};
use super::action::{Action, KernelArguments, TrialBoot};
use super::goal::Goal;
use super::guard::Consents;
use super::plan::PlanError;
use crate::host::HostFacts;
use crate::host::boot::Boot;
use crate::sys::system_file::check_trusted;

/// Where persisted goals are.
pub const DIRECTORY: &str = "/etc/thruway/boot.d";
/// On the kernel's command line, it switches off what is persisted.
pub const SKIP: &str = "thruway.skip=1";

/// A goal that is to be so at every boot.
#[derive(Debug, Clone, Copy)]
pub struct Persistence<'a> {
    /// Part of the names of its files: a profile's name, or what a command concerns.
    pub name: &'a str,
    /// What should be so.
    pub goal: &'a Goal,
    /// Absolute path of the program that the unit runs, if it can be trusted.
    pub program: Result<&'a str, &'a str>,
}

/// The file of the persisted goal `name`.
#[must_use]
pub fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}.yaml")
}

/// Absolute path of this program, for root to run it at every boot; or why it cannot be trusted with that.
///
/// # Errors
/// What is wrong, with a remedy.
pub fn this_program() -> Result<String, String> {
    std::env::current_exe()
        .map_err(|error| error.to_string())
        .and_then(|path| check_trusted(&path).map_err(|error| error.to_string()))
        .and_then(|path| path.into_os_string().into_string().map_err(|_| "its path is not text".to_owned()))
        .map_err(|why| format!("{why} (install it for all first, for example as /usr/local/bin/thruway)"))
}

/// The steps that persist a goal on the host of `facts`, which starts as `boot` says. Purely a matter of files: whether the
/// goal is so now is for [`super::plan::plan`].
///
/// # Errors
/// [`PlanError::Invalid`] and [`PlanError::Unpersistable`].
pub fn steps(
    facts: &HostFacts,
    boot: &Boot,
    consents: &Consents,
    wanted: &Persistence<'_>,
) -> Result<Vec<Action>, PlanError> {
    let Persistence { name, goal, program } = *wanted;
    check_name(name)?;
    let persisted = PersistedGoal::new(facts, name, goal, consents)?;
    let cannot = |reason: String| {
        let text = by_hand(&persisted, goal);
        Err(PlanError::Unpersistable { reason, by_hand: text })
    };
    if let Some(why) = boot.described_elsewhere {
        return cannot(format!("{why}, so nothing is written there"));
    }
    let mut steps: Vec<_> = limits::step(&persisted).map(Action::Install).into_iter().collect();
    if persisted.asks_of_boot() {
        if !boot.systemd {
            return cannot("systemd is not what starts this system".to_owned());
        }
        let program = match program {
            Ok(program) => program,
            Err(why) => return cannot(format!("root is to run this program at every boot, and {why}")),
        };
        let unit = units::file(name);
        let mut files = vec![
            NewFile { path: path(name), content: Content::Text(persisted.to_yaml()) },
            NewFile {
                path: format!("{}/{unit}", units::DIRECTORY),
                content: Content::Text(units::text(name, program)),
            },
        ];
        let mut refresh = Vec::new();
        if let Some(rules) = udev::text(&persisted) {
            files.push(NewFile { path: udev::path(name), content: Content::Text(rules) });
            refresh.extend(boot.udev.then_some(Refresh::Udev));
        }
        let modprobe = modprobe::text(facts, boot, &persisted);
        let early = initramfs::file(facts, boot, &persisted, modprobe.is_some());
        if let Some(text) = modprobe {
            files.push(NewFile { path: modprobe::path(name), content: Content::Text(text) });
        }
        // Switched on when the rest of it is there.
        let link = format!("{}/{}/{unit}", units::DIRECTORY, units::WANTS);
        files.push(NewFile { path: link, content: Content::Link(format!("../{unit}")) });
        refresh.push(Refresh::Systemd);
        // Last, at undo too: what it makes has in it what is below /etc then.
        if let Some((file, tool)) = early {
            files.push(file);
            refresh.push(tool);
        }
        let what = format!("what makes {name} so at every boot");
        steps.push(Action::Install(Install { what, files, refresh }));
    }
    if !goal.kernel_arguments.is_empty() {
        let Some(loader) = boot.loader.clone() else {
            return cannot("which boot loader this system has cannot be told".to_owned());
        };
        let arguments = goal.kernel_arguments.clone();
        steps.push(Action::KernelArguments(KernelArguments { name: name.to_owned(), loader, arguments }));
    }
    Ok(steps)
}

/// The step that lets the next boot alone have the kernel arguments of `goal`, if it has any.
///
/// # Errors
/// [`PlanError::Invalid`] and [`PlanError::Unpersistable`].
pub fn trial_boot(boot: &Boot, name: &str, goal: &Goal) -> Result<Option<Action>, PlanError> {
    check_name(name)?;
    let arguments = goal.kernel_arguments.clone();
    if arguments.is_empty() {
        return Ok(None);
    }
    let why = match (boot.described_elsewhere, boot.loader.clone()) {
        (Some(why), _) => why.to_owned(),
        (None, Some(loader)) if TrialBoot::is_possible(&loader) => {
            return Ok(Some(Action::TrialBoot(TrialBoot { name: name.to_owned(), loader, arguments })));
        }
        (None, Some(loader)) => format!("arguments are kept by {loader}"),
        (None, None) => "which boot loader this system has cannot be told".to_owned(),
    };
    Err(PlanError::Unpersistable {
        reason: format!("only GRUB and systemd-boot with entries in files start an entry once, and {why}"),
        by_hand: format!(
            "# In the menu of the loader, e at an entry edits its arguments for one boot. Add:\n{}\n",
            arguments.join(" ")
        ),
    })
}

fn check_name(name: &str) -> Result<(), PlanError> {
    if is_name(name) {
        return Ok(());
    }
    Err(PlanError::Invalid(format!(
        "`{}` cannot be the name of what is persisted: it has up to 64 of a-z, 0-9, - and .; a profile has a `name` of \
         its own choice",
        name.escape_debug()
    )))
}

/// Whether `name` can be part of the names of files, units and labels.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(inner)
}

/// What to write by hand where nothing can be written.
fn by_hand(persisted: &PersistedGoal, goal: &Goal) -> String {
    let mut out =
        String::from("# As for configuration.nix; elsewhere, the same where that system keeps it:\n");
    if !goal.kernel_arguments.is_empty() {
        let words: Vec<_> = goal.kernel_arguments.iter().map(|word| format!("\"{word}\"")).collect();
        out.push_str(&format!("boot.kernelParams = [ {} ];\n", words.join(" ")));
    }
    if persisted.asks_of_boot() {
        out.push_str("boot.initrd.kernelModules = [ \"vfio_pci\" ];\n");
        if let Some(rules) = udev::text(persisted) {
            out.push_str(&format!("services.udev.extraRules = ''\n{rules}'';\n"));
        }
        out.push_str(&format!(
            "environment.etc.\"{}\".text = ''\n{}'';\n",
            path(&persisted.name).trim_start_matches("/etc/"),
            persisted.to_yaml()
        ));
        let unit = units::text(&persisted.name, "thruway");
        out.push_str(&format!("# and as {}:\n{unit}", units::file(&persisted.name)));
    }
    for file in limits::step(persisted).into_iter().flat_map(|step| step.files) {
        if let Content::Text(text) = file.content {
            out.push_str(&format!("# and as {}:\n{text}", file.path));
        }
    }
    out
}
