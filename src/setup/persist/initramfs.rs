//! The udev rule in the initial RAM file system, for devices whose drivers are loaded there.
//!
//! A disk controller is what an initial RAM file system looks for, and a display what it shows things on; other drivers come
//! later, when the rule is at its place in `/etc` already.
//! Spec: initramfs-tools(7) (hooks), dracut.conf(5), mkinitcpio.conf(5).

use super::{PersistedGoal, udev};
use crate::host::HostFacts;
use crate::host::boot::{Boot, InitramfsTool};
use crate::host::select::resolve;
use crate::setup::action::install::{Content, NewFile, Refresh};
use crate::setup::goal::Selector;

/// Base classes of mass storage and of displays (PCI Code and ID Assignment, 1.14).
const EARLY_CLASSES: [u32; 2] = [0x01, 0x03];

/// The file, and who is to read it; none if no driver is early, or nothing is known to make such a file system.
pub(super) fn file(
    facts: &HostFacts,
    boot: &Boot,
    goal: &PersistedGoal,
    has_early_module: bool,
) -> Option<(NewFile, Refresh)> {
    let is_early = goal.expects.iter().filter(|device| device.driver.is_some()).any(|device| {
        let address = resolve(facts, &Selector::Path(device.path.clone())).ok();
        let class = address.and_then(|address| facts.device(address)?.class.known().copied());
        class.is_some_and(|class| EARLY_CLASSES.contains(&(class >> 16)))
    });
    let tool = boot.initramfs.filter(|_| is_early || has_early_module)?;
    let (name, rules, kept) = (&goal.name, udev::path(&goal.name), super::path(&goal.name));
    let head = format!("# Written by thruway apply --persist for {name}; thruway undo removes it.\n");
    let file = match tool {
        InitramfsTool::InitramfsTools => NewFile {
            path: format!("/etc/initramfs-tools/hooks/thruway-{name}"),
            content: Content::Program(format!(
                "#!/bin/sh\n{head}\
                 if [ \"$1\" = prereqs ]; then\n    echo\n    exit 0\nfi\n\
                 . /usr/share/initramfs-tools/hook-functions\n\
                 manual_add_modules vfio-pci\n\
                 for file in {rules} {kept}; do\n    \
                 [ -e \"$file\" ] || continue\n    \
                 mkdir -p \"$DESTDIR$(dirname \"$file\")\" && cp \"$file\" \"$DESTDIR$file\" || exit 1\n\
                 done\n"
            )),
        },
        InitramfsTool::Dracut => NewFile {
            path: format!("/etc/dracut.conf.d/90-thruway-{name}.conf"),
            content: Content::Text(format!(
                "{head}add_drivers+=\" vfio_pci \"\ninstall_optional_items+=\" {rules} {kept} \"\n"
            )),
        },
        InitramfsTool::Mkinitcpio => NewFile {
            path: format!("/etc/mkinitcpio.conf.d/thruway-{name}.conf"),
            content: Content::Text(format!("{head}MODULES+=(vfio_pci)\nFILES+=({rules} {kept})\n")),
        },
    };
    Some((file, Refresh::Initramfs(tool)))
}
