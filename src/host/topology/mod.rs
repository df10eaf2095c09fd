//! Processors and memory as they lie: CPUs, the cores whose threads they are, and the nodes of a NUMA machine.
//!
//! Linux: Documentation/admin-guide/cputopology.rst; Documentation/ABI/stable/sysfs-devices-node.

mod nodes;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;

pub use nodes::Node;

/// Where the kernel shows CPUs.
pub const CPUS: &str = "/sys/devices/system/cpu";
/// Where the kernel shows nodes.
pub const NODES: &str = nodes::DIRECTORY;

/// Where CPUs and memory are.
#[derive(Debug, Clone, Serialize)]
pub struct Topology {
    /// CPUs that this kernel could ever run.
    pub possible_cpus: Fact<CpuList>,
    /// CPUs that run.
    pub online_cpus: Fact<CpuList>,
    /// CPUs that do not.
    pub offline_cpus: Fact<CpuList>,
    /// The switch for several threads on a core: `on`, `off`, `forceoff`, `notsupported`, `notimplemented`.
    pub smt_control: Fact<String>,
    /// Whether a core runs several threads now.
    pub smt_active: Fact<bool>,
    /// The CPUs that share a core, for each core that runs; absent where the kernel does not show it.
    pub cores: Fact<Vec<CpuList>>,
    /// Processors in sockets.
    pub packages: Fact<u32>,
    /// Nodes, by number; absent if the kernel knows of no NUMA.
    pub nodes: Fact<Vec<Node>>,
}

/// Reads where CPUs and memory are.
pub(super) fn collect(source: &dyn Source) -> Topology {
    let list = |name: &str| {
        let path = format!("{CPUS}/{name}");
        parse::required(parse::cpus(source, &path), &path)
    };
    let online_cpus = list("online");
    let cores = online_cpus.as_ref().and_then(|online| cores(source, online));
    Topology {
        possible_cpus: list("possible"),
        offline_cpus: list("offline"),
        smt_control: parse::optional_text(source, &format!("{CPUS}/smt/control")),
        smt_active: parse::flag(source, &format!("{CPUS}/smt/active")),
        packages: cores.as_ref().and_then(|cores| packages(source, cores)),
        cores,
        online_cpus,
        nodes: nodes::collect(source),
    }
}

/// Asks the first thread of each core who its siblings are.
fn cores(source: &dyn Source, online: &CpuList) -> Fact<Vec<CpuList>> {
    let mut cores = Vec::<CpuList>::new();
    let mut seen = CpuList::default();
    for cpu in online.iter() {
        if seen.contains(cpu) {
            continue;
        }
        match parse::cpus(source, &format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list")) {
            Fact::Known(siblings) => {
                seen = seen.union(&siblings);
                cores.push(siblings);
            }
            unknown => return unknown.map(|_| Vec::new()),
        }
    }
    Fact::Known(cores)
}

fn packages(source: &dyn Source, cores: &[CpuList]) -> Fact<u32> {
    let mut packages = std::collections::BTreeSet::new();
    for cpu in cores.iter().filter_map(|core| core.iter().next()) {
        match source.text(&format!("{CPUS}/cpu{cpu}/topology/physical_package_id")) {
            Fact::Known(id) => drop(packages.insert(id)),
            unknown => return unknown.map(|_| 0),
        }
    }
    Fact::Known(u32::try_from(packages.len()).unwrap_or(u32::MAX))
}

impl Topology {
    /// The nodes that were read; none where the kernel knows of no NUMA.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        self.nodes.known().map_or(&[], Vec::as_slice)
    }

    /// Node `number`, if there is one.
    #[must_use]
    pub fn node(&self, number: u32) -> Option<&Node> {
        self.nodes().iter().find(|node| node.number == number)
    }

    /// Most threads that a core has.
    #[must_use]
    pub fn threads_per_core(&self) -> Option<usize> {
        self.cores.known()?.iter().map(CpuList::count).max()
    }
}
