//! The one way in which setup writes to a host.
//!
//! Reading goes through the [`Source`] that a control hands out, so that what setup reads is what the inspector reads.
//! [`LiveControl`] is this machine; the tests of this room have one over a directory tree that behaves like a kernel.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::source::Source;
use crate::sys::child::{self, ChildError};
use crate::sys::system_file::{SystemFile, SystemFileError, SystemTree};
use crate::sys::tool::{self, ToolError};
use crate::sys::{self, netlink};

pub use crate::sys::netlink::{InterfaceAddress, VfSetting};

/// Why a write did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The kernel refused, or the write was given up and will not happen later.
    #[error("cannot write `{}` to {path}", value.trim_end())]
    Write {
        /// What was written to.
        path: String,
        /// What was written.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The write did not return in time and cannot be stopped. It is pending, not failed: the kernel may carry it out
    /// later.
    #[error(
        "writing `{}` to {path} did not return within {} s and cannot be stopped (process {pid}); the kernel may \
         still carry it out",
        value.trim_end(),
        limit.as_secs()
    )]
    Pending {
        /// What was written to.
        path: String,
        /// What was written.
        value: String,
        /// The limit that ran out.
        limit: Duration,
        /// The process that is stuck in the write.
        pid: i32,
    },
    /// A network interface could not be brought up or down.
    #[error("cannot set link {interface} {}", if *up { "up" } else { "down" })]
    Link {
        /// Name of the interface.
        interface: String,
        /// What was asked.
        up: bool,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Addresses of a network interface, or what it is a port of, could not be read or set.
    #[error("cannot {what} network interface {interface}")]
    Interface {
        /// Name of the interface.
        interface: String,
        /// What was asked.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The driver of a physical function does not have a setting.
    #[error("{interface}'s driver does not support setting {} of its virtual functions; leave that out", setting.name())]
    VfUnsupported {
        /// Name of the physical function's interface.
        interface: String,
        /// What was asked.
        setting: VfSetting,
    },
    /// The driver of a physical function did not take a setting.
    #[error(
        "{interface}'s driver does not take {setting} for its virtual function {index} (the kernel log may say why)"
    )]
    Vf {
        /// Name of the physical function's interface.
        interface: String,
        /// Index of the virtual function.
        index: u16,
        /// What was asked.
        setting: VfSetting,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the system's configuration could not be read, written or removed.
    #[error("cannot change {path}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: SystemFileError,
    },
    /// A program of the system failed.
    #[error("`{command}` failed")]
    Tool {
        /// What was run.
        command: String,
        /// How it failed.
        #[source]
        source: ToolError,
    },
    /// A control group could not be made or removed.
    #[error("cannot {} {path}", change.verb())]
    Directory {
        /// The directory that is the group.
        path: String,
        /// What was asked.
        change: DirectoryChange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Who may open a device node could not be changed.
    #[error("cannot give {path} {wanted}")]
    Node {
        /// The node.
        path: String,
        /// What was asked.
        wanted: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A kernel module could not be unloaded.
    #[error("cannot unload kernel module {module}")]
    Unload {
        /// Name of the module.
        module: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A kernel module could not be loaded.
    #[error("cannot load kernel module {module}: {reason}")]
    Module {
        /// Name of the module.
        module: String,
        /// What modprobe said.
        reason: String,
    },
}

/// What is asked of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryChange {
    /// To be made.
    Make,
    /// To be removed.
    Remove,
}

impl DirectoryChange {
    fn verb(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Remove => "remove",
        }
    }
}

