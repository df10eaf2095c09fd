//! `thruway run`: run a virtual machine from a profile, from flags, or from both.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cli::format::{Format, FormatArgs, document};
use crate::cli::hotplug::server::Server;
use crate::cli::{CliResult, Context, Exit, Failure, progress, source};
use crate::host::select;
use crate::profile::schema::{Device, VfioBlock};
use crate::profile::{Loaded, Purpose, load};
use crate::setup::goal::Selector;
use crate::spec::pci::{PciAddress, PciAddressError};
use crate::spec::units::ByteSize;
use crate::vmm::boot::BootError;
use crate::vmm::chipset::pvpanic::PvpanicConfig;
use crate::vmm::config::{
    ConfigError, CpuConfig, DeviceConfig, HotplugConfig, InterruptMode, MachineConfig, ModuleConfig,
    OnReboot, RomConfig, SerialConfig, ShortForm, Target, Word,
};
use crate::vmm::machine::{BuildError, Machine};
use crate::vmm::memory::MemoryError;
use crate::vmm::run::ExitReason;
use crate::vmm::stats::{MachineStats, Occasion};
use crate::vmm::virtio::devices::block::{BlockConfig, ImageFormat};
use crate::vmm::virtio::devices::net::NetConfig;
use crate::vmm::virtio::devices::rng::RngConfig;

/// Name of the document that `--dry-run` prints.
const SCHEMA: &str = "thruway.machine";
/// Version of its shape.
const SCHEMA_VERSION: u32 = 1;
/// Name of the document that `--stats` writes.
const STATS_SCHEMA: &str = "thruway.machine-stats";
/// Version of its shape.
const STATS_SCHEMA_VERSION: u32 = 1;
/// What a kernel is told where neither a profile nor a flag says anything.
const DEFAULT_CMDLINE: &str = "console=ttyS0";

/// Arguments of `thruway run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The guest's first serial port is on standard input and output unless --serial or the profile says otherwise. On a
terminal, Ctrl-A x ends the machine, Ctrl-A p presses its power button, and Ctrl-A Ctrl-A sends one Ctrl-A. SIGUSR2
presses the power button too: a guest that listens shuts down by itself. SIGTERM ends the machine at once.

Places of consoles: stdio, none, pty[,link=PATH] (a terminal of its own; the link names it), file=PATH[,limit=SIZE] (at most
256MiB unless a limit is given; the rest is dropped), socket=PATH (a Unix socket, one connection at a time).

Exit codes: 0 the guest powered off, 10 it asked for a reboot (with --on-reboot exit; else the machine starts again in place),
11 its kernel panicked, 12 the machine failed, 130 ended by a signal or by Ctrl-A x. A guest with isa-debug-exit can ask for any odd code.

Examples:
  thruway run sriov-nic --kernel vmlinuz --initrd initrd.img
  thruway run --kernel vmlinuz --initrd initrd.img --memory 1GiB --disk root.img,format=raw
  thruway run --kernel vmlinux --vfio 0000:01:10.0 --dry-run
  thruway run --firmware /usr/share/OVMF/OVMF_CODE_4M.fd --firmware-vars vars.fd --disk debian.img")]
