//! SCSI hosts and devices: which controller, which block device, which generic node.
//!
//! Linux: Documentation/ABI/testing/sysfs-bus-scsi, drivers/scsi/scsi_sysfs.c. SATA disks and USB sticks are SCSI
//! devices of their own hosts to the kernel, so they stand here too.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::pci::Pci;
use crate::host::source::Source;
use crate::host::{usage, usb};
use crate::spec::pci::PciAddress;
use crate::spec::scsi::DeviceType;

const DEVICES: &str = "/sys/bus/scsi/devices";
const HOSTS: &str = "/sys/class/scsi_host";

/// SCSI of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Scsi {
    /// Hosts, the kernel's word for controllers, by number.
    pub hosts: Fact<Vec<ScsiHost>>,
    /// Devices by address.
    pub devices: Fact<Vec<ScsiDevice>>,
}

/// A host: one port of commands.
#[derive(Debug, Clone, Serialize)]
pub struct ScsiHost {
    /// Number.
    pub number: u32,
    /// The driver, by the name that it gives itself.
    pub driver: Fact<String>,
    /// The controller, if it is a PCI function.
    pub controller: Option<PciAddress>,
}

/// A logical unit.
#[derive(Debug, Clone, Serialize)]
pub struct ScsiDevice {
    /// Host, channel, target and logical unit: `0:0:1:0`.
    pub address: String,
    /// The controller, if it is a PCI function.
    pub controller: Option<PciAddress>,
    /// Vendor, as the device says.
    pub vendor: Fact<String>,
    /// Model, as the device says.
    pub model: Fact<String>,
    /// Revision, as the device says.
    pub revision: Fact<String>,
    /// Peripheral device type.
    pub device_type: Fact<u8>,
    /// Name of the type; absent if it is not defined.
    pub device_type_name: Option<&'static str>,
    /// Block device; absent if it is none.
    pub block: Option<String>,
    /// Name of the generic node below `/dev`; absent without the module `sg`.
    pub generic: Option<String>,
    /// Whether something on the host uses the block device; absent if there is none.
    pub in_use: Fact<bool>,
}

/// Reads hosts and devices; `pci` tells what uses the disks.
pub(super) fn collect(source: &dyn Source, pci: &Pci) -> Scsi {
    let hosts = super::list_or_empty(source, HOSTS, "/sys/class").map(|names| {
        let mut hosts: Vec<_> = names.iter().filter_map(|name| host(source, name)).collect();
        hosts.sort_by_key(|host| host.number);
        hosts
    });
    let devices = super::list_or_empty(source, DEVICES, "/sys/bus").map(|names| {
        let mut devices: Vec<_> = names
            .iter()
            .filter_map(|name| Some((address(name)?, name)))
            .map(|(address, name)| (address, device(source, pci, name)))
            .collect();
        devices.sort_by_key(|(address, _)| *address);
        devices.into_iter().map(|(_, device)| device).collect()
    });
    Scsi { hosts, devices }
}

/// `host0`; other names are not the kernel's.
fn host(source: &dyn Source, name: &str) -> Option<ScsiHost> {
    let number = name.strip_prefix("host")?.parse().ok()?;
    let directory = format!("{HOSTS}/{name}");
    Some(ScsiHost {
        number,
        driver: parse::optional_text(source, &format!("{directory}/proc_name")),
        controller: controller(source, &directory),
    })
}

fn controller(source: &dyn Source, link: &str) -> Option<PciAddress> {
    source.link(link).known().and_then(|place| usage::owner(place))
}

