//! Which CPUs serve interrupts, against those that are set apart for guests.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::interrupts::DEFAULT_AFFINITY;
use crate::spec::cpu_list::CpuList;

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";
const PARTITIONS: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";

/// CPUs that are set apart, or the answer where there are none or nobody can say.
fn isolated(facts: &HostFacts, subject: &str) -> Result<CpuList, Outcome> {
    let isolated = facts.scheduling.isolated_cpus();
    let at_boot = &facts.scheduling.isolation.isolated_cpus;
    match at_boot {
        unread if unread.is_unread() => Err(Outcome::unread(unread, subject)),
        _ if isolated.is_empty() => Err(Outcome::not_applicable("no CPUs are isolated")),
        _ => Ok(isolated),
    }
}

/// CPUs that run and are not set apart.
fn others(facts: &HostFacts, isolated: &CpuList) -> CpuList {
    facts.topology.online_cpus.known().map(|online| online.without(isolated)).unwrap_or_default()
}

/// `interrupts-default-affinity`
pub(super) fn by_default(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which CPUs serve interrupts";
    let isolated = match isolated(facts, SUBJECT) {
        Ok(isolated) => isolated,
        Err(outcome) => return outcome,
    };
    let affinity = match &facts.interrupts.default_affinity {
        Fact::Known(affinity) => affinity,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let both = affinity.intersection(&isolated);
    let evidence = |outcome: Outcome| {
        outcome
            .evidence(DEFAULT_AFFINITY, format!("CPUs {affinity}"))
            .evidence(ISOLATED, format!("CPUs {isolated}"))
    };
    if both.is_empty() {
        return evidence(Outcome::pass("interrupts go to CPUs that are not isolated"));
    }
    let others = others(facts, &isolated);
    let outcome = evidence(Outcome::warn(format!("isolated CPUs {both} serve interrupts, too")));
    match &facts.scheduling.isolation.arguments.irqaffinity {
        Fact::Known(asked) if !asked.intersection(&isolated).is_empty() => outcome
            .evidence("/proc/cmdline", format!("irqaffinity= names CPUs {asked}"))
            .cause("`irqaffinity=` names isolated CPUs; it lists those that do serve interrupts"),
        _ => outcome.cause("without `irqaffinity=` every CPU serves interrupts, isolated or not"),
    }
    .remedy(Remedy::kernel_parameters(facts, &[("irqaffinity", others.to_string())]))
    .remedy(Remedy::command(
        format!("for irq in /proc/irq/*/smp_affinity_list; do echo {others} | sudo tee \"$irq\"; done"),
        "until the next boot; interrupts that the kernel places itself (managed ones, as of NVMe) answer with an error \
         and stay",
    ))
}

/// `interrupts-of-guests`
pub(super) fn of_guests(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "which CPUs serve the interrupts of guests' devices";
    let isolated = match isolated(facts, SUBJECT) {
        Ok(isolated) => isolated,
        Err(outcome) => return outcome,
    };
    let interrupts = match &facts.interrupts.of_guests {
        Fact::Known(interrupts) if interrupts.is_empty() => {
            return Outcome::not_applicable("no guest has a device that interrupts now");
        }
        Fact::Known(interrupts) => interrupts,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    let mut found = Vec::new();
    let mut pass = Outcome::pass("interrupts of guests' devices go to CPUs that are not isolated");
    for interrupt in interrupts {
        let cpus = match &interrupt.cpus {
            Fact::Known(cpus) => cpus,
            unread => return Outcome::unread(unread, SUBJECT),
        };
        if cpus.intersection(&isolated).is_empty() {
            pass = pass.evidence(format!("/proc/irq/{}", interrupt.number), format!("CPUs {cpus}"));
        } else {
            found.push((interrupt, cpus));
        }
    }
    let Some((first, _)) = found.first() else { return pass };
    let others = others(facts, &isolated);
    let outcome = Outcome::warn(format!(
        "isolated CPUs serve interrupts of {}{}",
        first.function,
        if found.len() > 1 { " and more" } else { "" }
    ))
    .cause("whoever set them up spread them over all CPUs")
    .remedy(Remedy::command(
        format!("echo {others} | sudo tee /proc/irq/{}/smp_affinity_list", first.number),
        "until the guest ends, for each interrupt",
    ));
    found.iter().fold(outcome, |outcome, (interrupt, cpus)| {
        outcome.evidence(
            format!("/proc/irq/{}", interrupt.number),
            format!("CPUs {cpus}, for {}", interrupt.function),
        )
    })
}

/// `interrupts-balancing`
pub(super) fn balancing(facts: &HostFacts) -> Outcome {
    const SERVICE: &str = "/sys/fs/cgroup/system.slice/irqbalance.service";
    let at_boot = facts.scheduling.isolation.isolated_cpus.known().cloned().unwrap_or_default();
    let partitions = match &facts.scheduling.control_groups.isolated_cpus {
        Fact::Known(cpus) => cpus.without(&at_boot),
        Fact::NotPresent => CpuList::default(),
        unread => return Outcome::unread(unread, "which CPUs are in isolated partitions"),
    };
    if partitions.is_empty() {
        return Outcome::not_applicable("no partition of control groups is isolated");
    }
    match &facts.scheduling.irqbalance {
        Fact::Known(false) => Outcome::pass("irqbalance does not run").evidence(SERVICE, "not there"),
        Fact::Known(true) => Outcome::warn(format!(
            "irqbalance may move interrupts to the isolated CPUs {partitions}"
        ))
        .evidence(SERVICE, "there")
        .evidence(PARTITIONS, format!("CPUs {partitions}"))
        .cause("irqbalance knows what was isolated at boot, and not what is isolated at run time")
        .remedy(Remedy::command(
            format!(
                "echo IRQBALANCE_BANNED_CPULIST={partitions} | sudo tee -a /etc/default/irqbalance && sudo \
                     systemctl restart irqbalance"
            ),
            "on Fedora and its kin the file is /etc/sysconfig/irqbalance (irqbalance 1.8)",
        )),
        unread => Outcome::unread(unread, "whether irqbalance runs"),
    }
}
