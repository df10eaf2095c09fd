//! One emulated host: boots, runs one script, hands back what came of it.
//!
//! The kernel starts by PVH from its ELF image, which saves the emulated CPU the unpacking. The emulated host's own
//! devices sit together at 00:1e.x: two 9p shares (the machine's `/`, read-only; a directory for results) and the
//! virtio-serial ports of [`super::channel`]. What a run needs goes in through fw_cfg below `opt/thruway/`.
//!
//! QEMU is tied to this process (`sys::process`), and stopped by `SIGTERM`, upon which it flushes its images.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::assets::{Archive, AssetsError, RunDirectory};
use super::channel::{self, Listener, PORTS, Ports, Reading};
use super::hardware::{Accelerator, AcpiTable, Hardware, Rendered, render};
use super::outcome::Outcome;
use super::watch::{CONSOLE, Watch};
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

/// Arguments for a kernel under QEMU's translator.
///
/// - The kernel's check of its timer measures time by a busy loop; on a busy machine it fails, and with interrupt remapping
///   that is a panic.
/// - The translator now and then loses an interrupt of a processor that runs guests: leaving a guest changes
///   `interrupt_request` without the lock under which timers and devices change it (QEMU 10.0.2:
///   target/i386/tcg/system/svm_helper.c, `do_vmexit`). The vector stays pending in the local APIC and is delivered with
///   the next one. A timer that is set once for each event has no next one, and its processor stands still until
///   the kernel reports an RCU stall; a periodic timer has.
const TRANSLATED: &[&str] = &["no_timer_check", "nohz=off", "highres=off"];

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
        let mut host = Self {
            assets: assets.clone(),
            rendered,
            kernel_arguments: hardware.kernel_arguments.clone(),
            accelerator,
            directory,
            options,
        };
        for name in ["in", "images", "out"] {
            host.io(name, |path| fs::create_dir(path))?;
        }
        for image in &host.rendered.images {
            host.io(&format!("images/{}", image.name), |path| {
                File::create(path)?.set_len(image.size.bytes())
            })?;
        }
        if !host.rendered.acpi_tables.is_empty() {
            let tables = acpi_tables(&host.rendered.acpi_tables)?;
            host.io("initrd", |path| {
                fs::write(path, [tables, fs::read(&host.assets.host_initrd)?].concat())
            })?;
            host.assets.host_initrd = host.directory().join("initrd");
        }
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

    /// Boots, runs `script` with the machine's `/bin/sh` as root, and waits for its end.
    ///
    /// # Errors
    /// When QEMU could not be started. A script that fails, a time-out and a host that died are outcomes.
    pub fn run(self, script: &str) -> Result<Outcome, RehearseError> {
        let token = channel::token().map_err(RehearseError::Start)?;
        self.io("script", |path| fs::write(path, script))?;
        self.io("run", |path| fs::write(path, self.variables(&token)))?;
        let ports = Ports::bind(self.directory()).map_err(RehearseError::Start)?;
        let command = self.command()?;
        self.io("command", |path| fs::write(path, format!("{command:?}\n")))?;
        let reading = Reading {
            token,
            limit_bytes: self.options.kept_output_bytes,
            listener: self.options.listener.clone(),
        };
        let events = ports.read(&reading).map_err(RehearseError::Start)?;
        let mut watch = Watch::new(self.accelerator);
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
            elapsed: watch.started.elapsed(),
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
        let append: Vec<&str> = ["console=ttyS0", "panic=-1", "quiet"]
            .into_iter()
            .chain(
                match self.accelerator {
                    Accelerator::Tcg => TRANSLATED,
                    Accelerator::Kvm => &[],
                }
                .iter()
                .copied(),
            )
            .chain(self.kernel_arguments.iter().map(String::as_str))
            .chain(self.options.kernel_arguments.iter().map(String::as_str))
            .collect();
        command.arg("-append").arg(append.join(" "));
        Ok(command)
    }
}

/// Where the emulated host sees a file of this machine, wherever it lies: some directories of the machine, such as
/// /run, are covered there.
#[must_use]
pub fn inside(path: &Path) -> String {
    format!("/run/lab/host{}", path.display())
}

/// The archive in which the kernel looks for `tables`: the first, uncompressed, of its initial RAM file system.
fn acpi_tables(tables: &[AcpiTable]) -> Result<Vec<u8>, AssetsError> {
    let mut archive = Archive::default();
    for table in tables {
        archive.file(&format!("kernel/firmware/acpi/{}", table.name), 0o644, &table.bytes)?;
    }
    Ok(archive.finish()?)
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
}
