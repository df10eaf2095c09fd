//! PCI functions: names, driver, group, how they are connected, what they can.

use super::{Text, ports, switch, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::{Bar, BarKind, Link, PciDevice, Vectors};
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
        let lines = [ports::line(&function.ports), connection(function), memory(function), display(function)];
        for line in lines.into_iter().flatten() {
            text.detail(Tone::Plain, &line);
        }
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
    if let Some(siblings) = function.bus_reset_siblings.known().filter(|siblings| !siblings.is_empty()) {
        parts.push(format!("{} more on its bus", siblings.len()));
    }
    parts.join(", ")
}

/// One line: link, interrupts, services that are on, power.
fn connection(function: &PciDevice) -> Option<String> {
    let abilities = &function.config.abilities;
    let mut parts = Vec::new();
    parts.extend(abilities.link.known().map(link));
    for (name, vectors) in [("MSI-X", &abilities.msi_x), ("MSI", &abilities.msi)] {
        parts.extend(vectors.known().map(|Vectors { vectors, enabled }| {
            format!("{name} {vectors}{}", if *enabled { " on" } else { "" })
        }));
    }
    let services = [
        ("ATS", abilities.ats.known().map(|ats| ats.enabled)),
        ("PRI", abilities.pri.known().map(|pri| pri.enabled)),
        ("PASID", abilities.pasid.known().map(|pasid| pasid.enabled)),
    ];
    parts.extend(services.iter().filter(|(_, on)| *on == Some(true)).map(|(name, _)| format!("{name} on")));
    parts.extend(function.power_state.known().filter(|state| *state != "D0").cloned());
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What it runs at; what it is capable of, where that is more.
fn link(link: &Link) -> String {
    let show = |speed: Option<f64>, width: u8| match speed {
        Some(speed) => format!("x{width} at {speed} GT/s"),
        None => format!("x{width}"),
    };
    let now = show(link.speed_gt_per_s, link.width_lanes);
    let most = show(link.max_speed_gt_per_s, link.max_width_lanes);
    match link.width_lanes {
        0 => format!("no link (of {most})"),
        _ if now == most => format!("link {now}"),
        _ => format!("link {now} (of {most})"),
    }
}

/// One line: memory by BAR.
fn memory(function: &PciDevice) -> Option<String> {
    let bars = function.bars.known().filter(|bars| !bars.is_empty())?;
    let resizable = function.config.abilities.resizable_bars.known().map_or(&[][..], Vec::as_slice);
    let bar = |bar: &Bar| {
        let name = match bar.kind {
            BarKind::Rom => "ROM".to_owned(),
            BarKind::Io => format!("ports {}", bar.index),
            BarKind::Memory32 | BarKind::Memory64 => format!("BAR {}", bar.index),
        };
        let size = bar.size_bytes.map_or_else(|| "of unknown size".to_owned(), size);
        let most = resizable.iter().find(|resizable| resizable.index == bar.index);
        let most = most.and_then(|resizable| resizable.sizes_bytes.last().copied());
        let most = most.map_or_else(String::new, |most| format!(" of {}", self::size(most)));
        let missing = if bar.is_assigned() || bar.kind == BarKind::Rom { "" } else { " without a place" };
        format!("{name} {size}{most}{missing}")
    };
    Some(bars.iter().map(bar).collect::<Vec<_>>().join(", "))
}

/// BARs are powers of two, and so are their sizes in the largest unit that fits.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    UNITS
        .iter()
        .find(|(_, shift)| bytes >> shift > 0)
        .map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

/// One line: what a display is to the host.
fn display(function: &PciDevice) -> Option<String> {
    let mut parts = Vec::new();
    if function.boot_vga == Fact::Known(true) {
        parts.push("the machine started with this display".to_owned());
    }
    let claims = function.firmware_framebuffer.known().filter(|claims| !claims.is_empty());
    parts.extend(claims.map(|claims| format!("picture of the firmware held by {}", claims.join(", "))));
    (!parts.is_empty()).then(|| parts.join(", "))
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
