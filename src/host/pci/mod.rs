//! PCI functions of a host: what sysfs says of each, and what its configuration space does.
//!
//! Linux: Documentation/ABI/testing/sysfs-bus-pci. A function's directory is listed once; attributes that are not in
//! the list are not looked for, which keeps the number of system calls for a function near the number of its facts.

mod abilities;
mod bars;
pub mod config;
mod framebuffer;
pub mod hierarchy;
mod kinds;
pub mod known_resets;
mod names;
pub mod ports;
mod resets;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::{Bundle, Source};
use crate::host::sriov::{self, Sriov};
use crate::host::usage::Usage;
use crate::spec::pci::{ClassCode, PciAddress};
use config::ConfigSpace;
use names::Names;
use ports::Ports;

pub use abilities::{Abilities, Aer, Link, Pasid, ResizableBar, Switch, Vectors};
pub use bars::{Bar, BarKind};
pub use framebuffer::CLAIMS;

/// Where the kernel lists PCI functions.
const DEVICES: &str = "/sys/bus/pci/devices";

/// One PCI function, as sysfs and its configuration space describe it.
#[derive(Debug, Clone, Serialize)]
pub struct PciDevice {
    /// Address.
    pub address: PciAddress,
    /// Vendor ID.
    pub vendor_id: Fact<u16>,
    /// Device ID.
    pub device_id: Fact<u16>,
    /// Vendor's name from pci.ids; absent if the list does not know it.
    pub vendor: Option<String>,
    /// Device's name from pci.ids; absent if the list does not know it.
    pub device: Option<String>,
    /// Subsystem vendor ID; absent on bridges.
    pub subsystem_vendor_id: Fact<u16>,
    /// Subsystem ID; absent on bridges.
    pub subsystem_device_id: Fact<u16>,
    /// Class code, 24 bits.
    pub class: Fact<u32>,
    /// Class's name from pci.ids; absent if the list does not know it.
    pub class_name: Option<String>,
    /// Driver that is bound; absent if none is.
    pub driver: Fact<String>,
    /// Content of `driver_override`; absent if it is not set (the kernel then shows `(null)`).
    pub driver_override: Fact<String>,
    /// Whether the bound driver is a VFIO driver, whatever its name.
    pub vfio_bound: Fact<bool>,
    /// Names of its device files below `/dev/vfio/devices`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vfio_devices: Vec<String>,
    /// IOMMU group; absent if no IOMMU translates for this function.
    pub iommu_group: Fact<u32>,
    /// NUMA node; absent if firmware did not say (the kernel then shows -1).
    pub numa_node: Fact<u32>,
    /// Single root I/O virtualization, of a physical function.
    pub sriov: Option<Sriov>,
    /// The physical function, of a virtual function.
    pub physical_function: Fact<PciAddress>,
    /// Ways to reset the function, in the kernel's order of preference; absent if it cannot be reset alone.
    pub reset_methods: Fact<Vec<String>>,
    /// Functions that a reset of the bus resets with it; absent where no bridge could do that.
    pub bus_reset_siblings: Fact<Vec<PciAddress>>,
    /// Its power state before anybody looked at its registers, which may wake it: `D0`, `D3hot`, `D3cold`, ... ; absent if
    /// the kernel does not manage it.
    pub power_state: Fact<String>,
    /// Whether the kernel may take all power from it while it is idle.
    pub d3cold_allowed: Fact<bool>,
    /// Base address registers and option ROM.
    pub bars: Fact<Vec<Bar>>,
    /// Whether the machine started with this display; absent where it is none.
    pub boot_vga: Fact<bool>,
    /// Who draws into the picture that firmware left on this display, by the names of claims; absent where it is none.
    pub firmware_framebuffer: Fact<Vec<String>>,
    /// What its configuration space says.
    #[serde(flatten)]
    pub config: ConfigSpace,
    /// What it is as a port or behind one.
    #[serde(flatten)]
    pub ports: Ports,
    /// What on this host uses it.
    pub usage: Usage,
}

impl PciDevice {
    /// Vendor and device ID.
    fn ids(&self) -> Option<(u16, u16)> {
        Some((*self.vendor_id.known()?, *self.device_id.known()?))
    }

    /// Whether it is a display controller, VGA or other (PCI Code and ID 1.11, 1.4).
    #[must_use]
    pub fn is_display(&self) -> bool {
        self.class.known().is_some_and(|class| ClassCode::from_u24(*class).is_display())
    }

