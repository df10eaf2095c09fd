//! A machine as a domain of libvirt (<https://libvirt.org/formatdomain.html>).

use super::{ExportError, head, is_first_of_several};
use crate::report::markup::escape;
use crate::report::style::clean;
use crate::spec::pci::PciAddress;
use crate::vmm::config::{DeviceConfig, MachineConfig, OnReboot, RomConfig, SerialConfig, Target};

/// A document for `virsh define`. `prepare` is the command that prepares the host.
///
/// # Errors
/// [`ExportError`]: a control character, or more disks than `vda` to `vdz` name.
pub fn export(config: &MachineConfig, prepare: &str) -> Result<String, ExportError> {
    let mut xml = Xml::default();
    // `--` ends a comment (XML 1.0, 2.5).
    let comment = head(" ", config, prepare).replace("--", "- -");
    xml.line(0, &format!("<!--\n{comment}-->"));
    xml.line(0, "<domain type='kvm'>");
    xml.element(1, "name", &config.name)?;
    xml.line(1, &format!("<memory unit='KiB'>{}</memory>", config.memory.bytes() >> 10));
    xml.line(1, &format!("<vcpu>{}</vcpu>", config.cpus));
    xml.line(1, "<os>");
    xml.line(2, "<type arch='x86_64' machine='q35'>hvm</type>");
    if let Some(firmware) = &config.boot.firmware {
        let firmware = text(&firmware.display().to_string())?;
        xml.line(2, &format!("<loader readonly='yes' type='pflash'>{firmware}</loader>"));
    }
    if let Some(variables) = &config.boot.firmware_vars {
        xml.element(2, "nvram", &variables.display().to_string())?;
    }
    if let Some(kernel) = &config.boot.kernel {
        xml.element(2, "kernel", &kernel.display().to_string())?;
        if let Some(initrd) = &config.boot.initrd {
            xml.element(2, "initrd", &initrd.display().to_string())?;
        }
        xml.element(2, "cmdline", &config.boot.cmdline)?;
    }
    xml.line(1, "</os>");
    xml.line(1, "<features><acpi/><apic/></features>");
    if config.cpus.is_arranged() {
        let topology = config.cpus.topology();
        let (sockets, dies) = (topology.sockets(), topology.dies());
        let (cores, threads) = (topology.cores(), topology.threads());
        xml.line(1, "<cpu mode='host-passthrough'>");
        xml.line(
            2,
            &format!("<topology sockets='{sockets}' dies='{dies}' cores='{cores}' threads='{threads}'/>"),
        );
        xml.line(1, "</cpu>");
    } else {
        xml.line(1, "<cpu mode='host-passthrough'/>");
    }
    xml.line(1, "<on_poweroff>destroy</on_poweroff>");
    let on_reboot = match config.on_reboot {
        OnReboot::Reset => "restart",
        OnReboot::Exit => "destroy",
    };
    xml.line(1, &format!("<on_reboot>{on_reboot}</on_reboot>"));
    xml.line(1, "<on_crash>destroy</on_crash>");
    if config.devices.iter().any(|device| matches!(device, DeviceConfig::Vmgenid(_))) {
        xml.line(1, "<genid/>");
    }
    xml.line(1, "<devices>");
    for SerialConfig(target) in &config.serial {
        let (kind, source) = place(target)?;
        match source {
            None => xml.line(2, &format!("<serial type='{kind}'/>")),
            Some(source) => {
                xml.line(2, &format!("<serial type='{kind}'>"));
                xml.line(3, &source);
                xml.line(2, "</serial>");
            }
        }
    }
    let (mut disks, mut consoles) = ('a'..='z', 1..);
    for device in &config.devices {
        match device {
            DeviceConfig::VirtioBlock(block) => {
                let path = block.path.display().to_string();
                let (kind, attribute) =
                    if block.path.starts_with("/dev") { ("block", "dev") } else { ("file", "file") };
                let letter = disks.next().ok_or_else(|| ExportError::Unsayable {
                    program: "this export",
                    text: path.clone(),
                    reason: "there are more than 26 disks",
                })?;
                xml.line(2, &format!("<disk type='{kind}' device='disk'>"));
                xml.line(3, "<driver name='qemu' type='raw'/>");
                xml.line(3, &format!("<source {attribute}='{}'/>", text(&path)?));
                xml.line(3, &format!("<target dev='vd{letter}' bus='virtio'/>"));
                if block.readonly {
                    xml.line(3, "<readonly/>");
                }
                if let Some(serial) = &block.serial {
                    xml.element(3, "serial", serial)?;
                }
                xml.on_pci(config, device, HasRom::No)?;
                xml.line(2, "</disk>");
            }
            DeviceConfig::VirtioNet(net) => {
                xml.line(2, "<interface type='ethernet'>");
                if let Some(mac) = &net.mac {
                    xml.line(3, &format!("<mac address='{}'/>", text(mac)?));
                }
                xml.line(3, &format!("<target dev='{}' managed='no'/>", text(&net.tap)?));
                xml.line(3, "<model type='virtio'/>");
                xml.on_pci(config, device, HasRom::Yes)?;
                xml.line(2, "</interface>");
            }
            DeviceConfig::VirtioConsole(console) => {
                let (kind, source) = place(console)?;
                if let Some(address) = device.pci().and_then(|pci| pci.guest_address) {
                    return Err(ExportError::Unsayable {
                        program: "libvirt",
                        text: address.to_string(),
                        reason: "consoles share one controller, and have no address of their own",
                    });
                }
                xml.line(2, &format!("<console type='{kind}'>"));
                if let Some(source) = source {
                    xml.line(3, &source);
                }
                let port = consoles.next().unwrap_or(u32::MAX);
                xml.line(3, &format!("<target type='virtio' port='{port}'/>"));
                xml.line(2, "</console>");
            }
            DeviceConfig::VirtioRng(_) => {
                xml.line(2, "<rng model='virtio'>");
                xml.line(3, "<backend model='random'>/dev/urandom</backend>");
                xml.on_pci(config, device, HasRom::No)?;
                xml.line(2, "</rng>");
            }
            DeviceConfig::VfioPci(function) => {
                let PciAddress { domain, bus, device: slot, function } = function.address;
                xml.line(2, "<hostdev mode='subsystem' type='pci' managed='no'>");
                xml.line(3, "<driver name='vfio'/>");
                xml.line(
                    3,
                    &format!(
                        "<source><address domain='0x{domain:04x}' bus='0x{bus:02x}' slot='0x{slot:02x}' \
                         function='0x{function:x}'/></source>"
                    ),
                );
                xml.on_pci(config, device, HasRom::Yes)?;
                xml.line(2, "</hostdev>");
            }
            // A feature of the domain, and nothing that it has.
            DeviceConfig::Vmgenid(_) | DeviceConfig::IsaDebugExit(_) => {}
            DeviceConfig::Pvpanic(_) => xml.line(2, "<panic model='isa'/>"),
        }
    }
    xml.line(1, "</devices>");
    xml.line(0, "</domain>");
    Ok(xml.out)
}

