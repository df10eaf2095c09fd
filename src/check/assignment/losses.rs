//! What the host has through one function, and loses with it.

use serde::Serialize;

use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::host::usage::{BlockUse, Disk, Interface, Process};
use crate::host::usb::UsbDevice;
use crate::spec::pci::PciAddress;

/// Something that the host has through a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The function that it belongs to.
    pub function: PciAddress,
    /// What kind of thing.
    pub kind: LossKind,
    /// The thing and its use, in one sentence.
    pub text: String,
    /// Whether the host uses it now; absent where that could not be read.
    pub in_use: Option<bool>,
}

/// Kinds of things to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// A disk.
    Disk,
    /// A network interface.
    NetworkInterface,
    /// Virtual functions, which go when their physical function leaves its driver.
    VirtualFunctions,
    /// A display or a sound card that somebody uses.
    Display,
    /// A device on a USB controller.
    UsbDevice,
    /// A process has the function, through VFIO: another guest.
    Process,
    /// What kind of thing uses the function could not be read.
    Unknown,
}

/// What the host has through `function`.
pub(super) fn of(facts: &HostFacts, device: &PciDevice) -> Vec<Loss> {
    let (function, usage) = (device.address, &device.usage);
    let mut losses = Vec::new();
    let mut add = |kind, text: String, in_use| losses.push(Loss { function, kind, text, in_use });
    for disk in usage.disks.known().into_iter().flatten() {
        let in_use = disk.uses.known().map(|uses| !uses.is_empty());
        add(LossKind::Disk, disk_in_words(disk), in_use);
    }
    for interface in usage.interfaces.known().into_iter().flatten() {
        add(LossKind::NetworkInterface, interface_in_words(interface), interface.up.known().copied());
    }
    if let Some(text) = virtual_functions_in_words(facts, device) {
        let in_use = facts.virtual_functions_in_use(function).next().is_some();
        add(LossKind::VirtualFunctions, text, Some(in_use));
    }
    if device.boot_vga == Fact::Known(true) {
        let painters = device.firmware_framebuffer.known().filter(|names| !names.is_empty());
        let drawn =
            painters.map(|names| format!(", on which {} draws", names.join(", "))).unwrap_or_default();
        add(LossKind::Display, format!("the display that the machine started with{drawn}"), Some(true));
    }
    for node in usage.open_nodes.known().into_iter().flatten() {
        let text = format!("{} is open in {}", node.path, process_in_words(&node.process));
        add(LossKind::Display, text, Some(true));
    }
    for usb in facts.usb.devices.known().into_iter().flatten() {
        if usb.controller == Some(function) && !usb.is_root_hub() {
            add(LossKind::UsbDevice, usb_in_words(usb), usb_in_use(usb));
        }
    }
    for process in usage.vfio_users.known().into_iter().flatten() {
        let text = format!("{} has it already, through VFIO", process_in_words(process));
        add(LossKind::Process, text, Some(true));
    }
    for (what, unread) in [
        ("disks", usage.disks.is_unread()),
        ("network interfaces", usage.interfaces.is_unread()),
        ("processes that hold it through VFIO", usage.vfio_users.is_unread()),
        ("programs that have its display open", usage.open_nodes.is_unread()),
    ] {
        if unread {
            add(LossKind::Unknown, format!("{what}: could not be read"), None);
        }
    }
    losses
}

