//! How fast CPUs run and how deep they sleep.
//!
//! Linux: Documentation/admin-guide/pm/{cpufreq,cpuidle,intel_pstate,amd-pstate}.rst.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cpu_file;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::host::topology::Topology;
use crate::spec::cpu_list::CpuList;

/// How fast CPUs run. In most virtual machines the hypervisor decides that, and all of this is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frequency {
    /// The kernel's driver: `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`.
    pub driver: Fact<String>,
    /// CPUs by the governor that chooses their frequency.
    pub governors: Fact<BTreeMap<String, CpuList>>,
    /// What the first CPU tells hardware that chooses the frequency itself: `performance`, `balance_power`.
    pub energy_preference: Fact<String>,
    /// Whether CPUs may run faster than their nominal frequency.
    pub boost: Fact<bool>,
}

/// How deep idle CPUs sleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Idle {
    /// The kernel's driver: `intel_idle`, `acpi_idle`; absent where it has none.
    pub driver: Fact<String>,
    /// What chooses among the states: `menu`, `teo`, `haltpoll`.
    pub governor: Fact<String>,
    /// The states of the first CPU that runs, the lightest first; absent where the kernel has none.
    pub states: Fact<Vec<IdleState>>,
}

/// A state in which an idle CPU waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdleState {
    /// Number.
    pub number: u32,
    /// Name: `POLL`, `C1E`, `C6`.
    pub name: Fact<String>,
    /// How long it takes to leave it, in microseconds.
    pub exit_latency_us: Fact<u64>,
    /// Whether it is switched off.
    pub disabled: Fact<bool>,
}

/// Reads how fast CPUs run.
pub(super) fn frequency(source: &dyn Source) -> Frequency {
    let directory = cpu_file("cpufreq");
    let policies = source.list(&directory).map(|names| {
        let policies = names.into_iter().filter(|name| name.starts_with("policy"));
        policies.map(|name| format!("{directory}/{name}")).collect::<Vec<_>>()
    });
    // A kernel with a driver for none of its CPUs has the directory, and nothing in it.
    let first = policies.as_ref().and_then(|policies| match policies.first() {
        Some(first) => Fact::Known(first.clone()),
        None => Fact::NotPresent,
    });
    let of_first = |file: &str| {
        first.as_ref().and_then(|policy| parse::optional_text(source, &format!("{policy}/{file}")))
    };
    Frequency {
        driver: of_first("scaling_driver"),
        energy_preference: of_first("energy_performance_preference"),
        governors: first.as_ref().and_then(|_| policies.as_ref().and_then(|all| governors(source, all))),
        boost: boost(source),
    }
}

fn governors(source: &dyn Source, policies: &[String]) -> Fact<BTreeMap<String, CpuList>> {
    let mut governors = BTreeMap::<String, CpuList>::new();
    for policy in policies {
        let (file, cpus) = (format!("{policy}/scaling_governor"), format!("{policy}/affected_cpus"));
        let governor = parse::required(source.text(&file), &file);
        let cpus = source.text(&cpus).parse(&cpus, |text| {
            // Spaces instead of commas, and never a range.
            text.split_ascii_whitespace().collect::<Vec<_>>().join(",").parse::<CpuList>()
        });
        match (governor, cpus) {
            (Fact::Known(governor), Fact::Known(cpus)) => {
                let known = governors.entry(governor.trim().to_owned()).or_default();
                *known = known.union(&cpus);
            }
            // All of its CPUs are offline.
            (_, Fact::NotPresent) => {}
            (Fact::Known(_), unread) => return unread.map(|_| BTreeMap::new()),
            (unread, _) => return unread.map(|_| BTreeMap::new()),
        }
    }
    Fact::Known(governors)
}

/// `intel_pstate` has a switch of its own, which says no where the other says yes.
fn boost(source: &dyn Source) -> Fact<bool> {
    match parse::flag(source, &cpu_file("intel_pstate/no_turbo")) {
        Fact::NotPresent => parse::flag(source, &cpu_file("cpufreq/boost")),
        no_turbo => no_turbo.map(|off| !off),
    }
}

/// Reads how deep CPUs sleep.
pub(super) fn idle(source: &dyn Source, topology: &Topology) -> Idle {
    // Without a driver the file holds the word `none`.
    let setting = |name: &str| {
        parse::optional_text(source, &cpu_file(&format!("cpuidle/{name}")))
            .and_then(|text| if text == "none" { Fact::NotPresent } else { Fact::Known(text) })
    };
    let first = topology.online_cpus.known().and_then(|cpus| cpus.iter().next()).unwrap_or(0);
    let directory = cpu_file(&format!("cpu{first}/cpuidle"));
    let states = source.list(&directory).map(|names| {
        let numbers = names.iter().filter_map(|name| name.strip_prefix("state")?.parse::<u32>().ok());
        let mut states: Vec<_> = numbers.map(|number| state(source, &directory, number)).collect();
        states.sort_unstable_by_key(|state| state.number);
        states
    });
    Idle { driver: setting("current_driver"), governor: setting("current_governor"), states }
}

fn state(source: &dyn Source, directory: &str, number: u32) -> IdleState {
    let path = |name: &str| format!("{directory}/state{number}/{name}");
    IdleState {
        number,
        name: parse::optional_text(source, &path("name")),
        exit_latency_us: parse::number(source, &path("latency"), 10),
        // Bit 0 is the user's choice, bit 1 the driver's (Linux: include/linux/cpuidle.h).
        disabled: parse::number::<u64>(source, &path("disable"), 10).map(|disabled| disabled != 0),
    }
}

impl Idle {
    /// The state that takes longest to leave, of those that are switched on.
    #[must_use]
    pub fn deepest(&self) -> Option<(&IdleState, u64)> {
        let on = self.states.known()?.iter().filter(|state| state.disabled != Fact::Known(true));
        on.filter_map(|state| Some((state, *state.exit_latency_us.known()?)))
            .max_by_key(|(_, latency)| *latency)
    }
}
