//! USB devices: on which controller each hangs, what it is, which drivers hold it, what uses it.
//!
//! Linux: Documentation/ABI/testing/sysfs-bus-usb and stable/sysfs-bus-usb. A guest gets a USB device alone (through
//! the kernel's USB stack) or its whole controller (a PCI function, through VFIO); so the controller's function is told
//! with each device.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::pci::Pci;
use crate::host::source::Source;
use crate::host::usage;
use crate::spec::pci::PciAddress;
use crate::spec::usb::{BaseClass, HID_PROTOCOL_KEYBOARD, HID_SUBCLASS_BOOT};

const DEVICES: &str = "/sys/bus/usb/devices";

/// USB of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Usb {
    /// Devices by bus and port, root hubs among them; empty where the kernel runs no USB.
    pub devices: Fact<Vec<UsbDevice>>,
}

/// A device.
#[derive(Debug, Clone, Serialize)]
pub struct UsbDevice {
    /// The kernel's name: `1-2.4` is port 4 of the hub at port 2 of bus 1, `usb1` the root hub of bus 1.
    pub name: String,
    /// Number of the bus.
    pub bus: Fact<u16>,
    /// Number on the bus; another one each time it is plugged in.
    pub device_number: Fact<u16>,
    /// Ports from the root hub to it, `2.4`; absent for the root hub.
    pub port_path: Option<String>,
    /// The controller, if it is a PCI function.
    pub controller: Option<PciAddress>,
    /// IOMMU group of the controller.
    pub iommu_group: Fact<u32>,
    /// Vendor ID.
    pub vendor_id: Fact<u16>,
    /// Product ID.
    pub product_id: Fact<u16>,
    /// Maker, as the device says.
    pub manufacturer: Fact<String>,
    /// Name, as the device says.
    pub product: Fact<String>,
    /// Base class of the device; 0 where each interface has its own.
    pub class: Fact<u8>,
    /// Speed in kbit/s: 1500, 12000, 480000, 5000000, ...
    pub speed_kbps: Fact<u32>,
    /// Its interfaces in the configuration that is active.
    pub interfaces: Vec<UsbInterface>,
    /// Whether it is a keyboard that the host listens to.
    pub is_active_keyboard: Fact<bool>,
    /// Disks on it, by the names of their block devices.
    pub disks: Vec<String>,
    /// Whether something on the host uses one of these; absent if it has none.
    pub disks_in_use: Fact<bool>,
    /// Network interfaces on it.
    pub network_interfaces: Vec<String>,
}

/// An interface of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsbInterface {
    /// Number.
    pub number: u8,
    /// Base class.
    pub class: Fact<u8>,
    /// Name of the class; absent if it is not defined.
    pub class_name: Option<&'static str>,
    /// Subclass.
    pub subclass: Fact<u8>,
    /// Protocol.
    pub protocol: Fact<u8>,
    /// The driver that is bound; absent if none is.
    pub driver: Fact<String>,
}

impl UsbDevice {
    /// Whether it is the root hub of a bus: the controller itself.
    #[must_use]
    pub fn is_root_hub(&self) -> bool {
        self.port_path.is_none()
    }
}

/// Reads all devices; `pci` tells controllers and what uses the disks on them.
pub(super) fn collect(source: &dyn Source, pci: &Pci) -> Usb {
    let names = super::list_or_empty(source, DEVICES, "/sys/bus");
    let devices = names.map(|names| {
        let blocks = places(source, "/sys/class/block");
        let networks = places(source, "/sys/class/net");
        let host = UsbHost { source, pci, names: &names, blocks, networks };
        let mut devices: Vec<_> =
            names.iter().filter(|name| !name.contains(':')).map(|name| host.device(name)).collect();
        devices.sort_by_key(|device| {
            let path = device.port_path.as_deref().unwrap_or_default();
            let ports: Vec<u32> = path.split('.').filter_map(|port| port.parse().ok()).collect();
            (device.bus.known().copied(), ports, device.name.clone())
        });
        devices
    });
    Usb { devices }
}

