//! A machine as a command of Cloud Hypervisor (`cloud-hypervisor --help`).

use super::{ExportError, head, option, script};
use crate::vmm::config::{
    CpuConfig, DeviceConfig, MachineConfig, PciSettings, RomConfig, SerialConfig, Target,
};

/// A shell script that becomes Cloud Hypervisor. `prepare` is the command that prepares the host.
///
/// # Errors
/// [`ExportError`]: more than one console, or a value that its options have no way to write.
pub fn export(config: &MachineConfig, prepare: &str) -> Result<String, ExportError> {
    let (firmware, kernel) = (&config.boot.firmware, config.boot.kernel.as_ref());
    if let Some(firmware) = firmware {
        return Err(ExportError::Unsayable {
            program: "Cloud Hypervisor",
            text: firmware.display().to_string(),
            reason: "it starts no firmware but its own",
        });
    }
    let mut options = vec![
        option("--kernel", kernel.map(|kernel| kernel.display().to_string()).unwrap_or_default()),
        option("--cmdline", config.boot.cmdline.clone()),
        option("--cpus", processors(&config.cpus)),
        option("--memory", format!("size={}M", config.memory.bytes() >> 20)),
    ];
    match config.serial.as_slice() {
        [] => options.push(option("--serial", "off")),
        [SerialConfig(one)] => options.push(option("--serial", place(one)?)),
        [_, SerialConfig(second), ..] => {
            return Err(ExportError::Unsayable {
                program: "cloud-hypervisor",
                text: second.to_string(),
                reason: "it has one serial port at most",
            });
        }
    }
    if let Some(initrd) = &config.boot.initrd {
        options.push(option("--initramfs", initrd.display().to_string()));
    }
    let (mut disks, mut nets, mut functions, mut consoles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for device in &config.devices {
        if let Some(PciSettings { rom: RomConfig::File(path), .. }) = device.pci() {
            return Err(ExportError::Unsayable {
                program: "cloud-hypervisor",
                text: path.display().to_string(),
                reason: "it gives devices no expansion ROM",
            });
        }
        if let Some(address) = device.pci().and_then(|pci| pci.guest_address) {
            return Err(ExportError::Unsayable {
                program: "cloud-hypervisor",
                text: address.to_string(),
                reason: "it has no root ports, and gives out addresses by itself",
            });
        }
        match device {
            DeviceConfig::VirtioBlock(block) => {
                let mut disk = format!("path={}", value(&block.path.display().to_string())?);
                if block.readonly {
                    disk.push_str(",readonly=on");
                }
                if let Some(serial) = &block.serial {
                    disk.push_str(&format!(",serial={}", value(serial)?));
                }
                disks.push(disk);
            }
            DeviceConfig::VirtioNet(net) => {
                let mac = net.mac.as_ref().map(|mac| format!(",mac={mac}")).unwrap_or_default();
                nets.push(format!("tap={}{mac}", value(&net.tap)?));
            }
            DeviceConfig::VirtioConsole(console) => {
                consoles.push(place(console)?);
            }
            // Always there, with this source.
            DeviceConfig::VirtioRng(_) => options.push(option("--rng", "src=/dev/urandom")),
            DeviceConfig::VfioPci(function) => {
                functions.push(format!("path=/sys/bus/pci/devices/{}", function.address));
            }
            // It has neither.
            DeviceConfig::Vmgenid(_) | DeviceConfig::IsaDebugExit(_) => {}
            DeviceConfig::Pvpanic(_) => options.push(vec!["--pvpanic".to_owned()]),
        }
    }
    options.push(option(
        "--console",
        match consoles.as_slice() {
            [] => "off".to_owned(),
            [one] => one.clone(),
            [_, second, ..] => {
                return Err(ExportError::Unsayable {
                    program: "cloud-hypervisor",
                    text: second.clone(),
                    reason: "it has one virtio console at most",
                });
            }
        },
    ));
    for (name, values) in [("--disk", disks), ("--net", nets), ("--device", functions)] {
        if !values.is_empty() {
            options.push([vec![name.to_owned()], values].concat());
        }
    }
    script(&head("#", config, prepare), "cloud-hypervisor", &options)
}

/// A place of a console as the value of an option.
fn place(target: &Target) -> Result<String, ExportError> {
    let path = |kind, path: &std::path::Path| Ok(format!("{kind}={}", value(&path.display().to_string())?));
    match target {
        Target::File { file, .. } => path("file", file),
        Target::Socket { socket } => path("socket", socket),
        Target::Pty { .. } => Ok("pty".to_owned()),
        Target::Stdio { .. } => Ok("tty".to_owned()),
        Target::None { .. } => Ok("null".to_owned()),
    }
}

/// How many processors, and how they are arranged if that is told: threads, cores, dies, packages.
fn processors(cpus: &CpuConfig) -> String {
    let topology = cpus.topology();
    let count = topology.count();
    if !cpus.is_arranged() {
        return format!("boot={count}");
    }
    let (threads, cores) = (topology.threads(), topology.cores());
    format!("boot={count},topology={threads}:{cores}:{}:{}", topology.dies(), topology.sockets())
}

/// A value within an option, which ends at a comma.
fn value(text: &str) -> Result<&str, ExportError> {
    if text.contains([',', '[', ']', '"']) {
        return Err(ExportError::Unsayable {
            program: "cloud-hypervisor",
            text: text.to_owned(),
            reason: "a comma, bracket or quote ends a value of its options; rename the file",
        });
    }
    Ok(text)
}