/// Whether libvirt knows an expansion ROM for devices of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HasRom {
    Yes,
    No,
}

/// A document that grows line by line.
#[derive(Default)]
struct Xml {
    out: String,
}

impl Xml {
    fn line(&mut self, depth: usize, line: &str) {
        self.out.push_str(&"  ".repeat(depth));
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// What `device` says of its expansion ROM and its address. libvirt adds the root ports that are missing.
    fn on_pci(
        &mut self,
        config: &MachineConfig,
        device: &DeviceConfig,
        has_rom: HasRom,
    ) -> Result<(), ExportError> {
        let Some(pci) = device.pci() else { return Ok(()) };
        match &pci.rom {
            RomConfig::File(path) if has_rom == HasRom::No => {
                return Err(ExportError::Unsayable {
                    program: "libvirt",
                    text: path.display().to_string(),
                    reason: "it gives expansion ROMs to network cards and host functions alone",
                });
            }
            RomConfig::File(path) => {
                self.line(3, &format!("<rom file='{}'/>", text(&path.display().to_string())?));
            }
            RomConfig::Hidden if has_rom == HasRom::Yes => self.line(3, "<rom enabled='no'/>"),
            RomConfig::Hidden | RomConfig::Own => {}
        }
        if let Some(address) = pci.guest_address {
            let PciAddress { bus, function, .. } = address;
            let several = if is_first_of_several(config, address) { " multifunction='on'" } else { "" };
            self.line(
                3,
                &format!(
                    "<address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x00' function='0x{function}'{several}/>"
                ),
            );
        }
        Ok(())
    }

    /// An element with text in it.
    fn element(&mut self, depth: usize, name: &str, content: &str) -> Result<(), ExportError> {
        let content = text(content)?;
        self.line(depth, &format!("<{name}>{content}</{name}>"));
        Ok(())
    }
}

/// A place of a console: its type, and where it is.
fn place(target: &Target) -> Result<(&'static str, Option<String>), ExportError> {
    let path = |path: &std::path::Path| text(&path.display().to_string());
    Ok(match target {
        Target::File { file, .. } => ("file", Some(format!("<source path='{}' append='on'/>", path(file)?))),
        Target::Socket { socket } => {
            ("unix", Some(format!("<source mode='bind' path='{}'/>", path(socket)?)))
        }
        // Standard input and output of a daemon are nobody's: `virsh console` is.
        Target::Pty { .. } | Target::Stdio { .. } => ("pty", None),
        Target::None { .. } => ("null", None),
    })
}

/// `text` as XML can hold it. A path would be another one without what is taken out for display.
fn text(text: &str) -> Result<String, ExportError> {
    if clean(text) != text {
        return Err(ExportError::Unsayable {
            program: "libvirt",
            text: text.to_owned(),
            reason: "it holds control characters",
        });
    }
    Ok(escape(text))
}
