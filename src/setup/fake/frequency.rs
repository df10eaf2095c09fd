//! Frequencies of CPUs of the host for tests: two policies that offer different governors.

use std::io;

use super::{FakeKernel, errno};
use crate::setup::action::governor::POLICIES;

/// Whether writing to `path` is about frequencies.
pub(super) fn are_at(path: &str) -> bool {
    path.starts_with(POLICIES)
}

impl FakeKernel {
    /// This host with CPUs whose frequency the kernel chooses.
    pub(in crate::setup) fn with_policies(self) -> Self {
        let kernel = self.with_cpus();
        for (policy, cpus, governor, offered) in [
            (0, "0 1", "powersave", "performance powersave ondemand"),
            (2, "2 3", "schedutil", "performance schedutil"),
        ] {
            for (name, text) in [
                ("affected_cpus", cpus),
                ("scaling_governor", governor),
                ("scaling_available_governors", offered),
            ] {
                kernel.put(&format!("{POLICIES}/policy{policy}/{name}"), text);
            }
        }
        kernel
    }

    /// What the kernel does with `value` written to `path`.
    pub(super) fn frequency_effect(&self, path: &str, value: &str) -> io::Result<()> {
        let policy = path.strip_suffix("/scaling_governor").ok_or_else(|| errno(libc::EACCES))?;
        let offered = self.text(&format!("{policy}/scaling_available_governors"));
        let offered = offered.ok_or_else(|| errno(libc::ENOENT))?;
        if !offered.split(' ').any(|name| name == value) {
            return Err(errno(libc::EINVAL));
        }
        self.put(path, value);
        Ok(())
    }
}
