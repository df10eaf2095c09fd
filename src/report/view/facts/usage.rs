//! What uses each function.

use super::{Text, size, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::usage::{BlockUse, Disk, Interface, Process, Usage};
use crate::report::style::Tone;

/// One line for each disk, interface and process, by function.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let used: Vec<_> = facts
        .pci
        .functions()
        .iter()
        .map(|function| (function.address, users(&function.usage)))
        .filter(|(_, users)| !users.is_empty())
        .collect();
    if used.is_empty() {
        return;
    }
    text.section("In use");
    for (address, users) in used {
        for (index, user) in users.iter().enumerate() {
            match index {
                0 => text.function(address, user),
                _ => text.detail(Tone::Plain, user),
            }
        }
    }
}

/// One line for each disk, interface and process.
fn users(usage: &Usage) -> Vec<String> {
    let disks = usage.disks.known().into_iter().flatten().map(disk);
    let interfaces = usage.interfaces.known().into_iter().flatten().map(interface);
    let processes = usage
        .vfio_users
        .known()
        .into_iter()
        .flatten()
        .map(|user| format!("held through VFIO by {}", process(user)));
    let nodes = usage
        .open_nodes
        .known()
        .into_iter()
        .flatten()
        .map(|node| format!("{} open in {}", node.path, process(&node.process)));
    disks.chain(interfaces).chain(processes).chain(nodes).collect()
}

fn disk(disk: &Disk) -> String {
    let size = word(&disk.size_bytes, |bytes| size(*bytes));
    let uses = match &disk.uses {
        Fact::Known(uses) if uses.is_empty() => "not in use".to_owned(),
        uses => word(uses, |uses| uses.iter().map(block_use).collect::<Vec<_>>().join("; ")),
    };
    let signatures =
        disk.signatures.iter().map(|(device, kind)| format!("{device} {kind}")).collect::<Vec<_>>();
    let signatures =
        if signatures.is_empty() { String::new() } else { format!(" [{}]", signatures.join(", ")) };
    let efi = disk.efi_system_partitions.iter().map(|partition| format!("; {partition} starts the system"));
    let fstab = disk.fstab.known().into_iter().flatten();
    let fstab = fstab.map(|entry| format!("; {} in /etc/fstab for {}", entry.device, entry.at));
    let more: String = efi.chain(fstab).collect();
    format!("disk {} ({size}){signatures}: {uses}{more}", disk.name)
}

fn block_use(block_use: &BlockUse) -> String {
    match block_use {
        BlockUse::Mounted { device, at } => format!("{device} mounted at {at}"),
        BlockUse::Swap { device } => format!("{device} is swap"),
        BlockUse::Resume { device } => format!("the host hibernates to {device}"),
        BlockUse::Held { device, by } => format!("{device} part of {by}"),
        BlockUse::Member { device, of } => format!("{device} member of {of}"),
        BlockUse::Open { device, process: by } => format!("{device} open in {}", process(by)),
    }
}

fn interface(interface: &Interface) -> String {
    let up = word(&interface.up, |up| if *up { "up" } else { "down" }.to_owned());
    let mut parts = vec![format!("network interface {}: {up}", interface.name)];
    if !interface.uppers.is_empty() {
        parts.push(format!("below {}", interface.uppers.join(", ")));
    }
    parts.push(match (&interface.default_route, &interface.routes) {
        (Fact::Known(true), _) => "carries the default route".to_owned(),
        (Fact::Known(false), Fact::Known(true)) => "carries routes".to_owned(),
        (Fact::Known(false), _) => "no routes".to_owned(),
        _ => "routes unknown".to_owned(),
    });
    parts.join(", ")
}

fn process(process: &Process) -> String {
    match &process.name {
        Some(name) => format!("{name} (process {})", process.pid),
        None => format!("process {}", process.pid),
    }
}
