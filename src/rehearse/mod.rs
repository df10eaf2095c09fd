//! An emulated host in which the whole road can be tried before a real host is touched, and the library that the
//! lab tests use.
//!
//! ```text
//! hardware   a YAML description  ->  QEMU's arguments           (pure)
//! assets     QEMU, a kernel, two initial RAM file systems       (found, or fetched, checked and cached)
//! host       boots it, runs one command in it, hands back what it wrote and its status
//! channel    how output and status get out
//! guest      a small guest with a script, to be started in the emulated host
//! road       the main job in it: probe, plan, apply, run, undo, probe; each step with its evidence
//! ```
//!
//! In the emulated host run an unmodified Debian kernel, real KVM, real VFIO and the real drivers of its devices. Its
//! root is the machine's own `/`, seen read-only, with a writable layer in memory: every program is there, this one
//! as `thruway`, and nothing that happens there reaches the machine's files.
//!
//! ```no_run
//! use thruway::rehearse::{Assets, Cache, EmulatedHost, Hardware, Options, Silent};
//!
//! let assets = Assets::open(&Cache::of_environment()?, &Silent)?;
//! let hardware = Hardware::load("vtd-igb")?;
//! let outcome = EmulatedHost::prepare(&hardware, &assets, Options::default())?.run("lspci")?;
//! assert_eq!(outcome.status()?, 0);
//! println!("{}", outcome.stdout_text());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod assets;
mod channel;
mod guest;
pub mod hardware;
mod host;
mod outcome;
mod progress;
pub mod road;
mod watch;

pub use assets::{Assets, AssetsError, Cache, Missing, Plan};
pub use channel::{Listener, Stream, Truncated};
pub use guest::guest_initrd;
pub use hardware::{Accelerator, Hardware, HardwareError};
pub use host::{EmulatedHost, Options, inside, shell_words};
pub use outcome::{Ending, Outcome};
pub use progress::{Progress, Silent};

/// Why a rehearsal could not be held.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// The description of the hardware cannot be used.
    #[error(transparent)]
    Hardware(#[from] HardwareError),
    /// The parts of an emulated host are not there.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// A file of the emulated host's run cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// QEMU did not start, or watching it failed.
    #[error("cannot run the emulated host")]
    Start(#[source] std::io::Error),
    /// It did not reach user space in time.
    #[error("the emulated host was not up after {after_s} s; the end of its console:\n{console}")]
    BootTimeout {
        /// The limit, in seconds.
        after_s: u64,
        /// The end of its console.
        console: String,
    },
    /// One of its processors stopped.
    #[error(
        "the emulated host's kernel reported a stopped processor (RCU stall); the end of its console:\n{console}"
    )]
    Stalled {
        /// The end of its console.
        console: String,
    },
    /// The command did not end in time.
    #[error("the command did not end within {after_s} s; the end of the emulated host's console:\n{console}")]
    TimedOut {
        /// The limit, in seconds.
        after_s: u64,
        /// The end of its console.
        console: String,
    },
    /// It ended without the command's status.
    #[error("the emulated host died without a status ({qemu}); the end of its console:\n{console}")]
    Died {
        /// How QEMU ended and what it said.
        qemu: String,
        /// The end of its console.
        console: String,
    },
    /// The inner half of the road said nothing.
    #[error("the road's steps did not begin (status {status}): {}", stderr.trim())]
    NoSteps {
        /// Its status.
        status: i32,
        /// What it wrote to standard error.
        stderr: String,
    },
}
