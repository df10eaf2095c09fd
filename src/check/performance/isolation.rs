//! CPUs that are set apart: wholly, of those that run, by whole cores, at run time.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::scheduling::CgroupVersion;
use crate::spec::cpu_list::CpuList;

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const NOHZ_FULL: &str = "/sys/devices/system/cpu/nohz_full";

/// The value of `isolcpus=` for `cpus`, with the flags that it has on the command line.
fn isolcpus_value(facts: &HostFacts, cpus: &CpuList) -> String {
    match facts.scheduling.isolation.arguments.isolcpus.known() {
        Some(argument) if argument.flags != ["domain"] => format!("{},{cpus}", argument.flags.join(",")),
        _ => cpus.to_string(),
    }
}

/// `performance-isolation`
pub(super) fn tasks_and_ticks(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which CPUs are isolated";
    let isolation = &facts.scheduling.isolation;
    let isolated = match &isolation.isolated_cpus {
        Fact::Known(isolated) => isolated,
        unread if unread.is_unread() => return Outcome::unread(unread, SUBJECT),
        _ => return Outcome::not_applicable("this kernel does not tell which CPUs are isolated"),
    };
    let tickless = match &isolation.nohz_full_cpus {
        Fact::Known(tickless) => tickless,
        unread if unread.is_unread() => return Outcome::unread(unread, SUBJECT),
        _ => return Outcome::not_applicable("this kernel cannot stop the tick (CONFIG_NO_HZ_FULL)"),
    };
    if isolated.is_empty() && tickless.is_empty() {
        return Outcome::not_applicable("no CPUs are isolated");
    }
    let show = |cpus: &CpuList| if cpus.is_empty() { "none".to_owned() } else { format!("CPUs {cpus}") };
    let evidence =
        |outcome: Outcome| outcome.evidence(ISOLATED, show(isolated)).evidence(NOHZ_FULL, show(tickless));
    let (ticking, crowded) = (isolated.without(tickless), tickless.without(isolated));
    if !ticking.is_empty() {
        return evidence(Outcome::warn(format!("isolated CPUs {ticking} are still interrupted by the tick")))
            .cause("`isolcpus=` names them and `nohz_full=` does not")
            .remedy(Remedy::kernel_parameters(facts, &[("nohz_full", isolated.to_string())]));
    }
    if !crowded.is_empty() {
        return evidence(Outcome::warn(format!(
            "CPUs {crowded} have no tick, and tasks of the host still run there"
        )))
        .cause("`nohz_full=` names them and `isolcpus=` does not")
        .remedy(Remedy::kernel_parameters(facts, &[("isolcpus", isolcpus_value(facts, tickless))]));
    }
    evidence(Outcome::pass(format!("CPUs {isolated} are free of tasks and ticks")))
}

/// `performance-isolated-cpus-run`
pub(super) fn named_cpus_run(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which CPUs the command line isolates";
    let arguments = &facts.scheduling.isolation.arguments;
    let isolcpus = arguments.isolcpus.as_ref().map(|argument| &argument.cpus);
    let mut named = Vec::new();
    for (name, list) in [("isolcpus", isolcpus), ("nohz_full", arguments.nohz_full.as_ref())] {
        match list {
            Fact::Known(cpus) => named.push((name, cpus)),
            Fact::NotPresent => {}
            unread => return Outcome::unread(&unread, SUBJECT),
        }
    }
    if named.is_empty() {
        return Outcome::not_applicable("the command line isolates no CPUs");
    }
    let online = match &facts.topology.online_cpus {
        Fact::Known(online) => online,
        unread => return Outcome::unread(unread, "which CPUs run"),
    };
    let line = facts.kernel.command_line.known().map_or("", String::as_str);
    let evidence = |outcome: Outcome| {
        outcome.evidence("/proc/cmdline", line).evidence("/sys/devices/system/cpu/online", online)
    };
    for (name, cpus) in named {
        let missing = cpus.without(online);
        if !missing.is_empty() {
            let rest = cpus.intersection(online);
            let outcome =
                evidence(Outcome::warn(format!("`{name}=` names CPUs {missing}, which do not run")))
                    .cause("the list was made for another machine, or they were switched off");
            return if rest.is_empty() {
                outcome.remedy(Remedy::advice(format!(
                    "make a list of CPUs of this machine for `{name}=`; `thruway probe topology` shows them"
                )))
            } else {
                let value = if name == "isolcpus" { isolcpus_value(facts, &rest) } else { rest.to_string() };
                outcome.remedy(Remedy::kernel_parameters(facts, &[(name, value)]))
            };
        }
    }
    evidence(Outcome::pass("every CPU that the command line isolates runs"))
}

