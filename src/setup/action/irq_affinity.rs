//! Interrupts are served by other CPUs than these, as far as they can be moved.
//!
//! Two things: the default, which interrupts get that come later, and the affinity of each interrupt that there is. Those
//! that the kernel places itself (managed ones of multi-queue devices, those of each CPU) refuse to be moved; they are told
//! in the log and let be, and that is no failure. Interrupts come and go with their drivers: one that is gone has nothing to
//! put back, and a new one is nobody's drift. irqbalance(1) may move them again, which is drift. The default is written last,
//! so it tells whether all was done.
//! Spec: Linux: Documentation/core-api/irq/irq-affinity.rst; kernel/irq/proc.c, `write_irq_affinity`.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Act, ActionError, BIND_LIMIT, Footprint, Object, Standing, optional, required};
use crate::host::fact::Fact;
use crate::host::interrupts::DEFAULT_AFFINITY;
use crate::setup::control::{Control, ControlError};
use crate::spec::cpu_list::CpuList;

/// Where the kernel shows interrupts.
const DIRECTORY: &str = "/proc/irq";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqAffinity {
    /// CPUs that should serve none.
    pub away_from: CpuList,
    /// CPUs that serve instead what those alone have served.
    pub instead: CpuList,
}

/// Which CPUs serve interrupts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityState {
    /// Of interrupts that come.
    default: CpuList,
    /// Of those that there are, by number.
    irqs: Vec<(u32, CpuList)>,
}

impl AffinityState {
    fn of(&self, irq: u32) -> Option<&CpuList> {
        let at = self.irqs.binary_search_by_key(&irq, |(number, _)| *number).ok()?;
        self.irqs.get(at).map(|(_, cpus)| cpus)
    }
}

fn path(irq: u32) -> String {
    format!("{DIRECTORY}/{irq}/smp_affinity_list")
}

/// Whether the kernel says that this interrupt is not moved at all, or not there: EIO, and EPERM since Linux 6.10, of those
/// that it places itself, EINVAL of what its controller cannot do.
fn is_fixed(error: &ControlError) -> bool {
    let ControlError::Write { source, .. } = error else { return false };
    let fixed = [Errno::EIO, Errno::EPERM, Errno::EINVAL].map(|errno| Some(errno as i32));
    fixed.contains(&source.raw_os_error())
}

impl IrqAffinity {
    /// The CPUs among `cpus` that may serve interrupts.
    fn target(&self, cpus: &CpuList) -> CpuList {
        let rest = cpus.without(&self.away_from);
        if rest.is_empty() { self.instead.clone() } else { rest }
    }

    /// The interrupts of `state` that are to be moved.
    fn moving<'a>(&self, state: &'a AffinityState) -> impl Iterator<Item = (u32, &'a CpuList)> {
        let away_from = self.away_from.clone();
        let concerned = move |cpus: &CpuList| !cpus.intersection(&away_from).is_empty();
        state.irqs.iter().filter(move |(_, cpus)| concerned(cpus)).map(|(irq, cpus)| (*irq, cpus))
    }

    /// Moves an interrupt; one that went in the meantime is fine.
    fn move_to(&self, control: &dyn Control, irq: u32, cpus: &CpuList) -> Result<(), ActionError> {
        let path = path(irq);
        match control.write(&path, &cpus.to_string(), BIND_LIMIT) {
            Err(ControlError::Write { .. }) if control.source().text(&path) == Fact::NotPresent => Ok(()),
            // x86: each CPU can serve some 200, and those of multi-queue devices fill few CPUs soon.
            Err(ControlError::Write { source, .. })
                if source.raw_os_error() == Some(Errno::ENOSPC as i32) =>
            {
                Err(ActionError::NotReached {
                    subject: format!("interrupt {irq}"),
                    expected: format!("CPUs {cpus} to serve it"),
                    found: "that they have no room for more interrupts; leave them more CPUs".to_owned(),
                })
            }
            result => Ok(result?),
        }
    }
}

impl Act for IrqAffinity {
    type State = AffinityState;

    fn observe(&self, control: &dyn Control) -> Result<AffinityState, ActionError> {
        let default = control.source().text(DEFAULT_AFFINITY);
        let default = default.parse(DEFAULT_AFFINITY, |text| CpuList::parse_mask(&text));
        let names = required(DIRECTORY, control.source().list(DIRECTORY))?;
        let mut irqs = Vec::new();
        for irq in names.iter().filter_map(|name| name.parse().ok()) {
            let path = path(irq);
            let cpus = control.source().text(&path).parse(&path, |text| text.trim().parse());
            irqs.extend(optional(&path, cpus)?.map(|cpus| (irq, cpus)));
        }
        irqs.sort_unstable();
        Ok(AffinityState { default: required(DEFAULT_AFFINITY, default)?, irqs })
    }

    fn act(&self, prior: &AffinityState, control: &dyn Control) -> Result<(), ActionError> {
        let mut fixed = Vec::new();
        for (irq, cpus) in self.moving(prior) {
            match self.move_to(control, irq, &self.target(cpus)) {
                Err(ActionError::Control(error)) if is_fixed(&error) => fixed.push(irq.to_string()),
                result => result?,
            }
        }
        if !fixed.is_empty() {
            let irqs = fixed.join(", ");
            tracing::warn!(irqs, "these interrupts stay where they are: the kernel places them itself");
        }
        Ok(control.write(DEFAULT_AFFINITY, &self.target(&prior.default).to_mask(), BIND_LIMIT)?)
    }

    fn revert(&self, prior: &AffinityState, control: &dyn Control) -> Result<(), ActionError> {
        let now = self.observe(control)?;
        for (irq, cpus) in self.moving(prior) {
            if now.of(irq).is_some_and(|now| *now == self.target(cpus)) {
                self.move_to(control, irq, cpus)?;
            }
        }
        if now.default != prior.default {
            control.write(DEFAULT_AFFINITY, &prior.default.to_mask(), BIND_LIMIT)?;
        }
        Ok(())
    }

    fn standing(&self, prior: &AffinityState, now: &AffinityState) -> Standing {
        let mut has_moved = false;
        for (irq, before) in self.moving(prior) {
            match now.of(irq) {
                None => {}
                Some(cpus) if *cpus == self.target(before) => has_moved = true,
                Some(cpus) if cpus == before => {}
                Some(cpus) => return Standing::Drifted(format!("interrupt {irq} on CPUs {cpus}")),
            }
        }
        if now.default == self.target(&prior.default) {
            Standing::Applied
        } else if now.default != prior.default {
            Standing::Drifted(format!("new interrupts on CPUs {}", now.default))
        } else if has_moved {
            Standing::Between
        } else {
            Standing::Before
        }
    }

    fn already(&self, prior: &AffinityState) -> bool {
        // Those that the kernel let be moved went when the default did.
        prior.default.intersection(&self.away_from).is_empty()
    }

    fn footprint(&self, _prior: &AffinityState) -> Footprint {
        Footprint { changes: vec![Object::Interrupts], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("keep interrupts away from CPUs {}", self.away_from)
    }

    fn describe_undo(&self, prior: &AffinityState) -> String {
        format!("let CPUs {} serve interrupts again", prior.default.intersection(&self.away_from))
    }
}

#[cfg(test)]
mod tests;
