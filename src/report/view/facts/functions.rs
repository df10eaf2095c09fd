//! PCI functions: names, driver, group, capabilities, SR-IOV.

use super::{Text, switch, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::report::style::Tone;

/// Class, vendor and device, as far as they have names.
pub(in crate::report) fn title(function: &PciDevice) -> String {
    let class = function
        .class_name
        .clone()
        .unwrap_or_else(|| word(&function.class, |class| format!("class {class:06x}")));
    let names: Vec<_> =
        [&function.vendor, &function.device].into_iter().flatten().map(String::as_str).collect();
    if names.is_empty() { class } else { format!("{class}: {}", names.join(" ")) }
}

/// One block for each function.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let devices = match &facts.pci.devices {
        Fact::Known(devices) => devices,
        unread => {
            text.section("PCI functions");
            return text.line("functions", switch(&unread.as_ref().map(|_| false), ["", ""]));
        }
    };
    text.section(&format!("PCI functions ({})", devices.len()));
    for function in devices {
        text.function(function.address, &title(function));
        text.detail(Tone::Plain, &summary(function));
        for (name, list) in capability_lists(function) {
            text.detail(Tone::Detail, &format!("{name}: {list}"));
        }
        for fault in &function.config.config_faults {
            text.detail(Tone::Bad, fault);
        }
    }
    if !facts.pci.malformed_addresses.is_empty() {
        let names = facts.pci.malformed_addresses.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        text.line("no addresses", (Tone::Notice, names.join(", ")));
    }
}

/// One line: identifiers, driver, group, node, ways to reset.
fn summary(function: &PciDevice) -> String {
    let id = |fact: &Fact<u16>| word(fact, |id| format!("{id:04x}"));
    let mut parts = vec![format!("{}:{}", id(&function.vendor_id), id(&function.device_id))];
    parts.extend(function.config.revision.known().map(|revision| format!("revision {revision:02x}")));
    let driver = match &function.driver {
        Fact::NotPresent => "no driver".to_owned(),
        driver => format!("driver {}", word(driver, Clone::clone)),
    };
    parts.push(driver);
    parts.extend(function.driver_override.known().map(|name| format!("override {name}")));
    if function.iommu_group != Fact::NotPresent {
        parts.push(format!("group {}", word(&function.iommu_group, u32::to_string)));
    }
    if function.numa_node != Fact::NotPresent {
        parts.push(format!("node {}", word(&function.numa_node, u32::to_string)));
    }
    parts.extend(function.physical_function.known().map(|pf| format!("VF of {pf}")));
    parts.push(match &function.reset_methods {
        Fact::NotPresent => "no reset".to_owned(),
        methods => format!("reset {}", word(methods, |methods| methods.join(" "))),
    });
    parts.join(", ")
}

/// Names of the capabilities; what has no name by its number. Several of a kind are counted.
fn capability_lists(function: &PciDevice) -> Vec<(&'static str, String)> {
    let named = |name: Option<&'static str>, id: u16| name.map_or_else(|| format!("{id:#x}"), str::to_owned);
    let config = &function.config;
    let conventional = word(&config.capabilities, |list| {
        counted(list.iter().map(|capability| named(capability.name, capability.id.0.into())))
    });
    let extended = word(&config.extended_capabilities, |list| {
        counted(list.iter().map(|capability| named(capability.name, capability.id)))
    });
    [("capabilities", conventional), ("extended", extended)]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .collect()
}

fn counted(names: impl Iterator<Item = String>) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let show = |(name, count): (String, usize)| if count == 1 { name } else { format!("{name} (x{count})") };
    counts.into_iter().map(show).collect::<Vec<_>>().join(", ")
}
