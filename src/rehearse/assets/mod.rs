//! What an emulated host is made of: found on this machine, or fetched, checked and cached.
//!
//! - QEMU and a few programs come from the distribution's packages and are installed ([`packages`]).
//! - The kernel and a static busybox come from packages too, but are only unpacked into the [`Cache`], so that the
//!   machine's own kernel and busybox stay as they are ([`kernel`]). apt checks what it downloads against its signed
//!   index.
//! - The two initial RAM file systems are built here ([`initramfs`], [`cpio`], [`modules`]).
//!
//! [`Assets::plan`] says what is missing and by which commands it would come; it changes nothing and uses no network.
//! [`Assets::install`] carries that out. [`Assets::open`] needs a plan without gaps; from a warm cache it takes a
//! fraction of a second.

mod cache;
mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod packages;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use cache::{Cache, RunDirectory};
pub(super) use cpio::Archive;
pub use cpio::TooLarge;
pub use kernel::Kernel;
pub use packages::{Missing, Plan};

use super::progress::{Progress, during};

/// Everything that an emulated host and the guests in it are made of.
#[derive(Debug, Clone)]
pub struct Assets {
    /// The cache that holds them.
    pub cache: Cache,
    /// QEMU for x86-64.
    pub qemu: PathBuf,
    /// The kernel of emulated hosts, and of guests in them.
    pub kernel: Kernel,
    /// The initial RAM file system of emulated hosts.
    pub host_initrd: PathBuf,
    /// The initial RAM file system of guests; `rehearse::guest` adds a script to it.
    pub guest_initrd: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

/// Why the parts of an emulated host are not there.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// No place for the cache.
    #[error("no place for the cache: set THRUWAY_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something is missing and nobody agreed to its installation.
    #[error("the emulated host needs {}", .0.summary())]
    Incomplete(Plan),
    /// This distribution is not one whose packages this tool can install.
    #[error("cannot install {missing} here: {reason}")]
    Unsupported {
        /// What is missing.
        missing: String,
        /// Why it cannot be installed.
        reason: String,
    },
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    NotRun {
        /// Its command line.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{program}` failed ({status}): {stderr}")]
    Failed {
        /// Its command line.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
    /// No enabled suite has a kernel of the series.
    #[error("no package linux-image-{series}.*-amd64 in any enabled suite")]
    NoKernelPackage {
        /// The series, such as 6.12.
        series: &'static str,
    },
    /// The kernel has no such module.
    #[error("the kernel in {} has no module `{name}`", directory.display())]
    NoModule {
        /// The module.
        name: String,
        /// The kernel's modules.
        directory: PathBuf,
    },
    /// The kernel package is not as expected.
    #[error("{}: {reason}", path.display())]
    BadKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not fit an archive.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Assets {
    /// What is missing on this machine.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn plan(cache: &Cache) -> Result<Plan, AssetsError> {
        packages::plan(cache)
    }

    /// Carries out `plan`: installs packages, fetches the kernel. Needs root or sudo for packages.
    ///
    /// # Errors
    /// The first step that failed; what was complete by then stays.
    pub fn install(cache: &Cache, plan: &Plan, progress: &dyn Progress) -> Result<(), AssetsError> {
        let _lock = during(progress, "waiting for the cache", || cache.lock())?;
        packages::install(cache, plan, progress)
    }

    /// The parts, all of them; builds the initial RAM file systems where they are not there or stale.
    ///
    /// # Errors
    /// [`AssetsError::Incomplete`] when something must be installed first.
    pub fn open(cache: &Cache, progress: &dyn Progress) -> Result<Self, AssetsError> {
        let found = packages::find(cache)?;
        let (Some(qemu), Some(kernel), Some(busybox)) = (found.qemu, found.kernel, found.busybox) else {
            return Err(AssetsError::Incomplete(Self::plan(cache)?));
        };
        let host_initrd = initramfs::host(cache, &kernel, &busybox, progress)?;
        let guest_initrd = initramfs::guest(cache, &kernel, &busybox, progress)?;
        Ok(Self { cache: cache.clone(), qemu, kernel, host_initrd, guest_initrd, busybox })
    }
}

/// Runs a program to its end; its standard output, or an error with the end of its standard error.
fn run(command: &mut Command) -> Result<Vec<u8>, AssetsError> {
    let output =
        command.output().map_err(|source| AssetsError::NotRun { program: command_line(command), source })?;
    if !output.status.success() {
        return Err(AssetsError::Failed {
            program: command_line(command),
            status: output.status,
            stderr: tail(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    Ok(output.stdout)
}

fn command_line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// The last lines of a message.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join("; ")
}

/// Where `name` is: on PATH, or where a system's programs are that an ordinary user's PATH leaves out.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
