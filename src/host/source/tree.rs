//! A directory tree laid out like a host: `--root DIR`.
//!
//! The tree is hostile. The kernel resolves every path with the tree as its root (openat2, RESOLVE_IN_ROOT): links,
//! absolute ones too, lead to places in the tree and never out of it; loops end with an error. What is not a regular
//! file is never opened for reading, so a FIFO cannot block us and a device node cannot act.
//!
//! The directory that was listed last stays open with its names: whoever lists a function's directory goes on to read
//! the files in it, and for those the kernel need not walk the tree again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;

use super::answers::{self, Answers};
use super::recording::Ask;
use super::{CpuidLeaf, DeviceNode, Fact, KvmAnswer, Route, Source, VfLinks, fact_of_error, read_to_limit};

/// Reads a directory tree as if it were a host.
#[derive(Debug)]
pub struct TreeSource {
    root: OwnedFd,
    answers: Answers,
    listed: Mutex<Option<ListedDirectory>>,
}

/// A directory that was listed, still open.
#[derive(Debug)]
struct ListedDirectory {
    path: String,
    directory: Dir,
    /// Names with what each is, if the file system tells; sorted.
    entries: Vec<(String, Option<Type>)>,
}

/// What the listed directory knows of a path.
enum Known<T> {
    /// It is not there.
    Absent,
    /// This is it.
    Here(T),
    /// Nothing; the path must be walked.
    Elsewhere,
}

/// Why a tree cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The directory cannot be opened.
    #[error("cannot open {} as the root of a host", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot confine links to the tree.
    #[error("this kernel has no openat2, which keeps links inside the tree; Linux 5.6 or later is needed")]
    Unconfined,
    /// The file of answers is there and cannot be used.
    #[error("cannot use {} of the tree: {reason}", answers::FILE)]
    Answers {
        /// What is wrong with it.
        reason: String,
    },
}

impl TreeSource {
    /// Opens the tree at `path` and reads its [`answers`].
    ///
    /// # Errors
    /// The directory cannot be opened, the kernel is older than 5.6, or the file of answers is not valid.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|errno| TreeError::Root { path: path.to_owned(), source: errno.into() })?;
        let mut tree = Self { root, answers: Answers::default(), listed: Mutex::new(None) };
        if matches!(tree.resolve(".", OFlag::O_PATH), Err(Errno::ENOSYS)) {
            return Err(TreeError::Unconfined);
        }
        let unusable = |reason| TreeError::Answers { reason };
        tree.answers = match tree.read_limited(answers::FILE, answers::LIMIT_BYTES) {
            Fact::NotPresent => Answers::default(),
            Fact::Known(bytes) => Answers::parse(&bytes).map_err(unusable)?,
            Fact::Denied { .. } => return Err(unusable("permission denied".to_owned())),
            Fact::Unreadable { reason, .. } => return Err(unusable(reason)),
        };
        Ok(tree)
    }

    /// Opens `path` with the tree as its root.
    fn resolve(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how)
    }

    /// Opens and lists a directory.
    fn listed_directory(&self, path: &str) -> nix::Result<ListedDirectory> {
        let mut directory = Dir::from_fd(self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => entries.push((name.to_owned(), entry.file_type())),
            }
        }
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(ListedDirectory { path: path.to_owned(), directory, entries })
    }

    /// Asks the listed directory for `path`: `here` is called with it if it is an entry of type `kind`.
    fn in_listed<T>(
        &self,
        path: &str,
        kind: Type,
        here: impl FnOnce(&Dir, &str) -> nix::Result<T>,
    ) -> Known<nix::Result<T>> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listed) = listed.as_ref() else { return Known::Elsewhere };
        let Some(rest) = path.strip_prefix(&listed.path).and_then(|rest| rest.strip_prefix('/')) else {
            return Known::Elsewhere;
        };
        let name = rest.split('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            return Known::Elsewhere;
        }
        match listed.entries.binary_search_by(|(entry, _)| entry.as_str().cmp(name)) {
            Err(_) => Known::Absent,
            Ok(index) => match listed.entries.get(index) {
                Some((_, Some(found))) if *found == kind && name == rest => {
                    Known::Here(here(&listed.directory, name))
                }
                _ => Known::Elsewhere,
            },
        }
    }

    /// Opens a regular file for reading.
    fn file(&self, path: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match self
            .in_listed(path, Type::File, |directory, name| openat(directory, name, flags, Mode::empty()))
        {
            Known::Absent => return Err(Errno::ENOENT.into()),
            Known::Here(file) => return Ok(file?.into()),
            Known::Elsewhere => {}
        }
        let place = File::from(self.resolve(path, OFlag::O_PATH)?);
        if !place.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        // A descriptor of O_PATH reads nothing; what it names is opened again without walking the path twice.
        File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
    }

    /// What `error` says of `path`, as far as this tree knows what is not in it.
    fn fact_of_error<T>(&self, path: &str, error: &io::Error) -> Fact<T> {
        match fact_of_error(path, error) {
            Fact::NotPresent => self.answers.missing(path),
            fact => fact,
        }
    }
}

