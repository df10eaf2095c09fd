//! Which kernel modules that are asked for are to be loaded.

use super::{PlanError, Planner};
use crate::host::fact::Fact;
use crate::host::kernel::ModuleState;
use crate::setup::action::load_module::normal;
use crate::setup::action::{Action, LoadModule};
use crate::setup::goal::is_kernel_name;

impl Planner<'_> {
    pub(super) fn modules(&mut self, names: &[String]) -> Result<(), PlanError> {
        let kernel = &self.facts.kernel;
        for (at, name) in names.iter().enumerate() {
            if !is_kernel_name(name) {
                let text = format!("`{}` is not the name of a kernel module", name.escape_debug());
                return Err(PlanError::Invalid(text));
            }
            let module = LoadModule { module: name.clone() };
            let name = normal(name);
            if names.iter().take(at).any(|earlier| normal(earlier) == name) {
                continue;
            }
            let is_shown = kernel.loaded.known().is_some_and(|loaded| loaded.contains(&name));
            match kernel.module(&name) {
                _ if is_shown => self.plan.already.push(format!("{} is loaded", module.object())),
                Some(ModuleState::BuiltIn) => {
                    self.plan.already.push(format!("{} is part of the kernel", module.object()));
                }
                Some(ModuleState::Absent) => {
                    let release = match &kernel.release {
                        Fact::Known(release) => format!(" ({release})"),
                        _ => String::new(),
                    };
                    let reason = format!(
                        "this kernel{release} does not have it; install the distribution's package with more modules, \
                         or boot another kernel"
                    );
                    return Err(PlanError::Impossible { subject: module.object(), reason });
                }
                _ => self.push(Action::LoadModule(module), None),
            }
        }
        Ok(())
    }
}