/// What the host itself uses of `function`; `None` if nothing that is known.
pub(in crate::check) fn uses_in_words(facts: &HostFacts, function: &PciDevice) -> Option<String> {
    let used = of(facts, function)
        .into_iter()
        .filter(|loss| loss.in_use == Some(true) && loss.kind != LossKind::Process);
    let texts: Vec<_> = used.map(|loss| loss.text).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// How many virtual functions go with it, and who holds one; nothing where it has none.
fn virtual_functions_in_words(facts: &HostFacts, device: &PciDevice) -> Option<String> {
    let count = device.sriov.as_ref().map(|sriov| sriov.vfs.len()).filter(|count| *count > 0)?;
    let held: Vec<_> = facts
        .virtual_functions_in_use(device.address)
        .map(|vf| match vf.usage.vfio_users.known().and_then(|users| users.first()) {
            Some(process) => format!("{} is held by {}", vf.address, process_in_words(process)),
            None => format!("who holds {} could not be read", vf.address),
        })
        .collect();
    let held = if held.is_empty() { "none held by a guest".to_owned() } else { held.join(", ") };
    let noun = if count == 1 { "virtual function" } else { "virtual functions" };
    Some(format!("its {count} {noun}: {held}"))
}

fn usb_in_words(usb: &UsbDevice) -> String {
    let names: Vec<_> =
        [&usb.manufacturer, &usb.product].into_iter().filter_map(|name| name.known().cloned()).collect();
    let name = if names.is_empty() { "without a name".to_owned() } else { names.join(" ") };
    let mut uses = Vec::new();
    if usb.is_active_keyboard == Fact::Known(true) {
        uses.push("a keyboard that the host listens to".to_owned());
    }
    uses.extend(usb.disks.iter().map(|disk| format!("disk {disk}")));
    uses.extend(usb.network_interfaces.iter().map(|interface| format!("network interface {interface}")));
    let uses = if uses.is_empty() { String::new() } else { format!(": {}", uses.join(", ")) };
    format!("USB device {} ({name}){uses}", usb.name)
}

/// Whether the host uses the device; unknown for what is neither a keyboard nor a disk and has a driver.
fn usb_in_use(usb: &UsbDevice) -> Option<bool> {
    let keyboard = usb.is_active_keyboard.known().copied();
    let disks = usb.disks_in_use.known().copied();
    if keyboard == Some(true) || disks == Some(true) {
        return Some(true);
    }
    let has_driver = usb.interfaces.iter().any(|interface| interface.driver != Fact::NotPresent);
    if has_driver && usb.disks.is_empty() { None } else { Some(false) }
}

fn disk_in_words(disk: &Disk) -> String {
    let uses = match &disk.uses {
        Fact::Known(uses) if uses.is_empty() => "not in use".to_owned(),
        Fact::Known(uses) => uses.iter().map(use_in_words).collect::<Vec<_>>().join("; "),
        _ => "what uses it could not be read".to_owned(),
    };
    format!("disk {}: {uses}", disk.name)
}

fn use_in_words(block_use: &BlockUse) -> String {
    match block_use {
        BlockUse::Mounted { device, at } => format!("{at} ({device})"),
        BlockUse::Swap { device } => format!("swap ({device})"),
        BlockUse::Resume { device } => format!("what the host hibernates to ({device})"),
        BlockUse::Held { device, by } => format!("{by} (on {device})"),
        BlockUse::Member { device, of } => format!("{of} (on {device})"),
        BlockUse::Open { device, process } => format!("{device} is open in {}", process_in_words(process)),
    }
}

fn interface_in_words(interface: &Interface) -> String {
    let mut parts = Vec::new();
    match (&interface.default_route, &interface.routes) {
        (Fact::Known(true), _) => parts.push("the default route".to_owned()),
        (Fact::Known(false), Fact::Known(true)) => parts.push("routes".to_owned()),
        (Fact::Known(false), Fact::Known(false)) => {}
        _ => parts.push("its routes could not be read".to_owned()),
    }
    parts.extend(interface.uppers.iter().map(|upper| format!("{upper} (above it)")));
    if parts.is_empty() {
        parts.push(if interface.up == Fact::Known(true) { "up, no routes" } else { "not in use" }.to_owned());
    }
    format!("network interface {}: {}", interface.name, parts.join(", "))
}

fn process_in_words(process: &Process) -> String {
    match &process.name {
        Some(name) => format!("{name} (process {})", process.pid),
        None => format!("process {}", process.pid),
    }
}
