//! The unit that makes a persisted goal so at each boot.
//! Spec: systemd.unit(5), systemd.service(5), systemd.special(7) (`network-pre.target`).

use super::SKIP;
use crate::spec::systemd::quoted;

/// Where an administrator's units are.
pub(super) const DIRECTORY: &str = "/etc/systemd/system";
/// Who starts it.
pub(super) const WANTS: &str = "multi-user.target.wants";

/// Name of the unit of `name`.
#[must_use]
pub fn file(name: &str) -> String {
    format!("thruway-boot-{name}.service")
}

/// The unit.
pub(super) fn text(name: &str, program: &str) -> String {
    // After udev was told of the devices that are there: which of them it waits for the program knows.
    format!(
        "# Written by thruway apply --persist; thruway undo removes it.\n\
         [Unit]\n\
         Description=Devices of this host as thruway persisted them ({name})\n\
         Documentation=man:thruway-boot(1)\n\
         ConditionKernelCommandLine=!{SKIP}\n\
         DefaultDependencies=no\n\
         RequiresMountsFor=/usr /var/lib/thruway\n\
         After=systemd-udev-trigger.service local-fs.target systemd-modules-load.service\n\
         Before=network-pre.target multi-user.target shutdown.target\n\
         Wants=network-pre.target\n\
         Conflicts=shutdown.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} boot {name}\n\
         TimeoutStartSec=15min\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program = quoted(program),
    )
}