pub(crate) struct Args {
    /// Name of a built-in profile, or path of a file; flags go over what it says
    #[arg(value_name = "PROFILE", required_unless_present_any = ["kernel", "firmware"])]
    profile: Option<String>,
    /// Linux bzImage, ELF file with a PVH entry point, or multiboot image; it is started as what it is
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Firmware image that starts first and boots a disk, or the kernel: OVMF_CODE_4M.fd
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// File that keeps the firmware's variables; made from the template beside the firmware if it does not exist
    #[arg(long, value_name = "FILE")]
    firmware_vars: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Add a module for a multiboot kernel, behind the initial RAM disk, with what the kernel is told of it
    #[arg(long, value_name = "FILE[,cmdline=TEXT]")]
    module: Vec<String>,
    /// Kernel command line [default without a profile: console=ttyS0]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// What the guest's request to reboot does; a triple fault counts as one [default without a profile: reset]
    #[arg(long, value_name = "WHAT")]
    on_reboot: Option<OnReboot>,
    /// Virtual CPUs, 1 to 64 [default without a profile: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpus: Option<i64>,
    /// Where the interrupt controllers are; userspace takes one CPU [default without a profile: kernel]
    #[arg(long, value_name = "MODE")]
    interrupts: Option<InterruptMode>,
    /// Guest memory: 512MiB, 4GiB [default without a profile: 512MiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<ByteSize>,
    /// Add a disk; the format is never guessed, and is raw
    #[arg(long, value_name = "PATH[,format=raw][,readonly]")]
    disk: Vec<DiskFlag>,
    /// Where a serial port is: the first time COM1, the second time COM2 [default: stdio]
    #[arg(long, value_name = "PLACE")]
    serial: Vec<Target>,
    /// Add a virtio console (hvc0); on stdio, COM1 is nowhere unless --serial says where
    #[arg(long, value_name = "PLACE")]
    console: Vec<Target>,
    /// Add a network card on this tap interface
    #[arg(long, value_name = "NAME")]
    tap: Vec<String>,
    /// Pass a host function through, named as for bind; it must be bound to vfio-pci
    #[arg(long, value_name = "ADDR")]
    vfio: Vec<Selector>,
    /// Let devices come and go while it runs: a socket for `thruway hotplug`, and how many slots are empty at first
    #[arg(long, value_name = "SOCKET[,spare=N]")]
    hotplug: Option<String>,
    /// Give a device an expansion ROM; ADDR is where the guest finds it (--dry-run tells), and off takes its own away
    #[arg(long, value_name = "ADDR=FILE|off")]
    rom: Vec<RomFlag>,
    /// Write what the machine did (exits by reason and vCPU, KVM's counters) to this file as JSON: at its end, and whenever
    /// SIGUSR1 asks; without a file, that signal has it on standard error
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// Print the machine that would run, and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// A disk as a flag says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DiskFlag {
    path: PathBuf,
    readonly: bool,
}

/// Why a text is no disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum DiskFlagError {
    /// No path in front of the options.
    #[error("the path is missing; write PATH[,format=raw][,readonly]")]
    NoPath,
    /// A format that is not known.
    #[error("`{0}` is not a disk format; raw is")]
    Format(String),
    /// An option that is not known.
    #[error("`{0}` is not an option of a disk; format=raw and readonly are")]
    Option(String),
}

impl FromStr for DiskFlag {
    type Err = DiskFlagError;

    fn from_str(text: &str) -> Result<Self, DiskFlagError> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty()).ok_or(DiskFlagError::NoPath)?;
        let mut disk = Self { path: path.into(), readonly: false };
        for part in parts {
            match part.split_once('=') {
                None if part == "readonly" => disk.readonly = true,
                Some(("format", "raw")) => {}
                Some(("format", format)) => return Err(DiskFlagError::Format(format.to_owned())),
                _ => return Err(DiskFlagError::Option(part.to_owned())),
            }
        }
        Ok(disk)
    }
}

/// An expansion ROM as a flag says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RomFlag {
    /// In the guest.
    address: PciAddress,
    /// None for no ROM.
    file: Option<PathBuf>,
}

/// Why a text is no expansion ROM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RomFlagError {
    /// It is not two things.
    #[error("write ADDR=FILE, or ADDR=off for no expansion ROM")]
    Form,
    /// The first is not an address.
    #[error(transparent)]
    Address(#[from] PciAddressError),
}

impl FromStr for RomFlag {
    type Err = RomFlagError;

    fn from_str(text: &str) -> Result<Self, RomFlagError> {
        let (address, file) = text.split_once('=').ok_or(RomFlagError::Form)?;
        let address = address.parse()?;
        match file {
            "" => Err(RomFlagError::Form),
            "off" => Ok(Self { address, file: None }),
            file => Ok(Self { address, file: Some(file.into()) }),
        }
    }
}

