//! What goes out of the emulated host, and how its end is known.
//!
//! Three virtio-serial ports end in Unix sockets that we listen on and QEMU connects to: the command's standard
//! output, its standard error, and a control port with lines of our own (`init/host.sh` writes them). A port has no
//! end of file of its own, so each of the two streams is ended by a token that is drawn anew for every run; the
//! command cannot know it, so it cannot end its own stream early.
//!
//! Spec: VIRTIO 1.3, 5.3 (console device, multiport).

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// One of the streams of a command in the emulated host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Called with what the command wrote, as it comes, on a thread of its own for each stream.
pub type Listener = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// The ports, by the name that the emulated host sees behind `thruway.`.
pub(super) const PORTS: [&str; 3] = ["stdout", "stderr", "control"];

/// What the reading threads tell the one that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// User space runs; seconds since the kernel started, as text.
    Up(String),
    /// The command ended with this status.
    End(i32),
    /// Everything that a stream carried, at most the limit, and whether something was cut off.
    Closed(Stream, Vec<u8>, Truncated),
}

/// Whether output was longer than what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncated {
    /// All of it was kept.
    No,
    /// What came after the limit was passed on, but not kept.
    Yes,
}

/// The listening ends, before QEMU starts.
#[derive(Debug)]
pub(super) struct Ports {
    listeners: Vec<UnixListener>,
}

/// What the readers need to know.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) token: String,
    pub(super) limit_bytes: usize,
    pub(super) listener: Option<Listener>,
}

impl Ports {
    /// Binds the sockets in `directory`.
    pub(super) fn bind(directory: &Path) -> io::Result<Self> {
        let listeners = PORTS
            .iter()
            .map(|name| {
                let path = directory.join(name);
                let _ = fs::remove_file(&path);
                UnixListener::bind(path)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    /// Starts a reader for each port. The receiver disconnects when all of them have ended.
    pub(super) fn read(self, reading: &Reading) -> io::Result<mpsc::Receiver<Event>> {
        let (events, receiver) = mpsc::channel();
        for (name, listener) in PORTS.iter().zip(self.listeners) {
            let events = events.clone();
            let reading = reading.clone();
            thread::Builder::new().name(format!("port {name}")).spawn(move || {
                // QEMU connects while it starts. If it never does, accept waits: the process that waits for the
                // end of QEMU does not join this thread.
                let Ok((stream, _)) = listener.accept() else { return };
                match *name {
                    "stdout" => read_stream(stream, Stream::Stdout, &reading, &events),
                    "stderr" => read_stream(stream, Stream::Stderr, &reading, &events),
                    _ => read_control(stream, &events),
                }
            })?;
        }
        Ok(receiver)
    }
}

/// A token for one run: unguessable, one line.
pub(super) fn token() -> io::Result<String> {
    Ok(format!("thruway-end-{}", fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim()))
}

fn read_stream(mut stream: UnixStream, which: Stream, reading: &Reading, events: &mpsc::Sender<Event>) {
    let mut until = UntilToken::new(&reading.token);
    let mut kept = Vec::new();
    let mut truncated = Truncated::No;
    let mut buffer = vec![0; 64 << 10];
    while !until.ended() {
        let count = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let fresh = until.push(buffer.get(..count).unwrap_or_default());
        keep(&mut kept, &fresh, reading.limit_bytes, &mut truncated);
        pass_on(reading, which, &fresh);
    }
    let rest = until.rest();
    keep(&mut kept, &rest, reading.limit_bytes, &mut truncated);
    pass_on(reading, which, &rest);
    let _ = events.send(Event::Closed(which, kept, truncated));
    // Late output of processes that the command left behind: read, so that nothing blocks, and dropped.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
}

fn keep(kept: &mut Vec<u8>, fresh: &[u8], limit_bytes: usize, truncated: &mut Truncated) {
    let room = limit_bytes.saturating_sub(kept.len());
    if fresh.len() > room {
        *truncated = Truncated::Yes;
    }
    kept.extend_from_slice(fresh.get(..room).unwrap_or(fresh));
}

fn pass_on(reading: &Reading, which: Stream, bytes: &[u8]) {
    if let (Some(listener), false) = (&reading.listener, bytes.is_empty()) {
        listener(which, bytes);
    }
}

fn read_control(mut stream: UnixStream, events: &mpsc::Sender<Event>) {
    /// Longer than any line of ours; what is longer comes from a host gone wrong.
    const LONGEST_LINE_BYTES: usize = 4096;
    let mut pending = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(event) = control_line(&String::from_utf8_lossy(&line)) {
                let _ = events.send(event);
            }
        }
        if pending.len() > LONGEST_LINE_BYTES {
            pending.clear();
        }
    }
}

fn control_line(line: &str) -> Option<Event> {
    let mut words = line.split_whitespace();
    match (words.next()?, words.next()?) {
        ("up", seconds) => Some(Event::Up(seconds.to_owned())),
        ("end", status) => status.parse().ok().map(Event::End),
        _ => None,
    }
}

/// Passes bytes through up to a token, which may arrive in pieces.
#[derive(Debug)]
struct UntilToken {
    token: Vec<u8>,
    held: Vec<u8>,
    ended: bool,
}

impl UntilToken {
    fn new(token: &str) -> Self {
        Self { token: token.as_bytes().to_vec(), held: Vec::new(), ended: false }
    }

    fn ended(&self) -> bool {
        self.ended
    }

    /// Takes what arrived; returns what surely stands before the token.
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        self.held.extend_from_slice(bytes);
        let found = self.held.windows(self.token.len()).position(|window| window == self.token);
        if let Some(at) = found {
            self.ended = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let longest = self.token.len().min(self.held.len());
        let tail = (1..=longest)
            .rev()
            .find(|length| self.held.ends_with(self.token.get(..*length).unwrap_or_default()))
            .unwrap_or(0);
        let split = self.held.len() - tail;
        self.held.drain(..split).collect()
    }

    /// What was held back when the stream ended without its token.
    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(pieces: &[&str]) -> (String, bool) {
        let mut until = UntilToken::new("END");
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(until.push(piece.as_bytes()));
        }
        let ended = until.ended();
        out.extend(until.rest());
        (String::from_utf8(out).unwrap(), ended)
    }

    #[test]
    fn output_ends_at_the_token_however_it_is_cut() {
        for pieces in
            [&["abcEND\n"][..], &["abcE", "ND\n"], &["a", "b", "c", "E", "N", "D", "\n"], &["abc", "END"]]
        {
            assert_eq!(feed(pieces), ("abc".to_owned(), true), "{pieces:?}");
        }
    }

    #[test]
    fn what_only_begins_like_the_token_is_output() {
        assert_eq!(feed(&["abEN", "EENx", "E"]), ("abENEENxE".to_owned(), false));
    }

    #[test]
    fn control_lines_are_parsed_and_others_ignored() {
        assert_eq!(control_line("up 2.31\n"), Some(Event::Up("2.31".to_owned())));
        assert_eq!(control_line("end 130 9.00\n"), Some(Event::End(130)));
        assert_eq!(control_line("end of story\n"), None);
        assert_eq!(control_line("\n"), None);
    }

    #[test]
    fn output_over_the_limit_is_passed_on_but_not_kept() {
        let mut kept = Vec::new();
        let mut truncated = Truncated::No;

        keep(&mut kept, b"12345", 8, &mut truncated);
        keep(&mut kept, b"67890", 8, &mut truncated);

        assert_eq!((kept.as_slice(), truncated), (&b"12345678"[..], Truncated::Yes));
    }
}
