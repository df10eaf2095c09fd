//! How much memory a program may lock.
//!
//! Linux: proc_pid_limits(5), capabilities(7); drivers/vfio/vfio_iommu_type1.c (`vfio_lock_acct`): who has CAP_IPC_LOCK has
//! no limit.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

pub(super) const LIMITS: &str = "/proc/self/limits";
const STATUS: &str = "/proc/self/status";
/// Bit of CAP_IPC_LOCK (Linux: include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// RLIMIT_MEMLOCK of this user's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LockLimit {
    /// Whether there is none that counts: it is not set, or this user has the capability to lock any amount.
    pub unlimited: bool,
    /// Whether this user has that capability.
    pub may_lock_all: bool,
    /// The limit in force; null for none.
    pub soft_bytes: Option<u64>,
    /// How far a program may raise it; null for none.
    pub hard_bytes: Option<u64>,
}

pub(super) fn collect(source: &dyn Source) -> Fact<LockLimit> {
    let limits = parse::required(source.text(LIMITS), LIMITS)
        .parse(LIMITS, |text| soft_and_hard(&text).ok_or("it does not tell the limit of locked memory"));
    let may_lock_all = parse::required(source.text(STATUS), STATUS)
        .parse(STATUS, |text| capabilities(&text).ok_or("it does not tell the capabilities"))
        .map(|capabilities| capabilities >> CAP_IPC_LOCK & 1 == 1);
    limits.and_then(|(soft_bytes, hard_bytes)| {
        may_lock_all.map(|may_lock_all| LockLimit {
            unlimited: may_lock_all || soft_bytes.is_none(),
            may_lock_all,
            soft_bytes,
            hard_bytes,
        })
    })
}

/// `Max locked memory         8388608              8388608              bytes`
fn soft_and_hard(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    let mut words = rest.split_ascii_whitespace().map(|word| match word {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    });
    Some((words.next()??, words.next()??))
}

/// `CapEff:` and a number in hexadecimal.
fn capabilities(text: &str) -> Option<u64> {
    let mask = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
