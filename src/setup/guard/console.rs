//! How somebody sits at this host: displays, sound, keyboards, the serial console.

use super::{Guard, Objection, Rule, consent, is_sibling, refuse, unseen};
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::spec::pci::ClassCode;

impl Guard<'_> {
    /// What somebody who sits at this host would miss.
    pub(super) fn console(&self, device: &PciDevice, class: ClassCode) -> Vec<Objection> {
        let mut found = Vec::new();
        found.extend(open_nodes(device));
        found.extend(self.keyboards(device));
        found.extend(match (class.base, class.sub) {
            _ if class.is_display() => self.display(device),
            (0x04, 0x01 | 0x03) => self.sound(device),
            (0x0C, 0x03) => self.usb(device),
            (0x07, 0x00 | 0x02) => self.serial_console(device),
            _ => None,
        });
        found
    }

    fn display(&self, device: &PciDevice) -> Option<Objection> {
        let last = !self.facts.pci.functions().iter().any(|other| {
            self.stays(other, device) && other.is_display() && other.vfio_bound == Fact::Known(false)
        });
        if last && self.serial().is_none() && !self.consents.remote_session {
            return Some(refuse(
                Rule::Display,
                device,
                "it is the last display of this host, which has no serial console, and this session is local",
                "do it over SSH, or give the kernel a serial console first (console=ttyS0)",
            ));
        }
        let drawn = match &device.firmware_framebuffer {
            Fact::Known(names) => names.first(),
            _ => None,
        };
        if let Some(name) = drawn {
            let evidence = format!("{name} draws the console of this host on it");
            return Some(consent(Rule::Display, device, evidence));
        }
        if device.boot_vga == Fact::Known(true) {
            let evidence = "this host started with it, and may be showing its console on it".to_owned();
            return Some(consent(Rule::Display, device, evidence));
        }
        match &device.driver {
            Fact::Known(driver) => {
                let evidence = format!("{driver} has it, so the host may be showing its console on it");
                Some(consent(Rule::Display, device, evidence))
            }
            Fact::NotPresent if device.firmware_framebuffer.known().is_some() => None,
            Fact::NotPresent => Some(unseen(device, "whether the host draws on it (/proc/iomem)")),
            _ => Some(unseen(device, "which driver draws on it")),
        }
    }

    fn sound(&self, device: &PciDevice) -> Option<Objection> {
        let display = self.facts.pci.functions().iter().find(|other| {
            is_sibling(other, device) && other.is_display() && !self.taken.contains(&other.address)
        })?;
        let evidence = format!("it is the sound of display {}, which stays with the host", display.address);
        Some(consent(Rule::DisplayAudio, device, evidence))
    }

    /// Keyboards below `device`, by whatever bus.
    fn keyboards(&self, device: &PciDevice) -> Option<Objection> {
        let keyboards = self.facts.input.keyboards.known()?;
        let below = keyboards.iter().filter(|keyboard| keyboard.controller == Some(device.address)).count();
        if below == 0 {
            return None;
        }
        let stays = keyboards.iter().any(|keyboard| {
            keyboard.controller.is_none_or(|at| at != device.address && !self.taken.contains(&at))
        });
        if !stays && !self.consents.remote_session {
            return Some(refuse(
                Rule::Input,
                device,
                "the last keyboard of this host hangs on it, and this session is local",
                "do it over SSH, or plug a keyboard into another controller first",
            ));
        }
        let keyboards =
            if below == 1 { "a keyboard hangs".to_owned() } else { format!("{below} keyboards hang") };
        Some(consent(
            Rule::Input,
            device,
            format!("{keyboards} on it, and what is typed would go to the guest"),
        ))
    }

    /// What hangs on a USB controller and has a driver of the host.
    fn usb(&self, device: &PciDevice) -> Option<Objection> {
        if self.facts.input.keyboards.known().is_none() {
            return Some(unseen(device, "whether a keyboard hangs on it (/proc/bus/input/devices)"));
        }
        let Some(all) = self.facts.usb.devices.known() else {
            return Some(unseen(device, "what is plugged into it"));
        };
        let used = all
            .iter()
            .filter(|usb| usb.controller == Some(device.address) && !usb.is_root_hub())
            .filter_map(|usb| {
                let mut drivers = usb.interfaces.iter().map(|interface| match &interface.driver {
                    Fact::Known(driver) => Some(driver.as_str()),
                    Fact::NotPresent => None,
                    _ => Some("a driver that cannot be seen"),
                });
                // A hub is nothing by itself, and what a program has through usbfs is no driver's.
                let driver =
                    drivers.find_map(|driver| driver.filter(|name| !matches!(*name, "hub" | "usbfs")))?;
                let name = usb.product.known().map(|name| format!(" ({name})")).unwrap_or_default();
                Some(format!("USB device {}{name} has driver {driver}", usb.name))
            });
        let used: Vec<_> = used.collect();
        let first = used.first()?;
        let more =
            if used.len() > 1 { format!(", and {} more on it", used.len() - 1) } else { String::new() };
        Some(consent(Rule::UsbController, device, format!("{first}{more}")))
    }

    fn serial_console(&self, device: &PciDevice) -> Option<Objection> {
        let console = self.serial()?;
        device.driver.known()?;
        let evidence = format!("the kernel's console {console} may be one of its ports");
        Some(consent(Rule::SerialConsole, device, evidence))
    }

    /// The console of the kernel that is no screen: `ttyS0` and its like, and not `tty0`.
    fn serial(&self) -> Option<&str> {
        self.facts.kernel.parameter("console").find(|console| {
            console
                .strip_prefix("tty")
                .is_some_and(|kind| kind.starts_with(|first: char| first.is_ascii_uppercase()))
        })
    }
}

/// Programs that hang, or crash, when the function goes; and some drivers wait for them (`setup::action` gives up then).
fn open_nodes(device: &PciDevice) -> Option<Objection> {
    match &device.usage.open_nodes {
        Fact::Known(nodes) => nodes.first().map(|node| {
            let name = node.process.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            let evidence = format!("process {}{name} holds {}", node.process.pid, node.path);
            consent(Rule::NodeOpen, device, evidence)
        }),
        Fact::NotPresent => None,
        _ => Some(unseen(device, "who holds its device files")),
    }
}
