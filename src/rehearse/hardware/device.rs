//! The PCI topology of an emulated host: ports, switches, bridges and the devices behind them.
//!
//! Each entry is one key with its block (`- igb: {..}`). An entry on the root bus says where it sits (`at: "02.0"`);
//! below a port the place is 00.0 unless it says otherwise.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::plain_word;
use crate::spec::units::ByteSize;

/// A slot and function on one bus, written `02.0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is no slot; write device and function in hex, such as \"02.0\"");
        let (device, function) = text.split_once('.').ok_or_else(malformed)?;
        let device = u8::from_str_radix(device, 16).map_err(|_| malformed())?;
        let function = u8::from_str_radix(function, 16).map_err(|_| malformed())?;
        if device > 31 || function > 7 {
            return Err(format!("`{text}` is no slot: devices are 00 to 1f, functions 0 to 7"));
        }
        Ok(Self { device, function })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.device, self.function)
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An entry of a bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Node {
    /// A PCI Express root port.
    RootPort(RootPort),
    /// A PCI Express switch: an upstream port and its downstream ports. It offers no ACS.
    Switch(Switch),
    /// A bridge from PCI Express to conventional PCI: everything behind it shares one requester id.
    PciBridge(PciBridge),
    /// Intel 82576, SR-IOV with 7 virtual functions.
    Igb(Igb),
    /// Intel 82574L.
    E1000e(E1000e),
    /// Intel 82540EM, conventional PCI.
    E1000(E1000),
    /// A virtio network device.
    VirtioNet(VirtioNet),
    /// A virtio entropy device.
    VirtioRng(VirtioRng),
    /// An NVMe controller.
    Nvme(Nvme),
    /// A USB 3 host controller.
    Xhci(Xhci),
}

/// A device of a bus, seen without its kind.
pub trait Device {
    /// Where it sits on its bus, where said.
    fn at(&self) -> Option<Slot>;
}

/// A PCI Express root port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPort {
    /// Where on the bus.
    pub at: Slot,
    /// Access Control Services (PCIe 6.0, 6.12): without them what is behind shares a group with the port.
    #[serde(default = "yes")]
    pub acs: bool,
    /// What is behind it.
    #[serde(default)]
    pub devices: Vec<Node>,
}

/// A PCI Express switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Where on the bus.
    #[serde(default)]
    pub at: Option<Slot>,
    /// What is behind each downstream port, in the order of the ports.
    pub downstream: Vec<Vec<Node>>,
}

/// A bridge to conventional PCI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciBridge {
    /// Where on the bus.
    #[serde(default)]
    pub at: Option<Slot>,
    /// What is behind it; each says where it sits, from slot 01.
    #[serde(default)]
    pub devices: Vec<Node>,
}

/// A network that only this emulated host is on, with DHCP and a gateway (`.2`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The /24 network's address, such as 10.0.2.0.
    pub address: Ipv4Addr,
    /// Whether the emulated host reaches the network of the machine through it.
    #[serde(default)]
    pub outside: bool,
    /// Whether the emulated host configures it at start, with its default route.
    #[serde(default)]
    pub default_route: bool,
}

impl Network {
    /// The host number `last` of the network.
    pub(super) fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.address.octets();
        Ipv4Addr::new(a, b, c, last)
    }
}

macro_rules! network_device {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Where on the bus.
            #[serde(default)]
            pub at: Option<Slot>,
            /// The network it is plugged into; none: no cable.
            #[serde(default)]
            pub network: Option<Network>,
        }
    };
}

network_device!(
    /// Intel 82576: SR-IOV with 7 virtual functions.
    Igb
);
network_device!(
    /// Intel 82574L.
    E1000e
);
network_device!(
    /// Intel 82540EM: conventional PCI.
    E1000
);
network_device!(
    /// A virtio network device (VIRTIO 1.3, 5.1).
    VirtioNet
);

/// A virtio entropy device (VIRTIO 1.3, 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtioRng {
    /// Where on the bus.
    #[serde(default)]
    pub at: Option<Slot>,
}

/// An NVMe controller in a subsystem of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvme {
    /// Where on the bus.
    #[serde(default)]
    pub at: Option<Slot>,
    /// Serial number; also names the image files of its namespaces (`SERIAL-nsN.img`).
    pub serial: String,
    /// Namespaces, from 1.
    pub namespaces: Vec<NvmeNamespace>,
    /// Virtual functions, where it has them.
    #[serde(default)]
    pub sriov: Option<NvmeSriov>,
}

