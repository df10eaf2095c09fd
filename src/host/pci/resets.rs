//! Ways to reset a function, and whom a reset of its bus would reset with it.

use std::collections::BTreeMap;

use super::{Attributes, PciDevice, words};
use crate::host::fact::Fact;
use crate::host::parse;
use crate::spec::pci::PciAddress;

/// Kernels before 5.15 reset a function and do not say how.
pub(super) fn methods(function: &Attributes<'_>) -> Fact<Vec<String>> {
    let methods = function.get("reset_method", parse::optional_text).map(|text| words(&text));
    match function.path("reset_method").or_else(|| function.path("reset")) {
        Some(reset) if methods == Fact::NotPresent && reset.ends_with("/reset") => Fact::Unreadable {
            source: reset,
            reason: "it can be reset, and this kernel does not list how".to_owned(),
        },
        _ => methods,
    }
}

/// A bus: domain and number.
type Bus = (u32, u8);

/// Adds to each function whom the Secondary Bus Reset of the bridge above it resets, too: all that is on its bus and
/// behind it (PCIe 6.0, 6.6.1). The buses of virtual functions and root buses have no bridge that could do it.
pub(super) fn add_siblings(devices: &mut [PciDevice]) {
    let mut on_bus = BTreeMap::<Bus, Vec<PciAddress>>::new();
    let mut behind = BTreeMap::<Bus, u8>::new();
    let mut unread: Option<Fact<Vec<PciAddress>>> = None;
    for device in &*devices {
        let bus = (device.address.domain, device.address.bus);
        on_bus.entry(bus).or_default().push(device.address);
        match (&device.config.secondary_bus, &device.config.subordinate_bus) {
            // A bridge that nobody set up has zeros, and its bus is not the root bus (PCIe 6.0, 7.5.1.3).
            (Fact::Known(secondary), Fact::Known(subordinate)) if *secondary > device.address.bus => {
                behind.insert((device.address.domain, *secondary), *subordinate);
            }
            (secondary, _) if secondary.is_unread() && device.is_bridge() => {
                unread.get_or_insert_with(|| secondary.as_ref().map(|_| Vec::new()));
            }
            _ => {}
        }
    }
    for device in devices {
        let (domain, bus) = (device.address.domain, device.address.bus);
        device.bus_reset_siblings = match behind.get(&(domain, bus)) {
            _ if device.physical_function.known().is_some() => Fact::NotPresent,
            Some(last) => {
                let hit = on_bus.range((domain, bus)..=(domain, (*last).max(bus)));
                let others = hit.flat_map(|(_, on)| on).filter(|other| **other != device.address);
                Fact::Known(others.copied().collect())
            }
            None => unread.clone().unwrap_or_default(),
        };
    }
}
