//! Who shares CPUs out at run time: control groups, systemd, irqbalance.
//!
//! Linux: Documentation/admin-guide/cgroup-v2.rst, "Cpuset"; systemd: sd_booted(3).

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;

const ROOT: &str = "/sys/fs/cgroup";

/// Control groups, as far as they share CPUs out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlGroups {
    /// Which interface the host uses; absent if no control groups are mounted.
    pub version: Fact<CgroupVersion>,
    /// Whether groups can be given CPUs and nodes of their own (controller `cpuset`); absent without control groups.
    pub cpuset: Fact<bool>,
    /// CPUs in partitions of the kind `isolated`; absent before Linux 6.7.
    pub isolated_cpus: Fact<CpuList>,
}

/// Interfaces of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// One tree.
    V2,
    /// A tree for each controller; the second version may be mounted beside them.
    V1,
}

/// Reads how CPUs are shared out.
pub(super) fn collect(source: &dyn Source) -> ControlGroups {
    let controllers = source.text(&format!("{ROOT}/cgroup.controllers"));
    let (version, cpuset) = match &controllers {
        Fact::Known(names) => (
            Fact::Known(CgroupVersion::V2),
            Fact::Known(names.split_ascii_whitespace().any(|name| name == "cpuset")),
        ),
        Fact::NotPresent => match source.list(ROOT) {
            Fact::Known(names) if names.is_empty() => (Fact::NotPresent, Fact::NotPresent),
            names => (
                names.as_ref().map(|_| CgroupVersion::V1),
                names.map(|names| names.iter().any(|name| name.split(',').any(|part| part == "cpuset"))),
            ),
        },
        unread => (unread.as_ref().map(|_| CgroupVersion::V2), unread.as_ref().map(|_| false)),
    };
    ControlGroups {
        version,
        cpuset,
        isolated_cpus: parse::cpus(source, &format!("{ROOT}/cpuset.cpus.isolated")),
    }
}

/// systemd makes this directory before all else, for this question.
pub(super) fn systemd(source: &dyn Source) -> Fact<bool> {
    match source.list("/run/systemd/system") {
        Fact::NotPresent => crate::host::list_or_empty(source, "/run/systemd", "/run").map(|_| false),
        names => names.map(|_| true),
    }
}

/// Whether irqbalance runs: its service has a group while it does. Looking through all processes would cost a file each,
/// and a list of all services would put their names into captures.
pub(super) fn irqbalance(source: &dyn Source) -> Fact<bool> {
    // The slice of the second version and of the first, each with a file that every group of it has.
    for (slice, file) in
        [("system.slice", "cgroup.controllers"), ("systemd/system.slice", "notify_on_release")]
    {
        match source.list(&format!("{ROOT}/{slice}/irqbalance.service")) {
            Fact::NotPresent if source.text(&format!("{ROOT}/{slice}/{file}")).known().is_some() => {
                return Fact::Known(false);
            }
            Fact::NotPresent => {}
            names => return names.map(|_| true),
        }
    }
    Fact::Unreadable {
        source: format!("{ROOT}/system.slice"),
        reason: "no groups of systemd's services are shown here, which would tell".to_owned(),
    }
}
