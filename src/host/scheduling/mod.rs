//! What decides when and how fast a CPU runs a guest: isolation from the host's other work, control groups, frequency
//! and idle states, the clock, and what the kernel does against vulnerabilities of the processor.

mod groups;
mod isolation;
mod power;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::Source;
use crate::host::topology::{CPUS, Topology};
use crate::spec::cpu_list::CpuList;

pub use groups::{CgroupVersion, ControlGroups};
pub use isolation::{Isolation, IsolationArguments, IsolcpusArgument};
pub use power::{Frequency, Idle, IdleState};

/// Where the kernel shows its clock sources.
pub const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
/// Where the kernel shows vulnerabilities of the processor.
pub const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";
/// Whether the kernel moves memory to the node that uses it.
pub const NUMA_BALANCING: &str = "/proc/sys/kernel/numa_balancing";

/// When and how fast CPUs run.
#[derive(Debug, Clone, Serialize)]
pub struct Scheduling {
    /// CPUs that were set apart at boot.
    pub isolation: Isolation,
    /// Control groups, which set CPUs apart at run time.
    pub control_groups: ControlGroups,
    /// Whether systemd runs this host.
    pub systemd: Fact<bool>,
    /// Whether irqbalance runs, which moves interrupts between CPUs.
    pub irqbalance: Fact<bool>,
    /// How fast CPUs run; absent parts where the kernel does not decide that, as in most virtual machines.
    pub frequency: Frequency,
    /// How deep idle CPUs sleep.
    pub idle: Idle,
    /// What the kernel tells time by: `tsc`, `hpet`, `kvm-clock`.
    pub clock_source: Fact<String>,
    /// What it could tell time by.
    pub clock_sources: Fact<Vec<String>>,
    /// What the kernel says of each vulnerability of the processor, by its name there.
    pub vulnerabilities: Fact<BTreeMap<String, String>>,
    /// Whether the kernel moves memory to the node that uses it; absent where it cannot.
    pub numa_balancing: Fact<bool>,
}

/// Reads what decides when and how fast CPUs run.
pub(super) fn collect(source: &dyn Source, kernel: &Kernel, topology: &Topology) -> Scheduling {
    Scheduling {
        isolation: isolation::collect(source, kernel, topology),
        control_groups: groups::collect(source),
        systemd: groups::systemd(source),
        irqbalance: groups::irqbalance(source),
        frequency: power::frequency(source),
        idle: power::idle(source, topology),
        clock_source: parse::optional_text(source, &format!("{CLOCK}/current_clocksource")),
        clock_sources: source
            .text(&format!("{CLOCK}/available_clocksource"))
            .map(|text| text.split_ascii_whitespace().map(str::to_owned).collect()),
        vulnerabilities: vulnerabilities(source),
        // 1 balances; 2 promotes between tiers of memory, which moves it, too (Linux 5.18).
        numa_balancing: parse::number::<u32>(source, NUMA_BALANCING, 10).map(|mode| mode != 0),
    }
}

impl Scheduling {
    /// Vulnerabilities that nothing is done against, with the kernel's words.
    pub fn open_vulnerabilities(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.vulnerabilities.known().into_iter().flatten();
        let texts = texts.map(|(name, text)| (name.as_str(), text.as_str()));
        texts.filter(|(_, text)| text.trim_start_matches("KVM: ").starts_with("Vulnerable"))
    }

    /// CPUs that are set apart, at boot or in a partition of control groups.
    #[must_use]
    pub fn isolated_cpus(&self) -> CpuList {
        let all = [&self.isolation.isolated_cpus, &self.control_groups.isolated_cpus];
        all.into_iter().filter_map(Fact::known).fold(CpuList::default(), |all, cpus| all.union(cpus))
    }
}

/// Linux: Documentation/ABI/testing/sysfs-devices-system-cpu, `vulnerabilities`.
fn vulnerabilities(source: &dyn Source) -> Fact<BTreeMap<String, String>> {
    source.list(VULNERABILITIES).and_then(|names| {
        let mut texts = BTreeMap::new();
        for name in names {
            match source.text(&format!("{VULNERABILITIES}/{name}")) {
                Fact::Known(text) => drop(texts.insert(name, text.trim().to_owned())),
                Fact::NotPresent => {}
                unknown => return unknown.map(|_| BTreeMap::new()),
            }
        }
        Fact::Known(texts)
    })
}

/// The directory that the kernel shows CPUs in, for what stands beside a topology.
fn cpu_file(name: &str) -> String {
    format!("{CPUS}/{name}")
}