impl ControlError {
    /// The error of a [`Control::set_vf`] that was refused.
    #[must_use]
    pub fn of_vf(interface: &str, index: u16, setting: VfSetting, source: io::Error) -> Self {
        let interface = interface.to_owned();
        if source.raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32) {
            Self::VfUnsupported { interface, setting }
        } else {
            Self::Vf { interface, index, setting, source }
        }
    }

    /// The error of a file that could not be read or changed.
    pub(super) fn of_file(path: &str) -> impl FnOnce(SystemFileError) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// What [`Control::set_owner`] is asked, in words.
    #[must_use]
    pub fn owner(uid: u32, gid: u32) -> String {
        format!("to user {uid} and group {gid}")
    }

    /// What [`Control::set_mode`] is asked, in words.
    #[must_use]
    pub fn mode(mode: u32) -> String {
        format!("mode {mode:04o}")
    }

    /// Whether the kernel may still carry out what was asked.
    #[must_use]
    pub fn pending_pid(&self) -> Option<i32> {
        match self {
            Self::Pending { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

/// Write access to a host. Every method returns within its limit; none retries.
pub trait Control: Send + Sync {
    /// How the same host is read. (Handed out and not inherited: a wrapper that forgot to pass on one of [`Source`]'s
    /// provided methods would read another host than it writes.)
    fn source(&self) -> &dyn Source;

    /// Writes `value` to the existing file at `path` in one write(2).
    ///
    /// # Errors
    /// [`ControlError::Write`] or [`ControlError::Pending`].
    fn write(&self, path: &str, value: &str, limit: Duration) -> Result<(), ControlError>;

    /// Makes the control group `path`, which is a directory.
    ///
    /// # Errors
    /// [`ControlError::Directory`] or [`ControlError::Pending`].
    fn make_directory(&self, path: &str, limit: Duration) -> Result<(), ControlError>;

    /// Removes the control group `path`, which nobody is in.
    ///
    /// # Errors
    /// [`ControlError::Directory`] or [`ControlError::Pending`].
    fn remove_directory(&self, path: &str, limit: Duration) -> Result<(), ControlError>;

    /// Brings a network interface up or down.
    ///
    /// # Errors
    /// [`ControlError::Link`] or [`ControlError::Pending`].
    fn set_link(&self, interface: &str, up: bool, limit: Duration) -> Result<(), ControlError>;

    /// The lasting addresses of a network interface; none if it is gone.
    ///
    /// # Errors
    /// [`ControlError::Interface`].
    fn addresses(&self, interface: &str) -> Result<Vec<InterfaceAddress>, ControlError>;

    /// Gives a network interface an address; one that it has already is fine.
    ///
    /// # Errors
    /// [`ControlError::Interface`] or [`ControlError::Pending`].
    fn add_address(
        &self,
        interface: &str,
        address: &InterfaceAddress,
        limit: Duration,
    ) -> Result<(), ControlError>;

    /// Makes a network interface a port of a bridge or a bond.
    ///
    /// # Errors
    /// [`ControlError::Interface`] or [`ControlError::Pending`].
    fn set_controller(&self, interface: &str, controller: &str, limit: Duration) -> Result<(), ControlError>;

    /// Sets one setting of virtual function `index`, where `interface` is that of its physical function.
    ///
    /// # Errors
    /// [`ControlError::VfUnsupported`], [`ControlError::Vf`] or [`ControlError::Pending`].
    fn set_vf(
        &self,
        interface: &str,
        index: u16,
        setting: VfSetting,
        limit: Duration,
    ) -> Result<(), ControlError>;

    /// Gives the character device at `path` to user `uid` and group `gid`, both by number. A link is not followed.
    ///
    /// # Errors
    /// [`ControlError::Node`] or [`ControlError::Pending`].
    fn set_owner(&self, path: &str, uid: u32, gid: u32, limit: Duration) -> Result<(), ControlError>;

    /// Sets the permission bits of the character device at `path`, as chmod(2) takes them. A link is not followed.
    ///
    /// # Errors
    /// [`ControlError::Node`] or [`ControlError::Pending`].
    fn set_mode(&self, path: &str, mode: u32, limit: Duration) -> Result<(), ControlError>;

    /// Loads a kernel module, by name or by alias (`pci:v..d..`); one that is loaded or built in is fine.
    ///
    /// # Errors
    /// [`ControlError::Module`].
    fn load_module(&self, module: &str) -> Result<(), ControlError>;

    /// How files of the system's configuration are read.
    fn files(&self) -> &SystemTree;

    /// Puts `content` at `path`, in place of what is there.
    ///
    /// # Errors
    /// [`ControlError::File`].
    fn replace_file(&self, path: &str, content: &SystemFile) -> Result<(), ControlError>;

    /// Removes the file or link at `path`; one that is gone is fine.
    ///
    /// # Errors
    /// [`ControlError::File`].
    fn remove_file(&self, path: &str) -> Result<(), ControlError>;

    /// Removes the directory at `path` if it is empty; one that is gone is fine.
    ///
    /// # Errors
    /// [`ControlError::File`].
    fn remove_empty_directory(&self, path: &str) -> Result<(), ControlError>;

    /// Runs a program of the system; what it printed.
    ///
    /// # Errors
    /// [`ControlError::Tool`].
    fn run_tool(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<String, ControlError>;

    /// Unloads one kernel module that nobody uses; never one that it depends on.
    ///
    /// # Errors
    /// [`ControlError::Unload`] or [`ControlError::Pending`].
    fn unload_module(&self, module: &str) -> Result<(), ControlError>;

    /// Lets time pass while the kernel or udev makes something appear.
    fn pause(&self, time: Duration);
}

/// How long modprobe, or a module's own clean-up, may take.
const MODULE_LIMIT: Duration = Duration::from_secs(60);

/// This machine.
pub struct LiveControl {
    source: Box<dyn Source>,
    files: SystemTree,
}

impl std::fmt::Debug for LiveControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveControl").finish_non_exhaustive()
    }
}

impl LiveControl {
    /// Writes to this machine and reads it through `source`, which must be this machine too.
    #[must_use]
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, files: SystemTree::new(Path::new("/")) }
    }
}

