//! What a guest prints, kept in a file on the host.
//!
//! A guest can print without end: the file takes at most so much in one run of the machine, then the rest is dropped and the
//! log says so once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::End;

/// Most bytes that one run of a machine adds to the file where nothing else is said.
pub(super) const LIMIT_BYTES: u64 = 256 << 20;

/// A file that takes console output.
#[derive(Debug)]
pub(super) struct ConsoleFile {
    file: File,
    path: PathBuf,
    limit: u64,
    left: u64,
    failed: bool,
}

impl ConsoleFile {
    /// Opens the file for appending, with mode 0600 if it is new. A FIFO or terminal never makes the guest wait: what it
    /// does not take is dropped.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let open = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        Ok(Self { file: open?, path: path.to_owned(), limit, left: limit, failed: false })
    }

    /// Appends `data`, as far as the limit and the host let it. The guest is never told of a failure: it could do nothing
    /// about it.
    fn print(&mut self, data: &[u8]) {
        if self.left == 0 {
            return;
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let part = data.get(..room.min(data.len())).unwrap_or(data);
        self.left -= part.len() as u64;
        if self.left == 0 {
            tracing::warn!(path = %self.path.display(), limit = self.limit, "console output ends here: it reached its limit");
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

impl End for ConsoleFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.print(data);
        Ok(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_appended_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        ConsoleFile::open(&path, LIMIT_BYTES).unwrap().print(b"first ");
        let mut console = ConsoleFile::open(&path, 4).unwrap();
        console.print(b"second");
        console.print(b"third");
        assert_eq!(std::fs::read(&path).unwrap(), b"first seco");
    }

    #[test]
    fn a_directory_is_no_console_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(ConsoleFile::open(directory.path(), 1).is_err());
    }
}
