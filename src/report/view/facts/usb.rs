//! USB devices by controller.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::usb::UsbDevice;
use crate::report::style::{Tone, clean};
use crate::report::table::Table;

/// The devices as a table; root hubs are their controllers and have no line of their own.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let devices = match &facts.usb.devices {
        Fact::Known(devices) => devices,
        unread => {
            text.section("USB");
            return text.line("devices", (Tone::Notice, word(unread, |_| String::new())));
        }
    };
    if devices.iter().all(UsbDevice::is_root_hub) {
        return;
    }
    let titles = ["DEVICE", "ID", "WHAT", "SPEED", "CONTROLLER", "GROUP", "DRIVER", "IN USE"];
    let mut table = Table::new(&titles, text.width).rigid(0).rigid(1).rigid(3).rigid(4).rigid(5);
    text.section("USB devices");
    for device in devices.iter().filter(|device| !device.is_root_hub()) {
        table.row([
            (Tone::Title, clean(&device.name)),
            (Tone::Plain, id(device)),
            (Tone::Plain, clean(&what(device))),
            (Tone::Plain, word(&device.speed_kbps, |kbps| speed(*kbps))),
            (Tone::Plain, device.controller.map_or("-".to_owned(), |address| address.to_string())),
            (Tone::Plain, word(&device.iommu_group, u32::to_string)),
            (Tone::Plain, drivers(device)),
            in_use(device),
        ]);
    }
    text.table(table);
}

fn id(device: &UsbDevice) -> String {
    let part = |fact: &Fact<u16>| word(fact, |id| format!("{id:04x}"));
    format!("{}:{}", part(&device.vendor_id), part(&device.product_id))
}

/// What the device calls itself and what its interfaces are.
fn what(device: &UsbDevice) -> String {
    let maker = device.manufacturer.known().map_or("", String::as_str);
    let product = device.product.known().map_or("", String::as_str);
    let name = if product.starts_with(maker) { product.to_owned() } else { format!("{maker} {product}") };
    let mut classes: Vec<_> = device.interfaces.iter().filter_map(|interface| interface.class_name).collect();
    classes.sort_unstable();
    classes.dedup();
    match (name.trim(), classes.is_empty()) {
        (name, true) => name.to_owned(),
        ("", false) => classes.join(", "),
        (name, false) => format!("{name} ({})", classes.join(", ")),
    }
}

fn speed(kbps: u32) -> String {
    match kbps {
        1_000_000.. => format!("{} Gbit/s", kbps / 1_000_000),
        1500 => "1.5 Mbit/s".to_owned(),
        _ => format!("{} Mbit/s", kbps / 1000),
    }
}

fn drivers(device: &UsbDevice) -> String {
    let mut drivers: Vec<_> = device
        .interfaces
        .iter()
        .filter(|interface| interface.driver != Fact::NotPresent)
        .map(|interface| word(&interface.driver, |driver| clean(driver)))
        .collect();
    drivers.sort_unstable();
    drivers.dedup();
    if drivers.is_empty() { "-".to_owned() } else { drivers.join(", ") }
}

fn in_use(device: &UsbDevice) -> (Tone, String) {
    let mut uses = Vec::new();
    let mut tone = Tone::Plain;
    match &device.is_active_keyboard {
        Fact::Known(true) => uses.push("keyboard".to_owned()),
        fact if fact.is_unread() => tone = Tone::Notice,
        _ => {}
    }
    match &device.disks_in_use {
        Fact::Known(true) => uses.push(clean(&device.disks.join(", "))),
        fact if fact.is_unread() => tone = Tone::Notice,
        _ => {}
    }
    uses.extend(device.network_interfaces.iter().map(|name| clean(name)));
    match (uses.is_empty(), tone) {
        (true, Tone::Notice) => (tone, "unknown".to_owned()),
        (true, _) => (tone, "no".to_owned()),
        _ => (tone, uses.join(", ")),
    }
}