impl Control for LiveControl {
    fn source(&self) -> &dyn Source {
        &*self.source
    }

    fn write(&self, path: &str, value: &str, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(path, value, "write");
        child::write_file(Path::new(path), value.as_bytes(), limit)
            .map_err(|error| write_error(path, value, error))
    }

    fn make_directory(&self, path: &str, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(path, "mkdir");
        child::make_directory(Path::new(path), limit)
            .map_err(|error| directory_error(path, DirectoryChange::Make, error))
    }

    fn remove_directory(&self, path: &str, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(path, "rmdir");
        child::remove_directory(Path::new(path), limit)
            .map_err(|error| directory_error(path, DirectoryChange::Remove, error))
    }

    fn set_link(&self, interface: &str, up: bool, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(interface, up, "set link");
        netlink::set_link(interface, up, limit).map_err(|error| match error {
            ChildError::Stuck { limit, pid } => {
                let value = if up { "up" } else { "down" };
                ControlError::Pending {
                    path: format!("link {interface}"),
                    value: value.to_owned(),
                    limit,
                    pid,
                }
            }
            other => ControlError::Link { interface: interface.to_owned(), up, source: cause(other) },
        })
    }

    fn addresses(&self, interface: &str) -> Result<Vec<InterfaceAddress>, ControlError> {
        match netlink::addresses(interface, NETWORK_LIMIT) {
            Err(ChildError::Refused(error)) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
            other => other.map_err(interface_error(interface, "read the addresses of".to_owned())),
        }
    }

    fn add_address(
        &self,
        interface: &str,
        address: &InterfaceAddress,
        limit: Duration,
    ) -> Result<(), ControlError> {
        tracing::debug!(interface, %address, "add address");
        netlink::add_address(interface, address, limit)
            .map_err(interface_error(interface, format!("give {address} to")))
    }

    fn set_controller(&self, interface: &str, controller: &str, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(interface, controller, "set controller");
        netlink::set_controller(interface, controller, limit)
            .map_err(interface_error(interface, format!("make a port of {controller} of")))
    }

    fn set_vf(
        &self,
        interface: &str,
        index: u16,
        setting: VfSetting,
        limit: Duration,
    ) -> Result<(), ControlError> {
        tracing::debug!(interface, index, %setting, "set virtual function");
        netlink::set_vf(interface, index, setting, limit).map_err(|error| match error {
            ChildError::Stuck { limit, pid } => ControlError::Pending {
                path: format!("virtual function {index} of {interface}"),
                value: setting.to_string(),
                limit,
                pid,
            },
            other => ControlError::of_vf(interface, index, setting, cause(other)),
        })
    }

    fn set_owner(&self, path: &str, uid: u32, gid: u32, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(path, uid, gid, "set owner");
        sys::node::set_owner(Path::new(path), uid, gid, limit)
            .map_err(|error| node_error(path, ControlError::owner(uid, gid), error))
    }

    fn set_mode(&self, path: &str, mode: u32, limit: Duration) -> Result<(), ControlError> {
        tracing::debug!(path, mode, "set mode");
        sys::node::set_mode(Path::new(path), mode, limit)
            .map_err(|error| node_error(path, ControlError::mode(mode), error))
    }

