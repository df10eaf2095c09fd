//! One emulated host: boots, runs one script, hands back what came of it.
//!
//! The kernel starts by PVH from its ELF image, which saves the emulated CPU the unpacking. The emulated host's own
//! devices sit together at 00:1e.x: two 9p shares (the machine's `/`, read-only; a directory for results) and the
//! virtio-serial ports of [`super::channel`]. What a run needs goes in through fw_cfg below `opt/thruway/`.
//!
//! QEMU is tied to this process (`sys::process`), and stopped by `SIGTERM`, upon which it flushes its images.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::assets::RunDirectory;
use super::channel::{self, Event, Listener, PORTS, Ports, Reading, Stream, Truncated};
use super::hardware::{Accelerator, Hardware, Rendered, render};
use super::{Assets, RehearseError};
use crate::sys::process::TiedChild;

/// How an emulated host is run.
#[derive(Clone)]
pub struct Options {
    /// What executes it; `None`: KVM where nested virtualization is real, else QEMU's translator.
    pub accelerator: Option<Accelerator>,
    /// Until user space runs.
    pub boot_limit: Duration,
    /// From then until the command ends; `None`: no limit.
    pub limit: Option<Duration>,
    /// Further arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// Further arguments for the emulated host's kernel.
    pub kernel_arguments: Vec<String>,
    /// Files that the emulated host sees as `/run/lab/in/NAME` (`$LAB_IN`).
    pub files: Vec<(String, Vec<u8>)>,
    /// The program that is `thruway` there; `None`: this process's own.
    pub tool: Option<PathBuf>,
    /// Called with output as it comes.
    pub listener: Option<Listener>,
    /// How much of each stream is kept in the outcome.
    pub kept_output_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accelerator: None,
            boot_limit: Duration::from_secs(180),
            limit: None,
            qemu_arguments: Vec::new(),
            kernel_arguments: Vec::new(),
            files: Vec::new(),
            tool: None,
            listener: None,
            kept_output_bytes: 16 << 20,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("accelerator", &self.accelerator)
            .field("boot_limit", &self.boot_limit)
            .field("limit", &self.limit)
            .field("qemu_arguments", &self.qemu_arguments)
            .field("kernel_arguments", &self.kernel_arguments)
            .field("files", &self.files.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("tool", &self.tool)
            .finish_non_exhaustive()
    }
}

/// The file with what the emulated host's kernel says.
const CONSOLE: &str = "console";
/// How often a host is started, if its processors stop.
const STARTS: u32 = 3;
/// How often the console is looked at for that.
const STALL_CHECK: Duration = Duration::from_secs(5);

/// How the command's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ended by itself; 128 and the signal's number when a signal ended it.
    Status(i32),
    /// It did not within this limit.
    TimedOut(Duration),
    /// The emulated host was not up within this limit.
    BootTimedOut(Duration),
    /// The emulated host's kernel reported that a processor stopped (an RCU stall), each time that it was started.
    Stalled,
    /// The emulated host ended first. How QEMU ended, and what it said.
    Died(String),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What the command wrote to standard output, as far as it was kept.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, as far as it was kept.
    pub stderr: Vec<u8>,
    /// Whether one of them was longer than what is kept.
    pub truncated: Truncated,
    /// The emulated host's serial console: its kernel's messages.
    pub console: String,
    /// From the start of QEMU until user space ran.
    pub boot: Option<Duration>,
    /// From the start of QEMU to its end.
    pub elapsed: Duration,
    /// What executed it.
    pub accelerator: Accelerator,
    /// Scratch images by file name, with what the emulated host and its guests wrote.
    pub images: BTreeMap<String, PathBuf>,
    directory: Arc<RunDirectory>,
}

