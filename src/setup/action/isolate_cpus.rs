//! CPUs are set apart at run time: the scheduler places nothing on them but what is put into their control group.
//!
//! The group is [`GROUP`], made by us: a cpuset partition of the kind `isolated`, whose CPUs every other process loses. A
//! machine gets them when the process that starts it is put into the group (`echo $$ >/sys/fs/cgroup/thruway/cgroup.procs`).
//! The kernel takes any partition and says afterwards, in the same file, that it is not valid and why; then nothing is set
//! apart, so that is an error and no weaker kind is tried. A partition that others have on the same CPUs would cease to be
//! valid (Linux 6.12), so that is looked for before. The group hands the controller on to groups below it that there
//! are none of: the kernel then keeps others (systemd, when its units change) from taking the controller away from above.
//! The controller is switched off again only if no other group has come to use it.
//! Spec: Linux: Documentation/admin-guide/cgroup-v2.rst, "Cpuset"; partitions of this kind since Linux 6.1.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Act, ActionError, Footprint, Object, Standing, optional, required};
use crate::host::fact::Fact;
use crate::setup::control::{Control, ControlError};
use crate::spec::cpu_list::CpuList;

/// Where control groups are.
pub(in crate::setup) const ROOT: &str = "/sys/fs/cgroup";
/// Our group.
pub const GROUP: &str = "/sys/fs/cgroup/thruway";
const NAME: &str = "thruway";
const ISOLATED: &str = "isolated";
const MEMBER: &str = "member";
/// How long a write to a control group may take: the kernel moves every process off the CPUs.
const GROUP_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolateCpus {
    /// CPUs that should be set apart, together with those that the group has already.
    pub cpus: CpuList,
}

/// Our control group and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Whether groups below the root have the controller `cpuset`.
    controller: bool,
    /// Whether another group makes use of that.
    others: bool,
    group: Option<GroupState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct GroupState {
    cpus: CpuList,
    /// Kind of partition: `member` (none), `root` or `isolated`.
    kind: String,
    /// Why it is not valid, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Whether it hands the controller on.
    hands_on: bool,
}

impl PartitionState {
    /// Whether the group is as in `other`, and the controller too, unless it stays for others.
    fn is_back_to(&self, other: &Self) -> bool {
        self.group == other.group && (self.controller == other.controller || (self.controller && self.others))
    }

    fn cpus(&self) -> CpuList {
        self.group.as_ref().map(|group| group.cpus.clone()).unwrap_or_default()
    }
}

fn file(name: &str) -> String {
    format!("{GROUP}/{name}")
}

fn text(control: &dyn Control, path: &str) -> Result<Option<String>, ActionError> {
    Ok(optional(path, control.source().text(path))?.map(|text| text.trim().to_owned()))
}

fn has_controller(control: &dyn Control, group: &str) -> Result<Option<bool>, ActionError> {
    let text = text(control, &format!("{group}/cgroup.subtree_control"))?;
    Ok(text.map(|text| text.split_ascii_whitespace().any(|name| name == "cpuset")))
}

fn group(control: &dyn Control) -> Result<Option<GroupState>, ActionError> {
    let Some(hands_on) = has_controller(control, GROUP)? else { return Ok(None) };
    let path = file("cpuset.cpus");
    let cpus = control.source().text(&path).parse(&path, |text| text.trim().parse::<CpuList>());
    // Without the controller the group has no such files, and is nothing but a member.
    let partition = text(control, &file("cpuset.cpus.partition"))?.unwrap_or_else(|| MEMBER.to_owned());
    let (kind, problem) = match partition.split_once(" invalid") {
        Some((kind, why)) => (kind, Some(why.trim_matches([' ', '(', ')']).to_owned())),
        None => (partition.as_str(), None),
    };
    let cpus = optional(&path, cpus)?.unwrap_or_default();
    Ok(Some(GroupState { cpus, kind: kind.to_owned(), problem, hands_on }))
}

