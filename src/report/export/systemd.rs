//! A machine as a service of systemd, which runs it with thruway itself (systemd.service(5)).

use super::ExportError;
use crate::spec::systemd::quoted;
use crate::vmm::config::{MachineConfig, OnReboot};

/// How thruway is called for a profile.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Absolute path of the program.
    pub program: &'a str,
    /// The profile: a built-in name or an absolute path.
    pub profile: &'a str,
}

/// A unit that prepares the host and runs the machine of `config`.
///
/// # Errors
/// [`ExportError`]: a line break in a path.
pub fn export(config: &MachineConfig, call: Call<'_>) -> Result<String, ExportError> {
    let (program, profile) = (word(call.program)?, word(call.profile)?);
    // Exit code 10: the guest asked for a reboot, which a fresh start gives it.
    let reboot = match config.on_reboot {
        OnReboot::Exit => "SuccessExitStatus=10\nRestartForceExitStatus=10\n",
        OnReboot::Reset => "",
    };
    Ok(format!(
        "# Machine {name}, exported by thruway {version}: /etc/systemd/system/thruway-{name}.service\n\
         [Unit]\n\
         Description=Virtual machine {name}\n\
         Documentation=man:thruway-run(1)\n\
         After=local-fs.target systemd-udev-settle.service network-pre.target\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStartPre={program} apply {profile} --yes\n\
         ExecStart={program} run {profile}\n\
         {reboot}\
         StandardInput=null\n\
         LimitMEMLOCK=infinity\n\
         TimeoutStartSec=5min\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
    ))
}

/// A word of a command line in a unit.
fn word(text: &str) -> Result<String, ExportError> {
    if text.contains(char::is_control) {
        return Err(ExportError::Unsayable {
            program: "systemd",
            text: text.to_owned(),
            reason: "a unit holds no control characters",
        });
    }
    Ok(quoted(text))
}
