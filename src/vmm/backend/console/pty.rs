//! A console on a pseudo-terminal, for programs that want a terminal: `screen`, `minicom`, `picocom`.
//!
//! It is raw: the guest's own terminal does echo and lines. This process holds both sides, so that programs can come and go;
//! what the guest prints while none is there waits as far as the terminal has room, then is dropped.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

use super::End;
use crate::vmm::console::Typed;

/// The terminal.
#[derive(Debug)]
pub(super) struct ConsolePty {
    master: File,
    /// Held so that the terminal never hangs up.
    _slave: OwnedFd,
    name: PathBuf,
    link: Option<PathBuf>,
}

impl ConsolePty {
    pub(super) fn open(link: Option<&Path>) -> io::Result<Self> {
        let pty = openpty(None, None)?;
        let mut settings = tcgetattr(&pty.slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings)?;
        for (fd, flag) in [
            (&pty.master, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)),
            (&pty.slave, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)),
            (&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)),
        ] {
            fcntl(fd, flag)?;
        }
        let name = ttyname(&pty.slave)?;
        if let Some(link) = link {
            remove_stale(link);
            symlink(&name, link)?;
        }
        Ok(Self { master: pty.master.into(), _slave: pty.slave, name, link: link.map(Path::to_owned) })
    }
}

/// Removes a link to a terminal that is not there any more.
fn remove_stale(link: &Path) {
    let to_terminal = std::fs::read_link(link).is_ok_and(|target| target.starts_with("/dev/pts"));
    if to_terminal && !link.exists() {
        drop(std::fs::remove_file(link));
    }
}

impl Drop for ConsolePty {
    fn drop(&mut self) {
        // Somebody else's link of that name stays.
        if let Some(link) = &self.link
            && std::fs::read_link(link).is_ok_and(|target| target == self.name)
        {
            drop(std::fs::remove_file(link));
        }
    }
}

impl End for ConsolePty {
    fn note(&self) -> Option<String> {
        Some(format!("console on {}", self.name.display()))
    }

    fn writer(&self) -> Option<BorrowedFd<'_>> {
        Some(self.master.as_fd())
    }

    fn reader(&self) -> Option<BorrowedFd<'_>> {
        Some(self.master.as_fd())
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.master.write(data)
    }

    fn read(&mut self) -> (Vec<u8>, Typed) {
        let mut bytes = [0; 256];
        let length = match self.master.read(&mut bytes) {
            Ok(length) => length,
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                    tracing::debug!(%error, "console terminal");
                }
                0
            }
        };
        (bytes.get(..length).unwrap_or_default().to_vec(), Typed::Input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_both_ways_unchanged_and_the_link_names_the_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("tty");
        let mut pty = ConsolePty::open(Some(&link)).unwrap();
        let mut terminal = File::options().read(true).write(true).open(&link).unwrap();
        assert_eq!(pty.write(b"a\nb\x03").unwrap(), 4);
        let mut seen = [0; 4];
        terminal.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"a\nb\x03");
        terminal.write_all(b"\x01\r\n").unwrap();
        let mut back = Vec::new();
        while back.len() < 3 {
            back.extend(pty.read().0);
        }
        assert_eq!(back, b"\x01\r\n", "and no echo");
        assert!(pty.note().unwrap().contains("/dev/pts/"));
        drop((terminal, pty));
        assert!(std::fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn a_terminal_that_nobody_opened_blocks_nobody() {
        let mut pty = ConsolePty::open(None).unwrap();
        let blocked = (0..10_000).map(|_| pty.write(&[0; 4096])).find_map(Result::err).unwrap();
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_file_in_the_place_of_the_link_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "kept").unwrap();
        assert!(ConsolePty::open(Some(&path)).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "kept");
    }
}
