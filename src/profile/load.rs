//! From the word on the command line to a profile in memory.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use crate::profile::builtin;
use crate::profile::diagnostic::{Finding, Findings};
use crate::profile::resolve;
use crate::profile::schema::Profile;
use crate::profile::yaml::{self, MAX_SIZE, Tree};
use crate::setup::goal::Selector;
use crate::spec::pci::PciAddress;
use crate::spec::spelling::closest;
use crate::vmm::config::{ConfigError, MachineConfig};

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no such file.
    #[error("there is no profile at {}", .path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// A word that is neither a path nor a built-in profile.
    #[error(
        "there is no profile called `{name}`{hint}; the built-in ones are {known}, and a file is named by a path with a `/` or one that ends in .yaml"
    )]
    NotBuiltin {
        /// The name as given.
        name: String,
        /// Which one was probably meant.
        hint: String,
        /// All that there are.
        known: String,
    },
    /// A directory was named.
    #[error("{} is a directory; name a profile in it", .path.display())]
    Directory {
        /// The path as given.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the profile {}", .path.display())]
    Read {
        /// The path as given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than any profile.
    #[error("{} is larger than {} KiB; a profile is not", .path.display(), MAX_SIZE >> 10)]
    TooLarge {
        /// The path as given.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{} is not UTF-8 text (byte {at} is wrong)", .path.display())]
    NotText {
        /// The path as given.
        path: PathBuf,
        /// Offset of the first byte that is no text.
        at: usize,
    },
    /// Somebody else could change it while root acts on it.
    #[error("{} {why}, so others decide what root does with it; {remedy}", .path.display())]
    Untrusted {
        /// The path as given.
        path: PathBuf,
        /// What makes it so.
        why: String,
        /// A command that mends it.
        remedy: String,
    },
    /// It was read, and something in it is wrong.
    #[error("{0}")]
    Invalid(Findings),
}

/// What a profile is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be looked at.
    Look,
    /// To be carried out. Root then takes only files that nobody else can change: its own, or those of the user who
    /// called sudo.
    Act,
}

/// A profile together with its text, so that whatever is wrong with it can be shown in its place.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says. Flags may be put over it; see [`Self::overridden`].
    pub profile: Profile,
    origin: String,
    directory: PathBuf,
    text: String,
    tree: Tree,
    overridden: Vec<&'static str>,
}

/// Whether `argument` is the path of a profile, and not the name of a built-in one.
#[must_use]
pub fn is_path(argument: &str) -> bool {
    argument.contains('/') || argument.ends_with(".yaml") || argument.ends_with(".yml")
}

/// Loads the profile that `argument` names: a path if it has a `/` or ends in `.yaml` or `.yml`, else a built-in one.
///
/// # Errors
/// There is none, it cannot be read, root should not trust it, or something in it is wrong. All that is wrong with
/// its values is reported at once, except what selectors name, which [`Loaded::resolve`] finds out.
pub fn load(argument: &str, purpose: Purpose) -> Result<Loaded, ProfileError> {
    let path = Path::new(argument);
    let loaded = if is_path(argument) {
        let guard = (purpose == Purpose::Act && Uid::effective().is_root()).then(Guard::from_environment);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Loaded::parse(argument, directory, read(path, guard)?)?
    } else {
        let builtin = builtin::find(argument).ok_or_else(|| not_builtin(argument))?;
        Loaded::parse(&format!("profiles/{argument}.yaml"), PathBuf::from("/"), builtin.text.to_owned())?
    };
    loaded.judge(&resolve::check(&loaded.profile)).map_or(Ok(loaded), Err)
}

impl Loaded {
    /// A profile that asks for nothing, to be filled from flags.
    #[must_use]
    pub fn from_flags() -> Self {
        Self {
            profile: Profile::default(),
            origin: String::new(),
            directory: PathBuf::new(),
            text: String::new(),
            tree: Tree::default(),
            overridden: Vec::new(),
        }
    }

