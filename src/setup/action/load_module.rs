//! A kernel module is loaded.
//!
//! One that is part of the kernel counts as loaded. modprobe(8) loads it together with what it depends on; undo unloads
//! the module alone, so what came with it stays, as modules do that a bind loaded. It is not unloaded while somebody uses
//! it: a process, another module, or a device that one of its drivers has, which unloading would silently unbind.
//! Spec: Linux: Documentation/ABI/stable/sysfs-module; kernel/module/sysfs.c; modules.builtin(5).

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, Footprint, Object, Standing, optional, required};
use crate::setup::control::Control;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadModule {
    /// Name, with dashes or underscores: they are the same.
    pub module: String,
}

/// Whether a module is loaded, or part of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleState {
    loaded: bool,
}

/// Most bytes of the list of modules that are part of the kernel; those of distributions have some ten thousand.
const LIST_BYTES: u64 = 8 << 20;
/// What is in the directory of a driver beside the devices that it has (Linux: drivers/base/bus.c; pci-driver.c).
const DRIVER_FILES: [&str; 6] = ["bind", "module", "new_id", "remove_id", "uevent", "unbind"];

/// As `/sys/module` spells it.
#[must_use]
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

impl LoadModule {
    /// What this is about.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::Module(normal(&self.module))
    }

    fn file(&self, name: &str) -> String {
        format!("/sys/module/{}/{name}", normal(&self.module))
    }

    /// Whether it is a part of the kernel that shows nothing in `/sys/module`: one without parameters.
    fn is_built_in(&self, control: &dyn Control) -> Result<bool, ActionError> {
        let path = "/proc/sys/kernel/osrelease";
        let Some(release) = optional(path, control.source().text(path))? else { return Ok(false) };
        let path = format!("/lib/modules/{release}/modules.builtin");
        // Where modules are not kept, none can be looked up.
        let list = optional(&path, control.source().read_limited(&path, LIST_BYTES))?.unwrap_or_default();
        let list = String::from_utf8_lossy(&list);
        let mut names = list.lines().filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"));
        let wanted = normal(&self.module);
        Ok(names.any(|name| normal(name) == wanted))
    }

    /// Users that the kernel counts, and the modules among them.
    fn users(&self, control: &dyn Control) -> Result<(u64, Vec<String>), ActionError> {
        let path = self.file("refcnt");
        let count = control.source().text(&path).parse(&path, |text| text.trim().parse::<u64>());
        let holders = self.file("holders");
        let modules = optional(&holders, control.source().list(&holders))?.unwrap_or_default();
        Ok((required(&path, count)?, modules))
    }

    /// A device that one of its drivers has, with the driver.
    fn bound(&self, control: &dyn Control) -> Result<Option<(String, String)>, ActionError> {
        let path = self.file("drivers");
        for name in optional(&path, control.source().list(&path))?.unwrap_or_default() {
            // `pci:vfio-pci`
            let Some((bus, driver)) = name.split_once(':') else { continue };
            let directory = format!("/sys/bus/{bus}/drivers/{driver}");
            for entry in optional(&directory, control.source().list(&directory))?.unwrap_or_default() {
                let is_link = control.source().link(&format!("{directory}/{entry}")).known().is_some();
                if is_link && !DRIVER_FILES.contains(&entry.as_str()) {
                    return Ok(Some((entry, driver.to_owned())));
                }
            }
        }
        Ok(None)
    }

    fn in_use(&self, by: String) -> ActionError {
        ActionError::InUse { subject: self.object(), by }
    }
}

impl Act for LoadModule {
    type State = ModuleState;

    fn observe(&self, control: &dyn Control) -> Result<ModuleState, ActionError> {
        let path = self.file("");
        let path = path.trim_end_matches('/');
        let shown = optional(path, control.source().list(path))?.is_some();
        Ok(ModuleState { loaded: shown || self.is_built_in(control)? })
    }

    fn act(&self, _prior: &ModuleState, control: &dyn Control) -> Result<(), ActionError> {
        Ok(control.load_module(&self.module)?)
    }

    fn may_revert(&self, _prior: &ModuleState, control: &dyn Control) -> Result<(), ActionError> {
        // Modules that use it may be unloaded before it is its turn, and its devices given back.
        let (count, modules) = self.users(control)?;
        match count.saturating_sub(modules.len() as u64) {
            0 => Ok(()),
            1 => Err(self.in_use("the kernel counts a user of it".to_owned())),
            users => Err(self.in_use(format!("the kernel counts {users} users of it"))),
        }
    }

    fn revert(&self, prior: &ModuleState, control: &dyn Control) -> Result<(), ActionError> {
        if prior.loaded || !self.observe(control)?.loaded {
            return Ok(());
        }
        self.may_revert(prior, control)?;
        let (_, modules) = self.users(control)?;
        if !modules.is_empty() {
            return Err(self.in_use(format!("{} on top of it", modules.join(", "))));
        }
        if let Some((device, driver)) = self.bound(control)? {
            return Err(self.in_use(format!("{device}, which is bound to its driver {driver}")));
        }
        Ok(control.unload_module(&normal(&self.module))?)
    }

    fn standing(&self, _prior: &ModuleState, now: &ModuleState) -> Standing {
        if now.loaded { Standing::Applied } else { Standing::Before }
    }

    fn footprint(&self, _prior: &ModuleState) -> Footprint {
        Footprint { changes: vec![self.object()], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("load kernel module {}", self.module)
    }

    fn describe_undo(&self, _prior: &ModuleState) -> String {
        format!("unload kernel module {}", self.module)
    }
}

#[cfg(test)]
mod tests;
