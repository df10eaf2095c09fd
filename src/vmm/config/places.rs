//! Where devices are on the PCI bus: behind a root port each, whose number is that of the bus behind it, or as functions of one
//! device there.
//!
//! A device that names its address has it whatever else the machine has; the others take the ports that nobody named, in their
//! order. The machine has all ports up to the last that is used: firmware that numbers buses one after the other then comes to
//! the same numbers.

use std::collections::BTreeMap;

use crate::spec::pci::PciAddress;
use crate::vmm::config::{ConfigError, DeviceConfig};
use crate::vmm::pci::root::{Place, Slot};

/// Most root ports: of the 32 devices on bus 0, the host bridge is number 0 and the chipset number 31.
pub const MAX_PORTS: u8 = 30;

/// The place of each of `devices`, none of those that are not on the bus; what is wrong goes to `errors`.
pub(crate) fn places(devices: &[DeviceConfig], errors: &mut Vec<ConfigError>) -> Vec<Option<Place>> {
    let mut taken: BTreeMap<PciAddress, usize> = BTreeMap::new();
    let mut wrong = |index: usize, device: &DeviceConfig, key: &str, problem: String| {
        errors.push(ConfigError::new(format!("devices.{index}.{}{key}", device.kind()), problem));
    };
    for (index, device) in devices.iter().enumerate() {
        let Some(address) = device.pci().and_then(|pci| pci.guest_address) else { continue };
        if place(address).is_none() {
            let problem = format!(
                "there is no place {address} for a device; each is device 00 behind one of {MAX_PORTS} root ports: write 01:00.0 \
                 to {MAX_PORTS:02x}:00.0, or another function than 0"
            );
            wrong(index, device, ".guest_address", problem);
        } else if let Some(first) = taken.get(&address) {
            wrong(index, device, ".guest_address", format!("device {first} is at {address} already"));
        } else {
            taken.insert(address, index);
        }
    }
    for (address, index) in &taken {
        let first = PciAddress { function: 0, ..*address };
        if let Some(device) = devices.get(*index).filter(|_| !taken.contains_key(&first)) {
            let problem = format!(
                "no device has the guest_address {first}, and a guest that finds no function 0 looks for no other; give it to one"
            );
            wrong(*index, device, ".guest_address", problem);
        }
    }
    let is_free = |port: &u8| !taken.keys().any(|address| address.bus == *port);
    let mut free = (1..=MAX_PORTS).filter(is_free);
    let mut places = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        places.push(match device.pci().map(|pci| pci.guest_address) {
            None => None,
            Some(Some(address)) => place(address),
            Some(None) => {
                let port = free.next();
                if port.is_none() {
                    let problem = format!(
                        "no root port is left of {MAX_PORTS}; let it be a further function of another device: \
                         `guest_address: \"01:00.1\"`"
                    );
                    wrong(index, device, "", problem);
                }
                port.and_then(|port| Place::behind(Slot::new(port, 0)?, 0))
            }
        });
    }
    places
}

/// What `address` means, if a device can be there.
fn place(address: PciAddress) -> Option<Place> {
    let PciAddress { domain, bus, device, function } = address;
    let is_port = (1..=MAX_PORTS).contains(&bus);
    if domain == 0 && is_port && device == 0 { Place::behind(Slot::new(bus, 0)?, function) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::chipset::pvpanic::PvpanicConfig;
    use crate::vmm::pci::on_pci::{OnPci, PciSettings};
    use crate::vmm::virtio::devices::rng::RngConfig;

    fn at(address: &str) -> DeviceConfig {
        let guest_address = Some(address.parse().unwrap());
        let pci = PciSettings { guest_address, ..PciSettings::default() };
        DeviceConfig::VirtioRng(OnPci { device: RngConfig {}, pci })
    }

    fn anywhere() -> DeviceConfig {
        DeviceConfig::VirtioRng(RngConfig {}.into())
    }

    fn addresses(devices: &[DeviceConfig]) -> Vec<String> {
        let mut errors = Vec::new();
        let places = places(devices, &mut errors);
        assert_eq!(errors, []);
        places.into_iter().flatten().map(|place| place.address().to_string()).collect()
    }

    fn problems(devices: &[DeviceConfig]) -> Vec<String> {
        let mut errors = Vec::new();
        places(devices, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn devices_take_the_ports_that_nobody_named_in_their_order() {
        let pvpanic = DeviceConfig::Pvpanic(PvpanicConfig {});
        let devices = [anywhere(), pvpanic, at("02:00.1"), anywhere(), at("1e:00.0"), at("0000:02:00.0")];
        let expected = ["0000:01:00.0", "0000:02:00.1", "0000:03:00.0", "0000:1e:00.0", "0000:02:00.0"];
        assert_eq!(addresses(&devices), expected);
    }

    #[test]
    fn addresses_that_cannot_be_are_named() {
        for address in ["00:01.0", "1f:00.0", "01:01.0", "0001:01:00.0"] {
            let said = problems(&[anywhere(), at(address)]);
            assert_eq!(said.len(), 1, "{address}");
            let start = "devices.1.virtio-rng.guest_address: there is no place ";
            assert!(said[0].starts_with(start), "{}", said[0]);
        }
    }

    #[test]
    fn two_devices_at_one_address_and_functions_without_function_0_are_named() {
        assert_eq!(
            problems(&[at("03:00.0"), anywhere(), at("03:00.0"), at("05:00.7")]),
            [
                "devices.2.virtio-rng.guest_address: device 0 is at 0000:03:00.0 already",
                "devices.3.virtio-rng.guest_address: no device has the guest_address 0000:05:00.0, and a guest that finds no \
                 function 0 looks for no other; give it to one"
            ]
        );
    }

    #[test]
    fn there_can_be_more_devices_than_ports_as_functions() {
        let mut devices = vec![anywhere(); usize::from(MAX_PORTS)];
        assert_eq!(addresses(&devices).last().unwrap(), "0000:1e:00.0");
        devices.push(anywhere());
        assert!(problems(&devices)[0].starts_with("devices.30.virtio-rng: no root port is left of 30; "));
        devices[0] = at("01:00.0");
        devices[30] = at("01:00.1");
        assert_eq!(addresses(&devices).len(), 31);
    }
}
