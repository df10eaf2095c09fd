//! Frequency, idle states and the clock.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::scheduling::{CLOCK, Frequency};
use crate::spec::cpu_list::CpuList;

/// Exit latency from which a state is felt, in microseconds: a 4 KiB read from a good NVMe drive takes about as long.
const SLOW_US: u64 = 100;

/// Drivers in whose active mode the hardware chooses the frequency; `powersave` is their name for that (Linux:
/// Documentation/admin-guide/pm/intel_pstate.rst, amd-pstate.rst).
const HARDWARE_CHOOSES: [&str; 3] = ["intel_pstate", "amd-pstate-epp", "amd_pstate_epp"];

/// `performance-governor`
pub(super) fn governor(facts: &HostFacts) -> Outcome {
    let frequency = &facts.scheduling.frequency;
    let governors = match &frequency.governors {
        Fact::Known(governors) => governors,
        Fact::NotPresent => {
            return Outcome::not_applicable(
                "this kernel does not set frequencies, as in most virtual machines",
            );
        }
        unread => return Outcome::unread(unread, "how frequencies are chosen"),
    };
    let evidence = |outcome: Outcome| {
        governors.iter().fold(outcome, |outcome, (governor, cpus)| {
            outcome.evidence(
                "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
                format!("{governor} (CPUs {cpus})"),
            )
        })
    };
    let others = governors.iter().filter(|(governor, _)| *governor != "performance");
    let slow = others.fold(CpuList::default(), |all, (_, cpus)| all.union(cpus));
    if slow.is_empty() {
        return evidence(Outcome::pass("CPUs run at full speed under load"));
    }
    let (hardware, preference) = hardware_chooses(frequency);
    if hardware && preference == Some("performance") {
        return evidence(Outcome::pass(
            "the hardware chooses frequencies, and is told to prefer performance",
        ));
    }
    let outcome = evidence(Outcome::warn(format!("CPUs {slow} change their frequency with the load")));
    let outcome = match preference.filter(|_| hardware) {
        Some(preference) => outcome
            .evidence("/sys/devices/system/cpu/cpufreq/policy*/energy_performance_preference", preference)
            .cause(format!("the hardware chooses, and is told `{preference}`")),
        None => outcome.cause("their governor is the distribution's default, or that of a power profile"),
    };
    outcome.remedy(Remedy::command(
        "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
        "until the next boot; takes more power; tuned (`tuned-adm profile virtual-host`) or power-profiles-daemon \
         may set it back",
    ))
}

/// Whether the hardware chooses, and what it is told to prefer.
fn hardware_chooses(frequency: &Frequency) -> (bool, Option<&str>) {
    let chooses = frequency.driver.known().is_some_and(|driver| HARDWARE_CHOOSES.contains(&driver.as_str()));
    (chooses, frequency.energy_preference.known().map(String::as_str))
}

/// `performance-idle-states`
pub(super) fn idle_states(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how deep idle CPUs sleep";
    let idle = &facts.scheduling.idle;
    let states = match &idle.states {
        Fact::Known(states) => states,
        Fact::NotPresent => return Outcome::not_applicable("this kernel has no idle states to choose from"),
        unread => return Outcome::unread(unread, SUBJECT),
    };
    if let Some(state) = states.iter().find(|state| state.exit_latency_us.is_unread()) {
        return Outcome::unread(&state.exit_latency_us, SUBJECT);
    }
    let Some((deepest, latency_us)) = idle.deepest() else {
        return Outcome::not_applicable("every idle state is switched off");
    };
    let name = deepest.name.known().map_or("a state", String::as_str);
    let told = format!("{name}: {latency_us} microseconds");
    let place = format!("/sys/devices/system/cpu/cpu*/cpuidle/state{}/latency", deepest.number);
    if latency_us <= SLOW_US {
        return Outcome::pass(format!("idle CPUs wake up within {latency_us} microseconds"))
            .evidence(place, told);
    }
    Outcome::warn(format!("idle CPUs take up to {latency_us} microseconds to wake up"))
        .evidence(place, told)
        .cause(format!("{name} is switched on"))
        .remedy(Remedy::command(
            format!("sudo cpupower idle-set -D {SLOW_US}"),
            format!("switches states above {SLOW_US} microseconds off until the next boot; takes more power and heat"),
        ))
}

/// `performance-clock`
pub(super) fn clock(facts: &HostFacts) -> Outcome {
    let place = format!("{CLOCK}/current_clocksource");
    let clock = match &facts.scheduling.clock_source {
        Fact::Known(clock) => clock.as_str(),
        unread => return Outcome::unread(unread, "what the kernel tells time by"),
    };
    if clock == "tsc" {
        return Outcome::pass("the kernel tells time by the TSC").evidence(place, clock);
    }
    let of_hypervisor = clock == "kvm-clock" || clock.starts_with("hyperv") || clock == "xen";
    if of_hypervisor && facts.cpu.hypervisor.present != Fact::Known(false) {
        return Outcome::not_applicable("a virtual machine tells time by its hypervisor's clock")
            .evidence(place, clock);
    }
    let warn = Outcome::warn(format!("the kernel tells time by `{clock}`, which is slow to read"))
        .evidence(&place, clock);
    let argument = ["clocksource", "tsc"].into_iter().find_map(|name| {
        let value = facts.kernel.parameter(name).last()?;
        (value != "tsc" && value != "reliable").then(|| format!("{name}={value}"))
    });
    if let Some(argument) = argument {
        return warn
            .evidence("/proc/cmdline", facts.kernel.command_line.known().map_or("", String::as_str))
            .cause(format!("`{argument}` on the kernel's command line asks for it"))
            .remedy(Remedy::without_kernel_argument(facts, &argument));
    }
    let can =
        facts.scheduling.clock_sources.known().is_some_and(|names| names.iter().any(|name| name == "tsc"));
    if can {
        return warn
            .cause("somebody chose it since the boot: the TSC could be used")
            .remedy(Remedy::command(format!("echo tsc | sudo tee {place}"), "until the next boot"));
    }
    warn.cause("the kernel found the TSC unstable: it stops in idle states, or differs between CPUs")
        .remedy(Remedy::advice(
            "look for `tsc: Marking TSC unstable` in the kernel's log and update the firmware; in a virtual machine \
             let the hypervisor offer an invariant TSC; `tsc=reliable` only silences the doubt",
        ))
}
