//! Whether all virtual functions would fit: bus numbers, memory, function numbers.
//!
//! Linux: drivers/pci/iov.c, `sriov_enable` and `sriov_init`. The kernel refuses virtual functions whose bus lies behind
//! the last one of the port above, and those whose BARs got no memory when the host started.

use serde::Serialize;

use super::{Capability, Sriov};
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::pci::hierarchy::Hierarchy;
use crate::host::pci::{Attributes, Pci, PciDevice};
use crate::spec::pci::PciAddress;
use crate::spec::sriov::requester_id;

/// What the virtual functions need, against what there is.
#[derive(Debug, Clone, Serialize)]
pub struct Fit {
    /// How many can be made: as many as the driver offers, or as bus numbers and memory allow.
    pub max_vfs: Fact<u16>,
    /// Bus numbers.
    pub bus_numbers: Fact<BusNumbers>,
    /// Memory for their BARs.
    pub memory: Fact<Memory>,
    /// Function numbers above 7.
    pub ari: AriFit,
}

/// Bus numbers that the virtual functions need. The port above forwards a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BusNumbers {
    /// Bus of the last virtual function that the driver offers; absent if that is beyond bus 255.
    pub last_needed: Option<u8>,
    /// Last bus that leads to the device; 255 on a root bus.
    pub last_available: u8,
    /// How many virtual functions have a bus that leads to them.
    pub max_vfs: u16,
}

/// Memory for the BARs of virtual functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The BARs, each for all virtual functions.
    pub bars: Vec<VfBar>,
    /// Whether each has a place.
    pub assigned: bool,
}

/// A BAR of virtual functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VfBar {
    /// Index, from 0.
    pub index: u8,
    /// Size for one virtual function; absent where the device's total could not be read or the kernel gave it up.
    pub size_bytes: Option<u64>,
    /// Size for all that the device offers; absent where the kernel gave it up.
    pub total_bytes: Option<u64>,
    /// Whether the kernel found a place for it.
    pub assigned: bool,
}

/// Whether function numbers above 7 are needed, and get through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AriFit {
    /// Whether a virtual function on the device's own bus has such a number.
    pub needed: Fact<bool>,
    /// Whether the device can.
    pub device: Fact<bool>,
    /// Whether the port above can; absent on a root bus.
    pub port: Fact<bool>,
    /// Whether the port above does.
    pub enabled: Fact<bool>,
}

/// Lines of the file `resource` that describe VF BARs (Linux: include/linux/pci.h, `PCI_IOV_RESOURCES`).
const LINES: std::ops::Range<usize> = 7..13;
/// The kernel has no place for it (Linux: include/linux/ioport.h, `IORESOURCE_UNSET`).
const UNSET: u64 = 0x2000_0000;

impl Fit {
    /// Reads what the function's own files say; [`add`] says the rest.
    pub(super) fn collect(function: &Attributes<'_>) -> Self {
        Self {
            max_vfs: Fact::NotPresent,
            bus_numbers: Fact::NotPresent,
            memory: function
                .get("resource", |source, path| source.text(path).parse(path, |text| resources(&text))),
            ari: AriFit::default(),
        }
    }
}

/// The VF BARs that `resource` tells of.
fn resources(text: &str) -> Result<Memory, String> {
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let mut bars = Vec::new();
    for (index, line) in (0..).zip(text.lines().skip(LINES.start).take(LINES.len())) {
        let mut words = line.split_ascii_whitespace();
        let mut next = || hex(words.next()?);
        let (Some(start), Some(end), Some(flags)) = (next(), next(), next()) else {
            return Err(format!("`{}` is not a resource", parse::excerpt(line)));
        };
        if flags == 0 {
            continue;
        }
        let total_bytes = end.checked_sub(start).and_then(|last| last.checked_add(1));
        bars.push(VfBar { index, size_bytes: None, total_bytes, assigned: flags & UNSET == 0 && start != 0 });
    }
    Ok(Memory { assigned: bars.iter().all(|bar| bar.assigned), bars })
}

