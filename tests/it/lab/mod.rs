//! Tests in the emulated host.
//!
//! # How a test uses it
//!
//! ```ignore
//! use crate::lab::Lab;
//!
//! #[test]
//! fn a_bound_function_shows_its_driver() {
//!     let Some(lab) = Lab::open() else { return };           // says SKIP and why
//!     let run = lab.run("vtd-igb", "thruway bind 0000:01:00.0 --yes && readlink /sys/bus/pci/devices/0000:01:00.0/driver");
//!     run.succeeded();                                        // panics with all output unless the status is 0
//!     assert!(run.stdout().contains("vfio-pci"));
//! }
//! ```
//!
//! - [`Lab::run`] boots a built-in hardware (or a file's path) and runs a shell script as root. `thruway` on PATH is the binary
//!   under test; busybox stands in for programs that the machine does not have. In the script: `$LAB_OUT`, a directory
//!   whose files come back ([`Run::file`]); `$LAB_IN`, files of [`Options::files`]; `$LAB_KERNEL_VMLINUX`,
//!   `$LAB_KERNEL_BZIMAGE` and `$LAB_GUEST_INITRD` for guests.
//! - [`Lab::run_with`] takes [`Options`]: more files, QEMU arguments, limits.
//! - [`Lab::guest_initrd`] makes the file that a guest runs a script from, to be put into [`Options::files`] as
//!   `("guest.initrd", bytes)` and named `$LAB_IN/guest.initrd` in the script.
//! - [`Run::image`] reads the scratch image of an NVMe namespace after the run: what a guest really wrote.
//! - [`Run::json`] parses the document that a `thruway .. --format json` printed into a file of `$LAB_OUT`.
//! - A boot costs 6 to 10 s and a guest in it about as much again, and there is room for few: put what can share a boot
//!   into one script, and assert on its parts.
//! - The host has one processor, or one for each NUMA node that [`Options::qemu_arguments`] adds.
//!
//! What must outlive a boot is tried in a host with a disk of its own: [`disk`].
//!
//! Where the lab cannot run (parts of it are not installed: `thruway rehearse --yes` brings them), a test says SKIP
//! and passes. With `THRUWAY_TEST_LAB=required`, as `tests/run` sets it, that is a failure.

mod agreement;
mod bench;
mod board;
mod captures;
mod disk;
mod export;
mod firmware;
mod groups;
mod hardware;
mod hotplug;
mod in_use;
mod interrupts;
mod kvm;
mod matrix;
mod pci;
mod process;
mod processors;
mod road;
mod setup;
mod vfio;
mod virtio;

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::support::{PROGRAM, skip};
use thruway::rehearse::{Assets, Cache, EmulatedHost, Hardware, Options, Outcome, Silent, guest_initrd};

/// What cannot be read in any emulated host: whether irqbalance runs, which systemd would tell, and none runs there.
pub(crate) const NEVER_TOLD: &str = "/data/scheduling/irqbalance";

/// The parts of emulated hosts, found.
pub(crate) struct Lab {
    assets: Assets,
}

/// Processors of emulated hosts that run; there is room for as many as this machine has.
///
/// Two translators on one CPU are slow, and deadly for a host with several processors: QEMU's translator invalidates what
/// it translated from a page *before* the store to that page lands, so that a processor may go on with code that
/// another one has just patched (static keys), the likelier the longer a processor's thread is kept from running in
/// between. So a host has one processor unless its test is about several.
static RUNNING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

/// Room for an emulated host, until it is dropped.
pub(crate) struct Room {
    processors: u32,
}

impl Room {
    /// Waits until there is room. One host that is larger than the machine runs alone.
    fn take(processors: u32) -> Self {
        let room = available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        let processors = processors.min(room);
        let (running, ended) = &RUNNING;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |running: &mut u32| *running + processors > room;
        *ended.wait_while(running, full).unwrap_or_else(PoisonError::into_inner) += processors;
        Self { processors }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (running, ended) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= self.processors;
        ended.notify_all();
    }
}

impl Lab {
    /// The lab, or `None` after saying why it cannot run.
    pub(crate) fn open() -> Option<&'static Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        let lab = LAB.get_or_init(|| {
            let cache = Cache::of_environment().map_err(|error| error.to_string())?;
            let assets = Assets::open(&cache, &Silent).map_err(|error| error.to_string())?;
            Ok(Self { assets })
        });
        match lab {
            Ok(lab) => Some(lab),
            Err(reason) => {
                skip(&format!("{reason} (`thruway rehearse --yes` brings it)"));
                None
            }
        }
    }

    /// Runs `script` in an emulated host with the hardware of that name or path.
    pub(crate) fn run(&self, hardware: &str, script: &str) -> Run {
        self.run_with(hardware, Options::default(), script)
    }

    /// Like [`Self::run`], with options.
    pub(crate) fn run_with(&self, hardware: &str, options: Options, script: &str) -> Run {
        let mut hardware = Hardware::load(hardware).unwrap();
        // Each NUMA node that a test adds names a processor of its own.
        let nodes = options.qemu_arguments.iter().filter(|argument| argument.starts_with("node,")).count();
        hardware.cpu.count = u32::try_from(nodes).unwrap().max(1);
        self.run_on(&hardware, options, script)
    }

    /// Like [`Self::run_with`], with as many processors as `hardware` says.
    pub(crate) fn run_on(&self, hardware: &Hardware, options: Options, script: &str) -> Run {
        let _room = self.room(hardware);
        let host = EmulatedHost::prepare(hardware, &self.assets, self.options(options)).unwrap();
        Run { outcome: host.run(script).unwrap() }
    }

    /// `options` with the binary under test, and a limit of 15 minutes, which ends what hangs, unless they name another.
    pub(crate) fn options(&self, mut options: Options) -> Options {
        options.tool.get_or_insert_with(|| PathBuf::from(PROGRAM));
        options.limit.get_or_insert(Duration::from_secs(900));
        options
    }

    /// The parts, for a test that starts an emulated host by itself.
    pub(crate) fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Waits for room for an emulated host, for a test that starts it by itself.
    pub(crate) fn room(&self, hardware: &Hardware) -> Room {
        Room::take(hardware.cpu.count)
    }

    /// The initial RAM file system of a guest that runs `script` with busybox and powers off.
    pub(crate) fn guest_initrd(&self, script: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = guest_initrd(&self.assets, directory.path(), "guest", script).unwrap();
        std::fs::read(path).unwrap()
    }
}

/// What came of one run.
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
}

impl Run {
    /// The script's status; panics with the console's end when it has none.
    pub(crate) fn status(&self) -> i32 {
        self.outcome.status().unwrap_or_else(|error| panic!("{error}\n{}", self.output()))
    }

    /// Panics with all output unless the script's status is 0.
    pub(crate) fn succeeded(&self) {
        assert_eq!(self.status(), 0, "{}", self.output());
    }

    pub(crate) fn stdout(&self) -> String {
        self.outcome.stdout_text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.outcome.stderr_text()
    }

    /// A file that the script left in `$LAB_OUT`.
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.outcome.files().join(name);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.output()))
    }

    /// A JSON document that the script left in `$LAB_OUT`.
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let text = self.file(name);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{text}\n{}", self.output()))
    }

    /// A scratch image, such as `SCRATCH-ns1.img`, as it is after the run.
    pub(crate) fn image(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.outcome.images.get(name).unwrap()).unwrap()
    }

    fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}