    /// Whether the function is a bridge, by its header or its class. Bridges are never bound to VFIO, and the kernel
    /// does not count them when it judges a group (Linux: drivers/vfio/vfio_main.c, `vfio_dev_driver_allowed`).
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.config.header_type.known().is_some_and(|kind| *kind != 0)
            || self.class.known().is_some_and(|class| ClassCode::from_u24(*class).is_pci_bridge())
    }
}

/// The PCI functions of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Pci {
    /// In the order of their addresses.
    pub devices: Fact<Vec<PciDevice>>,
    /// Names in the list of functions that are no addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub malformed_addresses: Vec<String>,
}

impl Pci {
    /// All functions that could be read, in the order of their addresses.
    #[must_use]
    pub fn functions(&self) -> &[PciDevice] {
        self.devices.known().map_or(&[], Vec::as_slice)
    }

    /// The function at `address`.
    #[must_use]
    pub fn device(&self, address: PciAddress) -> Option<&PciDevice> {
        let devices = self.functions();
        devices.get(devices.binary_search_by_key(&address, |device| device.address).ok()?)
    }
}

/// Reads all PCI functions; usage is filled in by [`crate::host::usage`].
pub(super) fn collect(source: &dyn Source) -> Pci {
    let mut malformed_addresses = Vec::new();
    let listed = super::list_or_empty(source, DEVICES, "/sys/bus");
    let devices = listed.map(|names| {
        let mut devices: Vec<_> = names
            .into_iter()
            .filter_map(|name| match parse_sysfs_name(&name) {
                Some(address) => Some(collect_one(source, address, &name)),
                None => {
                    malformed_addresses.push(name);
                    None
                }
            })
            .collect();
        devices.sort_unstable_by_key(|device| device.address);
        devices.dedup_by_key(|device| device.address);
        add_names(source, &mut devices);
        resets::add_siblings(&mut devices);
        framebuffer::add(source, &mut devices);
        devices
    });
    Pci { devices, malformed_addresses }
}

/// Reads one function; none if it is not there.
pub(super) fn collect_function(source: &dyn Source, address: PciAddress) -> Pci {
    let name = address.to_string();
    let is_there = source.list(&format!("{DEVICES}/{name}")) != Fact::NotPresent;
    let devices = is_there.then(|| collect_one(source, address, &name)).into_iter().collect();
    Pci { devices: Fact::Known(devices), malformed_addresses: Vec::new() }
}

/// The address that a directory is named after: the kernel's own form only.
fn parse_sysfs_name(name: &str) -> Option<PciAddress> {
    name.parse::<PciAddress>().ok().filter(|address| address.to_string() == *name)
}

/// The attributes of one function.
pub(super) struct Attributes<'a> {
    source: &'a dyn Source,
    directory: String,
    /// Names in the function's directory, sorted.
    pub(super) names: Fact<Vec<String>>,
}

impl Attributes<'_> {
    /// The path of attribute `name`, if the function has it, or if its directory could not be listed.
    pub(super) fn path(&self, name: &str) -> Option<String> {
        let maybe =
            self.names.known().is_none_or(|names| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok());
        maybe.then(|| self.place(name))
    }

    /// Where attribute `name` is, if the function has it.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    /// Reads attribute `name`; absent if the function does not have it.
    pub(super) fn get<T>(&self, name: &str, read: impl FnOnce(&dyn Source, &str) -> Fact<T>) -> Fact<T> {
        self.path(name).map_or(Fact::NotPresent, |path| read(self.source, &path))
    }

    /// A hexadecimal attribute.
    pub(super) fn hex<T: TryFrom<u64>>(&self, name: &str) -> Fact<T> {
        self.get(name, |source, path| parse::number(source, path, 16))
    }
}

impl Attributes<'_> {
    /// An attribute that every function has.
    fn required<T>(&self, name: &str, read: impl FnOnce(&str) -> Fact<T>) -> Fact<T> {
        parse::required(read(name), &self.place(name))
    }

    fn class(&self, name: &str) -> Fact<u32> {
        self.hex(name).and_then(|class| match class {
            0..=0xFF_FFFF => Fact::Known(class),
            _ => Fact::Unreadable {
                source: self.place(name),
                reason: format!("{class:#x} has more than 24 bits"),
            },
        })
    }
}

