//! What firmware is told of the machine: everything that fw_cfg offers.

use super::Firmware;
use crate::vmm::acpi::{Tables, loader};
use crate::vmm::chipset::fw_cfg::{Items, key};
use crate::vmm::config::{DeviceConfig, SmbiosConfig};
use crate::vmm::layout;
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::root::{Place, Slot};
use crate::vmm::smbios::{self, Interface};

/// The sleep states of `etc/system-states`, S0 to S5: bit 7 says that there is one, the rest is its SLP_TYP. Only S0 and
/// S5 are there (QEMU: hw/acpi/ich9.c).
const SYSTEM_STATES: [u8; 6] = [128, 0, 0, 1, 2, 128];
/// Type of RAM in `etc/e820`, and of what is not to be used (ACPI 6.5, 15.1).
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// The machine, as firmware asks for it.
#[derive(Debug)]
pub struct Told<'a> {
    /// vCPUs.
    pub cpu_count: u8,
    /// RAM.
    pub memory: &'a GuestMemory,
    /// ACPI.
    pub tables: &'a Tables,
    /// SMBIOS.
    pub smbios: &'a smbios::Tables,
    /// Who the machine says it is.
    pub identity: &'a SmbiosConfig,
    /// The devices on the PCI bus with their places, in the order of the configuration.
    pub devices: &'a [(Place, &'a DeviceConfig)],
}

impl Told<'_> {
    /// All of it, and what `firmware` shall start.
    #[must_use]
    pub fn items(&self, firmware: &Firmware) -> Items {
        let mut items = Items::default();
        let cpu_count = u16::from(self.cpu_count).to_le_bytes().to_vec();
        items.item(key::UUID, self.identity.uuid_bytes().to_vec());
        items.item(key::RAM_SIZE, self.memory.size_bytes().to_le_bytes().to_vec());
        items.item(key::NO_GRAPHICS, 1u16.to_le_bytes().to_vec());
        items.item(key::CPU_COUNT, cpu_count.clone());
        items.item(key::MAX_CPUS, cpu_count);
        // SeaBIOS offers its menu only where it is told to; UEFI's is always a key away, and would only wait longer.
        let offers_menu = u16::from(firmware.interface() == Interface::Other);
        items.item(key::BOOT_MENU, offers_menu.to_le_bytes().to_vec());
        items.item(key::IRQ0_OVERRIDE, vec![1]);
        items.file("etc/e820", self.memory_map());
        items.file("etc/system-states", SYSTEM_STATES.to_vec());
        let loader::Files { loader, tables, root_pointer } = self.tables.files();
        items.file(loader::LOADER, loader);
        items.file(loader::TABLES, tables);
        items.file(loader::ROOT_POINTER, root_pointer);
        for (name, content) in self.smbios.files() {
            items.file(name, content);
        }
        let order = boot_order(self.devices);
        if !order.is_empty() {
            items.file("bootorder", order.into_bytes());
        }
        firmware.add_kernel(&mut items);
        items
    }

    /// Entries of address, length and type. Firmware takes its own part of the RAM below 1 MiB, and knows of the windows.
    fn memory_map(&self) -> Vec<u8> {
        let kvm = layout::KVM_IDENTITY_MAP..layout::KVM_IDENTITY_MAP + 4 * 0x1000;
        let ram = self.memory.ranges().into_iter().map(|range| (range, RAM));
        ram.chain(std::iter::once((kvm, RESERVED)))
            .flat_map(|(range, kind)| {
                let mut entry = range.start.to_le_bytes().to_vec();
                entry.extend((range.end - range.start).to_le_bytes());
                entry.extend(kind.to_le_bytes());
                entry
            })
            .collect()
    }
}

/// Devices to boot from, each as an Open Firmware path on a line, the last with a final NUL (QEMU: docs/specs/fw_cfg.rst; edk2
/// knows these paths in QemuBootOrderLib): disks and passed-through functions in their order, then network cards. Firmware
/// that finds such a list boots from nothing else.
fn boot_order(devices: &[(Place, &DeviceConfig)]) -> String {
    let disks = devices.iter().filter_map(|(place, device)| match device {
        DeviceConfig::VirtioBlock(_) => Some(format!("{}/disk@0,0", node(*place, "scsi"))),
        // Of which kind it is, only its driver knows: whatever lies behind the function.
        DeviceConfig::VfioPci(_) => Some(node(*place, "pci")),
        _ => None,
    });
    let cards = devices.iter().filter_map(|(place, device)| match device {
        DeviceConfig::VirtioNet(_) => Some(format!("{}/ethernet-phy@0", node(*place, "ethernet"))),
        _ => None,
    });
    let mut order = disks.chain(cards).collect::<Vec<_>>().join("\n");
    if !order.is_empty() {
        order.push('\0');
    }
    order
}

/// The path of a function that is called `name`: device and, unless it is 0, function (IEEE 1275 PCI bus binding 2.1, 2.2.1.3).
fn node(place: Place, name: &str) -> String {
    let number = |slot: Slot| match slot.function() {
        0 => format!("{:x}", slot.device()),
        function => format!("{:x},{function:x}", slot.device()),
    };
    let port = place.port().map(|port| format!("/pci-bridge@{}", number(port))).unwrap_or_default();
    format!("/pci@i0cf8{port}/{name}@{}", number(place.slot()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::virtio::devices::block::{BlockConfig, ImageFormat};
    use crate::vmm::virtio::devices::net::NetConfig;
    use crate::vmm::virtio::devices::rng::RngConfig;

    #[test]
    fn disks_stand_before_network_cards_and_other_devices_nowhere() {
        let disk = BlockConfig { path: "/d".into(), format: ImageFormat::Raw, readonly: false, serial: None };
        let devices = [
            DeviceConfig::VirtioNet(NetConfig { tap: "tap0".to_owned(), mac: None }.into()),
            DeviceConfig::VirtioRng(RngConfig {}.into()),
            DeviceConfig::VirtioBlock(disk.clone().into()),
            DeviceConfig::VirtioBlock(disk.into()),
        ];
        let place = |port, function| Place::behind(Slot::new(port, 0).unwrap(), function).unwrap();
        let places = [place(0xA, 0), place(0xB, 0), place(0xC, 0), place(0xC, 1)];
        let numbered: Vec<_> = places.into_iter().zip(&devices).collect();
        assert_eq!(
            boot_order(&numbered),
            "/pci@i0cf8/pci-bridge@c/scsi@0/disk@0,0\n/pci@i0cf8/pci-bridge@c/scsi@0,1/disk@0,0\n\
             /pci@i0cf8/pci-bridge@a/ethernet@0/ethernet-phy@0\0"
        );
        assert_eq!(boot_order(&[]), "");
    }
}
