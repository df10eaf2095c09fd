//! What setup did to this host, written down before it is done.
//!
//! A transaction is a file of JSON lines: a header, then for each step the *intent* with the state before (on disk before
//! the host is touched), and what became of it. After a crash at any point the lines that are there say what may have
//! been changed, and `undo` walks them in reverse. A last line that was torn is a record that was never made.
//!
//! Most changes live until the next boot, and so does what is written of them, in `/run`; what is left of another boot there
//! is history. A transaction that changes what outlives a boot is written down in `/var/lib` with all its steps, and
//! counts until it is taken back: the parts of the system that it put in place make its other steps so again. Numbers
//! are common to both.
//!
//! One lock for all changes: flock(2) on a file beside the transactions. A write that is stuck in the kernel inherited it
//! (see [`crate::sys::child`]), so nothing else is changed until that write has come to its end.

mod transaction;

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::sys::private_dir::{PrivateDir, PrivateDirError};

pub use transaction::{Header, KnownDevice, Record, RecordedStep, StepState, Transaction};

/// Where changes are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Those that end with the boot, and the lock.
    pub run: PathBuf,
    /// Those that outlive it. Its parent is made, too.
    pub lasting: PathBuf,
}

impl Home {
    /// That of this system.
    #[must_use]
    pub fn system() -> Self {
        Self { run: "/run/thruway".into(), lasting: "/var/lib/thruway/journal".into() }
    }

    /// One below `directory`, for tests.
    #[cfg(test)]
    pub(super) fn under(directory: &Path) -> Self {
        Self { run: directory.join("run"), lasting: directory.join("lasting/journal") }
    }
}

/// How long what a transaction changes lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the next boot.
    Boot,
    /// Until it is taken back.
    Lasting,
}

/// How long an apply or undo waits for another one.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

const SCHEMA: &str = "thruway.journal";
const SCHEMA_VERSION: u32 = 1;
const LOCK_NAME: &str = "lock";
const SUFFIX: &str = ".jsonl";
/// Space reserved for a transaction, so that a disk that fills up cannot stop half of one from being written down.
const RESERVE_BYTES: u32 = 64 * 1024;
/// Transactions of which nothing is left that are kept, for people who ask what happened.
const MOST_CLOSED: usize = 50;
/// Most bytes of a journal that are read: a plan for 1,000 functions needs less than one of them.
const MOST_BYTES: u64 = 16 << 20;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory or a file cannot be used.
    #[error("journal")]
    Storage(#[from] PrivateDirError),
    /// Reading or writing failed.
    #[error("journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file is there that this version cannot understand.
    #[error("journal {path}, line {line}: {reason}; undo it with the version that wrote it, or move it away")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Somebody else is changing this host.
    #[error("another thruway is changing this host ({holder}) and did not end within {} s; try again when it has", patience.as_secs())]
    Locked {
        /// What it wrote about itself.
        holder: String,
        /// How long was waited.
        patience: Duration,
    },
}

impl JournalError {
    /// Whether this user may not use the journal.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Storage(error) => error.io_kind() == Some(io::ErrorKind::PermissionDenied),
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Foreign { .. } | Self::Locked { .. } => false,
        }
    }
}

/// The transactions of a host.
#[derive(Debug)]
pub struct Journal {
    home: Home,
    run: Option<PrivateDir>,
    lasting: Option<PrivateDir>,
}

/// The right to change the host; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    /// flock(2) is released by closing, and by that alone: an explicit unlock would take it from a stuck child, too.
    _file: File,
}