/// Runs the machine that profile and flags describe; the exit code says how it ended.
pub(crate) fn run(args: &Args, context: &Context) -> CliResult {
    let (config, loaded) = configure(args, context)?;
    if args.dry_run {
        return dry_run(&config, args.format.format, context);
    }
    let hotplug = config.hotplug.as_ref().map(|hotplug| Server::listen(&hotplug.socket)).transpose()?;
    let stats = args.stats.as_deref().map(StatsFile::open).transpose()?;
    let built = progress::bytes(context, "taking guest memory from the host", |progress| {
        Machine::build_watched(&config, progress)
    });
    let machine = built.map_err(|error| in_its_place(error, &loaded))?;
    if machine.has_terminal() {
        // The terminal is raw already: the line break needs its carriage return.
        context.note(format_args!(
            "{}: Ctrl-A x ends the machine, Ctrl-A p presses its power button\r",
            config.name
        ));
    }
    if let Some(server) = &hotplug {
        server.serve(machine.remote(), *context)?;
    }
    let raw = machine.has_terminal();
    for note in machine.console_notes() {
        context.note(format_args!("{}: {note}{}", config.name, if raw { "\r" } else { "" }));
    }
    let reason = machine.run_reporting(&mut |occasion, counted| {
        let written = match (&stats, occasion) {
            (Some(file), _) => file.write(counted),
            (None, Occasion::Asked) => stats_document(counted).map(|text| {
                // On a raw terminal a line break needs its carriage return.
                context.note(if raw { text.replace('\n', "\r\n") } else { text });
            }),
            (None, Occasion::End) => Ok(()),
        };
        if let Err(error) = written {
            tracing::error!("{error}");
        }
    });
    let exit = match reason {
        ExitReason::PowerOff => Exit::Ok,
        ExitReason::Reboot => Exit::GuestReboot,
        ExitReason::Panic => Exit::GuestPanic,
        ExitReason::Interrupted => Exit::Interrupted,
        ExitReason::DebugExit(code) => return Ok(code.into()),
        ExitReason::Fault(_) => return Err(Failure::new(Exit::VmmFault, reason.to_string())),
    };
    if exit != Exit::Ok {
        context.note(format_args!("{}: {reason}", config.name));
    }
    Ok(exit.into())
}

/// The machine that the arguments describe, and where they say so.
fn configure(args: &Args, context: &Context) -> Result<(MachineConfig, Loaded), Failure> {
    let mut loaded = match &args.profile {
        Some(profile) => load(profile, Purpose::Act)?,
        None => {
            let mut loaded = Loaded::from_flags();
            DEFAULT_CMDLINE.clone_into(&mut loaded.profile.machine.boot.cmdline);
            loaded.profile.machine.devices =
                vec![Device::VirtioRng(RngConfig {}.into()), Device::Pvpanic(PvpanicConfig {})];
            loaded
        }
    };
    lay_over(args, &mut loaded)?;
    // The host is read only if a profile selects a function other than by its address: a start should not wait for it.
    let facts = std::cell::OnceCell::new();
    let lookup = |selector: &Selector| match selector {
        Selector::Address(address) => Ok(*address),
        other => select::resolve(facts.get_or_init(|| source::live(context)), other),
    };
    let mut config = loaded.resolve(lookup)?;
    config.fix_addresses();
    for rom in &args.rom {
        let wanted = match &rom.file {
            Some(file) => RomConfig::File(absolute(file)?),
            None => RomConfig::Hidden,
        };
        let mut functions = config.devices.iter_mut().filter_map(DeviceConfig::pci_mut);
        match functions.find(|pci| pci.guest_address == Some(rom.address)) {
            Some(function) => function.rom = wanted,
            None => return Err(no_device_at(rom.address, &config)),
        }
    }
    Ok((config, loaded))
}

fn no_device_at(address: PciAddress, config: &MachineConfig) -> Failure {
    let there = config.devices.iter().filter_map(|device| {
        let address = device.pci()?.guest_address?;
        Some(format!("{address} ({})", device.kind()))
    });
    let there = there.collect::<Vec<_>>().join(", ");
    Failure::new(Exit::Usage, format!("--rom: the guest has no device at {address}; it has {there}"))
}