/// Names below `class`, each with the path that its link names.
fn places(source: &dyn Source, class: &str) -> Vec<(String, String)> {
    let names = source.list(class).known().cloned().unwrap_or_default();
    let place = |name: String| Some((source.link(&format!("{class}/{name}")).known()?.clone(), name));
    names.into_iter().filter_map(place).map(|(path, name)| (name, path)).collect()
}

/// What the devices share.
struct UsbHost<'a> {
    source: &'a dyn Source,
    pci: &'a Pci,
    /// Devices and interfaces.
    names: &'a [String],
    /// Block devices and partitions.
    blocks: Vec<(String, String)>,
    networks: Vec<(String, String)>,
}

impl UsbHost<'_> {
    fn device(&self, name: &str) -> UsbDevice {
        let directory = format!("{DEVICES}/{name}");
        let at = |attribute: &str| format!("{directory}/{attribute}");
        let text = |attribute: &str| parse::optional_text(self.source, &at(attribute));
        let place = self.source.link(&directory);
        let controller = place.known().and_then(|place| usage::owner(place));
        let function = controller.and_then(|address| self.pci.device(address));
        let interfaces = self.interfaces(name);
        let disks = below(&self.blocks, "block", name);
        UsbDevice {
            name: name.to_owned(),
            bus: parse::number(self.source, &at("busnum"), 10),
            device_number: parse::number(self.source, &at("devnum"), 10),
            port_path: name.split_once('-').map(|(_, ports)| ports.to_owned()),
            controller,
            iommu_group: function.map_or(Fact::NotPresent, |function| function.iommu_group.clone()),
            vendor_id: parse::number(self.source, &at("idVendor"), 16),
            product_id: parse::number(self.source, &at("idProduct"), 16),
            manufacturer: text("manufacturer"),
            product: text("product"),
            class: parse::number(self.source, &at("bDeviceClass"), 16),
            speed_kbps: self.source.text(&at("speed")).parse(&at("speed"), |text| kbps(&text)),
            is_active_keyboard: is_active_keyboard(&interfaces),
            interfaces,
            disks_in_use: disks_in_use(self.pci, controller, &disks),
            disks,
            network_interfaces: below(&self.networks, "net", name),
        }
    }

    /// The interfaces of `device`: `1-2:1.0` is interface 0 of its configuration 1.
    fn interfaces(&self, device: &str) -> Vec<UsbInterface> {
        let number = |name: &String| {
            let number = name.strip_prefix(device)?.strip_prefix(':')?.split_once('.')?.1.parse().ok()?;
            Some((number, format!("{DEVICES}/{name}")))
        };
        self.names.iter().filter_map(number).map(|(number, path)| self.interface(number, &path)).collect()
    }

    fn interface(&self, number: u8, path: &str) -> UsbInterface {
        let hex = |attribute: &str| parse::number(self.source, &format!("{path}/{attribute}"), 16);
        let class: Fact<u8> = hex("bInterfaceClass");
        UsbInterface {
            number,
            class_name: class.known().and_then(|class| BaseClass(*class).name()),
            class,
            subclass: hex("bInterfaceSubClass"),
            protocol: hex("bInterfaceProtocol"),
            driver: self.source.link_name(&format!("{path}/driver")),
        }
    }
}

/// What of `places` stands below USB device `name`, and not below a device behind it; of disks, not their partitions.
fn below(places: &[(String, String)], class: &str, name: &str) -> Vec<String> {
    // The path of what is on 1-2 leads over its interface 1-2:1.0; that of what is behind hub 1-2 does not.
    let interface = format!("/{name}:");
    let is_whole = |path: &str| path.rsplit('/').nth(1) == Some(class);
    places
        .iter()
        .filter(|(_, path)| path.contains(&interface) && is_whole(path))
        .map(|(name, _)| name.clone())
        .collect()
}

