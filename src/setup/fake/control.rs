//! The host for tests, as setup writes to it: each write with what was arranged for it.

use std::io;
use std::time::Duration;

use super::{FakeKernel, errno, file_error, modules, unbind_of};
use crate::host::source::Source;
use crate::setup::control::{Control, ControlError, DirectoryChange, InterfaceAddress, VfSetting};
use crate::sys::system_file::{SystemFile, SystemTree};
use crate::sys::tool::ToolError;

impl Control for FakeKernel {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn write(&self, path: &str, value: &str, limit: Duration) -> Result<(), ControlError> {
        if path.ends_with("/sriov_numvfs") && value == "0" && !self.inner.lock().unwrap().open.is_empty() {
            let (path, value) = (path.to_owned(), value.to_owned());
            return Err(ControlError::Pending { path, value, limit, pid: 4712 });
        }
        self.attempt(
            &format!("{path} <- {}", value.escape_debug()),
            || self.effect(path, value),
            |source| ControlError::Write { path: path.to_owned(), value: value.to_owned(), source },
        )
    }

    fn make_directory(&self, path: &str, _limit: Duration) -> Result<(), ControlError> {
        self.attempt(
            &format!("mkdir {path}"),
            || self.make_group(path),
            |source| ControlError::Directory { path: path.to_owned(), change: DirectoryChange::Make, source },
        )
    }

    fn remove_directory(&self, path: &str, _limit: Duration) -> Result<(), ControlError> {
        self.attempt(
            &format!("rmdir {path}"),
            || self.remove_group(path),
            |source| ControlError::Directory {
                path: path.to_owned(),
                change: DirectoryChange::Remove,
                source,
            },
        )
    }

    fn set_link(&self, interface: &str, up: bool, _limit: Duration) -> Result<(), ControlError> {
        let effect = || {
            let directory = format!("/sys/class/net/{interface}");
            if !self.at(&format!("{directory}/flags")).exists() {
                return Err(errno(libc::ENODEV));
            }
            self.put(&format!("{directory}/flags"), if up { "0x1003" } else { "0x1002" });
            self.put(&format!("{directory}/operstate"), if up { "up" } else { "down" });
            Ok(())
        };
        self.attempt(&format!("link {interface} {up}"), effect, |source| ControlError::Link {
            interface: interface.to_owned(),
            up,
            source,
        })
    }

    fn addresses(&self, interface: &str) -> Result<Vec<InterfaceAddress>, ControlError> {
        Ok(self.addresses_of(interface))
    }

    fn add_address(
        &self,
        interface: &str,
        address: &InterfaceAddress,
        _limit: Duration,
    ) -> Result<(), ControlError> {
        let what = format!("give {address} to");
        self.attempt(
            &format!("{what} {interface}"),
            || self.give(interface, address),
            |source| ControlError::Interface { interface: interface.to_owned(), what: what.clone(), source },
        )
    }

    fn set_controller(
        &self,
        interface: &str,
        controller: &str,
        _limit: Duration,
    ) -> Result<(), ControlError> {
        let what = format!("make a port of {controller} of");
        self.attempt(
            &format!("{what} {interface}"),
            || self.attach(interface, controller),
            |source| ControlError::Interface { interface: interface.to_owned(), what: what.clone(), source },
        )
    }

    fn set_vf(
        &self,
        interface: &str,
        index: u16,
        setting: VfSetting,
        _limit: Duration,
    ) -> Result<(), ControlError> {
        self.attempt(
            &format!("VF {index} of {interface}: {setting}"),
            || self.set(interface, index, setting),
            |source| ControlError::of_vf(interface, index, setting, source),
        )
    }

    fn set_owner(&self, path: &str, uid: u32, gid: u32, _limit: Duration) -> Result<(), ControlError> {
        let wanted = ControlError::owner(uid, gid);
        self.attempt(
            &format!("{path} {wanted}"),
            || self.change_node(path, |node| (node.uid, node.gid) = (uid, gid)),
            |source| ControlError::Node { path: path.to_owned(), wanted: wanted.clone(), source },
        )
    }

    fn files(&self) -> &SystemTree {
        &self.files
    }

    fn replace_file(&self, path: &str, content: &SystemFile) -> Result<(), ControlError> {
        let (effect, failed) =
            (|| self.files.replace(path, content).map_err(io::Error::other), file_error(path));
        self.attempt(&format!("file {path}"), effect, failed)
    }

    fn remove_file(&self, path: &str) -> Result<(), ControlError> {
        let (effect, failed) = (|| self.files.remove(path).map_err(io::Error::other), file_error(path));
        self.attempt(&format!("remove {path}"), effect, failed)
    }

    fn remove_empty_directory(&self, path: &str) -> Result<(), ControlError> {
        let (effect, failed) =
            (|| self.files.remove_directory(path).map_err(io::Error::other), file_error(path));
        self.attempt(&format!("remove {path}/"), effect, failed)
    }

    fn run_tool(&self, program: &str, arguments: &[&str], _limit: Duration) -> Result<String, ControlError> {
        let command = format!("{program} {}", arguments.join(" "));
        let failed = |error| ControlError::Tool { command: command.clone(), source: ToolError::Start(error) };
        let answer = self.tool_effect(program, arguments, false).map_err(failed)?;
        // What only answers does not count as a write.
        if answer.is_empty() {
            let effect = || self.tool_effect(program, arguments, true).map(drop);
            self.attempt(&command, effect, failed)?;
        }
        Ok(answer)
    }

    fn set_mode(&self, path: &str, mode: u32, _limit: Duration) -> Result<(), ControlError> {
        let wanted = ControlError::mode(mode);
        self.attempt(
            &format!("{path} {wanted}"),
            || self.change_node(path, |node| node.mode = mode),
            |source| ControlError::Node { path: path.to_owned(), wanted: wanted.clone(), source },
        )
    }

    fn load_module(&self, module: &str) -> Result<(), ControlError> {
        // What binding loads stays, and a module that it does not get is told by the driver that is not there.
        if module == "vfio-pci" || module.starts_with("pci:") {
            return self.load(module).map_err(|error| modules::failed(module, &error));
        }
        let failed = |error: io::Error| modules::failed(module, &error);
        self.attempt(&format!("load {module}"), || self.load(module), failed)
    }

    fn unload_module(&self, module: &str) -> Result<(), ControlError> {
        self.attempt(
            &format!("unload {module}"),
            || self.unload(module),
            |source| ControlError::Unload { module: module.to_owned(), source },
        )
    }

    fn pause(&self, _time: Duration) {
        let mut inner = self.inner.lock().unwrap();
        inner.pauses += 1;
        if let Some(driver) = inner.loading.take() {
            self.put(&unbind_of(&driver), "");
        }
    }
}