/// `performance-isolated-cores`
pub(super) fn whole_cores(facts: &HostFacts) -> Outcome {
    if facts.scheduling.isolation.isolated_cpus.is_unread() {
        return Outcome::unread(&facts.scheduling.isolation.isolated_cpus, "which CPUs are isolated");
    }
    let isolated = facts.scheduling.isolated_cpus();
    if isolated.is_empty() {
        return Outcome::not_applicable("no CPUs are isolated");
    }
    let cores = match &facts.topology.cores {
        Fact::Known(cores) => cores,
        unread => return Outcome::unread(unread, "which CPUs share a core"),
    };
    let split = cores.iter().find(|core| {
        let inside = core.intersection(&isolated);
        !inside.is_empty() && inside != **core
    });
    let Some(core) = split else {
        return Outcome::pass("isolated CPUs are whole cores").evidence(ISOLATED, format!("CPUs {isolated}"));
    };
    let touched = cores.iter().filter(|core| !core.intersection(&isolated).is_empty());
    let whole = touched.fold(CpuList::default(), |all, core| all.union(core));
    let first = core.iter().next().unwrap_or(0);
    let outcome = Outcome::warn(format!(
        "CPUs {core} share a core, and only {} is isolated",
        core.intersection(&isolated)
    ));
    let at_boot = facts.scheduling.isolation.isolated_cpus.known().is_some_and(|cpus| !cpus.is_empty());
    outcome
        .evidence(ISOLATED, format!("CPUs {isolated}"))
        .evidence(format!("/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list"), core)
        .cause("the list counts threads as if they were cores")
        .remedy(if at_boot {
            let parameters = [("isolcpus", isolcpus_value(facts, &whole)), ("nohz_full", whole.to_string())];
            Remedy::kernel_parameters(facts, &parameters)
        } else {
            Remedy::advice(format!("give the isolated partition whole cores: CPUs {whole}"))
        })
}

/// `performance-cpuset`
pub(super) fn control_groups(facts: &HostFacts) -> Outcome {
    const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";
    const SUBJECT: &str = "whether CPUs can be set apart at run time";
    let groups = &facts.scheduling.control_groups;
    let version = match &groups.version {
        Fact::Known(version) => version,
        Fact::NotPresent => return Outcome::not_applicable("no control groups are mounted"),
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let off =
        facts.kernel.parameter("cgroup_disable").find(|value| value.split(',').any(|word| word == "cpuset"));
    match (version, &groups.cpuset) {
        (CgroupVersion::V2, Fact::Known(true)) => {
            Outcome::pass("control groups can set CPUs apart").evidence(CONTROLLERS, "cpuset is among them")
        }
        (CgroupVersion::V1, _) => {
            let warn = Outcome::warn("control groups of version 1 cannot isolate CPUs at run time")
                .evidence(CONTROLLERS, "not there")
                .cause("the host mounts a tree for each controller: an old distribution, or arguments for old programs");
            let asked = ["systemd.unified_cgroup_hierarchy", "systemd.legacy_systemd_cgroup_controller"]
                .into_iter()
                .find_map(|name| Some(format!("{name}={}", facts.kernel.parameter(name).last()?)));
            match asked {
                Some(argument) => warn.remedy(Remedy::without_kernel_argument(facts, &argument)),
                None if facts.scheduling.systemd == Fact::Known(true) => {
                    warn.remedy(Remedy::kernel_argument(facts, "systemd.unified_cgroup_hierarchy=1"))
                }
                None => warn.remedy(Remedy::advice(
                    "let the host's init mount version 2 alone (`mount -t cgroup2 none /sys/fs/cgroup`); in a \
                     container ask on its host",
                )),
            }
        }
        (CgroupVersion::V2, Fact::Known(false)) => {
            let warn = Outcome::warn("control groups cannot set CPUs apart")
                .evidence(CONTROLLERS, "cpuset is not among them");
            match off {
                Some(value) => warn
                    .cause(format!("`cgroup_disable={value}` on the kernel's command line switches it off"))
                    .remedy(Remedy::without_kernel_argument(facts, &format!("cgroup_disable={value}"))),
                None => warn
                    .cause("the kernel was built without it, this is a container, or version 1 holds it")
                    .remedy(Remedy::advice("a kernel with CONFIG_CPUSETS; in a container ask on its host")),
            }
        }
        (_, unread) => Outcome::unread(unread, SUBJECT),
    }
}
