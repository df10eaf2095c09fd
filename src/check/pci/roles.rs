//! What a function is to the host: a part of the chipset, a controller with things on it, one of several equal ones.

use super::{attribute, ids, names};
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::pci::PciDevice;
use crate::spec::pci::ClassCode;

/// `pci-chipset`
pub(super) fn chipset(_: &HostFacts, function: &PciDevice) -> Outcome {
    let class = match &function.class {
        Fact::Known(class) => ClassCode::from_u24(*class),
        unread => return Outcome::unread(unread, "what kind of function it is"),
    };
    let place = attribute(function, "class");
    let shown = format!("{:02x}{:02x}{:02x}", class.base, class.sub, class.prog_if);
    if function.is_bridge() {
        return Outcome::fail("it is a bridge: bridges stay with the host")
            .evidence(place, shown)
            .cause("what is behind it is reached through it; VFIO takes endpoints only")
            .remedy(Remedy::advice(
                "ask about the function behind it: `thruway topology` shows which that is",
            ));
    }
    if let Err(outcome) = ids(function, "whose function it is") {
        return outcome;
    }
    let Some(part) = function.chipset_part() else {
        let is_reader = (class.base, class.sub) == (0x08, 0x05);
        let what =
            if is_reader { "it is a reader of cards" } else { "it is no part that the machine runs on" };
        return Outcome::pass(what).evidence(place, shown);
    };
    Outcome::warn(format!("it is {part}"))
        .evidence(place, shown)
        .cause("the host, or its firmware, works with it all the time; without it the machine may stop or lose control")
        .remedy(Remedy::advice("leave it with the host; if it shares a group with what you want, change the group"))
}

/// `pci-controller`
pub(super) fn controller(facts: &HostFacts, function: &PciDevice) -> Outcome {
    if function.address.domain > 0xFFFF {
        return Outcome::fail("it is behind a volume management device (VMD) and cannot go alone")
            .evidence(function.address.to_string(), "a domain above ffff")
            .cause("VMD does all DMA in its own name, so that the IOMMU sees one device")
            .remedy(Remedy::advice(
                "switch VMD off in the firmware setup (RAID mode: off, AHCI or NVMe instead)",
            ))
            .remedy(Remedy::advice("pass VMD itself through, with all that is behind it"));
    }
    let class = match &function.class {
        Fact::Known(class) => ClassCode::from_u24(*class),
        unread => return Outcome::unread(unread, "whether it is a controller"),
    };
    match (class.base, class.sub) {
        (0x01, 0x04) if function.is_volume_management() => {
            Outcome::warn("all drives behind this VMD go along")
                .evidence(attribute(function, "device"), "Intel Volume Management Device")
                .cause("it stands for all drives of its slots, in a PCI domain of its own")
                .remedy(Remedy::advice(
                    "switch VMD off in the firmware setup; each drive is then a function of its own",
                ))
        }
        (0x01, 0x08) => Outcome::not_applicable("it is a drive, and not a controller of drives"),
        (0x01, _) => drives(function),
        (0x0C, 0x03) => usb(facts, function),
        _ => Outcome::not_applicable("it is no controller of drives or USB devices"),
    }
}

fn drives(function: &PciDevice) -> Outcome {
    let disks = match &function.usage.disks {
        Fact::Known(disks) => disks,
        unread => return Outcome::unread(unread, "which drives hang on it"),
    };
    if disks.is_empty() {
        return Outcome::pass("no drive hangs on it").evidence("/sys/class/block", "none below it");
    }
    let warn = Outcome::warn(format!("all of its drives go along: {}", disks.len()))
        .cause("a guest gets a controller with everything that is plugged into it, and whatever is plugged in later")
        .remedy(Remedy::advice("plug the host's drives into another controller"))
        .remedy(Remedy::advice("give the guest single drives instead, as files or block devices"));
    disks.iter().fold(warn, |outcome, disk| outcome.evidence("/sys/class/block", &disk.name))
}

fn usb(facts: &HostFacts, function: &PciDevice) -> Outcome {
    let devices = match &facts.usb.devices {
        Fact::Known(devices) => devices,
        unread => return Outcome::unread(unread, "what is plugged into it"),
    };
    let below: Vec<_> = devices
        .iter()
        .filter(|device| device.controller == Some(function.address) && !device.is_root_hub())
        .collect();
    if below.is_empty() {
        return Outcome::pass("nothing is plugged into it").evidence("/sys/bus/usb/devices", "none below it");
    }
    let keyboard = below.iter().any(|device| device.is_active_keyboard == Fact::Known(true));
    let summary = format!(
        "what is plugged into it goes along: {} USB devices{}",
        below.len(),
        if keyboard { ", the host's keyboard among them" } else { "" }
    );
    let warn = Outcome::warn(summary)
        .cause("a guest gets a controller with all of its ports, on the board's back and inside")
        .remedy(Remedy::advice(
            "plug what the host needs into ports of another controller (`thruway probe usb`)",
        ))
        .remedy(Remedy::advice("give the guest single USB devices instead"));
    below.iter().fold(warn, |outcome, device| {
        let product = device.product.known().map_or("a device", String::as_str);
        outcome.evidence(format!("/sys/bus/usb/devices/{}", device.name), product)
    })
}

/// `pci-identical`
pub(super) fn identical(facts: &HostFacts, function: &PciDevice) -> Outcome {
    const CLAIM: &str = "vfio_pci.ids";
    let pair = match ids(function, "which functions are like it") {
        Ok(pair) => pair,
        Err(outcome) => return outcome,
    };
    let shown = format!("{:04x}:{:04x}", pair.0, pair.1);
    let is_twin = |other: &&PciDevice| {
        other.address != function.address
            && other.vendor_id == function.vendor_id
            && other.device_id == function.device_id
            && other.physical_function == Fact::NotPresent
    };
    let twins: Vec<_> = facts.pci.functions().iter().filter(is_twin).map(|other| other.address).collect();
    if twins.is_empty() {
        return Outcome::pass("no other function has its IDs").evidence(attribute(function, "device"), shown);
    }
    if facts.kernel.command_line.known().is_none() {
        return Outcome::unread(
            &facts.kernel.command_line,
            "whether an argument claims all functions like it",
        );
    }
    let claim = facts.kernel.parameter(CLAIM).find(|list| list.split(',').any(|id| id.starts_with(&shown)));
    let Some(claim) = claim else {
        return Outcome::pass(format!("{} like it is told apart by its address", names(&twins)))
            .evidence("/proc/cmdline", format!("no {CLAIM} with {shown}"));
    };
    Outcome::warn(format!("an argument of the kernel claims {} as well", names(&twins)))
        .evidence("/proc/cmdline", format!("{CLAIM}={claim}"))
        .cause("it names functions by their IDs, which these share: all of them go to VFIO at the next boot")
        .remedy(Remedy::without_kernel_argument(facts, &format!("vfio-pci.ids={claim}")))
        .remedy(Remedy::command(
            format!("thruway bind {}", function.address),
            "claims this one alone, by its address",
        ))
}
