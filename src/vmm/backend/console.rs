//! What a guest prints, kept in a file on the host.
//!
//! A guest can print without end: the file takes at most [`LIMIT_BYTES`] in one run of the machine, then the rest is dropped
//! and the log says so once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Most bytes that one run of a machine adds to the file.
pub const LIMIT_BYTES: u64 = 256 << 20;

/// The file could not be opened for appending.
#[derive(Debug, thiserror::Error)]
#[error("cannot write console output to {path}")]
pub struct ConsoleError {
    /// The file.
    pub path: PathBuf,
    /// What the host said.
    #[source]
    pub source: io::Error,
}

/// A file that takes console output.
#[derive(Debug)]
pub struct ConsoleFile {
    file: File,
    path: PathBuf,
    left: u64,
    failed: bool,
}

impl ConsoleFile {
    /// Opens the file for appending, with mode 0600 if it is new. A FIFO or terminal never makes the guest wait: what it
    /// does not take is dropped.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn open(path: &Path) -> Result<Self, ConsoleError> {
        let open = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let file = open.map_err(|source| ConsoleError { path: path.to_owned(), source })?;
        Ok(Self { file, path: path.to_owned(), left: LIMIT_BYTES, failed: false })
    }

    /// Appends `data`, as far as the limit and the host let it. The guest is never told of a failure: it could do nothing
    /// about it.
    pub fn print(&mut self, data: &[u8]) {
        if self.left == 0 {
            return;
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let part = data.get(..room.min(data.len())).unwrap_or(data);
        self.left -= part.len() as u64;
        if self.left == 0 {
            tracing::warn!(path = %self.path.display(), limit = LIMIT_BYTES, "console output ends here: it reached its limit");
        }
        match self.file.write_all(part) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    tracing::warn!(path = %self.path.display(), %error, "console output is lost");
                }
                self.failed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_appended_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        ConsoleFile::open(&path).unwrap().print(b"first ");
        let mut console = ConsoleFile::open(&path).unwrap();
        console.left = 4;
        console.print(b"second");
        console.print(b"third");
        assert_eq!(std::fs::read(&path).unwrap(), b"first seco");
    }

    #[test]
    fn a_directory_is_no_console_file() {
        let directory = tempfile::tempdir().unwrap();
        let error = ConsoleFile::open(directory.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot write console output to /"), "{error}");
    }
}
