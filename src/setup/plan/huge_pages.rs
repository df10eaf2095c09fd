//! What of the huge pages that are asked for is to be set apart, and whether the host can give it.

use super::{PlanError, Planner};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::setup::action::hugepages::mebibytes;
use crate::setup::action::{Action, Hugepages};
use crate::setup::goal::HugepagesGoal;
use crate::spec::units::ByteSize;

const GIB: u64 = 1 << 30;

impl Planner<'_> {
    pub(super) fn huge_pages(&mut self, goals: &[HugepagesGoal]) -> Result<(), PlanError> {
        for (at, goal) in goals.iter().enumerate() {
            if let Some(conflict) = goals.iter().take(at).find_map(|earlier| goal.conflict_with(earlier)) {
                return Err(PlanError::Invalid(conflict));
            }
        }
        let available = self.facts.memory.available_bytes.known().copied();
        let mut cost_bytes = 0_u64;
        for goal in goals {
            let pool = Hugepages { size_bytes: goal.size.bytes(), count: goal.count, node: goal.node };
            let now = pages_now(self.facts, &pool)
                .map_err(|reason| PlanError::Impossible { subject: pool.object(), reason })?;
            let missing = goal.count.saturating_sub(now.unwrap_or(0));
            if missing == 0 {
                self.plan.already.push(format!("{} has at least {}", pool.object(), goal.count));
                continue;
            }
            let more_bytes = missing.saturating_mul(pool.size_bytes);
            cost_bytes = cost_bytes.saturating_add(more_bytes);
            let node =
                goal.node.and_then(|node| self.facts.topology.node(node)?.memory_bytes.known().copied());
            let too_much = match (available, node) {
                (Some(available), _) if cost_bytes > available => Some((cost_bytes, available)),
                (_, Some(node)) if more_bytes > node => Some((more_bytes, node)),
                _ => None,
            };
            if let Some((wanted, there)) = too_much {
                let (wanted, there) = (mebibytes(wanted), mebibytes(there));
                let reason = format!("that takes {wanted} of memory in all, and {there} can be had");
                return Err(PlanError::Impossible { subject: pool.object(), reason });
            }
            self.push(Action::Hugepages(pool), None);
        }
        if let Some(available) = available.filter(|available| cost_bytes > available / 2) {
            let (cost, available) = (mebibytes(cost_bytes), mebibytes(available));
            self.plan.warnings.push(format!(
                "takes {cost} of memory from the host, more than half of the {available} that programs can still have"
            ));
        }
        Ok(())
    }
}

/// How many pages a pool has, if that can be read; otherwise why there is no such pool.
pub(super) fn pages_now(facts: &HostFacts, wanted: &Hugepages) -> Result<Option<u64>, String> {
    let asked_for = |total: &Fact<u64>, surplus: &Fact<u64>| {
        Some(total.known()?.saturating_sub(surplus.known().copied().unwrap_or(0)))
    };
    let pools = match &facts.memory.huge_pages.pools {
        Fact::Known(pools) => pools,
        Fact::NotPresent => {
            return Err("this kernel has no huge pages to set apart (CONFIG_HUGETLBFS)".to_owned());
        }
        _ => return Ok(None),
    };
    let Some(pool) = pools.iter().find(|pool| pool.size_bytes == wanted.size_bytes) else {
        let sizes = list(pools.iter().map(|pool| ByteSize::from_bytes(pool.size_bytes)));
        return Err(format!(
            "this host has huge pages of {sizes} only{}",
            of_gibibyte(facts, wanted.size_bytes)
        ));
    };
    let Some(number) = wanted.node else { return Ok(asked_for(&pool.total, &pool.surplus)) };
    let nodes = match &pool.nodes {
        Fact::Known(nodes) => nodes.iter().filter(|node| node.total != Fact::NotPresent),
        Fact::NotPresent => {
            return Err("this kernel knows of no NUMA nodes; leave `node` out of the goal".to_owned());
        }
        _ => return Ok(None),
    };
    match nodes.clone().find(|node| node.number == number) {
        Some(node) => Ok(asked_for(&node.total, &node.surplus)),
        None => Err(format!("nodes with huge pages are {} only", list(nodes.map(|node| node.number)))),
    }
}

fn of_gibibyte(facts: &HostFacts, size_bytes: u64) -> &'static str {
    match &facts.cpu.gigabyte_pages {
        _ if size_bytes != GIB => "",
        Fact::Known(true) => {
            "; the processor has pages of 1 GiB (`pdpe1gb`), so this kernel was built or started without (`nogbpages`)"
        }
        Fact::Known(false) => "; the processor has no pages of 1 GiB (`pdpe1gb`)",
        _ => "; whether the processor has pages of 1 GiB (`pdpe1gb`) cannot be told",
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