fn collect_one(source: &dyn Source, address: PciAddress, name: &str) -> PciDevice {
    let directory = format!("{DEVICES}/{name}");
    let names = source.list(&directory);
    let function = Attributes { source, directory, names };
    let link = |name: &str| function.get(name, |source, path| source.link_name(path));
    let driver = link("driver");
    // Reading the configuration space wakes a function up.
    let power_state = function.get("power_state", power_state);
    let place = function.place("config");
    let bytes = function.required("config", |name| function.get(name, config::read));
    let config = ConfigSpace::from_bytes(bytes.clone(), &place);
    PciDevice {
        address,
        vendor_id: function.required("vendor", |name| function.hex(name)),
        device_id: function.required("device", |name| function.hex(name)),
        vendor: None,
        device: None,
        subsystem_vendor_id: function.hex("subsystem_vendor"),
        subsystem_device_id: function.hex("subsystem_device"),
        class: function.required("class", |name| function.class(name)),
        class_name: None,
        driver_override: function.get("driver_override", parse::optional_text),
        vfio_bound: vfio_bound(&function, &driver),
        vfio_devices: function
            .get("vfio-dev", |source, path| source.list(path))
            .known()
            .cloned()
            .unwrap_or_default(),
        driver,
        iommu_group: link("iommu_group").parse(&function.place("iommu_group"), |group| {
            group.parse().map_err(|_| format!("`{}` is not the number of a group", parse::excerpt(&group)))
        }),
        numa_node: function.get("numa_node", numa_node),
        sriov: sriov::collect(&function, &bytes),
        physical_function: link("physfn").parse(&function.place("physfn"), |text| text.parse()),
        reset_methods: resets::methods(&function),
        bus_reset_siblings: Fact::NotPresent,
        power_state,
        d3cold_allowed: function.get("d3cold_allowed", parse::flag),
        bars: bars::collect(&function, bytes.known().map(Vec::as_slice)),
        boot_vga: function.get("boot_vga", parse::flag),
        firmware_framebuffer: Fact::NotPresent,
        ports: Ports::read(&bytes, &config, &place),
        config,
        usage: Usage::default(),
    }
}

/// A VFIO driver shows a `vfio-dev` directory below the function (Linux 6.1); before that the name is all there is.
fn vfio_bound(function: &Attributes<'_>, driver: &Fact<String>) -> Fact<bool> {
    match driver {
        Fact::NotPresent => Fact::Known(false),
        Fact::Known(name) if name == "vfio-pci" => Fact::Known(true),
        _ => match &function.names {
            Fact::Known(names) => Fact::Known(names.iter().any(|name| name == "vfio-dev")),
            _ => function.get("vfio-dev", |source, path| source.list(path)).map(|_| true),
        },
    }
}

/// -1 means that firmware did not say.
fn numa_node(source: &dyn Source, path: &str) -> Fact<u32> {
    source.text(path).and_then(|text| match text.trim() {
        "-1" => Fact::NotPresent,
        text => Fact::Known(text).parse(path, |text| {
            text.parse().map_err(|_| format!("`{}` is not the number of a node", parse::excerpt(text)))
        }),
    })
}

/// `unknown` is what the kernel shows of functions without power management.
fn power_state(source: &dyn Source, path: &str) -> Fact<String> {
    parse::optional_text(source, path).and_then(|state| match state.as_str() {
        "unknown" => Fact::NotPresent,
        _ => Fact::Known(state),
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The pairs of vendor and device ID that occur.
fn ids_of(devices: &[PciDevice]) -> BTreeSet<(u16, u16)> {
    devices.iter().filter_map(PciDevice::ids).collect()
}

/// Shortens the list of names in a capture to what its functions are called: the whole is larger than all else.
pub(super) fn abridge_names(bundle: &mut Bundle, pci: &Pci) {
    let wanted = ids_of(pci.functions());
    for place in names::PLACES {
        bundle.abridge(place, |list| names::abridged(list, &wanted));
    }
}

/// Looks all names up in one pass over the list.
fn add_names(source: &dyn Source, devices: &mut [PciDevice]) {
    let names = Names::load(source, &ids_of(devices));
    for device in devices {
        if let Some((vendor, product)) = device.ids() {
            device.vendor = names.vendor(vendor).map(str::to_owned);
            device.device = names.device(vendor, product).map(str::to_owned);
        }
        let class = device.class.known().map(|class| ClassCode::from_u24(*class));
        device.class_name = class.and_then(|class| names.class(class)).map(str::to_owned);
    }
}
