//! Which CPUs are to be set apart or serve no interrupts, how their frequency is chosen, and whether the host can do that.

use super::{PlanError, Planner};
use crate::host::fact::Fact;
use crate::host::scheduling::CgroupVersion;
use crate::host::topology::CPUS;
use crate::setup::action::{Action, Governor, IrqAffinity, IsolateCpus, Object};
use crate::setup::goal::{IrqAffinityGoal, is_kernel_name};
use crate::spec::cpu_list::CpuList;

impl Planner<'_> {
    pub(super) fn isolate(&mut self, wanted: Option<&CpuList>) -> Result<(), PlanError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let impossible = |reason: String| PlanError::Impossible { subject: Object::IsolatedCpus, reason };
        let (scheduling, topology) = (&self.facts.scheduling, &self.facts.topology);
        let online = self.online("host.isolate_cpus", wanted).map_err(|error| error.with(impossible))?;
        let isolated = scheduling.isolated_cpus();
        let missing = wanted.without(&isolated);
        if missing.is_empty() {
            self.plan.already.push(format!("CPUs {wanted} are set apart"));
            return Ok(());
        }
        if online.without(wanted).without(&isolated).is_empty() {
            return Err(impossible(format!(
                "no CPU would be left for the host, which has {online}; leave at least one out"
            )));
        }
        match (&scheduling.control_groups.version, &scheduling.control_groups.cpuset) {
            (Fact::Known(CgroupVersion::V1), _) => {
                return Err(impossible(
                    "this host uses control groups of version 1, which cannot do that; boot it with \
                     systemd.unified_cgroup_hierarchy=1, or set the CPUs apart at boot (`isolcpus=`)"
                        .to_owned(),
                ));
            }
            (Fact::NotPresent, _) => {
                return Err(impossible(
                    "no control groups are mounted here; mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
                ));
            }
            (_, Fact::Known(false)) => {
                return Err(impossible(
                    "this kernel does not offer the controller cpuset in version 2 of control groups: it was built \
                     (CONFIG_CPUSETS) or started (cgroup_disable=) without, or version 1 has it"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let split = topology.cores.known().into_iter().flatten().filter(|core| {
            let inside = core.intersection(wanted);
            !inside.is_empty() && inside != **core
        });
        let split: Vec<String> = split.map(ToString::to_string).collect();
        if !split.is_empty() {
            self.plan.warnings.push(format!(
                "of the threads of one core only some are set apart (cores {}): the others still slow them down",
                split.join("; ")
            ));
        }
        self.push(Action::IsolateCpus(IsolateCpus { cpus: missing }), None);
        Ok(())
    }

    pub(super) fn interrupts(&mut self, wanted: Option<&IrqAffinityGoal>) -> Result<(), PlanError> {
        let Some(IrqAffinityGoal { away_from }) = wanted else { return Ok(()) };
        let impossible = |reason: String| PlanError::Impossible { subject: Object::Interrupts, reason };
        let scheduling = &self.facts.scheduling;
        let online =
            self.online("host.irq_affinity.away_from", away_from).map_err(|error| error.with(impossible))?;
        let rest = online.without(away_from);
        if rest.is_empty() {
            return Err(impossible(format!(
                "no CPU would be left to serve interrupts; this host has {online}"
            )));
        }
        match &self.facts.interrupts.default_affinity {
            Fact::Known(default) if default.intersection(away_from).is_empty() => {
                self.plan.already.push(format!("interrupts are kept away from CPUs {away_from}"));
                return Ok(());
            }
            Fact::NotPresent => {
                return Err(impossible("this kernel does not let interrupts be moved".to_owned()));
            }
            _ => {}
        }
        if scheduling.irqbalance == Fact::Known(true) {
            self.plan.warnings.push(format!(
                "irqbalance runs here and moves interrupts as it likes; tell it to leave CPUs {away_from} alone \
                 (IRQBALANCE_BANNED_CPULIST={away_from}), or stop it"
            ));
        }
        let quiet = rest.without(&scheduling.isolated_cpus());
        let instead = if quiet.is_empty() { rest } else { quiet };
        self.push(Action::IrqAffinity(IrqAffinity { away_from: away_from.clone(), instead }), None);
        Ok(())
    }

    pub(super) fn governor(&mut self, wanted: Option<&str>) -> Result<(), PlanError> {
        let Some(wanted) = wanted else { return Ok(()) };
        if !is_kernel_name(wanted) {
            let text = format!("`{}` is not the name of a governor", wanted.escape_debug());
            return Err(PlanError::Invalid(text));
        }
        match &self.facts.scheduling.frequency.governors {
            Fact::Known(governors) if governors.keys().all(|governor| governor == wanted) => {
                self.plan.already.push(format!("CPU frequencies are chosen by governor {wanted}"));
                return Ok(());
            }
            Fact::NotPresent => {
                let reason = "not supported here: the kernel does not choose frequencies, as in most virtual machines, \
                              whose hypervisor does; elsewhere the firmware keeps that to itself, or a driver is missing \
                              (intel_pstate, amd-pstate, acpi-cpufreq). Leave `governor` out of the goal";
                return Err(PlanError::Impossible { subject: Object::Governors, reason: reason.to_owned() });
            }
            _ => {}
        }
        self.push(Action::Governor(Governor { governor: wanted.to_owned() }), None);
        Ok(())
    }

    /// The CPUs that run, if all of `wanted` are among them.
    pub(super) fn online(&self, key: &str, wanted: &CpuList) -> Result<&CpuList, CpusError> {
        let topology = &self.facts.topology;
        if wanted.is_empty() {
            return Err(CpusError::Invalid(format!("`{key}` names no CPU; write for example \"2-3,6\"")));
        }
        let Fact::Known(online) = &topology.online_cpus else {
            return Err(CpusError::Impossible("which CPUs run here cannot be read".to_owned()));
        };
        let not = wanted.without(online);
        let offline =
            topology.offline_cpus.known().map(|offline| offline.intersection(&not)).unwrap_or_default();
        if let Some(cpu) = offline.iter().next() {
            return Err(CpusError::Impossible(format!(
                "CPU {cpu} is offline; switch it on first: echo 1 >{CPUS}/cpu{cpu}/online"
            )));
        }
        if !not.is_empty() {
            return Err(CpusError::Impossible(format!("there is no CPU {not} here; this host has {online}")));
        }
        Ok(online)
    }
}

/// Why a list of CPUs cannot be used.
pub(super) enum CpusError {
    /// On no host.
    Invalid(String),
    /// On this one.
    Impossible(String),
}

impl CpusError {
    pub(super) fn with(self, impossible: impl FnOnce(String) -> PlanError) -> PlanError {
        match self {
            Self::Invalid(text) => PlanError::Invalid(text),
            Self::Impossible(reason) => impossible(reason),
        }
    }
}