/// Says of each physical function what the port above it leaves room for. Needs all functions.
pub(in crate::host) fn add(pci: &mut Pci) {
    let hierarchy = Hierarchy::of(pci.functions());
    let fits: Vec<_> = pci
        .functions()
        .iter()
        .map(|function| Some(fit(function, function.sriov.as_ref()?, hierarchy.parent(function.address))))
        .collect();
    let Fact::Known(devices) = &mut pci.devices else { return };
    for (device, fit) in devices.iter_mut().zip(fits) {
        if let (Some(sriov), Some(fit)) = (&mut device.sriov, fit) {
            sriov.fit = fit;
        }
    }
}

fn fit(function: &PciDevice, sriov: &Sriov, port: Option<&PciDevice>) -> Fit {
    let last_available = port.map_or(Fact::Known(u8::MAX), |port| port.config.subordinate_bus.clone());
    let place = places(function.address, sriov);
    let bus_numbers = last_available.and_then(|last_available| {
        place.as_ref().map(|places| {
            let reachable = places.iter().take_while(|bus| bus.is_some_and(|(bus, _)| bus <= last_available));
            BusNumbers {
                last_needed: places.last().copied().flatten().map(|(bus, _)| bus),
                last_available,
                max_vfs: u16::try_from(reachable.count()).unwrap_or(u16::MAX),
            }
        })
    });
    let memory = sriov.fit.memory.clone().map(|memory| with_registers(memory, &sriov.capability));
    let max_vfs = match (&bus_numbers, &memory) {
        (_, Fact::Known(memory)) if !memory.assigned => Fact::Known(0),
        (Fact::Known(bus_numbers), Fact::Known(_)) => Fact::Known(bus_numbers.max_vfs),
        (Fact::Known(_), unread) => unread.as_ref().map(|_| 0),
        (unread, _) => unread.as_ref().map(|_| 0),
    };
    let forwarding = |of: fn(&crate::host::pci::ports::AriForwarding) -> bool| match port {
        None => Fact::NotPresent,
        Some(port) => {
            port.ports.express.as_ref().map(|express| express.ari_forwarding.as_ref().is_some_and(of))
        }
    };
    let ari = AriFit {
        needed: place.as_ref().map(|places| {
            let own = function.address.bus;
            places.iter().flatten().any(|(bus, number)| *bus == own && *number > 7)
        }),
        device: match &function.ports.ari {
            Fact::Known(_) => Fact::Known(true),
            Fact::NotPresent => Fact::Known(false),
            unread => unread.as_ref().map(|_| false),
        },
        port: forwarding(|forwarding| forwarding.supported),
        enabled: forwarding(|forwarding| forwarding.enabled),
    };
    Fit { max_vfs, bus_numbers, memory, ari }
}

/// Bus and function number of each virtual function that the driver offers, `None` for those beyond the last bus.
fn places(physical: PciAddress, sriov: &Sriov) -> Fact<Vec<Option<(u8, u8)>>> {
    let own = physical.requester_id();
    sriov.total_vfs.as_ref().and_then(|total| {
        sriov.offset.as_ref().and_then(|offset| {
            sriov.stride.as_ref().map(|stride| {
                let place = |index| requester_id(own, *offset, *stride, index).map(u16::to_be_bytes);
                (0..*total).map(|index| place(index).map(|[bus, number]| (bus, number))).collect()
            })
        })
    })
}