impl Journal {
    /// Opens the journal, and makes what of it the lock needs.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn open_or_create(home: &Home) -> Result<Self, JournalError> {
        let run = Some(PrivateDir::open_or_create(&home.run)?);
        Ok(Self { home: home.clone(), run, lasting: open_if_there(&home.lasting)? })
    }

    /// Opens the journal; none if nothing was ever written down.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn open(home: &Home) -> Result<Option<Self>, JournalError> {
        let (run, lasting) = (open_if_there(&home.run)?, open_if_there(&home.lasting)?);
        let is_there = run.is_some() || lasting.is_some();
        Ok(is_there.then(|| Self { home: home.clone(), run, lasting }))
    }

    fn run(&self) -> Result<&PrivateDir, JournalError> {
        self.run.as_ref().ok_or_else(|| JournalError::Io {
            path: self.home.run.clone(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn directories(&self) -> impl Iterator<Item = (&PrivateDir, Lifetime)> {
        let (run, lasting) = (self.run.as_ref(), self.lasting.as_ref());
        run.map(|run| (run, Lifetime::Boot))
            .into_iter()
            .chain(lasting.map(|lasting| (lasting, Lifetime::Lasting)))
    }

    /// Takes the lock, and waits for it at most `patience`; `waiting` is told once who has it.
    ///
    /// # Errors
    /// [`JournalError::Locked`] when the time is over.
    pub fn lock(&self, patience: Duration, waiting: impl FnOnce(&str)) -> Result<Lock, JournalError> {
        let run = self.run()?;
        let mut file = run.open_file(LOCK_NAME)?;
        let failed = |source| JournalError::Io { path: run.path().join(LOCK_NAME), source };
        let deadline = Instant::now() + patience;
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    if let Some(waiting) = waiting.take() {
                        waiting(&holder(&mut file));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(JournalError::Locked { holder: holder(&mut file), patience });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        run.check_still_there()?;
        let command: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let about = format!("process {}: {}", std::process::id(), command.join(" "));
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(about.as_bytes())
        };
        // Who holds it is said for people; a full disk must not keep anybody from undoing.
        if let Err(error) = write(&mut file) {
            tracing::debug!(%error, "lock holder not written down");
        }
        Ok(Lock { _file: file })
    }

    /// All transactions, oldest first.
    ///
    /// # Errors
    /// [`JournalError`]; one file that cannot be understood fails all, because what it changed is unknown.
    pub fn transactions(&self) -> Result<Vec<Transaction>, JournalError> {
        let mut found = Vec::new();
        for (directory, lifetime, name) in self.files()? {
            let Some(id) = id_of(&name) else { continue };
            let path = directory.path().join(&name);
            let mut text = String::new();
            let file = directory.read(&name)?;
            file.take(MOST_BYTES)
                .read_to_string(&mut text)
                .map_err(|source| JournalError::Io { path: path.clone(), source })?;
            if let Some(transaction) = Transaction::parse(&text, &path, lifetime)? {
                if transaction.header.id != id {
                    let reason = format!("it is transaction {}", transaction.header.id);
                    return Err(JournalError::Foreign { path, line: 1, reason });
                }
                found.push(transaction);
            }
        }
        found.sort_by_key(|transaction| transaction.header.id);
        Ok(found)
    }

    fn files(&self) -> Result<Vec<(&PrivateDir, Lifetime, String)>, JournalError> {
        let mut files = Vec::new();
        for (directory, lifetime) in self.directories() {
            files.extend(directory.names()?.into_iter().map(|name| (directory, lifetime, name)));
        }
        Ok(files)
    }

    /// Forgets the oldest transactions of which nothing is left, so that a host that is set up and given back all day keeps
    /// a bounded journal. What cannot be read or removed stays.
    fn forget_old(&self) {
        let Ok(transactions) = self.transactions() else { return };
        let closed: Vec<_> = transactions.iter().filter(|transaction| !transaction.is_open()).collect();
        for old in closed.iter().rev().skip(MOST_CLOSED) {
            let directory = match old.lifetime {
                Lifetime::Boot => self.run.as_ref(),
                Lifetime::Lasting => self.lasting.as_ref(),
            };
            if let Some(Err(error)) = directory.map(|directory| directory.remove(&name_of(old.header.id))) {
                tracing::debug!(%error, "an old transaction stays");
            }
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing must be changed.
    pub fn begin(&self, _lock: &Lock, boot_id: &str, about: &About<'_>) -> Result<Writer, JournalError> {
        self.forget_old();
        let last = self.files()?.iter().filter_map(|(_, _, name)| id_of(name)).max().unwrap_or(0);
        let id = last.checked_add(1).unwrap_or(1);
        let name = name_of(id);
        let made;
        let directory = match (about.lifetime, &self.lasting) {
            (Lifetime::Boot, _) => self.run()?,
            (Lifetime::Lasting, Some(lasting)) => lasting,
            (Lifetime::Lasting, None) => {
                if let Some(parent) = self.home.lasting.parent() {
                    PrivateDir::open_or_create(parent)?;
                }
                made = PrivateDir::open_or_create(&self.home.lasting)?;
                &made
            }
        };
        let path = directory.path().join(&name);
        let mut writer = Writer { id, file: directory.create(&name, RESERVE_BYTES)?, path };
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        writer.line(&Header {
            schema: SCHEMA.to_owned(),
            schema_version: SCHEMA_VERSION,
            id,
            boot_id: boot_id.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            argv: about.argv.to_vec(),
            begun_unix_s: begun.as_secs(),
            restores: about.restores.map(str::to_owned),
        })?;
        Ok(writer)
    }

    /// Continues transaction `id`, to take it back.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn resume(&self, _lock: &Lock, id: u32) -> Result<Writer, JournalError> {
        let name = name_of(id);
        let lasting = self.lasting.as_ref().map(|lasting| Ok((lasting, lasting.names()?)));
        let lasting = lasting.transpose().map_err(JournalError::Storage)?;
        let directory = match lasting {
            Some((lasting, names)) if names.contains(&name) => lasting,
            _ => self.run()?,
        };
        let path = directory.path().join(&name);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        let mut file = directory.append(&name)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        // A torn last line was never recorded; a new one must not continue it.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole != bytes.len() {
            file.set_len(u64::try_from(whole).unwrap_or(0)).map_err(failed)?;
        }
        Ok(Writer { id, file, path })
    }
}

/// What a transaction is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Command line.
    pub argv: &'a [String],
    /// How long what it changes lasts.
    pub lifetime: Lifetime,
    /// See [`Header::restores`].
    pub restores: Option<&'a str>,
}

impl<'a> About<'a> {
    /// A transaction of this boot.
    #[cfg(test)]
    pub(super) fn of(argv: &'a [String]) -> Self {
        Self { argv, lifetime: Lifetime::Boot, restores: None }
    }
}

fn open_if_there(path: &Path) -> Result<Option<PrivateDir>, JournalError> {
    match PrivateDir::open(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(4096).read_to_string(&mut text));
    match read {
        Ok(_) if !text.is_empty() => text,
        _ => "unknown process".to_owned(),
    }
}

fn name_of(id: u32) -> String {
    format!("{id:06}{SUFFIX}")
}

fn id_of(name: &str) -> Option<u32> {
    name.strip_suffix(SUFFIX)?.parse().ok().filter(|&id| name_of(id) == name)
}

/// Writes the records of one transaction, each of them durable before the next thing happens.
#[derive(Debug)]
pub struct Writer {
    id: u32,
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Number of the transaction.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`JournalError::Io`]; then the record may be torn, which reads as if it were not there.
    pub fn record(&mut self, record: &Record) -> Result<(), JournalError> {
        self.line(record)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let before = self.file.metadata().map_err(failed)?.len();
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // A torn line must not become part of the next one.
            self.file.set_len(before).map_err(failed)?;
        }
        written.map_err(failed)
    }
}

#[cfg(test)]
mod tests;