impl Source for TreeSource {
    fn read_limited(&self, path: &str, limit_bytes: u64) -> Fact<Vec<u8>> {
        if let Some(refusal) = self.answers.refusal(Ask::Read, path) {
            return refusal;
        }
        match self.file(path) {
            Ok(file) => read_to_limit(&file, path, limit_bytes),
            Err(error) => self.fact_of_error(path, &error),
        }
    }

    fn list(&self, path: &str) -> Fact<Vec<String>> {
        if let Some(refusal) = self.answers.refusal(Ask::List, path) {
            return refusal;
        }
        if let Some(recording) = &self.answers.recording {
            return recording.names(path);
        }
        match self.listed_directory(path) {
            Ok(listed) => {
                let names = listed.entries.iter().map(|(name, _)| name.clone()).collect();
                *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed);
                Fact::Known(names)
            }
            Err(errno) => fact_of_error(path, &errno.into()),
        }
    }

    fn link(&self, path: &str) -> Fact<String> {
        if let Some(refusal) = self.answers.refusal(Ask::Link, path) {
            return refusal;
        }
        let target = match self.in_listed(path, Type::Symlink, |directory, name| readlinkat(directory, name))
        {
            Known::Absent => return self.answers.missing(path),
            Known::Here(target) => target,
            Known::Elsewhere => match self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
                Ok(place) => readlinkat(place, ""),
                Err(errno) => return self.fact_of_error(path, &errno.into()),
            },
        };
        let unreadable =
            |reason: &str| Fact::Unreadable { source: path.to_owned(), reason: reason.to_owned() };
        match target {
            Ok(target) => String::from_utf8(target.into_vec())
                .map_or_else(|_| unreadable("the link's target is not UTF-8"), Fact::Known),
            Err(Errno::ENOENT) => unreadable("not a symbolic link"), // what readlinkat(2) says of other files
            Err(errno) => fact_of_error(path, &errno.into()),
        }
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Fact<CpuidLeaf> {
        self.answers.cpuid(leaf, subleaf)
    }

    fn msr(&self, cpu: u32, register: u32) -> Fact<u64> {
        self.answers.msr(cpu, register)
    }

    fn is_redacted(&self) -> bool {
        self.answers.recording.as_ref().is_some_and(|recording| recording.redacted)
    }

    fn kvm(&self) -> Fact<KvmAnswer> {
        self.answers.kvm()
    }

    fn kernel_log(&self) -> Fact<Vec<String>> {
        self.answers.kernel_log()
    }

    fn vf_links(&self) -> Fact<Vec<VfLinks>> {
        self.answers.vf_links()
    }

    fn routes(&self) -> Fact<Vec<Route>> {
        self.answers.routes()
    }

    fn device_node(&self, path: &str) -> Fact<DeviceNode> {
        self.answers.device_node(path)
    }
}