    fn load_module(&self, module: &str) -> Result<(), ControlError> {
        tracing::debug!(module, "modprobe");
        let failed = |reason: String| ControlError::Module { module: module.to_owned(), reason };
        let mut modprobe = Command::new("modprobe")
            // -b: an alias must not load what the administrator blacklisted (modprobe(8)).
            .args(["-b", "-q", "--", module])
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(format!("modprobe: {error}")))?;
        let deadline = Instant::now() + MODULE_LIMIT;
        loop {
            match modprobe.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(_)) => {
                    return Err(failed(format!(
                        "this kernel ({}) does not have it, or it is blacklisted",
                        kernel()
                    )));
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    let _ = modprobe.kill();
                    return Err(failed(format!("modprobe did not end within {} s", MODULE_LIMIT.as_secs())));
                }
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    fn files(&self) -> &SystemTree {
        &self.files
    }

    fn replace_file(&self, path: &str, content: &SystemFile) -> Result<(), ControlError> {
        tracing::debug!(path, "replace file");
        self.files.replace(path, content).map_err(ControlError::of_file(path))
    }

    fn remove_file(&self, path: &str) -> Result<(), ControlError> {
        tracing::debug!(path, "remove file");
        self.files.remove(path).map_err(ControlError::of_file(path))
    }

    fn remove_empty_directory(&self, path: &str) -> Result<(), ControlError> {
        tracing::debug!(path, "remove directory");
        self.files.remove_directory(path).map_err(ControlError::of_file(path))
    }

    fn run_tool(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<String, ControlError> {
        tracing::debug!(program, ?arguments, "run");
        tool::run(program, arguments, limit)
            .map_err(|source| ControlError::Tool { command: command_line(program, arguments), source })
    }

    fn unload_module(&self, module: &str) -> Result<(), ControlError> {
        tracing::debug!(module, "unload");
        sys::module::unload(module, MODULE_LIMIT).map_err(|error| match error {
            ChildError::Stuck { limit, pid } => ControlError::Pending {
                path: format!("kernel module {module}"),
                value: "unload".to_owned(),
                limit,
                pid,
            },
            other => ControlError::Unload { module: module.to_owned(), source: cause(other) },
        })
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A command as it would be typed.
pub(super) fn command_line(program: &str, arguments: &[&str]) -> String {
    [&[program], arguments].concat().join(" ")
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

fn interface_error(interface: &str, what: String) -> impl FnOnce(ChildError) -> ControlError {
    let interface = interface.to_owned();
    move |error| match error {
        ChildError::Stuck { limit, pid } => {
            ControlError::Pending { path: format!("network interface {interface}"), value: what, limit, pid }
        }
        other => ControlError::Interface { interface, what, source: cause(other) },
    }
}

/// How long the kernel may take to tell addresses.
const NETWORK_LIMIT: Duration = Duration::from_secs(10);

fn write_error(path: &str, value: &str, error: ChildError) -> ControlError {
    let (path, value) = (path.to_owned(), value.to_owned());
    match error {
        ChildError::Stuck { limit, pid } => ControlError::Pending { path, value, limit, pid },
        other => ControlError::Write { path, value, source: cause(other) },
    }
}

fn directory_error(path: &str, change: DirectoryChange, error: ChildError) -> ControlError {
    let path = path.to_owned();
    match error {
        ChildError::Stuck { limit, pid } => {
            ControlError::Pending { path, value: change.verb().to_owned(), limit, pid }
        }
        other => ControlError::Directory { path, change, source: cause(other) },
    }
}

fn node_error(path: &str, wanted: String, error: ChildError) -> ControlError {
    let path = path.to_owned();
    match error {
        ChildError::Stuck { limit, pid } => ControlError::Pending { path, value: wanted, limit, pid },
        other => ControlError::Node { path, wanted, source: cause(other) },
    }
}

/// What remains of an error of a child that is gone.
fn cause(error: ChildError) -> io::Error {
    match error {
        ChildError::Refused(error) => error,
        ChildError::GivenUp { .. } => io::Error::new(io::ErrorKind::TimedOut, error.to_string()),
        ChildError::Short { .. } => io::Error::new(io::ErrorKind::WriteZero, error.to_string()),
        ChildError::Stuck { .. } => io::Error::other(error.to_string()),
    }
}
