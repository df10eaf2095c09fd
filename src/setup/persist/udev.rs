//! The rule that keeps devices from the host's drivers.
//!
//! It names a device by the bridges to it, whatever numbers their buses have, and by its IDs, so that another device in the
//! same slot is not taken. It sets `driver_override` before the rule that loads drivers (`80-drivers.rules`), and
//! lets the device be probed again in case its driver was there before. It takes a device from no driver.
//!
//! Where the persisted goal is not, it does nothing: initramfs-tools copies every rule of `/etc` whenever it runs, and a copy
//! that was left in an initial RAM file system must not outlive an undo.
//! Spec: udev(7); Linux: Documentation/ABI/testing/sysfs-bus-pci, `driver_override`.

use std::fmt::Write as _;

use super::{Expected, PersistedGoal, SKIP};
use crate::spec::pci::PciPath;

/// The file of the rules of `name`.
pub(super) fn path(name: &str) -> String {
    format!("/etc/udev/rules.d/05-thruway-{name}.rules")
}

/// The rules; none if no device is to be kept from a driver.
pub(super) fn text(goal: &PersistedGoal) -> Option<String> {
    let devices: Vec<_> =
        goal.expects.iter().filter_map(|device| Some((device, device.driver.as_deref()?))).collect();
    if devices.is_empty() {
        return None;
    }
    let (name, key) = (&goal.name, SKIP.trim_end_matches("=1"));
    let mut out = format!(
        "# Written by thruway apply --persist for {name}; thruway undo removes it.\n\
         ACTION!=\"add\", GOTO=\"thruway_{name}_end\"\n\
         SUBSYSTEM!=\"pci\", GOTO=\"thruway_{name}_end\"\n\
         TEST!=\"{goal}\", GOTO=\"thruway_{name}_end\"\n\
         IMPORT{{cmdline}}=\"{key}\"\n\
         ENV{{{key}}}==\"1\", GOTO=\"thruway_{name}_end\"\n",
        goal = super::path(name),
    );
    for (device, driver) in devices {
        let module = driver.replace('-', "_");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}, ATTR{{driver_override}}=\"{driver}\", RUN{{builtin}}+=\"kmod load {module}\", \
             RUN+=\"/bin/sh -c 'echo %k >/sys/bus/pci/drivers_probe || :'\"",
            matches(device)
        );
    }
    let _ = writeln!(out, "LABEL=\"thruway_{name}_end\"");
    Some(out)
}

fn matches(device: &Expected) -> String {
    let mut out = format!(
        "DEVPATH==\"{}\", ATTR{{vendor}}==\"0x{:04x}\", ATTR{{device}}==\"0x{:04x}\"",
        devpath(&device.path),
        device.ids.vendor,
        device.ids.device
    );
    if let Some(subsystem) = device.subsystem {
        let _ = write!(
            out,
            ", ATTR{{subsystem_vendor}}==\"0x{:04x}\", ATTR{{subsystem_device}}==\"0x{:04x}\"",
            subsystem.vendor, subsystem.device
        );
    }
    out
}

/// The path below `/sys`, with any bus number behind a bridge.
fn devpath(path: &PciPath) -> String {
    let root = path.root;
    let mut out = format!("/devices/pci{:04x}:{:02x}/{root}", root.domain, root.bus);
    for (device, function) in &path.below {
        let _ = write!(out, "/{:04x}:[0-9a-f][0-9a-f]:{device:02x}.{function}", root.domain);
    }
    out
}