/// A namespace on a scratch image that begins as zeroes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeNamespace {
    /// Its size; a multiple of 512 bytes.
    pub size: ByteSize,
}

/// Virtual functions of an NVMe controller, with flexible resources (NVMe base 2.0, 8.26).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeSriov {
    /// How many virtual functions at most.
    pub max_vfs: u16,
    /// Virtual queue resources to share out among them.
    pub flexible_queues: u16,
    /// Virtual interrupt resources to share out among them.
    pub flexible_interrupts: u16,
}

/// A USB 3 host controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xhci {
    /// Where on the bus.
    #[serde(default)]
    pub at: Option<Slot>,
    /// What is plugged in.
    #[serde(default)]
    pub devices: Vec<UsbDevice>,
}

/// Something with a USB plug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UsbDevice {
    /// A mass-storage device.
    Storage(UsbStorage),
    /// A keyboard.
    Keyboard(super::Empty),
}

/// A USB mass-storage device on a scratch image that begins as zeroes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbStorage {
    /// Serial number; also names the image file (`SERIAL.img`).
    pub serial: String,
    /// Its size; a multiple of 512 bytes.
    pub size: ByteSize,
}

fn yes() -> bool {
    true
}

impl Device for Node {
    fn at(&self) -> Option<Slot> {
        match self {
            Self::RootPort(port) => Some(port.at),
            Self::Switch(switch) => switch.at,
            Self::PciBridge(bridge) => bridge.at,
            Self::Igb(nic) => nic.at,
            Self::E1000e(nic) => nic.at,
            Self::E1000(nic) => nic.at,
            Self::VirtioNet(nic) => nic.at,
            Self::VirtioRng(rng) => rng.at,
            Self::Nvme(nvme) => nvme.at,
            Self::Xhci(xhci) => xhci.at,
        }
    }
}

impl Node {
    /// The key of this entry.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RootPort(_) => "root_port",
            Self::Switch(_) => "switch",
            Self::PciBridge(_) => "pci_bridge",
            Self::Igb(_) => "igb",
            Self::E1000e(_) => "e1000e",
            Self::E1000(_) => "e1000",
            Self::VirtioNet(_) => "virtio_net",
            Self::VirtioRng(_) => "virtio_rng",
            Self::Nvme(_) => "nvme",
            Self::Xhci(_) => "xhci",
        }
    }

    /// The network that a NIC is plugged into.
    pub(super) fn network(&self) -> Option<&Network> {
        match self {
            Self::Igb(nic) => nic.network.as_ref(),
            Self::E1000e(nic) => nic.network.as_ref(),
            Self::E1000(nic) => nic.network.as_ref(),
            Self::VirtioNet(nic) => nic.network.as_ref(),
            _ => None,
        }
    }

    fn children(&self) -> Vec<(Bus, &[Node])> {
        match self {
            Self::RootPort(port) => vec![(Bus::Express, &port.devices)],
            Self::Switch(switch) => {
                switch.downstream.iter().map(|devices| (Bus::Express, devices.as_slice())).collect()
            }
            Self::PciBridge(bridge) => vec![(Bus::Conventional, &bridge.devices)],
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    Root,
    /// A link: one device, slot 0.
    Express,
    /// Conventional PCI behind a bridge; slot 0 is the bridge's hot-plug controller.
    Conventional,
}

/// What is unique across the whole machine.
#[derive(Default)]
struct Seen<'a> {
    serials: BTreeSet<&'a str>,
    networks: BTreeSet<Ipv4Addr>,
    default_routes: usize,
}

/// Checks the places and parameters of all entries.
pub(super) fn check_root_bus(nodes: &[Node]) -> Result<(), String> {
    check_bus(nodes, Bus::Root, "pci", 0, &mut Seen::default())
}