/// The four numbers of a device; hosts and targets are listed beside devices and have others.
fn address(name: &str) -> Option<[u64; 4]> {
    let numbers: Option<Vec<u64>> = name.split(':').map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

fn device(source: &dyn Source, pci: &Pci, address: &str) -> ScsiDevice {
    let directory = format!("{DEVICES}/{address}");
    let text = |attribute: &str| {
        parse::optional_text(source, &format!("{directory}/{attribute}")).map(|text| text.trim().to_owned())
    };
    let child = |class: &str| {
        let names = source.list(&format!("{directory}/{class}"));
        names.known().and_then(|names| names.first().cloned())
    };
    let controller = controller(source, &directory);
    let device_type: Fact<u8> = parse::number(source, &format!("{directory}/type"), 10);
    let block = child("block");
    ScsiDevice {
        address: address.to_owned(),
        controller,
        vendor: text("vendor"),
        model: text("model"),
        revision: text("rev"),
        device_type_name: device_type.known().and_then(|kind| DeviceType(*kind).name()),
        device_type,
        in_use: usb::disks_in_use(pci, controller, block.as_slice()),
        block,
        generic: child("scsi_generic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::host::source::fake::{Entry, FakeHost};

    const PLACE: &str = "/sys/devices/pci0000:00/0000:00:05.0/virtio1/host2";

    fn host() -> FakeHost {
        let host = FakeHost::new(&[
            ("/sys/bus/pci/devices/0000:00:05.0/vendor", Entry::Text("0x1af4")),
            ("/proc/self/mountinfo", Entry::Text("22 1 8:0 / /mnt rw - ext4 /dev/sda rw")),
            ("/proc/swaps", Entry::Text("Filename Type Size Used Priority")),
            (
                "/sys/class/scsi_host/host2",
                Entry::Link("../../devices/pci0000:00/0000:00:05.0/virtio1/host2/scsi_host/host2"),
            ),
            (
                "/sys/devices/pci0000:00/0000:00:05.0/virtio1/host2/scsi_host/host2/proc_name",
                Entry::Text("virtio_scsi"),
            ),
            (
                "/sys/bus/scsi/devices/host2",
                Entry::Link("../../../devices/pci0000:00/0000:00:05.0/virtio1/host2"),
            ),
            (
                "/sys/class/block/sda",
                Entry::Link(
                    "../../devices/pci0000:00/0000:00:05.0/virtio1/host2/target2:0:0/2:0:0:0/block/sda",
                ),
            ),
        ]);
        for (address, kind, children) in [
            ("2:0:0:0", "0", &["block/sda", "scsi_generic/sg0"][..]),
            ("2:0:10:0", "5", &[]),
            ("2:0:9:0", "99", &["scsi_generic/sg1"]),
        ] {
            let target = format!("target{}", &address[..address.len() - 2]);
            let real = format!("{PLACE}/{target}/{address}");
            let at = |leaf: &str| format!("{real}/{leaf}");
            host.add(&[
                (&format!("{DEVICES}/{address}"), Entry::Link(&format!("../../..{}", &real[4..]))),
                (&at("vendor"), Entry::Text("LABVEND ")),
                (&at("model"), Entry::Text("LABDISK         ")),
                (&at("rev"), Entry::Text("2.5+")),
                (&at("type"), Entry::Text(kind)),
            ]);
            for child in children {
                host.add(&[
                    (&at(&format!("{child}/dev")), Entry::Text("8:0")),
                    (&at(&format!("{child}/size")), Entry::Text("8")),
                ]);
            }
        }
        host
    }

    #[test]
    fn devices_have_their_nodes_and_hosts_their_drivers() {
        let facts = host::collect(&host().source());
        let hosts = facts.scsi.hosts.known().unwrap();
        assert_eq!((hosts.len(), hosts[0].number), (1, 2));
        assert_eq!(hosts[0].driver, Fact::Known("virtio_scsi".to_owned()));
        assert_eq!(hosts[0].controller, "0000:00:05.0".parse().ok());
        let devices = facts.scsi.devices.known().unwrap();
        let [disk, odd, cd] = devices.as_slice() else { panic!("{devices:?}") };
        assert_eq!((disk.address.as_str(), cd.address.as_str()), ("2:0:0:0", "2:0:10:0"));
        assert_eq!((disk.vendor.known().unwrap().as_str(), disk.device_type_name), ("LABVEND", Some("disk")));
        assert_eq!((disk.block.as_deref(), disk.generic.as_deref()), (Some("sda"), Some("sg0")));
        assert_eq!(disk.in_use, Fact::Known(true));
        assert_eq!(
            (cd.device_type_name, cd.block.as_deref(), &cd.in_use),
            (Some("cd/dvd"), None, &Fact::NotPresent)
        );
        assert_eq!((&odd.device_type, odd.device_type_name), (&Fact::Known(99), None));
    }

    #[test]
    fn uses_of_a_disk_that_may_not_be_seen_are_unknown() {
        let facts = host::collect(&host().source_without(&["mountinfo"]));
        assert!(facts.scsi.devices.known().unwrap()[0].in_use.is_unread());
    }

    #[test]
    fn a_disk_of_no_function_is_not_said_to_be_idle() {
        let host = host();
        host.add(&[("/sys/bus/scsi/devices/2:0:0:0", Entry::Link("../../../devices/pseudo_0/2:0:0:0"))]);
        host.add(&[("/sys/devices/pseudo_0/2:0:0:0/block/sda/dev", Entry::Text("8:0"))]);
        let facts = host::collect(&host.source());
        let disk = &facts.scsi.devices.known().unwrap()[0];
        assert_eq!(disk.controller, None);
        assert!(disk.in_use.is_unread());
    }
}
