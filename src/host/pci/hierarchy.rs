//! Which function is behind which bridge.

use super::PciDevice;
use crate::spec::pci::PciAddress;

/// The bridges of a host, as far as their buses could be read.
#[derive(Debug)]
pub struct Hierarchy<'a> {
    devices: &'a [PciDevice],
    bridges: Vec<Bridge>,
}

/// The buses behind a bridge.
#[derive(Debug)]
struct Bridge {
    /// Its place in the list of functions.
    index: usize,
    domain: u32,
    secondary: u8,
    subordinate: u8,
}

impl Bridge {
    /// `None` for what is no bridge, or whose buses cannot be told. A bus behind a bridge has a higher number than the
    /// bus before it (PCIe 6.0, 7.5.1.3), so registers that say otherwise cannot make a loop.
    fn of(index: usize, function: &PciDevice) -> Option<Self> {
        let (secondary, subordinate) =
            (*function.config.secondary_bus.known()?, *function.config.subordinate_bus.known()?);
        let domain = function.address.domain;
        (secondary > function.address.bus).then_some(Self { index, domain, secondary, subordinate })
    }
}

impl<'a> Hierarchy<'a> {
    /// The hierarchy of `devices`.
    #[must_use]
    pub fn of(devices: &'a [PciDevice]) -> Self {
        let bridges =
            devices.iter().enumerate().filter_map(|(index, device)| Bridge::of(index, device)).collect();
        Self { devices, bridges }
    }

    /// The bridge right above `address`; none on a root bus. Virtual functions may have buses beyond the bridge's
    /// secondary one.
    #[must_use]
    pub fn parent(&self, address: PciAddress) -> Option<&'a PciDevice> {
        let above = self.bridges.iter().filter(|bridge| {
            bridge.domain == address.domain && (bridge.secondary..=bridge.subordinate).contains(&address.bus)
        });
        self.devices.get(above.max_by_key(|bridge| bridge.secondary)?.index)
    }

    /// The bridges above `address`, the nearest first.
    #[must_use]
    pub fn above(&self, address: PciAddress) -> Vec<&'a PciDevice> {
        std::iter::successors(self.parent(address), |bridge| self.parent(bridge.address)).collect()
    }

    /// The functions behind the bridge at `address`, however deep.
    #[must_use]
    pub fn behind(&self, address: PciAddress) -> Vec<&'a PciDevice> {
        let Some(bridge) = self
            .bridges
            .iter()
            .find(|bridge| self.devices.get(bridge.index).is_some_and(|device| device.address == address))
        else {
            return Vec::new();
        };
        let is_behind = |device: &&PciDevice| {
            device.address.domain == bridge.domain
                && (bridge.secondary..=bridge.subordinate).contains(&device.address.bus)
        };
        self.devices.iter().filter(is_behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::host::collect;
    use crate::host::pci::ports::testing::Config;
    use crate::host::source::fake::{Entry, FakeHost};

    use super::*;

    fn names(devices: &[&PciDevice]) -> Vec<String> {
        devices.iter().map(|device| device.address.to_string()).collect()
    }

    #[test]
    fn a_function_is_behind_the_bridges_whose_buses_hold_its_own() {
        let host = FakeHost::new(&[]);
        for (address, config) in [
            ("0000:00:02.0", Config::express(4).buses(1, 3)),
            ("0000:01:00.0", Config::express(5).buses(2, 3)),
            ("0000:02:00.0", Config::express(6).buses(3, 3)),
            ("0000:02:01.0", Config::express(6).buses(1, 9)), // a loop, if it were believed
            ("0000:03:00.0", Config::express(0)),
        ] {
            let place = format!("/sys/bus/pci/devices/{address}/config");
            host.add(&[(&place, Entry::Bytes(config.bytes()))]);
        }
        let facts = collect(&host.source());
        let hierarchy = Hierarchy::of(facts.pci.functions());
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(names(&hierarchy.above(at("03:00.0"))), ["0000:02:00.0", "0000:01:00.0", "0000:00:02.0"]);
        assert!(hierarchy.parent(at("00:02.0")).is_none());
        assert_eq!(names(&hierarchy.behind(at("01:00.0"))), ["0000:02:00.0", "0000:02:01.0", "0000:03:00.0"]);
        assert!(hierarchy.behind(at("03:00.0")).is_empty());
    }
}
