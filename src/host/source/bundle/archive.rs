//! A capture as one file: a gzip'd tar (POSIX.1-2017 `pax`, ustar format; RFC 1952), its [`answers`] first, then links
//! and files by path.
//!
//! The file is hostile. It is read in one pass through limits, nothing of it is unpacked to disk, and an entry that a
//! capture does not have makes it unusable as a whole: a capture that somebody tampered with is no evidence.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tar::{Archive, Builder, EntryType, Header};

use super::{Bundle, Last, resolve};
use crate::host::parse::excerpt;
use crate::host::source::answers::{self, Answers};

/// Most bytes that a capture may unpack to, headers included.
pub(super) const LIMIT_BYTES: u64 = 256 << 20;

/// Why a file is no capture that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be opened or read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It can be read, and is no capture.
    #[error(
        "{} is not a capture that can be used: {reason}; `thruway capture -o FILE` on the host makes another",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Bundle {
    /// Reads the capture in the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not a capture, or is one of another version.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let failed = |source| BundleError::File { path: path.to_owned(), source };
        // A FIFO must not block us while nobody writes to it.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let file = File::from(file);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is neither a regular file nor a directory")));
        }
        Self::read(BufReader::new(file))
            .map_err(|reason| BundleError::Content { path: path.to_owned(), reason })
    }

    /// Reads a capture.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(file: impl Read) -> Result<Self, String> {
        let mut bundle = Self::default();
        let mut found_answers = None;
        let mut seen = BTreeSet::new();
        let mut archive = Archive::new(Limited { inner: GzDecoder::new(file), left: LIMIT_BYTES });
        for entry in archive.entries().map_err(|error| in_words(&error))? {
            let mut entry = entry.map_err(|error| in_words(&error))?;
            let kind = entry.header().entry_type();
            if kind == EntryType::XGlobalHeader {
                continue; // a comment that some archivers put in front
            }
            let path = place(&entry.path().map_err(|error| in_words(&error))?)?;
            if kind == EntryType::Directory {
                continue;
            }
            if !seen.insert(path.clone()) {
                return Err(format!("`{}` is in it twice", excerpt(&path)));
            }
            match kind {
                EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).map_err(|error| in_words(&error))?;
                    if path.strip_prefix('/') == Some(answers::FILE) {
                        found_answers = Some(
                            Answers::parse(&bytes)
                                .map_err(|reason| format!("{}: {reason}", answers::FILE))?,
                        );
                    } else {
                        bundle.files.insert(path, bytes);
                    }
                }
                EntryType::Symlink => {
                    let target = entry.link_name().map_err(|error| in_words(&error))?;
                    let target = target.as_deref().and_then(Path::to_str);
                    let target =
                        target.ok_or_else(|| format!("the link `{}` has no target", excerpt(&path)))?;
                    bundle.links.insert(path, target.to_owned());
                }
                _ => {
                    return Err(format!(
                        "`{}` is a device, a pipe, a hard link or the like; a capture holds none",
                        excerpt(&path)
                    ));
                }
            }
        }
        // What stands behind the archive holds the checksum of the whole.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| in_words(&error))?;
        bundle.answers = found_answers.ok_or_else(|| format!("it holds no {}", answers::FILE))?;
        if bundle.answers.recording.is_none() {
            return Err(format!("its {} holds no recording", answers::FILE));
        }
        Ok(bundle)
    }

    /// Writes the capture to `file`. The same capture gives the same bytes.
    ///
    /// # Errors
    /// What `file` says, or a path that an archive cannot hold.
    pub fn write(&self, file: impl Write) -> io::Result<()> {
        let mut builder = Builder::new(GzEncoder::new(file, Compression::best()));
        let answers = serde_json::to_vec_pretty(&self.answers)?;
        builder.append_data(
            &mut header(EntryType::Regular, answers.len()),
            answers::FILE,
            answers.as_slice(),
        )?;
        // The directories, so that one in which nothing was looked at is there too once this is unpacked.
        for path in self.answers.recording.iter().flat_map(|recording| recording.listed.keys()) {
            let path = resolve(&self.links, path, Last::Follow).unwrap_or_default();
            if let Some(path) = path.strip_prefix('/').filter(|path| !path.is_empty()) {
                builder.append_data(&mut header(EntryType::Directory, 0), path, io::empty())?;
            }
        }
        for (path, target) in &self.links {
            let path = path.trim_start_matches('/');
            let mut header = header(EntryType::Symlink, 0);
            // As it is written: `append_link` would tidy a target up as if it were a path, and not all are.
            if header.set_link_name_literal(target).is_ok() {
                builder.append_data(&mut header, path, io::empty())?;
            } else {
                builder.append_link(&mut header, path, target)?;
            }
        }
        for (path, bytes) in &self.files {
            let path = path.trim_start_matches('/');
            builder.append_data(&mut header(EntryType::Regular, bytes.len()), path, bytes.as_slice())?;
        }
        builder.into_inner()?.finish()?.flush()
    }
}

/// A header without anything of the machine that writes it.
fn header(kind: EntryType, size_bytes: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size_bytes as u64);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}

/// The path in the host that an entry stands for.
fn place(entry: &Path) -> Result<String, String> {
    let mut path = String::new();
    for part in entry.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str().ok_or("it has a name that is not UTF-8")?;
                path.push('/');
                path.push_str(name);
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let entry = entry.to_string_lossy();
                return Err(format!("`{}` leads out of it", excerpt(&entry)));
            }
        }
    }
    Ok(path)
}

/// What went wrong on the way through decompression and archive.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is truncated".to_owned(),
        _ => error.to_string(),
    }
}

/// A reader that fails once more than its limit comes out of `inner`.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {} MiB", LIMIT_BYTES >> 20)))?;
        Ok(count)
    }
}
