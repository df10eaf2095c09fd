//! The directory where fetched and built parts are kept, and its locks.
//!
//! ```text
//! lock                     held while something is added
//! kernel/RELEASE/          an unpacked kernel package: vmlinuz, vmlinux, modules/
//! bin/busybox              a static busybox
//! initrd/{host,guest}-KEY.img
//! runs/XXXXXX/             one emulated host each; locked by the process that runs it
//! ```
//!
//! Parts appear whole: they are made beside their place and renamed. The key of a part that is built here is a
//! fingerprint of all that it is made of, so a stale part is simply not found.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::AssetsError;

/// The cache directory of this user.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$THRUWAY_CACHE`, else `$XDG_CACHE_HOME/thruway`, else `~/.cache/thruway`.
    ///
    /// # Errors
    /// [`AssetsError::NoCache`] when no variable says where, or the path is relative.
    pub fn of_environment() -> Result<Self, AssetsError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("THRUWAY_CACHE")
            .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("thruway")))
            .or_else(|| Some(variable("HOME")?.join(".cache/thruway")))
            .ok_or(AssetsError::NoCache)?;
        let root = std::path::absolute(&root).map_err(|source| AssetsError::Io { path: root, source })?;
        Ok(Self { root })
    }

    /// A cache at `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A place inside.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A directory inside, made when it is not there.
    pub(crate) fn directory(&self, relative: &str) -> Result<PathBuf, AssetsError> {
        let path = self.path(relative);
        fs::create_dir_all(&path).map_err(|source| AssetsError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// Waits until no other process adds something.
    pub(super) fn lock(&self) -> Result<File, AssetsError> {
        let path = self.directory("")?.join("lock");
        let locked = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|source| AssetsError::Io { path: path.clone(), source })
    }

    /// Writes a file that appears whole or not at all.
    pub(super) fn publish(
        &self,
        relative: &str,
        permissions: u32,
        data: &[u8],
    ) -> Result<PathBuf, AssetsError> {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(relative);
        let write = || {
            let parent = path.parent().unwrap_or(&self.root);
            fs::create_dir_all(parent)?;
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            file.write_all(data)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(permissions))?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| AssetsError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// Makes a directory by `fill`ing an empty one, and moves it to its place. The caller holds the lock.
    pub(super) fn publish_directory(
        &self,
        relative: &str,
        fill: impl FnOnce(&Path) -> Result<(), AssetsError>,
    ) -> Result<PathBuf, AssetsError> {
        let path = self.path(relative);
        let io = |source| AssetsError::Io { path: path.clone(), source };
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(io)?;
        remove_unfinished(parent).map_err(io)?;
        let fresh = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent).map_err(io)?;
        fill(fresh.path())?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io)?;
        }
        fs::rename(fresh.keep(), &path).map_err(io)?;
        Ok(path)
    }

    /// A directory for one emulated host; the ones of processes that are gone are removed first.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn run_directory(&self) -> Result<RunDirectory, AssetsError> {
        let runs = self.directory("runs")?;
        let io = |source| AssetsError::Io { path: runs.clone(), source };
        // New and sweep must not meet: a directory exists for a moment before its lock is held.
        let _lock = self.lock()?;
        sweep(&runs).map_err(io)?;
        let directory = tempfile::Builder::new().prefix("").rand_bytes(6).tempdir_in(&runs).map_err(io)?;
        let lock = File::create(directory.path().join("lock")).map_err(io)?;
        lock.lock().map_err(io)?;
        Ok(RunDirectory { directory, lock })
    }
}

/// The directory of one emulated host. It goes when the value goes; after a crash, at the next start.
#[derive(Debug)]
pub struct RunDirectory {
    directory: tempfile::TempDir,
    #[expect(dead_code, reason = "held, not read: the lock shows that the directory is in use")]
    lock: File,
}

impl RunDirectory {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// How names begin of directories that are being filled.
const UNFINISHED: &str = ".new-";

/// Removes what a process that was killed had begun. Only for who holds the lock.
fn remove_unfinished(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn sweep(runs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(runs)? {
        let path = entry?.path();
        let unused = match File::open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if unused {
            // Another user's, or just being removed: not ours to insist.
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// A key for something that is built from `parts`.
pub(super) fn fingerprint(parts: &impl Hash) -> String {
    // A change of this function between Rust releases costs a rebuild, nothing else.
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_could_not_be_filled_does_not_appear() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());

        let result = cache.publish_directory("kernel/1", |_| Err(AssetsError::NoCache));

        assert!(result.is_err());
        assert!(!cache.path("kernel/1").exists());
        assert_eq!(fs::read_dir(cache.path("kernel")).unwrap().count(), 0);
    }

    #[test]
    fn directories_of_runs_that_are_gone_are_swept_and_others_kept() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        let running = cache.run_directory().unwrap();
        let gone = cache.path("runs/gone");
        fs::create_dir(&gone).unwrap();
        fs::write(gone.join("lock"), "").unwrap();

        let _another = cache.run_directory().unwrap();

        assert!(running.path().exists());
        assert!(!gone.exists());
    }

    #[test]
    fn published_files_replace_their_predecessor_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path());
        cache.publish("bin/x", 0o755, b"one").unwrap();

        let path = cache.publish("bin/x", 0o755, b"two").unwrap();

        assert_eq!(fs::read(path).unwrap(), b"two");
        assert_eq!(fs::read_dir(cache.path("bin")).unwrap().count(), 1);
    }
}
