//! Files of the system's configuration have this content, and who reads them was told.
//!
//! Each file is replaced as a whole; what was there is kept in the journal, with owner and mode, and put back. A program
//! that makes something of the files (a boot loader's configuration, an initial RAM file system) runs after them, at undo
//! too. An apply that was cut off between the two left the files behind and not what is made of them: the journal
//! tells, and the program runs again, at undo and at the next apply.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, Footprint, Object, Standing};
use crate::host::boot::InitramfsTool;
use crate::setup::control::{Control, ControlError};
use crate::sys::system_file::SystemFile;

/// How long udev or systemd may take to read their configuration.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);
/// How long the initial RAM file systems of all kernels may take.
const INITRAMFS_LIMIT: Duration = Duration::from_secs(900);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// What the files are, for people.
    pub what: String,
    /// The files.
    pub files: Vec<NewFile>,
    /// Who is told.
    pub refresh: Vec<Refresh>,
}

/// A file as it should be. It belongs to root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFile {
    /// Absolute path.
    pub path: String,
    /// What is to be there.
    pub content: Content,
}

/// What is to be at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A file that everybody may read.
    Text(String),
    /// A program.
    Program(String),
    /// A symbolic link.
    Link(String),
}

/// Who makes something of files that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// udev reads its rules again.
    Udev,
    /// systemd reads its units again.
    Systemd,
    /// The initial RAM file systems are made again.
    Initramfs(InitramfsTool),
}

impl Refresh {
    fn run(self, control: &dyn Control) -> Result<(), ControlError> {
        let (program, arguments, limit): (_, &[&str], _) = match self {
            Self::Udev => ("udevadm", &["control", "--reload"], RELOAD_LIMIT),
            Self::Systemd => ("systemctl", &["daemon-reload"], RELOAD_LIMIT),
            Self::Initramfs(InitramfsTool::InitramfsTools) => {
                ("update-initramfs", &["-u", "-k", "all"], INITRAMFS_LIMIT)
            }
            Self::Initramfs(InitramfsTool::Dracut) => {
                ("dracut", &["-f", "--regenerate-all"], INITRAMFS_LIMIT)
            }
            Self::Initramfs(InitramfsTool::Mkinitcpio) => ("mkinitcpio", &["-P"], INITRAMFS_LIMIT),
        };
        control.run_tool(program, arguments, limit).map(drop)
    }
}

/// What was at the paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesState {
    /// In the order of the files.
    files: Vec<Option<SystemFile>>,
    /// Directories that did not exist, outermost first.
    missing: Vec<String>,
}

impl Content {
    fn is(&self, there: Option<&SystemFile>) -> bool {
        match (self, there) {
            (Self::Link(wanted), Some(SystemFile::Link { target })) => wanted == target,
            (Self::Text(wanted), Some(SystemFile::Text { text, mode, .. })) => {
                wanted == text && mode & 0o111 == 0
            }
            (Self::Program(wanted), Some(SystemFile::Text { text, mode, .. })) => {
                wanted == text && mode & 0o100 != 0
            }
            _ => false,
        }
    }

    fn file(&self) -> SystemFile {
        let owner = |text: &String, mode| {
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            SystemFile::Text { text: text.clone(), mode, uid, gid }
        };
        match self {
            Self::Text(text) => owner(text, 0o644),
            Self::Program(text) => owner(text, 0o755),
            Self::Link(target) => SystemFile::Link { target: target.clone() },
        }
    }
}

impl Install {
    fn refresh(&self, control: &dyn Control) -> Result<(), ActionError> {
        self.refresh.iter().try_for_each(|refresh| refresh.run(control)).map_err(ActionError::from)
    }
}

impl Act for Install {
    type State = FilesState;

    fn observe(&self, control: &dyn Control) -> Result<FilesState, ActionError> {
        let mut state = FilesState { files: Vec::new(), missing: Vec::new() };
        for NewFile { path, .. } in &self.files {
            let files = control.files();
            state.files.push(files.read(path).map_err(ControlError::of_file(path))?);
            for directory in files.missing_directories(path).map_err(ControlError::of_file(path))? {
                if !state.missing.contains(&directory) {
                    state.missing.push(directory);
                }
            }
        }
        Ok(state)
    }

    fn act(&self, _prior: &FilesState, control: &dyn Control) -> Result<(), ActionError> {
        for NewFile { path, content } in &self.files {
            if !content.is(control.files().read(path).map_err(ControlError::of_file(path))?.as_ref()) {
                control.replace_file(path, &content.file())?;
            }
        }
        self.refresh(control)
    }

    fn revert(&self, prior: &FilesState, control: &dyn Control) -> Result<(), ActionError> {
        for (NewFile { path, .. }, before) in self.files.iter().zip(&prior.files).rev() {
            if control.files().read(path).map_err(ControlError::of_file(path))? == *before {
                continue;
            }
            match before {
                Some(before) => control.replace_file(path, before)?,
                None => control.remove_file(path)?,
            }
        }
        for directory in prior.missing.iter().rev() {
            control.remove_empty_directory(directory)?;
        }
        self.refresh(control)
    }

    fn standing(&self, prior: &FilesState, now: &FilesState) -> Standing {
        let mut applied = true;
        let mut ours = true;
        for ((new, before), there) in self.files.iter().zip(&prior.files).zip(&now.files) {
            let is_new = new.content.is(there.as_ref());
            applied &= is_new;
            ours &= is_new || there == before;
            if !ours {
                let state = if there.is_some() { "has another content" } else { "is gone" };
                return Standing::Drifted(format!("{} {state}", new.path));
            }
        }
        if applied {
            Standing::Applied
        } else if now.files == prior.files {
            // A directory that somebody else put something into stays.
            Standing::Before
        } else {
            Standing::Between
        }
    }

    fn footprint(&self, _prior: &FilesState) -> Footprint {
        let changes = self.files.iter().map(|file| Object::File(file.path.clone())).collect();
        Footprint { changes, needs: Vec::new() }
    }

    fn describe(&self) -> String {
        let paths: Vec<_> = self.files.iter().map(|file| file.path.as_str()).collect();
        format!("write {}: {}", self.what, paths.join(", "))
    }

    fn describe_undo(&self, prior: &FilesState) -> String {
        let verb = if prior.files.iter().all(Option::is_none) { "remove" } else { "put back" };
        let paths: Vec<_> = self.files.iter().map(|file| file.path.as_str()).collect();
        format!("{verb} {}", paths.join(", "))
    }
}
