//! What modprobe is told about the modules of virtualization and about drivers that a passed-through device must not get.
//!
//! Spec: modprobe.d(5). A file in a directory of higher precedence hides those of its name in the others. Lines about
//! other modules are nobody's business here.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

/// Where the files are, the highest precedence first (modprobe.d(5)).
const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];
/// Most bytes of one file that are read.
const FILE_LIMIT_BYTES: u64 = 128 << 10;
/// Most files that are read.
const MOST_FILES: usize = 256;
/// Most lines that are told.
const MOST_SETTINGS: usize = 256;
/// First letters of the modules that are told.
const MODULES: [&str; 6] = ["kvm", "vfio", "iommu", "vhost", "pci_stub", "virtio_iommu"];
/// Drivers of displays and sound, which people keep away from a device that they pass through.
const DRIVERS: [&str; 12] = [
    "amdgpu",
    "i915",
    "nouveau",
    "nvidia",
    "nvidia_drm",
    "nvidia_modeset",
    "nvidia_uvm",
    "nvidiafb",
    "radeon",
    "snd_hda_intel",
    "simpledrm",
    "xe",
];

/// One line that modprobe obeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModprobeSetting {
    /// The file.
    pub file: String,
    /// What kind of line.
    pub kind: SettingKind,
    /// The module, with underscores.
    pub module: String,
    /// What is behind the module's name, spaces joined; empty where nothing is.
    pub text: String,
}

/// Kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// Parameters for the module.
    Options,
    /// The module is not loaded for a device by itself; it still is when somebody names it.
    Blacklist,
    /// Modules to load before and after it.
    Softdep,
    /// A command that runs in the place of loading it.
    Install,
}

impl SettingKind {
    /// The word that the line begins with.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Blacklist => "blacklist",
            Self::Softdep => "softdep",
            Self::Install => "install",
        }
    }
}

impl ModprobeSetting {
    /// The line, as modprobe understands it.
    #[must_use]
    pub fn line(&self) -> String {
        let line = format!("{} {} {}", self.kind.word(), self.module, self.text);
        line.trim_end().to_owned()
    }

    /// The value that a line of options gives to `parameter`; the last one, which wins.
    #[must_use]
    pub fn option(&self, parameter: &str) -> Option<&str> {
        if self.kind != SettingKind::Options {
            return None;
        }
        let mut words = self.text.split(' ').rev();
        words.find_map(|word| word.strip_prefix(parameter)?.strip_prefix('='))
    }

    /// Whether the command in the module's place loads nothing.
    #[must_use]
    pub fn forbids_loading(&self) -> bool {
        let program = self.text.split(' ').next().unwrap_or_default();
        self.kind == SettingKind::Install
            && matches!(program.rsplit('/').next(), Some("true" | "false" | ":" | "exit"))
    }
}

/// The name of a module as the kernel writes it.
pub(super) fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads what is told, in the order in which modprobe reads it. Unknown, if something of it could not be read.
pub(super) fn collect(source: &dyn Source) -> Fact<Vec<ModprobeSetting>> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        match source.list(directory) {
            Fact::Known(names) => {
                let names = names.into_iter().filter(|name| name.ends_with(".conf"));
                files.extend(names.filter(|name| seen.insert(name.clone())).map(|name| (name, directory)));
            }
            Fact::NotPresent => {}
            unread => return unread.map(|_| Vec::new()),
        }
    }
    files.sort_unstable();
    let mut settings = Vec::new();
    for (name, directory) in files.into_iter().take(MOST_FILES) {
        let path = format!("{directory}/{name}");
        let text = source
            .read_limited(&path, FILE_LIMIT_BYTES)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match text {
            Fact::Known(text) => settings.extend(parse(&path, &text)),
            Fact::NotPresent => {} // it went meanwhile, or is a link to nowhere
            unread => return unread.map(|_| Vec::new()),
        }
    }
    settings.truncate(MOST_SETTINGS);
    Fact::Known(settings)
}

fn parse(file: &str, text: &str) -> Vec<ModprobeSetting> {
    let joined = text.replace("\\\n", " ");
    joined.lines().filter_map(|line| setting(file, line)).collect()
}

fn setting(file: &str, line: &str) -> Option<ModprobeSetting> {
    let mut words = line.split_ascii_whitespace();
    let kind = match words.next()? {
        "options" => SettingKind::Options,
        "blacklist" => SettingKind::Blacklist,
        "softdep" => SettingKind::Softdep,
        "install" => SettingKind::Install,
        _ => return None,
    };
    let module = module_name(words.next()?);
    let text = words.collect::<Vec<_>>().join(" ");
    let is_ours = |name: &str| MODULES.iter().any(|prefix| name.starts_with(prefix));
    let matters = is_ours(&module)
        || DRIVERS.contains(&module.as_str())
        || (kind == SettingKind::Softdep && text.split(' ').any(|word| is_ours(&module_name(word))));
    matters.then(|| ModprobeSetting { file: file.to_owned(), kind, module, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    #[test]
    fn lines_that_matter_are_kept_in_the_order_of_their_files() {
        let host = FakeHost::new(&[
            ("/lib/modprobe.d/zz.conf", Entry::Text("blacklist nouveau\nblacklist pcspkr")),
            (
                "/etc/modprobe.d/vfio.conf",
                Entry::Text(
                    "# ids\noptions vfio-pci ids=10de:2204 \\\n  disable_vga=1\nsoftdep xhci-pci pre: vfio-pci",
                ),
            ),
            ("/etc/modprobe.d/vfio.conf.bak", Entry::Text("blacklist vfio")),
            ("/etc/modprobe.d/kvm.conf", Entry::Text("install kvm_intel /bin/false")),
        ]);
        let settings = collect(&host.source()).known().unwrap().clone();
        let lines: Vec<_> = settings.iter().map(ModprobeSetting::line).collect();
        assert_eq!(
            lines,
            [
                "install kvm_intel /bin/false",
                "options vfio_pci ids=10de:2204 disable_vga=1",
                "softdep xhci_pci pre: vfio-pci",
                "blacklist nouveau",
            ]
        );
        assert!(settings[0].forbids_loading() && !settings[1].forbids_loading());
        assert_eq!(settings[1].option("ids"), Some("10de:2204"));
        assert_eq!(settings[1].option("id"), None);
    }

    #[test]
    fn a_file_hides_those_of_its_name_below_it() {
        let host = FakeHost::new(&[
            ("/etc/modprobe.d/a.conf", Entry::Text("options kvm ignore_msrs=1")),
            ("/usr/lib/modprobe.d/a.conf", Entry::Text("blacklist kvm")),
        ]);
        let settings = collect(&host.source()).known().unwrap().clone();
        assert_eq!(settings.len(), 1);
        assert_eq!(settings[0].kind, SettingKind::Options);
    }

    #[test]
    fn no_directory_is_no_setting_and_a_denied_file_is_unknown() {
        assert_eq!(collect(&FakeHost::new(&[]).source()), Fact::Known(Vec::new()));
        let host = FakeHost::new(&[("/etc/modprobe.d/a.conf", Entry::Bytes(b"options \xFF\nblacklist"))]);
        assert_eq!(collect(&host.source()), Fact::Known(Vec::new()));
        assert!(collect(&host.source_without(&["a.conf"])).is_unread());
    }
}
