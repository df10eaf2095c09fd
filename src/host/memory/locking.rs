//! How much memory this user may lock. VFIO locks all memory of a guest that has a device.
//!
//! Linux: proc_pid_limits(5); setrlimit(2), RLIMIT_MEMLOCK; drivers/vfio/vfio_iommu_type1.c, `vfio_lock_acct`.

use serde::{Serialize, Serializer};

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

/// Where the kernel tells the limits of this process.
pub const LIMITS: &str = "/proc/self/limits";
const STATUS: &str = "/proc/self/status";
/// Bit of CAP_IPC_LOCK in a set of capabilities (Linux: include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u64 = 1 << 14;

/// A limit in bytes, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// This many.
    Bytes(u64),
    /// As many as there are.
    Unlimited,
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

/// What this user may lock: limits in bytes, or the word `unlimited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockLimit {
    /// In force now.
    pub soft_bytes: Fact<Limit>,
    /// How far a program may raise that by itself.
    pub hard_bytes: Fact<Limit>,
    /// Whether the limits do not hold, because this process has the capability CAP_IPC_LOCK, as root has.
    pub exempt: Fact<bool>,
}

/// Reads the limits.
pub(super) fn collect(source: &dyn Source) -> LockLimit {
    let limits = parse::required(source.text(LIMITS), LIMITS).parse(LIMITS, |text| limits(&text));
    let exempt = parse::required(source.text(STATUS), STATUS).parse(STATUS, |text| {
        let mask = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .map(|mask| mask & CAP_IPC_LOCK != 0)
            .ok_or("it has no set of capabilities")
    });
    LockLimit {
        soft_bytes: limits.as_ref().map(|(soft, _)| *soft),
        hard_bytes: limits.map(|(_, hard)| hard),
        exempt,
    }
}

fn limits(text: &str) -> Result<(Limit, Limit), &'static str> {
    const NONE: &str = "it tells no limit of locked memory";
    let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory")).ok_or(NONE)?;
    let mut words = line.split_ascii_whitespace().map(|word| match word {
        "unlimited" => Some(Limit::Unlimited),
        digits => digits.parse().ok().map(Limit::Bytes),
    });
    match (words.next().flatten(), words.next().flatten()) {
        (Some(soft), Some(hard)) => Ok((soft, hard)),
        _ => Err(NONE),
    }
}