/// `480` and `1.5` are Mbit/s.
fn kbps(text: &str) -> Result<u32, String> {
    let (whole, tenths) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let number = |digits: &str| digits.parse::<u32>().ok();
    number(whole)
        .zip(number(tenths).filter(|_| tenths.len() == 1))
        .and_then(|(whole, tenths)| whole.checked_mul(1000)?.checked_add(tenths * 100))
        .ok_or_else(|| format!("`{}` is not a speed", parse::excerpt(text)))
}

/// A keyboard of the boot protocol that has a driver: the host hears what is typed.
fn is_active_keyboard(interfaces: &[UsbInterface]) -> Fact<bool> {
    let mut unread = None;
    for interface in interfaces {
        let is_keyboard = interface.class == Fact::Known(BaseClass::HID.0)
            && interface.subclass == Fact::Known(HID_SUBCLASS_BOOT)
            && interface.protocol == Fact::Known(HID_PROTOCOL_KEYBOARD);
        match &interface.driver {
            Fact::Known(driver) if is_keyboard && driver != "usbfs" => return Fact::Known(true),
            driver if is_keyboard && driver.is_unread() => unread = Some(driver.as_ref().map(|_| false)),
            _ if interface.class.is_unread() => unread = Some(interface.class.as_ref().map(|_| false)),
            _ => {}
        }
    }
    unread.unwrap_or(Fact::Known(false))
}

