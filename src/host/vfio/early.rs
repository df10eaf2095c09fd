//! Modules of VFIO that are named for the start of the system, or for its initial RAM file system.
//!
//! Spec: modules-load.d(5), initramfs-tools(7), mkinitcpio.conf(5), dracut.conf(5). Who loads vfio-pci there has it before
//! the drivers that would take the functions first.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

/// Files, and directories of files.
const FILES: [&str; 4] =
    ["/etc/modules", "/etc/initramfs-tools/modules", "/etc/mkinitcpio.conf", "/etc/dracut.conf"];
const DIRECTORIES: [&str; 3] = ["/etc/modules-load.d", "/etc/mkinitcpio.conf.d", "/etc/dracut.conf.d"];
/// Most bytes of one file that are read.
const FILE_LIMIT_BYTES: u64 = 64 << 10;
/// Most files of one directory that are read.
const MOST_FILES: usize = 64;

/// A module that is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EarlyModule {
    /// The file.
    pub file: String,
    /// The module, with underscores.
    pub module: String,
    /// Whether the file is read at all: files of the directories must be named `*.conf`.
    pub is_read: bool,
}

pub(super) fn collect(source: &dyn Source) -> Fact<Vec<EarlyModule>> {
    let mut files: Vec<_> = FILES.iter().map(|file| (*file).to_owned()).collect();
    for directory in DIRECTORIES {
        match source.list(directory) {
            Fact::Known(names) => {
                files.extend(names.iter().take(MOST_FILES).map(|name| format!("{directory}/{name}")));
            }
            Fact::NotPresent => {}
            unread => return unread.map(|_| Vec::new()),
        }
    }
    let mut found = Vec::new();
    for file in files {
        match source.read_limited(&file, FILE_LIMIT_BYTES) {
            Fact::Known(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let is_read = file.ends_with(".conf") || FILES.contains(&file.as_str());
                found.extend(modules(&text).map(|module| EarlyModule {
                    file: file.clone(),
                    module,
                    is_read,
                }));
            }
            Fact::NotPresent => {}
            // A directory among the files, or an editor's leftover: whoever reads these skips it, too.
            Fact::Unreadable { .. } => {}
            denied => return denied.map(|_| Vec::new()),
        }
    }
    found.dedup();
    Fact::Known(found)
}

/// Words that begin with `vfio`, in lines that are no comments.
fn modules(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.flat_map(|line| {
        line.split(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '_' | '-')))
    });
    words.filter(|word| word.starts_with("vfio")).map(|word| word.replace('-', "_"))
}
