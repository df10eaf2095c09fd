//! A machine as a command of QEMU (qemu-system-x86_64(1)).

use super::{ExportError, head, is_first_of_several, option, script};
use crate::vmm::config::{CpuConfig, DeviceConfig, MachineConfig, OnReboot, RomConfig, SerialConfig, Target};

/// A shell script that becomes QEMU. `prepare` is the command that prepares the host.
///
/// # Errors
/// [`ExportError`].
pub fn export(config: &MachineConfig, prepare: &str) -> Result<String, ExportError> {
    let mut options = vec![
        option("-name", value(&config.name)),
        option("-machine", "q35,accel=kvm"),
        option("-cpu", "host"),
        option("-smp", processors(&config.cpus)),
        option("-m", format!("{}M", config.memory.bytes() >> 20)),
        vec!["-nodefaults".to_owned(), "-no-user-config".to_owned()],
        option("-display", "none"),
    ];
    for (number, SerialConfig(target)) in config.serial.iter().enumerate() {
        if matches!(target, Target::Stdio { .. }) {
            options.push(option("-serial", "mon:stdio"));
        } else {
            options.push(option("-chardev", place(target, &format!("serial{number}"))));
            options.push(option("-serial", format!("chardev:serial{number}")));
        }
    }
    for (unit, file) in (0..).zip([&config.boot.firmware, &config.boot.firmware_vars]) {
        if let Some(file) = file {
            let readonly = if unit == 0 { "on" } else { "off" };
            let file = value(&file.display().to_string());
            let drive = format!("if=pflash,unit={unit},format=raw,readonly={readonly},file={file}");
            options.push(option("-drive", drive));
        }
    }
    if let Some(kernel) = &config.boot.kernel {
        options.push(option("-kernel", kernel.display().to_string()));
        if let Some(initrd) = &config.boot.initrd {
            options.push(option("-initrd", initrd.display().to_string()));
        }
        options.push(option("-append", config.boot.cmdline.clone()));
    }
    if config.on_reboot == OnReboot::Exit {
        options.push(vec!["-no-reboot".to_owned()]);
    }
    options.extend(ports(config).map(|port| option("-device", port)));
    let mut has_serial_bus = false;
    for (number, device) in config.devices.iter().enumerate() {
        match device {
            DeviceConfig::VirtioBlock(block) => {
                let path = value(&block.path.display().to_string());
                let driver = if block.path.starts_with("/dev") { "host_device" } else { "file" };
                let readonly = if block.readonly { "on" } else { "off" };
                options.push(option(
                    "-blockdev",
                    format!(
                        "driver=raw,node-name=disk{number},read-only={readonly},discard=unmap,file.driver={driver},\
                         file.filename={path}"
                    ),
                ));
                let serial = block
                    .serial
                    .as_ref()
                    .map(|serial| format!(",serial={}", value(serial)))
                    .unwrap_or_default();
                options.push(option(
                    "-device",
                    format!("virtio-blk-pci,drive=disk{number}{serial}{}", on_pci(config, device)),
                ));
            }
            DeviceConfig::VirtioNet(net) => {
                let tap = value(&net.tap);
                options.push(option(
                    "-netdev",
                    format!("tap,id=net{number},ifname={tap},script=no,downscript=no"),
                ));
                let mac = net.mac.as_ref().map(|mac| format!(",mac={mac}")).unwrap_or_default();
                options.push(option(
                    "-device",
                    format!("virtio-net-pci,netdev=net{number}{mac}{}", on_pci(config, device)),
                ));
            }
            DeviceConfig::VirtioConsole(console) => {
                if !has_serial_bus {
                    options.push(option("-device", format!("virtio-serial-pci{}", on_pci(config, device))));
                    has_serial_bus = true;
                }
                options.push(option("-chardev", place(console, &format!("console{number}"))));
                options.push(option("-device", format!("virtconsole,chardev=console{number}")));
            }
            DeviceConfig::VirtioRng(_) => {
                options.push(option("-device", format!("virtio-rng-pci{}", on_pci(config, device))));
            }
            DeviceConfig::VfioPci(function) => {
                options.push(option(
                    "-device",
                    format!("vfio-pci,host={}{}", function.address, on_pci(config, device)),
                ));
            }
            DeviceConfig::Pvpanic(_) => options.push(option("-device", "pvpanic")),
            DeviceConfig::Vmgenid(_) => options.push(option("-device", "vmgenid,guid=auto")),
            DeviceConfig::IsaDebugExit(_) => options.push(option("-device", "isa-debug-exit")),
        }
    }
    script(&head("#", config, prepare), "qemu-system-x86_64", &options)
}

/// Root ports up to the last that a device names, so that firmware numbers the buses behind them as the profile does.
fn ports(config: &MachineConfig) -> impl Iterator<Item = String> {
    let named = config.devices.iter().filter_map(|device| device.pci()?.guest_address);
    let last = named.map(|address| address.bus).max().unwrap_or(0);
    (1..=last).map(|port| {
        format!("pcie-root-port,id=port{port},bus=pcie.0,addr={port:x}.0,chassis={port},slot={port}")
    })
}

/// What a device's options say of its address and its expansion ROM.
fn on_pci(config: &MachineConfig, device: &DeviceConfig) -> String {
    let Some(pci) = device.pci() else { return String::new() };
    let address = pci.guest_address.map(|address| {
        let several = if is_first_of_several(config, address) { ",multifunction=on" } else { "" };
        format!(",bus=port{},addr=0.{}{several}", address.bus, address.function)
    });
    let rom = match &pci.rom {
        RomConfig::Own => String::new(),
        RomConfig::Hidden => ",rombar=0".to_owned(),
        RomConfig::File(path) => format!(",romfile={}", value(&path.display().to_string())),
    };
    address.unwrap_or_default() + &rom
}

/// A place of a console as a character device called `id`.
fn place(target: &Target, id: &str) -> String {
    let path = |path: &std::path::Path| value(&path.display().to_string());
    match target {
        Target::File { file, .. } => format!("file,id={id},path={},append=on", path(file)),
        Target::Socket { socket } => format!("socket,id={id},path={},server=on,wait=off", path(socket)),
        Target::Pty { .. } => format!("pty,id={id}"),
        Target::Stdio { .. } => format!("stdio,id={id}"),
        Target::None { .. } => format!("null,id={id}"),
    }
}

/// How many processors, and how they are arranged if that is told.
fn processors(cpus: &CpuConfig) -> String {
    let topology = cpus.topology();
    if !cpus.is_arranged() {
        return topology.count().to_string();
    }
    format!(
        "{},sockets={},dies={},cores={},threads={}",
        topology.count(),
        topology.sockets(),
        topology.dies(),
        topology.cores(),
        topology.threads()
    )
}

/// A value within an option: commas are doubled (qemu-system-x86_64(1), `-drive`).
fn value(text: &str) -> String {
    text.replace(',', ",,")
}