fn check_bus<'a>(
    nodes: &'a [Node],
    bus: Bus,
    path: &str,
    depth: usize,
    seen: &mut Seen<'a>,
) -> Result<(), String> {
    if depth > 8 {
        return Err(format!("{path}: more than 8 levels of bridges"));
    }
    let mut taken = BTreeSet::new();
    for (index, node) in nodes.iter().enumerate() {
        let here = format!("{path}[{index}].{}", node.kind());
        let at = match (bus, node.at()) {
            (_, Some(at)) => at,
            (Bus::Express, None) => Slot::default(),
            (Bus::Root | Bus::Conventional, None) => {
                return Err(format!("{here}: say where it sits: `at: \"03.0\"`"));
            }
        };
        match bus {
            Bus::Root if at.device == 0 || at.device >= 0x1d => {
                return Err(format!("{here}: slot {at} is taken; 01 to 1c are free on the root bus"));
            }
            Bus::Express if at.device != 0 => {
                return Err(format!("{here}: slot {at}: a link has device 00 only"));
            }
            Bus::Conventional if at.device == 0 => {
                return Err(format!("{here}: slot {at} belongs to the bridge; use 01 to 1f"));
            }
            _ => {}
        }
        if !taken.insert(at) {
            return Err(format!("{here}: slot {at} is taken by an earlier entry"));
        }
        check_kind(node, bus, &here, seen)?;
        for (bus, children) in node.children() {
            check_bus(children, bus, &here, depth + 1, seen)?;
        }
    }
    if let Some(at) =
        taken.iter().find(|at| at.function != 0 && !taken.contains(&Slot { function: 0, ..**at }))
    {
        return Err(format!("{path}: slot {at} has no function 0, so nobody would find it"));
    }
    Ok(())
}

fn check_kind<'a>(node: &'a Node, bus: Bus, here: &str, seen: &mut Seen<'a>) -> Result<(), String> {
    match (node, bus) {
        (Node::RootPort(_), Bus::Express | Bus::Conventional) => {
            return Err(format!("{here}: a root port sits on the root bus"));
        }
        (Node::Switch(_), Bus::Root | Bus::Conventional) => {
            return Err(format!("{here}: a switch sits behind a root port or another switch"));
        }
        (Node::Igb(_) | Node::E1000e(_), Bus::Conventional) => {
            return Err(format!("{here}: a PCI Express device does not fit on conventional PCI"));
        }
        _ => {}
    }
    if let Some(network) = node.network() {
        let [first, .., last] = network.address.octets();
        if last != 0 || first == 0 || first == 127 || first >= 224 {
            return Err(format!("{here}: {} is no address of a /24 network", network.address));
        }
        if !seen.networks.insert(network.address) {
            return Err(format!("{here}: network {} is used twice", network.address));
        }
        seen.default_routes += usize::from(network.default_route);
        if seen.default_routes > 1 {
            return Err(format!("{here}: only one network carries the default route"));
        }
    }
    match node {
        Node::Switch(switch) if !(1..=32).contains(&switch.downstream.len()) => {
            Err(format!("{here}: a switch has 1 to 32 downstream ports"))
        }
        Node::Nvme(nvme) => {
            check_serial(&nvme.serial, here, seen)?;
            if !(1..=64).contains(&nvme.namespaces.len()) {
                return Err(format!("{here}: 1 to 64 namespaces are possible"));
            }
            nvme.namespaces.iter().try_for_each(|namespace| check_image(namespace.size, here))?;
            match &nvme.sriov {
                Some(sriov) if !(1..=127).contains(&sriov.max_vfs) => {
                    Err(format!("{here}: max_vfs is {}; 1 to 127 are possible", sriov.max_vfs))
                }
                Some(sriov)
                    if sriov.flexible_queues < sriov.max_vfs * 2
                        || sriov.flexible_interrupts < sriov.max_vfs
                        || sriov.flexible_queues > 1024
                        || sriov.flexible_interrupts > 1024 =>
                {
                    Err(format!(
                        "{here}: each virtual function needs 2 flexible_queues and 1 of flexible_interrupts, of at most 1024"
                    ))
                }
                _ => Ok(()),
            }
        }
        Node::Xhci(xhci) => xhci.devices.iter().try_for_each(|device| match device {
            UsbDevice::Keyboard(_) => Ok(()),
            UsbDevice::Storage(storage) => {
                check_serial(&storage.serial, here, seen)?;
                check_image(storage.size, here)
            }
        }),
        _ => Ok(()),
    }
}

fn check_serial<'a>(serial: &'a str, here: &str, seen: &mut Seen<'a>) -> Result<(), String> {
    if !plain_word(serial) || serial.starts_with('.') || serial.len() > 20 {
        return Err(format!("{here}: serial `{serial}`: 1 to 20 letters, digits, `-`, `_`, `.`"));
    }
    if !seen.serials.insert(serial) {
        return Err(format!("{here}: serial `{serial}` is used twice"));
    }
    Ok(())
}

fn check_image(size: ByteSize, here: &str) -> Result<(), String> {
    let bytes = size.bytes();
    if !(1 << 20..=1 << 40).contains(&bytes) || !bytes.is_multiple_of(512) {
        return Err(format!("{here}: size {size}: a multiple of 512 bytes from 1MiB to 1TiB"));
    }
    Ok(())
}
