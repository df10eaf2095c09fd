//! What decides when and how fast CPUs run: isolation, frequency, idle states, the clock, vulnerabilities.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::scheduling::{CgroupVersion, Frequency, Idle, IdleState, Scheduling};
use crate::report::style::Tone;
use crate::spec::cpu_list::CpuList;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let scheduling = &facts.scheduling;
    text.section("Scheduling and power");
    isolation(text, scheduling);
    text.line("control groups", (Tone::Plain, control_groups(scheduling)));
    text.line("frequency", (Tone::Plain, frequency(&scheduling.frequency)));
    text.line("idle states", (Tone::Plain, idle(&scheduling.idle)));
    text.line("clock", (Tone::Plain, clock(scheduling)));
    text.line("NUMA balancing", (Tone::Plain, word(&scheduling.numa_balancing, |on| on_or_off(*on))));
    text.line(
        "irqbalance",
        (
            Tone::Plain,
            word(&scheduling.irqbalance, |runs| if *runs { "runs" } else { "does not run" }.to_owned()),
        ),
    );
    vulnerabilities(text, scheduling);
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

fn isolation(text: &mut Text, scheduling: &Scheduling) {
    let list = |cpus: &CpuList| if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() };
    let isolation = &scheduling.isolation;
    text.line("isolated CPUs", (Tone::Plain, word(&isolation.isolated_cpus, list)));
    if let Some(cpus) = isolation.nohz_full_cpus.known().filter(|cpus| !cpus.is_empty()) {
        text.line("without a tick", (Tone::Plain, cpus.to_string()));
    }
    if let Some(cpus) = scheduling.control_groups.isolated_cpus.known().filter(|cpus| !cpus.is_empty()) {
        text.line("isolated partitions", (Tone::Plain, cpus.to_string()));
    }
}

fn control_groups(scheduling: &Scheduling) -> String {
    let groups = &scheduling.control_groups;
    let version = word(&groups.version, |version| match version {
        CgroupVersion::V2 => "version 2".to_owned(),
        CgroupVersion::V1 => "version 1".to_owned(),
    });
    match groups.cpuset {
        Fact::Known(true) => format!("{version}, CPUs can be shared out (cpuset)"),
        Fact::Known(false) => format!("{version}, CPUs cannot be shared out (no cpuset)"),
        _ => version,
    }
}

fn frequency(frequency: &Frequency) -> String {
    let governors = match &frequency.governors {
        Fact::Known(governors) => governors,
        Fact::NotPresent => return "not set by this kernel, as in most virtual machines".to_owned(),
        unread => return word(unread, |_| String::new()),
    };
    let parts = governors.iter().map(|(governor, cpus)| format!("{governor} (CPUs {cpus})"));
    let preference = frequency.energy_preference.known().map(|word| format!("preference {word}"));
    let boost = frequency.boost.known().map(|on| format!("boost {}", on_or_off(*on)));
    let words: Vec<_> = parts.chain(preference).chain(boost).collect();
    format!("{}; by {}", words.join(", "), word(&frequency.driver, Clone::clone))
}

fn idle(idle: &Idle) -> String {
    let states = match &idle.states {
        Fact::Known(states) => states,
        Fact::NotPresent => return "the kernel has none here".to_owned(),
        unread => return word(unread, |_| String::new()),
    };
    let state = |state: &IdleState| {
        let off = if state.disabled == Fact::Known(true) { " (off)" } else { "" };
        format!(
            "{} {} us{off}",
            word(&state.name, Clone::clone),
            word(&state.exit_latency_us, u64::to_string)
        )
    };
    let words: Vec<_> = states.iter().map(state).collect();
    format!("{}; by {}", words.join(", "), word(&idle.driver, Clone::clone))
}

fn clock(scheduling: &Scheduling) -> String {
    let others: Vec<_> = scheduling
        .clock_sources
        .known()
        .into_iter()
        .flatten()
        .filter(|name| scheduling.clock_source.known() != Some(*name))
        .map(String::as_str)
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; others: {}", others.join(", ")) };
    word(&scheduling.clock_source, Clone::clone) + &others
}

/// How many of each kind, and the names of those that are open.
fn vulnerabilities(text: &mut Text, scheduling: &Scheduling) {
    let texts = match &scheduling.vulnerabilities {
        Fact::Known(texts) => texts,
        unread => return text.line("vulnerabilities", (Tone::Plain, word(unread, |_| String::new()))),
    };
    let open: Vec<_> = scheduling.open_vulnerabilities().map(|(name, _)| name).collect();
    let absent = texts.values().filter(|text| text.starts_with("Not affected")).count();
    let tone = if open.is_empty() { Tone::Plain } else { Tone::Notice };
    let open = if open.is_empty() { "none open".to_owned() } else { format!("open: {}", open.join(", ")) };
    let words = format!("{} known, {absent} not in this processor, {open}", texts.len());
    text.line("vulnerabilities", (tone, words));
}