impl Outcome {
    /// The command's status.
    ///
    /// # Errors
    /// When the command has none: a time-out, or the emulated host died.
    pub fn status(&self) -> Result<i32, RehearseError> {
        let console = console_tail(&self.console);
        match &self.ending {
            Ending::Status(status) => Ok(*status),
            Ending::TimedOut(limit) => Err(RehearseError::TimedOut { after_s: limit.as_secs(), console }),
            Ending::BootTimedOut(limit) => {
                Err(RehearseError::BootTimeout { after_s: limit.as_secs(), console })
            }
            Ending::Stalled => Err(RehearseError::Stalled { console }),
            Ending::Died(qemu) => Err(RehearseError::Died { qemu: qemu.clone(), console }),
        }
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// What the command wrote below `/run/lab/out` (`$LAB_OUT`). It goes with this value.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Copies the run's files to `target`, which is made: console, QEMU's command line, images (sparse as they are), files
    /// in and out.
    ///
    /// # Errors
    /// When `target` cannot be written.
    pub fn keep(&self, target: &Path) -> Result<(), RehearseError> {
        copy_tree(self.directory.path(), target)
            .map_err(|source| RehearseError::Io { path: target.to_owned(), source })
    }

    /// The run's whole directory: console, QEMU's command line, images, files. It goes with this value.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// An emulated host that is ready to start.
#[derive(Debug)]
pub struct EmulatedHost {
    assets: Assets,
    options: Options,
    rendered: Rendered,
    kernel_arguments: Vec<String>,
    accelerator: Accelerator,
    directory: Arc<RunDirectory>,
}

impl EmulatedHost {
    /// Makes the directory of the run, with its images and files.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(hardware: &Hardware, assets: &Assets, options: Options) -> Result<Self, RehearseError> {
        let accelerator = options.accelerator.unwrap_or_else(best_accelerator);
        let rendered = render(hardware, accelerator);
        let directory = Arc::new(assets.cache.run_directory()?);
        let host = Self {
            assets: assets.clone(),
            rendered,
            kernel_arguments: hardware.kernel_arguments.clone(),
            accelerator,
            directory,
            options,
        };
        host.io("in", |path| fs::create_dir(path))?;
        host.fresh()?;
        for (name, content) in &host.options.files {
            host.io(&format!("in/{name}"), |path| {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(path, content)
            })?;
        }
        Ok(host)
    }

    /// The directory of the run. What is put into its `in` before the start is seen there as `/run/lab/in`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What a run writes, as it is before one: empty images, nothing in `out`, no console and no ports.
    fn fresh(&self) -> Result<(), RehearseError> {
        let absent = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        for name in ["images", "out"] {
            self.io(name, |path| absent(fs::remove_dir_all(path)).and_then(|()| fs::create_dir(path)))?;
        }
        for image in &self.rendered.images {
            self.io(&format!("images/{}", image.name), |path| {
                File::create(path)?.set_len(image.size.bytes())
            })?;
        }
        for name in PORTS.into_iter().chain([CONSOLE]) {
            self.io(name, |path| absent(fs::remove_file(path)))?;
        }
        Ok(())
    }

    /// Boots, runs `script` with the machine's `/bin/sh` as root, and waits for its end.
    ///
    /// Under QEMU's translator (seen with 10.0.2) the emulated host's kernel now and then reports an RCU stall: a
    /// processor whose timer does not fire any more. The cause is not known; a lost interrupt of the translator is
    /// likely and not proved. Such a host is given up, and a fresh one runs the script *from its beginning*, at most
    /// [`STARTS`] in all; what the first one wrote is gone. A script that stalls its host itself is run as often.
    ///
    /// # Errors
    /// When QEMU could not be started. A script that fails, a time-out and a host that died are outcomes.
    pub fn run(self, script: &str) -> Result<Outcome, RehearseError> {
        for start in 1..STARTS {
            let outcome = self.run_once(script)?;
            if outcome.ending != Ending::Stalled {
                return Ok(outcome);
            }
            tracing::warn!(
                start,
                "the emulated host's kernel reports a stopped processor (RCU stall); running again from the start"
            );
            self.fresh()?;
        }
        self.run_once(script)
    }

    fn run_once(&self, script: &str) -> Result<Outcome, RehearseError> {
        let token = channel::token().map_err(RehearseError::Start)?;
        self.io("script", |path| fs::write(path, script))?;
        self.io("run", |path| fs::write(path, self.variables(&token)))?;
        let ports = Ports::bind(self.directory()).map_err(RehearseError::Start)?;
        let command = self.command()?;
        self.io("command", |path| fs::write(path, format!("{command:?}\n")))?;
        let started = Instant::now();
        let reading = Reading {
            token,
            limit_bytes: self.options.kept_output_bytes,
            listener: self.options.listener.clone(),
        };
        let events = ports.read(&reading).map_err(RehearseError::Start)?;
        let mut watch = Watch {
            accelerator: self.accelerator,
            started,
            boot: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: Truncated::No,
        };
        let ending = TiedChild::spawn(command)
            .map_err(RehearseError::Start)
            .and_then(|qemu| watch.until_the_end(&events, &qemu, &self.options, self.directory()));
        // A reader whose port QEMU never opened waits for somebody to connect.
        for port in PORTS {
            let _ = UnixStream::connect(self.directory().join(port));
        }
        let ending = ending?;
        let console = fs::read(self.directory().join(CONSOLE)).unwrap_or_default();
        let images = self
            .rendered
            .images
            .iter()
            .map(|image| (image.name.clone(), self.directory().join("images").join(&image.name)))
            .collect();
        Ok(Outcome {
            ending,
            stdout: watch.stdout,
            stderr: watch.stderr,
            truncated: watch.truncated,
            console: String::from_utf8_lossy(&console).into_owned(),
            boot: watch.boot,
            elapsed: started.elapsed(),
            accelerator: self.accelerator,
            images,
            directory: Arc::clone(&self.directory),
        })
    }

    fn io<T>(
        &self,
        name: &str,
        action: impl FnOnce(&Path) -> std::io::Result<T>,
    ) -> Result<T, RehearseError> {
        let path = self.directory().join(name);
        action(&path).map_err(|source| RehearseError::Io { path, source })
    }

    /// The shell variables that `init/host.sh` reads.
    fn variables(&self, token: &str) -> String {
        let tool = self.options.tool.clone().or_else(|| std::env::current_exe().ok());
        let uplink = self.rendered.uplink.as_ref();
        let text = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
        [
            ("LAB_TOKEN", token.to_owned()),
            ("LAB_EARLY_MODULES", self.rendered.early_modules.join(" ")),
            ("LAB_USB_DEVICES", self.rendered.usb_devices.to_string()),
            ("LAB_USB_DISKS", self.rendered.usb_disks.to_string()),
            ("LAB_MODULES", text(Some(&self.assets.kernel.modules))),
            ("LAB_TOOL", text(tool.as_deref())),
            ("LAB_IN", text(Some(&self.directory().join("in")))),
            ("LAB_KERNEL_BZIMAGE", inside(&self.assets.kernel.bzimage)),
            ("LAB_KERNEL_VMLINUX", inside(&self.assets.kernel.vmlinux)),
            ("LAB_GUEST_INITRD", inside(&self.assets.guest_initrd)),
            ("LAB_UPLINK_MAC", uplink.map(|uplink| uplink.mac.clone()).unwrap_or_default()),
            ("LAB_UPLINK_ADDRESS", uplink.map(|uplink| format!("{}/24", uplink.address)).unwrap_or_default()),
            ("LAB_UPLINK_GATEWAY", uplink.map(|uplink| uplink.gateway.to_string()).unwrap_or_default()),
        ]
        .map(|(name, value)| format!("{name}={}\n", shell_word(&value)))
        .concat()
    }

    fn command(&self) -> Result<Command, RehearseError> {
        let mut command = Command::new(&self.assets.qemu);
        let errors = self.io("qemu.log", |path| File::create(path))?;
        command.current_dir(self.directory()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut option = |name: &str, value: &str| {
            command.arg(name).arg(value);
        };
        option("-name", "thruway-rehearse");
        option("-display", "none");
        option("-nic", "none");
        for argument in &self.rendered.arguments {
            command.arg(argument);
        }
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        let mut option = |name: &str, value: &str| {
            command.arg(name).arg(value);
        };
        option("-chardev", "file,id=console,path=console");
        option("-serial", "chardev:console");
        for (tag, path, access, function) in
            [("host", "/", ",readonly=on,multidevs=remap", "0,multifunction=on"), ("out", "out", "", "1")]
        {
            option("-fsdev", &format!("local,id={tag},path={path},security_model=none{access}"));
            option("-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},addr=1e.{function}"));
        }
        option("-device", "virtio-serial-pci,id=lab,addr=1e.2");
        for (number, name) in (1..).zip(PORTS) {
            option("-chardev", &format!("socket,id={name},path={name}"));
            option(
                "-device",
                &format!("virtserialport,bus=lab.0,nr={number},chardev={name},name=thruway.{name}"),
            );
        }
        option("-fw_cfg", "name=opt/thruway/run,file=run");
        option("-fw_cfg", "name=opt/thruway/script,file=script");
        for argument in &self.options.qemu_arguments {
            command.arg(argument);
        }
        command.arg("-kernel").arg(&self.assets.kernel.vmlinux);
        command.arg("-initrd").arg(&self.assets.host_initrd);
        // The kernel's check of its timer measures time by a busy loop; on a busy machine under the translator it fails,
        // and with interrupt remapping that is a panic.
        let append: Vec<&str> = ["console=ttyS0", "panic=-1", "quiet", "no_timer_check"]
            .into_iter()
            .chain(self.kernel_arguments.iter().map(String::as_str))
            .chain(self.options.kernel_arguments.iter().map(String::as_str))
            .collect();
        command.arg("-append").arg(append.join(" "));
        Ok(command)
    }
}

struct Watch {
    accelerator: Accelerator,
    started: Instant,
    boot: Option<Duration>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: Truncated,
}

impl Watch {
    fn until_the_end(
        &mut self,
        events: &Receiver<Event>,
        qemu: &TiedChild,
        options: &Options,
        directory: &Path,
    ) -> Result<Ending, RehearseError> {
        let mut status = None;
        let mut open_streams = 2;
        let mut deadline = Some(self.started + options.boot_limit);
        let ending = loop {
            if let (Some(status), 0) = (status, open_streams) {
                break Ending::Status(status);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // The readers end when QEMU does, so an end without a status arrives as an event, too.
            let event = events.recv_timeout(left.map_or(STALL_CHECK, |left| left.min(STALL_CHECK)));
            match event {
                Ok(Event::Up(_)) => {
                    self.boot = Some(self.started.elapsed());
                    deadline = options.limit.map(|limit| Instant::now() + limit);
                }
                Ok(Event::End(end)) => status = Some(end),
                Ok(Event::Closed(stream, bytes, truncated)) => {
                    open_streams -= 1;
                    if truncated == Truncated::Yes {
                        self.truncated = Truncated::Yes;
                    }
                    match stream {
                        Stream::Stdout => self.stdout = bytes,
                        Stream::Stderr => self.stderr = bytes,
                    }
                }
                Err(RecvTimeoutError::Timeout)
                    if self.accelerator == Accelerator::Tcg && stalled(directory) =>
                {
                    break Ending::Stalled;
                }
                Err(RecvTimeoutError::Timeout) if left.is_none_or(|left| left > STALL_CHECK) => {}
                Err(RecvTimeoutError::Timeout) => {
                    break match (self.boot, options.limit) {
                        (Some(_), Some(limit)) => Ending::TimedOut(limit),
                        _ => Ending::BootTimedOut(options.boot_limit),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => break Ending::Died(String::new()),
            }
        };
        self.stop(qemu, events, ending, directory)
    }

    /// Ends QEMU; collects what the streams carried so far.
    fn stop(
        &mut self,
        qemu: &TiedChild,
        events: &Receiver<Event>,
        ending: Ending,
        directory: &Path,
    ) -> Result<Ending, RehearseError> {
        const GRACE: Duration = Duration::from_secs(10);
        qemu.terminate();
        let ended = match qemu.wait_for(GRACE).map_err(RehearseError::Start)? {
            Some(status) => Some(status),
            None => {
                qemu.kill();
                qemu.wait_for(GRACE).map_err(RehearseError::Start)?
            }
        };
        while let Ok(event) = events.recv_timeout(Duration::from_secs(1)) {
            match event {
                Event::Closed(Stream::Stdout, bytes, _) => self.stdout = bytes,
                Event::Closed(Stream::Stderr, bytes, _) => self.stderr = bytes,
                Event::Up(_) | Event::End(_) => {}
            }
        }
        Ok(match ending {
            Ending::Died(_) => {
                let said = fs::read(directory.join("qemu.log")).unwrap_or_default();
                let status = ended.map_or_else(|| "still running".to_owned(), |status| status.to_string());
                Ending::Died(format!(
                    "QEMU: {status}; {}",
                    console_tail(&String::from_utf8_lossy(&said)).trim()
                ))
            }
            other => other,
        })
    }
}

/// Whether the emulated host's kernel says that one of its processors stopped (Linux: Documentation/RCU/stallwarn.rst).
fn stalled(directory: &Path) -> bool {
    let console = fs::read(directory.join(CONSOLE)).unwrap_or_default();
    String::from_utf8_lossy(&console).contains("rcu_preempt detected stalls on CPUs")
}

/// Copies regular files and directories; sockets and links of the run are of no use later.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Where the emulated host sees a file of this machine, wherever it lies: some directories of the machine, such as
/// /run, are covered there.
#[must_use]
pub fn inside(path: &Path) -> String {
    format!("/run/lab/host{}", path.display())
}

/// KVM where it runs guests of its own guests in hardware; never a KVM that is software itself.
fn best_accelerator() -> Accelerator {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        flags
            .lines()
            .any(|line| line.starts_with("flags") && line.split_whitespace().any(|word| word == flag))
    };
    let nested = |module: &str| {
        fs::read_to_string(format!("/sys/module/{module}/parameters/nested"))
            .is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
    };
    let real = (has("vmx") && nested("kvm_intel")) || (has("svm") && nested("kvm_amd"));
    let usable = || File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if real && usable() { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// The last lines of a console, without carriage returns and control sequences.
fn console_tail(console: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<String> = console
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

/// One word for a POSIX shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command line for a POSIX shell that runs exactly `words`.
#[must_use]
pub fn shell_words<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| shell_word(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let words = ["a b", "it's", "$HOME", "", "\\", "new\nline"];

        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("printf '%s|' {}", shell_words(&words)))
            .output()
            .unwrap();

        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.map(|word| format!("{word}|")).concat());
    }

    #[test]
    fn tail_of_a_console_is_short_and_plain() {
        let console: String = (0..50).map(|line| format!("\x1b[0mline {line}\r\n\r\n")).collect();

        let tail = console_tail(&console);

        assert_eq!(tail.lines().count(), 20);
        assert!(tail.ends_with("line 49") && !tail.contains('\x1b'), "{tail}");
    }

    #[test]
    fn a_stall_is_what_the_kernel_reports_as_one() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!stalled(directory.path()), "no console yet");
        let say = |text: &str| fs::write(directory.path().join(CONSOLE), text).unwrap();
        say("[    4.1] rcu: Hierarchical RCU implementation.\n");
        assert!(!stalled(directory.path()));
        say("[   35.9] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n");
        assert!(stalled(directory.path()));
    }
}