/// What went wrong, shown in the profile if it is one device's fault.
fn in_its_place(error: BuildError, loaded: &Loaded) -> Failure {
    let BuildError::NoRoom { setting, source } = &error else { return Failure::new(exit_of(&error), error) };
    let error = ConfigError::new(format!("machine.{setting}"), source.to_string());
    loaded.judge(&[error]).expect("there is an error").into()
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::caused(format_args!("cannot find the directory of {}", path.display()), Exit::Host, error)
    })
}

/// Puts the flags over what the profile says; devices are added behind its own.
fn lay_over(args: &Args, loaded: &mut Loaded) -> Result<(), Failure> {
    if let Some(kernel) = &args.kernel {
        loaded.profile.machine.boot.kernel = Some(absolute(kernel)?);
        loaded.overridden("machine.boot.kernel");
    }
    if let Some(firmware) = &args.firmware {
        loaded.profile.machine.boot.firmware = Some(absolute(firmware)?);
        loaded.overridden("machine.boot.firmware");
    }
    if let Some(variables) = &args.firmware_vars {
        loaded.profile.machine.boot.firmware_vars = Some(absolute(variables)?);
        loaded.overridden("machine.boot.firmware_vars");
    }
    if let Some(initrd) = &args.initrd {
        loaded.profile.machine.boot.initrd = Some(absolute(initrd)?);
        loaded.overridden("machine.boot.initrd");
    }
    for module in &args.module {
        let (file, cmdline) = module.split_once(",cmdline=").unwrap_or((module, ""));
        let module = ModuleConfig { file: absolute(Path::new(file))?, cmdline: cmdline.to_owned() };
        loaded.profile.machine.boot.modules.push(module);
    }
    if let Some(cmdline) = &args.cmdline {
        loaded.profile.machine.boot.cmdline.clone_from(cmdline);
        loaded.overridden("machine.boot.cmdline");
    }
    if let Some(on_reboot) = args.on_reboot {
        loaded.profile.machine.on_reboot = on_reboot;
        loaded.overridden("machine.on_reboot");
    }
    if let Some(cpus) = args.cpus {
        let machine = &mut loaded.profile.machine;
        // What they can do stays; how many were arranged and placed is another number now.
        let CpuConfig { model, features, realtime_priority, .. } = std::mem::take(&mut machine.cpus);
        machine.cpus = CpuConfig { model, features, realtime_priority, ..CpuConfig::from_value(cpus) };
        loaded.overridden("machine.cpus");
    }
    if let Some(interrupts) = args.interrupts {
        loaded.profile.machine.interrupts = interrupts;
        loaded.overridden("machine.interrupts");
    }
    if let Some(memory) = args.memory {
        loaded.profile.machine.memory.size = memory;
        loaded.overridden("machine.memory");
    }
    let place = |target: &Target| {
        let mut target = target.clone();
        if let Some(path) = target.paths_mut() {
            *path = absolute(path)?;
        }
        Ok::<_, Failure>(target)
    };
    if !args.serial.is_empty() {
        let ports = args.serial.iter().map(|target| place(target).map(SerialConfig));
        loaded.profile.machine.serial = ports.collect::<Result<_, _>>()?;
        loaded.overridden("machine.serial");
    } else if args.console.contains(&Target::STDIO) {
        for SerialConfig(target) in &mut loaded.profile.machine.serial {
            if *target == Target::STDIO {
                *target = Target::from_value(Word::None);
            }
        }
    }
    if let Some(hotplug) = &args.hotplug {
        let (socket, spare) = hotplug.split_once(",spare=").unwrap_or((hotplug, "1"));
        let spare_slots = spare.parse().map_err(|_| {
            let problem = format!(
                "`{}` is not a number of slots; write --hotplug SOCKET,spare=2",
                spare.escape_debug()
            );
            Failure::new(Exit::Usage, problem)
        })?;
        let power = loaded.profile.machine.hotplug.as_ref().map(|hotplug| hotplug.power).unwrap_or_default();
        loaded.profile.machine.hotplug =
            Some(HotplugConfig { socket: absolute(Path::new(socket))?, spare_slots, power });
        loaded.overridden("machine.hotplug");
    }
    let devices = &mut loaded.profile.machine.devices;
    for console in &args.console {
        devices.push(Device::VirtioConsole(place(console)?.into()));
    }
    for disk in &args.disk {
        let (path, readonly) = (absolute(&disk.path)?, disk.readonly);
        devices.push(Device::VirtioBlock(block(path, readonly).into()));
    }
    let cards = args.tap.iter().map(|tap| NetConfig { tap: tap.clone(), mac: None });
    devices.extend(cards.map(|card| Device::VirtioNet(card.into())));
    let functions = args.vfio.iter().map(|select| VfioBlock { select: select.clone() });
    devices.extend(functions.map(|function| Device::VfioPci(function.into())));
    Ok(())
}

