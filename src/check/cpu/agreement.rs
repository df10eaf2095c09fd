//! Whether all CPUs are the same.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::cpu::Difference;
use crate::host::fact::Fact;

const CPUINFO: &str = "/proc/cpuinfo";
/// How many differing CPUs are told one by one.
const TOLD: usize = 4;

/// `cpu-same-features`
pub(super) fn features(facts: &HostFacts) -> Outcome {
    differing(facts, |difference| difference.field != "microcode").unwrap_or_else(|different| {
        tell("CPUs differ in what they can do", &different)
            .cause("firmware set them up differently, or they are of different kinds")
            .remedy(Remedy::advice(
                "update the firmware; until then pin guests to CPUs that are alike (`taskset`, isolcpus)",
            ))
    })
}

/// `cpu-same-microcode`
pub(super) fn microcode(facts: &HostFacts) -> Outcome {
    differing(facts, |difference| difference.field == "microcode").unwrap_or_else(|different| {
        tell("CPUs run different microcode", &different)
            .cause("an update reached some of them only: loaded late, or by a firmware that forgot some")
            .remedy(
                Remedy::advice(
                    "install the distribution's package of microcode and reboot: it is loaded early then",
                )
                .after_reboot(),
            )
            .remedy(Remedy::advice("update the firmware"))
    })
}

/// The answer where all CPUs agree or nobody can say; else how they differ.
fn differing(facts: &HostFacts, of: fn(&&Difference) -> bool) -> Result<Outcome, Vec<&Difference>> {
    let differences = match &facts.cpu.differences {
        Fact::Known(differences) => differences,
        unread => return Ok(Outcome::unread(unread, "whether all CPUs are the same")),
    };
    let different: Vec<_> = differences.iter().filter(of).collect();
    if !different.is_empty() {
        return Err(different);
    }
    match &facts.cpu.online {
        Fact::Known(0) => Ok(Outcome::unknown("no CPU is listed").evidence(CPUINFO, "no line `processor`")),
        Fact::Known(count) => {
            Ok(Outcome::pass("all CPUs are the same in this")
                .evidence(CPUINFO, format!("{count} CPUs agree")))
        }
        unread => Ok(Outcome::unread(unread, "which CPUs there are")),
    }
}

fn tell(summary: &str, different: &[&Difference]) -> Outcome {
    let mut cpus: Vec<_> = different.iter().map(|difference| difference.cpu).collect();
    cpus.dedup();
    let numbers: Vec<_> = cpus.iter().take(TOLD).map(ToString::to_string).collect();
    let more = if cpus.len() > TOLD { format!(" and {} more", cpus.len() - TOLD) } else { String::new() };
    let warn = Outcome::warn(format!("{summary}: unlike CPU 0 is CPU {}{more}", numbers.join(", ")));
    different.iter().take(TOLD).fold(warn, |outcome, Difference { cpu, field, here, first }| {
        outcome.evidence(format!("{CPUINFO}, `{field}` of CPU {cpu}"), format!("`{here}`, CPU 0 `{first}`"))
    })
}
