//! CPUs that were set apart at boot: what the kernel's command line asks for, and what the kernel made of it.
//!
//! Linux: Documentation/admin-guide/kernel-parameters.txt, `isolcpus`, `nohz_full`, `rcu_nocbs`, `irqaffinity`.

use serde::Serialize;

use super::cpu_file;
use crate::host::fact::Fact;
use crate::host::kernel::Kernel;
use crate::host::parse;
use crate::host::source::Source;
use crate::host::topology::Topology;
use crate::spec::cpu_list::CpuList;

/// CPUs that were set apart at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Isolation {
    /// CPUs on which the scheduler places nothing by itself.
    pub isolated_cpus: Fact<CpuList>,
    /// CPUs without a timer tick while one task runs; absent where the kernel was built without that.
    pub nohz_full_cpus: Fact<CpuList>,
    /// What the command line asks for.
    pub arguments: IsolationArguments,
}

/// What the command line asks for; absent where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IsolationArguments {
    /// `isolcpus=`.
    pub isolcpus: Fact<IsolcpusArgument>,
    /// `nohz_full=`.
    pub nohz_full: Fact<CpuList>,
    /// `rcu_nocbs=`: CPUs whose deferred work of RCU others do.
    pub rcu_nocbs: Fact<CpuList>,
    /// `irqaffinity=`: CPUs that serve interrupts unless told otherwise.
    pub irqaffinity: Fact<CpuList>,
}

/// `isolcpus=[FLAGS,]CPUS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IsolcpusArgument {
    /// What is kept away: `domain` (tasks), `nohz` (ticks), `managed_irq` (interrupts that the kernel places).
    pub flags: Vec<String>,
    /// From which CPUs.
    pub cpus: CpuList,
}

/// The flags that the kernel knows.
const FLAGS: [&str; 3] = ["domain", "nohz", "managed_irq"];

/// Reads what was asked for and what it became.
pub(super) fn collect(source: &dyn Source, kernel: &Kernel, topology: &Topology) -> Isolation {
    let last = topology.possible_cpus.known().and_then(CpuList::last).unwrap_or(0);
    let argument = |name: &str| {
        argument(kernel, name).parse("/proc/cmdline", |text| CpuList::parse_argument(text, last))
    };
    Isolation {
        isolated_cpus: parse::cpus(source, &cpu_file("isolated")),
        nohz_full_cpus: parse::cpus(source, &cpu_file("nohz_full")),
        arguments: IsolationArguments {
            isolcpus: self::argument(kernel, "isolcpus").parse("/proc/cmdline", |text| isolcpus(text, last)),
            nohz_full: argument("nohz_full"),
            // Without a list it lets CPUs be chosen at run time.
            rcu_nocbs: argument("rcu_nocbs"),
            irqaffinity: argument("irqaffinity"),
        },
    }
}

/// The last value of parameter `name`; unread where the command line is.
fn argument<'a>(kernel: &'a Kernel, name: &'a str) -> Fact<&'a str> {
    kernel
        .command_line
        .as_ref()
        .and_then(|_| kernel.parameter(name).last().map_or(Fact::NotPresent, Fact::Known))
}

/// Flags come first; without one the kernel takes `domain` (Linux: kernel/sched/isolation.c,
/// `housekeeping_isolcpus_setup`).
fn isolcpus(text: &str, last: u32) -> Result<IsolcpusArgument, crate::spec::cpu_list::CpuListError> {
    let mut rest = text;
    let mut flags = Vec::new();
    while let Some((flag, behind)) = rest.split_once(',').filter(|(flag, _)| FLAGS.contains(flag)) {
        flags.push(flag.to_owned());
        rest = behind;
    }
    if flags.is_empty() {
        flags.push("domain".to_owned());
    }
    Ok(IsolcpusArgument { flags, cpus: CpuList::parse_argument(rest, last)? })
}