fn stats_document(stats: &MachineStats) -> Result<String, Failure> {
    Ok(document(Format::Json, STATS_SCHEMA, STATS_SCHEMA_VERSION, stats)?.unwrap_or_default())
}

/// The file of `--stats`, open from the start.
struct StatsFile {
    path: PathBuf,
    file: File,
}

impl StatsFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| Self::failure(path, error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn failure(path: &Path, error: std::io::Error) -> Failure {
        Failure::caused(format_args!("cannot write {}", path.display()), Exit::Host, error)
    }

    /// Puts `stats` in the place of what is there.
    fn write(&self, stats: &MachineStats) -> Result<(), Failure> {
        let text = stats_document(stats)? + "\n";
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        written.map_err(|error| Self::failure(&self.path, error))
    }
}

fn block(path: PathBuf, readonly: bool) -> BlockConfig {
    BlockConfig { path, format: ImageFormat::Raw, readonly, serial: None }
}

fn dry_run(config: &MachineConfig, format: Format, context: &Context) -> CliResult {
    let text = match document(format, SCHEMA, SCHEMA_VERSION, config)? {
        Some(document) => document,
        None => serde_yaml::to_string(config).map_err(|error| Failure::new(Exit::VmmFault, error))?,
    };
    context.print(text)?;
    Ok(Exit::Ok.into())
}

/// What the user gave is at fault, or what the host has.
fn exit_of(error: &BuildError) -> Exit {
    match error {
        BuildError::Boot(BootError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Exit::Host
        }
        BuildError::Boot(BootError::Firmware(error)) if error.is_the_hosts() => Exit::Host,
        BuildError::Config(_) | BuildError::Boot(_) | BuildError::Rom(_) | BuildError::NoRoom { .. } => {
            Exit::Usage
        }
        BuildError::Memory(MemoryError::Interrupted) => Exit::Interrupted,
        _ => Exit::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_read_with_their_options() {
        let disk = |text: &str| text.parse::<DiskFlag>();
        assert_eq!(disk("a.img"), Ok(DiskFlag { path: "a.img".into(), readonly: false }));
        assert_eq!(disk("a.img,format=raw,readonly"), Ok(DiskFlag { path: "a.img".into(), readonly: true }));
        assert_eq!(disk(",readonly"), Err(DiskFlagError::NoPath));
        assert_eq!(disk("a.img,format=qcow2"), Err(DiskFlagError::Format("qcow2".to_owned())));
        assert_eq!(disk("a.img,cache=none"), Err(DiskFlagError::Option("cache=none".to_owned())));
    }

    #[test]
    fn expansion_roms_are_read_with_their_address() {
        let rom = |text: &str| text.parse::<RomFlag>();
        let address = "0000:01:00.0".parse().unwrap();
        assert_eq!(rom("01:00.0=a=b.rom"), Ok(RomFlag { address, file: Some("a=b.rom".into()) }));
        assert_eq!(rom("01:00.0=off"), Ok(RomFlag { address, file: None }));
        assert_eq!((rom("a.rom"), rom("01:00.0=")), (Err(RomFlagError::Form), Err(RomFlagError::Form)));
        assert!(matches!(rom("eth0=a.rom"), Err(RomFlagError::Address(_))));
    }
}
