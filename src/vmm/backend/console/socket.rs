//! A console on a Unix socket: one connection at a time, the next one is taken when it is gone.
//!
//! What the guest prints while nobody is connected is dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::End;
use crate::vmm::backend::listener::Listener;
use crate::vmm::console::Typed;

/// The socket, and who is connected.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: Listener,
    client: Option<UnixStream>,
}

impl ConsoleSocket {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let listener = Listener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, client: None })
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok(client) => match client.set_nonblocking(true) {
                Ok(()) => self.client = Some(client),
                Err(error) => {
                    tracing::warn!(path = %self.listener.path().display(), %error, "console connection");
                }
            },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::debug!(path = %self.listener.path().display(), %error, "console connection");
            }
        }
    }
}

impl End for ConsoleSocket {
    fn writer(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().map(AsFd::as_fd)
    }

    fn reader(&self) -> Option<BorrowedFd<'_>> {
        Some(self.client.as_ref().map_or_else(|| self.listener.as_fd(), AsFd::as_fd))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let Some(client) = &mut self.client else { return Ok(data.len()) };
        match client.write(data) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.client = None;
                Ok(data.len())
            }
            result => result,
        }
    }

    fn read(&mut self) -> (Vec<u8>, Typed) {
        let Some(client) = &mut self.client else {
            self.accept();
            return (Vec::new(), Typed::Input);
        };
        let mut bytes = [0; 256];
        let length = match client.read(&mut bytes) {
            Ok(0) => {
                self.client = None;
                0
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.client = None;
                0
            }
        };
        (bytes.get(..length).unwrap_or_default().to_vec(), Typed::Input)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

    use super::*;

    /// What is there once something is. A child that another test is starting holds a copy of each descriptor for a moment, so
    /// that a client is not gone at once.
    fn next(socket: &mut ConsoleSocket) -> Vec<u8> {
        let mut wanted = [PollFd::new(socket.reader().unwrap(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::NONE).unwrap();
        socket.read().0
    }

    #[test]
    fn one_connection_after_the_other_and_the_socket_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let mut socket = ConsoleSocket::open(&path).unwrap();
        assert_eq!(socket.write(b"lost").unwrap(), 4);
        for round in [b"one", b"two"] {
            let mut client = UnixStream::connect(&path).unwrap();
            assert_eq!(socket.read(), (Vec::new(), Typed::Input), "a connection is no input");
            client.write_all(round).unwrap();
            assert_eq!(next(&mut socket), round);
            assert_eq!(socket.write(b"back").unwrap(), 4);
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"back");
            drop(client);
            assert!(next(&mut socket).is_empty());
            assert!(socket.writer().is_none());
        }
        assert_eq!(socket.write(b"lost").unwrap(), 4);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_client_that_does_not_read_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let mut socket = ConsoleSocket::open(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let _ = socket.read();
        let blocked = (0..10_000).map(|_| socket.write(&[0; 4096])).find_map(Result::err).unwrap();
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_a_machine_left_gives_way_and_what_somebody_uses_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        // Nobody ever listened on this one, so nobody answers, whatever other tests do.
        let left = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(left.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        let _socket = ConsoleSocket::open(&path).unwrap();
        assert_eq!(ConsoleSocket::open(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let file = directory.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(ConsoleSocket::open(&file).is_err());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "kept");
    }
}
