//! Where vCPUs run on the host, and before whom.

use std::fs;
use std::io;

use crate::spec::cpu_list::CpuList;
use crate::sys::schedule;
use crate::vmm::vcpu::config::CpuConfig;

/// The host's CPUs that are online (Linux: Documentation/ABI/testing/sysfs-devices-system-cpu).
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Where a vCPU runs; wherever the process may, as other programs do, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    cpus: Option<CpuList>,
    priority: Option<u8>,
}

/// Why vCPUs cannot run where they should.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// CPUs that are not there, or switched off.
    #[error("vCPU {vcpu} cannot be pinned to {cpus}, because the host's CPUs that are online are {online}")]
    Offline {
        /// Index of the vCPU.
        vcpu: usize,
        /// Those of its CPUs that are not online.
        cpus: CpuList,
        /// Those that are.
        online: CpuList,
    },
    /// CPUs that this process must not use.
    #[error(
        "vCPU {vcpu} cannot be pinned to {cpus}, because this process may use {allowed} only; start it with more \
         (taskset, or AllowedCPUs= of the service), or pin within these"
    )]
    NotOurs {
        /// Index of the vCPU.
        vcpu: usize,
        /// Those of its CPUs that are not ours.
        cpus: CpuList,
        /// Those that are.
        allowed: CpuList,
    },
    /// The kernel refused.
    #[error("vCPU {vcpu} cannot be pinned to {cpus}")]
    Pin {
        /// Index of the vCPU.
        vcpu: usize,
        /// Its CPUs.
        cpus: CpuList,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error(
        "vCPUs cannot have the real-time priority {priority}: this process may take {limit} at most; raise the limit \
         (ulimit -r, or LimitRTPRIO= of the service), or run as root"
    )]
    Priority {
        /// The priority.
        priority: u8,
        /// RLIMIT_RTPRIO.
        limit: u64,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The host does not tell what it has.
    #[error("cannot find out which CPUs vCPUs can be pinned to")]
    Unknown(#[source] io::Error),
}

/// Where the vCPUs of `config` run, tried out: each placement was taken once, by a thread that is gone.
///
/// # Errors
/// [`PlacementError`]
pub fn plan(config: &CpuConfig) -> Result<Vec<Placement>, PlacementError> {
    let priority = config.priority();
    if config.pin.is_empty() && priority.is_none() {
        return Ok(vec![Placement::default(); config.count().into()]);
    }
    if !config.pin.is_empty() {
        let online = fs::read_to_string(ONLINE).map_err(PlacementError::Unknown)?;
        let online = online.parse().map_err(|error| PlacementError::Unknown(io::Error::other(error)))?;
        let allowed = schedule::affinity().map_err(PlacementError::Unknown)?;
        judge(&config.pin, &online, &allowed)?;
    }
    let mut cpus = config.pin.iter().cloned();
    let placements: Vec<Placement> =
        (0..config.count()).map(|_| Placement { cpus: cpus.next(), priority }).collect();
    std::thread::scope(|scope| {
        let trial = scope.spawn(|| {
            placements.iter().enumerate().try_for_each(|(vcpu, place)| place.take(vcpu))?;
            go_before(priority)
        });
        trial.join().unwrap_or_else(|_| Err(PlacementError::Unknown(io::Error::other("the trial panicked"))))
    })?;
    Ok(placements)
}

/// Whether all of `pins` are online and ours.
fn judge(pins: &[CpuList], online: &CpuList, allowed: &CpuList) -> Result<(), PlacementError> {
    for (vcpu, cpus) in pins.iter().enumerate() {
        let offline = cpus.without(online);
        if !offline.is_empty() {
            return Err(PlacementError::Offline { vcpu, cpus: offline, online: online.clone() });
        }
        let foreign = cpus.without(allowed);
        if !foreign.is_empty() {
            let allowed = allowed.intersection(online);
            return Err(PlacementError::NotOurs { vcpu, cpus: foreign, allowed });
        }
    }
    Ok(())
}

impl Placement {
    /// Puts the calling thread there, as that of the vCPU with this index.
    pub(super) fn take(&self, vcpu: usize) -> Result<(), PlacementError> {
        if let Some(cpus) = &self.cpus {
            schedule::set_affinity(cpus).map_err(|source| PlacementError::Pin {
                vcpu,
                cpus: cpus.clone(),
                source,
            })?;
        }
        self.priority.map_or(Ok(()), take_priority)
    }
}

fn take_priority(priority: u8) -> Result<(), PlacementError> {
    schedule::set_fifo(priority).map_err(|source| {
        let limit = schedule::priority_limit().unwrap_or(0);
        PlacementError::Priority { priority, limit, source }
    })
}

/// Lets the calling thread, the machine's own, go before its vCPUs: a guest that spins can be stopped even where it has the
/// only CPU.
pub(in crate::vmm) fn go_before(config_priority: Option<u8>) -> Result<(), PlacementError> {
    config_priority.map_or(Ok(()), |priority| take_priority(priority.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn pins_to_cpus_that_are_offline_or_not_ours_are_told_apart() {
        let judged = |pins: &[&str]| {
            let pins: Vec<CpuList> = pins.iter().map(|pin| list(pin)).collect();
            judge(&pins, &list("0-3,6"), &list("0-2,4-7"))
        };
        assert!(judged(&["0", "1-2,6", "0"]).is_ok());
        assert_eq!(
            judged(&["0", "2-5"]).unwrap_err().to_string(),
            "vCPU 1 cannot be pinned to 4-5, because the host's CPUs that are online are 0-3,6"
        );
        let text = judged(&["2-3"]).unwrap_err().to_string();
        assert!(
            text.starts_with("vCPU 0 cannot be pinned to 3, because this process may use 0-2,6 only"),
            "{text}"
        );
    }

    #[test]
    fn a_plan_without_wishes_asks_the_host_nothing() {
        let config = CpuConfig { count: Some(3), ..CpuConfig::default() };
        assert_eq!(plan(&config).unwrap(), vec![Placement::default(); 3]);
    }

    #[test]
    fn a_plan_is_tried_and_leaves_this_thread_alone() {
        let before = schedule::affinity().unwrap();
        let first: CpuList = before.iter().take(1).collect();
        let mut config = CpuConfig { count: Some(1), pin: vec![first.clone()], ..CpuConfig::default() };
        assert_eq!(plan(&config).unwrap(), [Placement { cpus: Some(first), priority: None }]);
        assert_eq!(schedule::affinity().unwrap(), before);
        config.pin = vec![list("60000")];
        assert!(matches!(plan(&config), Err(PlacementError::Offline { .. })));
    }
}
