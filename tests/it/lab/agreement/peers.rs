//! What the peers print, as values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A function, as `lspci -D -nn -vvv` describes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Base class and subclass.
    pub(super) class: u32,
    pub(super) vendor: u32,
    pub(super) device: u32,
    pub(super) revision: u32,
    pub(super) subsystem: Option<(u32, u32)>,
    pub(super) numa_node: Option<u32>,
    pub(super) iommu_group: Option<u32>,
    pub(super) driver: Option<String>,
    /// Names by offset.
    pub(super) capabilities: BTreeMap<u32, String>,
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap_or_else(|_| panic!("`{text}` is no hexadecimal number"))
}

/// The last `[vvvv:dddd]` of a line.
fn ids(line: &str) -> (u32, u32) {
    let ids = line.rmatch_indices('[').find_map(|(at, _)| {
        let (ids, _) = line[at + 1..].split_once(']')?;
        ids.split_once(':').filter(|(vendor, _)| vendor.len() == 4)
    });
    let (vendor, device) = ids.unwrap_or_else(|| panic!("no ids in `{line}`"));
    (hex(vendor), hex(device))
}

/// Functions by address.
pub(super) fn lspci(output: &str) -> BTreeMap<String, Function> {
    let mut functions = BTreeMap::new();
    for block in output.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (head, details) = block.split_once('\n').unwrap_or((block, ""));
        let (address, rest) = head.split_once(' ').unwrap();
        let (_, class) = rest.split_once('[').unwrap();
        let (vendor, device) = ids(head);
        let revision = head.split_once("(rev ").map_or(0, |(_, revision)| hex(&revision[..2]));
        let mut function = Function {
            class: hex(&class[..4]),
            vendor,
            device,
            revision,
            subsystem: None,
            numa_node: None,
            iommu_group: None,
            driver: None,
            capabilities: BTreeMap::new(),
        };
        for line in details.lines().filter_map(|line| line.strip_prefix('\t')) {
            match line.split_once(": ") {
                Some(("Subsystem", _)) => function.subsystem = Some(ids(line)),
                Some(("NUMA node", node)) => function.numa_node = Some(node.parse().unwrap()),
                Some(("IOMMU group", group)) => function.iommu_group = Some(group.parse().unwrap()),
                Some(("Kernel driver in use", driver)) => function.driver = Some(driver.to_owned()),
                Some(("Capabilities", capability)) => {
                    let (offset, name) = capability.strip_prefix('[').unwrap().split_once("] ").unwrap();
                    let offset = offset.split(' ').next().unwrap(); // `100 v2`
                    function.capabilities.insert(hex(offset), our_name(name));
                }
                _ => {}
            }
        }
        functions.insert(address.to_owned(), function);
    }
    functions
}

/// What we call the capability whose line begins with `theirs`.
fn our_name(theirs: &str) -> String {
    let names = [
        ("Access Control Services", "ACS"),
        ("Alternative Routing-ID Interpretation (ARI)", "ARI"),
        ("Express ", "PCI Express"),
        ("MSI-X: ", "MSI-X"),
        ("MSI: ", "MSI"),
        ("PCI-X ", "PCI-X"),
        ("Power Management ", "Power Management"),
        ("SATA HBA ", "SATA"),
        ("Device Serial Number ", "Device Serial Number"),
        ("Single Root I/O Virtualization (SR-IOV)", "SR-IOV"),
        ("Slot ID: ", "Slot Identification"),
        ("Hot-plug capable", "PCI Hot-Plug"),
        ("Subsystem: ", "Bridge Subsystem Vendor ID"),
        ("Vendor Specific Information: ", "Vendor-Specific"),
    ];
    let known = names.iter().find(|(prefix, _)| theirs.starts_with(prefix));
    known.map_or(theirs, |(_, ours)| ours).to_owned()
}

/// Drivers by address, and whether each was asked for by an override.
pub(super) fn driverctl(output: &str) -> BTreeMap<String, (Option<String>, bool)> {
    output
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().unwrap().to_owned();
            let driver = words.next().filter(|driver| *driver != "(none)").map(str::to_owned);
            (address, (driver, words.next() == Some("[*]")))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UsbDevice {
    pub(super) bus: u32,
    pub(super) device: u32,
    pub(super) vendor: u32,
    pub(super) product: u32,
}

/// The devices of `Bus 002 Device 001: ID 1d6b:0003 ..`.
pub(super) fn lsusb(output: &str) -> BTreeSet<UsbDevice> {
    output
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let (vendor, product) = words[5].split_once(':').unwrap();
            UsbDevice {
                bus: words[1].parse().unwrap(),
                device: words[3].trim_end_matches(':').parse().unwrap(),
                vendor: hex(vendor),
                product: hex(product),
            }
        })
        .collect()
}

/// Sizes of namespaces in bytes, by name, by the address of their controller.
pub(super) fn nvme(verbose: &str, list: &Value) -> BTreeMap<String, BTreeMap<String, u64>> {
    let sizes: BTreeMap<_, _> = list["Devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| {
            let name = namespace["DevicePath"].as_str().unwrap().trim_start_matches("/dev/").to_owned();
            (name, namespace["PhysicalSize"].as_u64().unwrap())
        })
        .collect();
    // The controllers' table: `nvme0 SERIAL MODEL.. pcie 0000:02:00.0 nvme-subsys0 nvme0n2, nvme0n1`.
    let controllers = verbose.lines().filter_map(|line| {
        let (_, place) = line.split_once(" pcie ")?;
        let mut words = place.split_whitespace();
        let address = words.next()?.to_owned();
        let namespaces = words.skip(1).map(|name| name.trim_end_matches(','));
        Some((address, namespaces.map(|name| (name.to_owned(), sizes[name])).collect()))
    });
    controllers.collect()
}

/// Answers (PASS, WARN, FAIL) by question: `QEMU: Checking for hardware virtualization : PASS`.
pub(super) fn validate(output: &str) -> BTreeMap<String, String> {
    output
        .lines()
        .filter_map(|line| {
            let (question, answer) = line.trim().strip_prefix("QEMU: Checking ")?.rsplit_once(" : ")?;
            let answer = answer.split_whitespace().next()?;
            Some((question.trim().to_owned(), answer.to_owned()))
        })
        .collect()
}