/// Whether one of `disks` below `controller` is in use, as [`crate::host::usage`] found.
pub(super) fn disks_in_use(pci: &Pci, controller: Option<PciAddress>, disks: &[String]) -> Fact<bool> {
    if disks.is_empty() {
        return Fact::NotPresent;
    }
    let Some(function) = controller.and_then(|address| pci.device(address)) else {
        return Fact::Unreadable {
            source: "/sys/class/block".to_owned(),
            reason: "uses are followed for disks below PCI functions only".to_owned(),
        };
    };
    let known = match &function.usage.disks {
        Fact::Known(known) => known,
        unread => return unread.as_ref().map(|_| false),
    };
    let mut unread = None;
    for disk in known.iter().filter(|disk| disks.contains(&disk.name)) {
        match &disk.uses {
            Fact::Known(uses) if uses.is_empty() => {}
            Fact::Known(_) => return Fact::Known(true),
            uses => unread = Some(uses.as_ref().map(|_| false)),
        }
    }
    unread.unwrap_or(Fact::Known(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::host::source::fake::{Entry, FakeHost};

    const XHCI: &str = "../../../devices/pci0000:00/0000:00:03.0/0000:02:00.0";

    fn host() -> FakeHost {
        let host = FakeHost::new(&[
            ("/sys/class/net", Entry::Directory),
            ("/sys/bus/pci/devices/0000:02:00.0/iommu_group", Entry::Link("../../../kernel/iommu_groups/7")),
            ("/proc/self/mountinfo", Entry::Text("22 1 8:1 / /mnt rw - ext4 /dev/sda1 rw")),
            ("/proc/swaps", Entry::Text("Filename Type Size Used Priority")),
        ]);
        let devices = [
            ("usb1", "usb1", "1d6b", "0002", "09", "480"),
            ("1-2", "usb1/1-2", "0627", "0001", "00", "1.5"),
            ("1-10", "usb1/1-10", "46f4", "0001", "00", "480"),
        ];
        for (name, place, vendor, product, class, speed) in devices {
            let real = format!("/sys/devices/pci0000:00/0000:00:03.0/0000:02:00.0/{place}");
            let (at, link) = (|leaf: &str| format!("{real}/{leaf}"), format!("{XHCI}/{place}"));
            host.add(&[
                (&format!("{DEVICES}/{name}"), Entry::Link(&link)),
                (&at("busnum"), Entry::Text("1")),
                (&at("devnum"), Entry::Text("2")),
                (&at("idVendor"), Entry::Text(vendor)),
                (&at("idProduct"), Entry::Text(product)),
                (&at("bDeviceClass"), Entry::Text(class)),
                (&at("speed"), Entry::Text(speed)),
                (&at("product"), Entry::Text("QEMU thing")),
            ]);
        }
        for (name, class, subclass, driver) in
            [("1-2", "03", "01", "usbhid"), ("1-10", "08", "06", "usb-storage")]
        {
            let real = format!("/sys/devices/pci0000:00/0000:00:03.0/0000:02:00.0/usb1/{name}/{name}:1.0");
            let at = |leaf: &str| format!("{real}/{leaf}");
            host.add(&[
                (&format!("{DEVICES}/{name}:1.0"), Entry::Link(&format!("{XHCI}/usb1/{name}/{name}:1.0"))),
                (&at("bInterfaceClass"), Entry::Text(class)),
                (&at("bInterfaceSubClass"), Entry::Text(subclass)),
                (&at("bInterfaceProtocol"), Entry::Text("01")),
                (&at("driver"), Entry::Link(&format!("../../../../../../bus/usb/drivers/{driver}"))),
            ]);
        }
        let disk = "/sys/devices/pci0000:00/0000:00:03.0/0000:02:00.0/usb1/1-10/1-10:1.0/host0/block/sda";
        for (name, place, number) in [("sda", String::new(), "8:0"), ("sda1", "/sda1".to_owned(), "8:1")] {
            host.add(&[
                (&format!("/sys/class/block/{name}"), Entry::Link(&format!("../../..{}{place}", &disk[4..]))),
                (&format!("{disk}{place}/dev"), Entry::Text(number)),
                (&format!("{disk}{place}/size"), Entry::Text("32768")),
            ]);
        }
        host
    }

    #[test]
    fn devices_stand_in_order_of_ports_with_controller_group_and_use() {
        let facts = host::collect(&host().source());
        let devices = facts.usb.devices.known().unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["usb1", "1-2", "1-10"]);
        let [hub, keyboard, stick] = devices.as_slice() else { panic!() };
        assert!(hub.is_root_hub() && hub.interfaces.is_empty());
        assert_eq!(keyboard.controller, "0000:02:00.0".parse().ok());
        assert_eq!(keyboard.iommu_group, Fact::Known(7));
        assert_eq!((&keyboard.vendor_id, &keyboard.speed_kbps), (&Fact::Known(0x0627), &Fact::Known(1500)));
        assert_eq!(keyboard.is_active_keyboard, Fact::Known(true));
        assert_eq!((keyboard.disks.len(), &keyboard.disks_in_use), (0, &Fact::NotPresent));
        assert_eq!(stick.port_path.as_deref(), Some("10"));
        assert_eq!(stick.interfaces[0].class_name, Some("mass storage"));
        assert_eq!(stick.disks, ["sda"]);
        assert_eq!(stick.disks_in_use, Fact::Known(true));
        assert_eq!(stick.is_active_keyboard, Fact::Known(false));
    }

    #[test]
    fn a_driver_that_may_not_be_seen_leaves_a_keyboard_unknown() {
        let facts = host::collect(&host().source_without(&["1-2:1.0/driver"]));
        let devices = facts.usb.devices.known().unwrap();
        assert!(devices[1].is_active_keyboard.is_unread());
    }

    #[test]
    fn without_usb_there_are_no_devices_and_without_sysfs_nobody_knows() {
        let none = FakeHost::new(&[("/sys/bus/pci", Entry::Directory)]);
        assert_eq!(host::collect(&none.source()).usb.devices.known().map(Vec::len), Some(0));
        assert!(host::collect(&FakeHost::new(&[]).source()).usb.devices.is_unread());
    }

    #[test]
    fn speeds_are_read_with_their_half() {
        assert_eq!(kbps("1.5"), Ok(1500));
        assert_eq!(kbps("20000"), Ok(20_000_000));
        for text in ["", "fast", "1.55", "-1", "4294968"] {
            assert!(kbps(text).is_err(), "{text}");
        }
    }
}