/// What the capability adds: the size for one, and BARs that the kernel gave up and no longer lists.
fn with_registers(mut memory: Memory, capability: &Fact<Capability>) -> Memory {
    let Fact::Known(capability) = capability else { return memory };
    for bar in &mut memory.bars {
        let total = u64::from(capability.total_vfs);
        bar.size_bytes = bar.total_bytes.and_then(|bytes| bytes.checked_div(total));
    }
    for index in &capability.vf_bars {
        if memory.bars.iter().all(|bar| bar.index != *index) {
            memory.bars.push(VfBar { index: *index, size_bytes: None, total_bytes: None, assigned: false });
            memory.assigned = false;
        }
    }
    memory.bars.sort_unstable_by_key(|bar| bar.index);
    memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::collect;
    use crate::host::pci::ports::testing::Config;
    use crate::host::source::fake::{Entry, FakeHost};

    const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";
    const RESOURCES: &str = "\
0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000fe840000 0x00000000fe85ffff 0x0000000000140204";

    /// A NIC with seven virtual functions, 128 behind it, below a port that leads to bus 1 only.
    fn nic(resources: &str) -> FakeHost {
        let mut registers = [0; 0x3C];
        registers[0x0A] = 8;
        registers[0x20] = 0x04;
        let config = Config::express(0).extended(0x10, &registers);
        let port = Config::express(4).buses(1, 1).ari_forwarding(true);
        FakeHost::new(&[
            (&format!("{PF}/config"), Entry::Bytes(config.bytes())),
            (&format!("{PF}/sriov_totalvfs"), Entry::Text("7")),
            (&format!("{PF}/sriov_offset"), Entry::Text("128")),
            (&format!("{PF}/sriov_stride"), Entry::Text("2")),
            (&format!("{PF}/resource"), Entry::Text(resources)),
            ("/sys/bus/pci/devices/0000:00:02.0/config", Entry::Bytes(port.bytes())),
        ])
    }

    fn fit(host: &FakeHost) -> Fit {
        collect(&host.source()).device("0000:01:00.0".parse().unwrap()).unwrap().sriov.clone().unwrap().fit
    }

    #[test]
    fn virtual_functions_with_a_bus_and_memory_fit() {
        let fit = fit(&nic(RESOURCES));
        let bar = VfBar { index: 0, size_bytes: Some(0x4000), total_bytes: Some(0x2_0000), assigned: true };
        assert_eq!(fit.memory, Fact::Known(Memory { bars: vec![bar], assigned: true }));
        assert_eq!(
            fit.bus_numbers,
            Fact::Known(BusNumbers { last_needed: Some(1), last_available: 1, max_vfs: 7 })
        );
        assert_eq!(
            (fit.max_vfs, fit.ari.needed, fit.ari.enabled),
            (Fact::Known(7), Fact::Known(true), Fact::Known(true))
        );
    }

    #[test]
    fn those_beyond_the_ports_last_bus_do_not() {
        let host = nic(RESOURCES);
        host.add(&[(&format!("{PF}/sriov_offset"), Entry::Text("250"))]);
        let fit = fit(&host);
        let numbers = fit.bus_numbers.known().unwrap();
        assert_eq!((numbers.last_needed, numbers.max_vfs, fit.max_vfs), (Some(2), 3, Fact::Known(3)));
    }

    #[test]
    fn a_bar_without_a_place_leaves_room_for_none() {
        let unset = RESOURCES.replace(
            "0x00000000fe840000 0x00000000fe85ffff 0x0000000000140204",
            "0x0000000000000000 0x000000000001ffff 0x0000000020140204",
        );
        assert_eq!(fit(&nic(&unset)).max_vfs, Fact::Known(0));
        let given_up = RESOURCES.replace(
            "0x00000000fe840000 0x00000000fe85ffff 0x0000000000140204",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
        );
        let fit = fit(&nic(&given_up));
        assert_eq!(fit.max_vfs, Fact::Known(0));
        assert_eq!(fit.memory.known().unwrap().bars[0].total_bytes, None);
    }

    #[test]
    fn what_could_not_be_read_is_unknown() {
        let host = nic(RESOURCES);
        let facts = collect(&host.source_without(&["/resource"]));
        let device = facts.device("0000:01:00.0".parse().unwrap()).unwrap();
        assert!(device.sriov.as_ref().unwrap().fit.max_vfs.is_unread());
        assert!(fit(&nic("rubbish")).memory.known().unwrap().bars[0].total_bytes.is_none());
        assert!(fit(&nic(&RESOURCES.replace("0x00000000fe840000", "x"))).memory.is_unread());
    }
}
