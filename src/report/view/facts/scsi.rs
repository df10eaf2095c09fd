//! SCSI devices with their nodes.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::scsi::ScsiDevice;
use crate::report::style::{Tone, clean};
use crate::report::table::Table;

/// The devices as a table.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let devices = match &facts.scsi.devices {
        Fact::Known(devices) if devices.is_empty() => return,
        Fact::Known(devices) => devices,
        unread => {
            text.section("SCSI");
            return text.line("devices", (Tone::Notice, word(unread, |_| String::new())));
        }
    };
    text.section("SCSI devices");
    let titles = ["DEVICE", "TYPE", "WHAT", "BLOCK", "GENERIC", "CONTROLLER", "DRIVER", "IN USE"];
    let mut table = Table::new(&titles, text.width).rigid(0).rigid(3).rigid(4).rigid(5).rigid(7);
    for device in devices {
        let node = |name: &Option<String>| name.as_deref().map_or("-".to_owned(), clean);
        table.row([
            (Tone::Title, clean(&device.address)),
            (Tone::Plain, kind(device)),
            (Tone::Plain, clean(&what(device))),
            (Tone::Plain, node(&device.block)),
            (Tone::Plain, node(&device.generic)),
            (Tone::Plain, device.controller.map_or("-".to_owned(), |address| address.to_string())),
            (Tone::Plain, driver(facts, device)),
            match &device.in_use {
                Fact::Known(true) => (Tone::Plain, "yes".to_owned()),
                Fact::Known(false) => (Tone::Plain, "no".to_owned()),
                Fact::NotPresent => (Tone::Plain, "-".to_owned()),
                _ => (Tone::Notice, "unknown".to_owned()),
            },
        ]);
    }
    text.table(table);
}

fn kind(device: &ScsiDevice) -> String {
    word(&device.device_type, |number| match device.device_type_name {
        Some(name) => name.to_owned(),
        None => format!("type {number:#x}"),
    })
}

fn what(device: &ScsiDevice) -> String {
    let part = |fact: &Fact<String>| fact.known().cloned().unwrap_or_default();
    format!("{} {} {}", part(&device.vendor), part(&device.model), part(&device.revision)).trim().to_owned()
}

/// The driver of the device's host.
fn driver(facts: &HostFacts, device: &ScsiDevice) -> String {
    let number = device.address.split(':').next().and_then(|number| number.parse::<u32>().ok());
    let host = facts.scsi.hosts.known().into_iter().flatten().find(|host| Some(host.number) == number);
    host.map_or("-".to_owned(), |host| word(&host.driver, |driver| clean(driver)))
}