    fn parse(origin: &str, directory: PathBuf, text: String) -> Result<Self, ProfileError> {
        match yaml::parse(&text) {
            Ok((profile, tree)) => {
                Ok(Self { profile, origin: origin.to_owned(), directory, text, tree, overridden: Vec::new() })
            }
            Err(findings) => {
                Err(ProfileError::Invalid(Findings { origin: origin.to_owned(), text, findings }))
            }
        }
    }

    /// Where it comes from: the path as given, or `profiles/NAME.yaml` for a built-in one.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The whole text, comments and all.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Notes that a flag was put over `setting` (`machine.memory`): an error in it is then not shown in the file.
    pub fn overridden(&mut self, setting: &'static str) {
        self.overridden.push(setting);
    }

    /// The machine. `lookup` says which function of the host a selector names.
    ///
    /// # Errors
    /// Everything that is wrong, each thing in its place: values out of range and selectors that name nothing.
    pub fn resolve<E: std::fmt::Display>(
        &self,
        lookup: impl Fn(&Selector) -> Result<PciAddress, E>,
    ) -> Result<MachineConfig, ProfileError> {
        resolve::resolve(&self.profile, &self.directory, lookup).map_err(|errors| {
            self.judge(&errors).unwrap_or_else(|| unreachable!("resolve fails with an error"))
        })
    }

    /// `errors` shown in their places (settings are paths from the profile's root); `None` if there are none.
    #[must_use]
    pub fn judge(&self, errors: &[ConfigError]) -> Option<ProfileError> {
        let findings: Vec<Finding> = errors.iter().map(|error| self.finding(error)).collect();
        (!findings.is_empty()).then(|| {
            ProfileError::Invalid(Findings { origin: self.origin.clone(), text: self.text.clone(), findings })
        })
    }

    fn finding(&self, error: &ConfigError) -> Finding {
        let ConfigError { setting, problem } = error;
        let message = format!("{}: {problem}", with_brackets(setting));
        match self.tree.place(setting) {
            Some(place) if !self.overridden.contains(&setting.as_str()) => Finding::new(message, place),
            _ => Finding::without_place(message),
        }
    }
}

