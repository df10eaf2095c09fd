//! Kernel modules of the host for tests: the kernel counts who uses one, and unloads none that somebody uses.

use std::fs;
use std::io;

use super::{FakeKernel, errno, unbind_of};
use crate::setup::control::ControlError;

pub(super) const RELEASE: &str = "6.12.0-test";
/// Modules that there are, each with the one that it depends on.
const THERE: [(&str, Option<&str>); 4] =
    [("vfio-pci", None), ("tun", None), ("vhost", None), ("vhost_net", Some("vhost"))];

pub(super) fn failed(module: &str, error: &io::Error) -> ControlError {
    ControlError::Module { module: module.to_owned(), reason: error.to_string() }
}

impl FakeKernel {
    /// What modprobe does with a name or an alias.
    pub(super) fn load(&self, module: &str) -> io::Result<()> {
        if module.starts_with("pci:") {
            return Ok(());
        }
        let normal = module.replace('-', "_");
        let there = THERE.iter().find(|(name, _)| name.replace('-', "_") == normal);
        let (name, needs) = there.ok_or_else(|| errno(libc::ENOENT))?;
        if self.at(&format!("/sys/module/{normal}")).exists() {
            return Ok(());
        }
        if let Some(needs) = needs {
            self.load(needs)?;
            self.put(&format!("/sys/module/{needs}/refcnt"), "1");
            self.put(&format!("/sys/module/{needs}/holders/{normal}"), "");
        }
        self.put(&format!("/sys/module/{normal}/initstate"), "live");
        self.put(&format!("/sys/module/{normal}/refcnt"), "0");
        fs::create_dir_all(self.at(&format!("/sys/module/{normal}/holders"))).unwrap();
        if *name == "vfio-pci" {
            self.put(&unbind_of("vfio-pci"), "");
            let driver = "../../../bus/pci/drivers/vfio-pci";
            self.link("/sys/module/vfio_pci/drivers/pci:vfio-pci", driver);
        }
        Ok(())
    }

    /// What delete_module(2) does.
    pub(super) fn unload(&self, normal: &str) -> io::Result<()> {
        let directory = format!("/sys/module/{normal}");
        match self.text(&format!("{directory}/refcnt")) {
            None => return Err(errno(libc::ENOENT)),
            Some(count) if count != "0" => return Err(errno(libc::EWOULDBLOCK)),
            Some(_) => {}
        }
        for (name, needs) in THERE {
            if let (true, Some(needs)) = (name == normal, needs) {
                self.put(&format!("/sys/module/{needs}/refcnt"), "0");
                fs::remove_file(self.at(&format!("/sys/module/{needs}/holders/{normal}"))).unwrap();
            }
        }
        fs::remove_dir_all(self.at(&directory))
    }
}