/// Whether a group other than ours was given CPUs, or hands the controller on.
fn others(control: &dyn Control) -> Result<bool, ActionError> {
    for name in required(ROOT, control.source().list(ROOT))? {
        let other = format!("{ROOT}/{name}");
        if name != NAME
            && (has_controller(control, &other)? == Some(true)
                || text(control, &format!("{other}/cpuset.cpus"))?.is_some_and(|cpus| !cpus.is_empty()))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The groups beside ours that have the controller.
fn siblings(control: &dyn Control) -> Result<Vec<String>, ActionError> {
    let names = required(ROOT, control.source().list(ROOT))?;
    let paths = names.iter().filter(|name| *name != NAME).map(|name| format!("{ROOT}/{name}"));
    let has =
        |path: &String| control.source().text(&format!("{path}/cpuset.cpus.partition")) != Fact::NotPresent;
    Ok(paths.filter(has).collect())
}

/// Those of `cpus` that stand in `file` of `group`.
fn common(control: &dyn Control, group: &str, file: &str, cpus: &CpuList) -> Result<CpuList, ActionError> {
    let path = format!("{group}/{file}");
    let theirs = control.source().text(&path).parse(&path, |text| text.trim().parse::<CpuList>());
    Ok(optional(&path, theirs)?.unwrap_or_default().intersection(cpus))
}

/// Fails if another group has a partition, at it or below it, with some of `cpus`.
fn nobody_else_has(control: &dyn Control, cpus: &CpuList) -> Result<(), String> {
    let find = || {
        for group in siblings(control)? {
            let kind = text(control, &format!("{group}/cpuset.cpus.partition"))?;
            let own = kind.is_some_and(|kind| kind != MEMBER).then_some("cpuset.cpus");
            // Since Linux 6.7 this is what is set aside for partitions further below, too.
            for file in own.into_iter().chain(["cpuset.cpus.exclusive"]) {
                let common = common(control, &group, file, cpus)?;
                if !common.is_empty() {
                    return Ok(Some((group, common)));
                }
            }
        }
        Ok::<_, ActionError>(None)
    };
    match find() {
        Ok(None) => Ok(()),
        Ok(Some((group, cpus))) => {
            Err(format!("that {group} has CPUs {cpus} in a partition; name others, or end that"))
        }
        Err(error) => Err(format!("that it cannot be told who has them: {error}")),
    }
}

impl IsolateCpus {
    fn wanted(&self, prior: &PartitionState) -> CpuList {
        prior.cpus().union(&self.cpus)
    }

    fn refused(&self, found: String) -> ActionError {
        ActionError::NotReached {
            subject: Object::IsolatedCpus.to_string(),
            expected: format!("CPUs {} to be set apart", self.cpus),
            found,
        }
    }

    /// Makes the group a partition of the kind `isolated`, and tells what the kernel thinks of it.
    fn isolate(&self, control: &dyn Control) -> Result<(), ActionError> {
        let older = |error: &io::Error| error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32);
        match control.write(&file("cpuset.cpus.partition"), ISOLATED, GROUP_LIMIT) {
            Err(ControlError::Write { source, .. }) if older(&source) => {
                return Err(self.refused(
                    "a kernel that has no partitions of the kind `isolated`, as Linux 6.1 and later do; set them \
                     apart at boot instead (`isolcpus=`)"
                        .to_owned(),
                ));
            }
            result => result?,
        }
        match group(control)? {
            Some(GroupState { problem: Some(problem), cpus, .. }) => {
                let mut found = format!("that the kernel does not take the partition: {problem}");
                for group in siblings(control)? {
                    let common = common(control, &group, "cpuset.cpus", &cpus)?;
                    if !common.is_empty() {
                        found.push_str(&format!("; {group} was given CPUs {common} too"));
                    }
                }
                Err(self.refused(found))
            }
            _ => Ok(()),
        }
    }
}

impl Act for IsolateCpus {
    type State = PartitionState;

    fn observe(&self, control: &dyn Control) -> Result<PartitionState, ActionError> {
        let path = format!("{ROOT}/cgroup.subtree_control");
        let controller = has_controller(control, ROOT)?;
        let controller =
            controller.ok_or(ActionError::Unread { path, reason: "it does not exist".to_owned() })?;
        Ok(PartitionState { controller, others: others(control)?, group: group(control)? })
    }

    fn act(&self, prior: &PartitionState, control: &dyn Control) -> Result<(), ActionError> {
        nobody_else_has(control, &self.cpus).map_err(|found| self.refused(found))?;
        if !prior.controller {
            control.write(&format!("{ROOT}/cgroup.subtree_control"), "+cpuset", GROUP_LIMIT)?;
        }
        if prior.group.is_none() {
            control.make_directory(GROUP, GROUP_LIMIT)?;
        }
        if !prior.group.as_ref().is_some_and(|group| group.hands_on) {
            control.write(&file("cgroup.subtree_control"), "+cpuset", GROUP_LIMIT)?;
        }
        control.write(&file("cpuset.cpus"), &self.wanted(prior).to_string(), GROUP_LIMIT)?;
        self.isolate(control)
    }

    fn may_revert(&self, prior: &PartitionState, control: &dyn Control) -> Result<(), ActionError> {
        if prior.group.is_some() || group(control)?.is_none() {
            return Ok(()); // the group stays, or is gone
        }
        let in_use = |by: String| Err(ActionError::InUse { subject: Object::IsolatedCpus, by });
        let processes = text(control, &file("cgroup.procs"))?.unwrap_or_default();
        if let Some(id) = processes.lines().next() {
            let name = text(control, &format!("/proc/{id}/comm"))?.unwrap_or_default();
            return in_use(format!("process {id} ({}) is in the group", name.escape_debug()));
        }
        let below = text(control, &file("cgroup.stat"))?.unwrap_or_default();
        let below = below.lines().find_map(|line| line.strip_prefix("nr_descendants "));
        match below {
            None | Some("0") => Ok(()),
            Some(count) => in_use(format!("it has {count} groups below it")),
        }
    }

    fn revert(&self, prior: &PartitionState, control: &dyn Control) -> Result<(), ActionError> {
        self.may_revert(prior, control)?;
        let now = self.observe(control)?;
        match (&now.group, &prior.group) {
            (Some(now), None) => {
                if now.kind != MEMBER {
                    control.write(&file("cpuset.cpus.partition"), MEMBER, GROUP_LIMIT)?;
                }
                control.remove_directory(GROUP, GROUP_LIMIT)?;
            }
            (Some(now), Some(prior)) => {
                if now.kind != prior.kind && now.kind != MEMBER {
                    control.write(&file("cpuset.cpus.partition"), MEMBER, GROUP_LIMIT)?;
                }
                if now.cpus != prior.cpus {
                    control.write(&file("cpuset.cpus"), &format!("{}\n", prior.cpus), GROUP_LIMIT)?;
                }
                if now.kind != prior.kind && prior.kind != MEMBER {
                    control.write(&file("cpuset.cpus.partition"), &prior.kind, GROUP_LIMIT)?;
                }
                if now.hands_on && !prior.hands_on {
                    control.write(&file("cgroup.subtree_control"), "-cpuset", GROUP_LIMIT)?;
                }
            }
            (None, _) => {}
        }
        if now.controller && !prior.controller && !now.others {
            control.write(&format!("{ROOT}/cgroup.subtree_control"), "-cpuset", GROUP_LIMIT)?;
        }
        Ok(())
    }

    fn standing(&self, prior: &PartitionState, now: &PartitionState) -> Standing {
        let wanted = self.wanted(prior);
        let Some(group) = &now.group else {
            return match prior.group {
                None if now.is_back_to(prior) => Standing::Before,
                None => Standing::Between,
                Some(_) => Standing::Gone,
            };
        };
        if group.kind == ISOLATED && group.problem.is_none() && group.hands_on && group.cpus == wanted {
            return Standing::Applied;
        }
        if now.is_back_to(prior) {
            return Standing::Before;
        }
        let kind_before = prior.group.as_ref().map_or(MEMBER, |group| group.kind.as_str());
        let is_ours = [ISOLATED, MEMBER, kind_before].contains(&group.kind.as_str())
            && (group.cpus.is_empty() || group.cpus == wanted || group.cpus == prior.cpus());
        // A partition that is complete and stopped being valid was not left so by us.
        if is_ours && (group.problem.is_none() || group.cpus != wanted) {
            return Standing::Between;
        }
        let problem = group.problem.as_ref().map(|problem| format!(", not valid ({problem})"));
        Standing::Drifted(format!(
            "partition `{}` of CPUs {}{}",
            group.kind,
            group.cpus,
            problem.unwrap_or_default()
        ))
    }

    fn footprint(&self, _prior: &PartitionState) -> Footprint {
        Footprint { changes: vec![Object::IsolatedCpus], needs: Vec::new() }
    }

    fn describe(&self) -> String {
        format!("set CPUs {} apart for who is in control group {GROUP}", self.cpus)
    }

    fn describe_undo(&self, prior: &PartitionState) -> String {
        format!("give CPUs {} back to everybody", self.cpus.without(&prior.cpus()))
    }
}

#[cfg(test)]
mod tests;