/// `machine.devices.2.pvpanic` as people write it: `machine.devices[2].pvpanic`.
fn with_brackets(setting: &str) -> String {
    let is_index = |step: &str| step.bytes().all(|byte| byte.is_ascii_digit());
    let steps =
        setting.split('.').map(|step| if is_index(step) { format!("[{step}]") } else { format!(".{step}") });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

fn not_builtin(name: &str) -> ProfileError {
    let names = builtin::ALL.map(|builtin| builtin.name);
    let hint = closest(name, &names).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
    ProfileError::NotBuiltin { name: name.escape_debug().to_string(), hint, known: names.join(", ") }
}

/// Whose files root trusts.
struct Guard {
    trusted: Vec<u32>,
}

impl Guard {
    fn from_environment() -> Self {
        let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        Self { trusted: [0].into_iter().chain(caller).collect() }
    }

    fn check(&self, path: &Path, metadata: &Metadata) -> Result<(), ProfileError> {
        let path = path.to_owned();
        if !metadata.is_file() {
            return Ok(()); // a pipe: whoever wrote it is the caller
        }
        if metadata.mode() & 0o022 != 0 {
            let remedy = format!("chmod go-w {}", path.display());
            return Err(ProfileError::Untrusted {
                path,
                why: "can be written by group or others".to_owned(),
                remedy,
            });
        }
        if !self.trusted.contains(&metadata.uid()) {
            let why = format!("belongs to user {}", metadata.uid());
            let remedy = format!("chown root {}", path.display());
            return Err(ProfileError::Untrusted { path, why, remedy });
        }
        Ok(())
    }
}

fn read(path: &Path, guard: Option<Guard>) -> Result<String, ProfileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ProfileError::NotFound { path: path.to_owned() },
        _ => ProfileError::Read { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(ProfileError::Directory { path: path.to_owned() });
    }
    if let Some(guard) = guard {
        guard.check(path, &metadata)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_SIZE {
        return Err(ProfileError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| ProfileError::NotText {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::vmm::config::{CpuConfig, ShortForm};

    fn file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.yaml");
        fs::write(&path, "schema: 1\nname: x\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn own() -> u32 {
        Uid::effective().as_raw()
    }

    #[test]
    fn root_takes_what_it_or_its_caller_alone_can_change() {
        let (_directory, path) = file(0o644);
        assert!(read(&path, Some(Guard { trusted: vec![0, own()] })).is_ok());
    }

    #[test]
    fn root_refuses_a_file_that_group_or_others_can_write_whoever_owns_it() {
        for mode in [0o664, 0o646, 0o666] {
            let (_directory, path) = file(mode);
            let error = read(&path, Some(Guard { trusted: vec![0, own()] })).unwrap_err();
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }

    #[test]
    fn root_refuses_a_file_of_another_user() {
        let (_directory, path) = file(0o600);
        let error = read(&path, Some(Guard { trusted: vec![own() + 1] })).unwrap_err();
        assert!(matches!(error, ProfileError::Untrusted { .. }), "{error}");
        assert!(error.to_string().contains(&format!("belongs to user {}", own())), "{error}");
    }

    #[test]
    fn whoever_is_not_root_acts_for_nobody_but_himself() {
        let (_directory, path) = file(0o666);
        assert!(read(&path, None).is_ok());
    }

    #[test]
    fn relative_paths_are_taken_from_the_directory_of_the_file() {
        let (directory, path) = file(0o644);
        let text = "schema: 1\nname: x\nmachine:\n  boot: {kernel: vmlinuz, initrd: /initrd}\n  devices:\n    - virtio-block: {path: disks/a.img, format: raw}\n";
        fs::write(&path, text).unwrap();
        let machine = load(path.to_str().unwrap(), Purpose::Look).unwrap().resolve(nothing).unwrap();
        assert_eq!(machine.boot.kernel.unwrap(), directory.path().join("vmlinuz"));
        assert_eq!(machine.boot.initrd.unwrap(), Path::new("/initrd"));
        let crate::vmm::config::DeviceConfig::VirtioBlock(block) = &machine.devices[0] else { panic!() };
        assert_eq!(block.path, directory.path().join("disks/a.img"));
    }

    fn nothing(_: &Selector) -> Result<PciAddress, String> {
        Err("there is no such function".to_owned())
    }

    fn said(loaded: &Loaded) -> String {
        loaded.resolve(nothing).unwrap_err().to_string()
    }

    #[test]
    fn every_selector_that_names_nothing_is_shown_in_its_place() {
        let (_directory, path) = file(0o644);
        let text = "schema: 1\nname: x\nmachine:\n  devices:\n    - vfio-pci: {select: {id: \"8086:10c9\"}}\n    - virtio-rng: {}\n    - vfio-pci: {select: {disk: sda}}\n";
        fs::write(&path, text).unwrap();
        let said = said(&load(path.to_str().unwrap(), Purpose::Look).unwrap());
        assert!(said.contains("machine.boot.kernel: no kernel"), "{said}");
        assert!(said.contains("machine.devices[0].vfio-pci.select: there is no such function"), "{said}");
        assert!(said.contains("x.yaml:7:18"), "{said}");
        assert_eq!(said.matches("error: ").count(), 3);
    }

    #[test]
    fn what_a_flag_set_is_not_shown_in_the_file() {
        let mut loaded = load("minimal", Purpose::Look).unwrap();
        loaded.profile.machine.cpus = CpuConfig::from_value(99);
        loaded.overridden("machine.cpus");
        let said = said(&loaded);
        assert!(said.starts_with("error: machine.cpus: 99 is not between 1 and 64"), "{said}");
        assert!(!said.contains("cpus: 1"), "{said}");
    }

    #[test]
    fn flags_alone_make_a_machine() {
        let mut loaded = Loaded::from_flags();
        let nothing_to_start = crate::vmm::config::NOTHING_TO_START;
        assert_eq!(said(&loaded), format!("error: machine.boot.kernel: {nothing_to_start}"));
        loaded.profile.machine.boot.kernel = Some("/vmlinuz".into());
        let machine = loaded.resolve(nothing).unwrap();
        assert_eq!((machine.cpus.count(), machine.memory.to_string()), (1, "512MiB".to_owned()));
    }
}
