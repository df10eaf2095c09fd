//! For devices whose driver is loaded by name before udev runs: the override is set right before it.
//!
//! An `install` line rather than `options vfio-pci ids=`: it names the device and not its model, so an equal one keeps its
//! driver, and it looks at the kernel's command line. Spec: modprobe.d(5).

use std::fmt::Write as _;

use super::{PersistedGoal, SKIP};
use crate::host::HostFacts;
use crate::host::boot::Boot;
use crate::host::select::resolve;
use crate::setup::goal::Selector;

/// The file of `name`.
pub(super) fn path(name: &str) -> String {
    format!("/etc/modprobe.d/thruway-{name}.conf")
}

/// The lines; none if no driver is loaded so early.
pub(super) fn text(facts: &HostFacts, boot: &Boot, goal: &PersistedGoal) -> Option<String> {
    let mut out = String::new();
    for expected in &goal.expects {
        let Some(wanted) = expected.driver.as_deref() else { continue };
        let Ok(address) = resolve(facts, &Selector::Path(expected.path.clone())) else { continue };
        let driver = facts.device(address).and_then(|device| device.driver.known().cloned());
        let Some(module) = driver.map(|driver| driver.replace('-', "_")) else { continue };
        let Some((_, file)) = boot.early_modules.iter().find(|(name, _)| *name == module) else { continue };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# {module} is loaded by {file}, before udev runs.\n\
             install {module} {{ d=/sys/bus/pci/devices/{address}; [ -e {goal} ] && ! grep -qw {SKIP} /proc/cmdline && \
             [ \"$(cat $d/vendor $d/device | tr -d '\\n')\" = 0x{:04x}0x{:04x} ] && echo {wanted} >$d/driver_override; }}; \
             /sbin/modprobe --ignore-install {module} $CMDLINE_OPTS",
            expected.ids.vendor,
            expected.ids.device,
            goal = super::path(&goal.name),
        );
    }
    let head = format!("# Written by thruway apply --persist for {}; thruway undo removes it.\n", goal.name);
    (!out.is_empty()).then(|| head + &out)
}
