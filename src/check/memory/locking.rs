//! How much memory this user may lock for guests that have devices.

use super::bytes;
use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::memory::{LIMITS, Limit};

/// Guests of less than this are rare.
const SMALL_GUEST_BYTES: u64 = 1 << 30;

/// `memory-lock-limit`: the hard limit, because a program that knows better raises the soft one by itself.
pub(super) fn limit(facts: &HostFacts) -> Outcome {
    const SUBJECT: &str = "how much memory this user may lock";
    let memlock = &facts.memory.memlock;
    if memlock.exempt == Fact::Known(true) {
        return Outcome::pass("this user may lock all memory")
            .evidence("/proc/self/status", "CapEff has CAP_IPC_LOCK");
    }
    let bytes_allowed = match &memlock.hard_bytes {
        Fact::Known(Limit::Unlimited) => {
            return Outcome::pass("this user may lock all memory")
                .evidence(LIMITS, "Max locked memory unlimited");
        }
        Fact::Known(Limit::Bytes(bytes)) => *bytes,
        unread => return Outcome::unread(unread, SUBJECT),
    };
    if memlock.exempt.is_unread() {
        return Outcome::unread(&memlock.exempt, SUBJECT);
    }
    let evidence = format!("Max locked memory {bytes_allowed}");
    let amount = bytes(bytes_allowed);
    if bytes_allowed >= SMALL_GUEST_BYTES {
        return Outcome::pass(format!(
            "this user's guests with devices may have {amount} of memory together"
        ))
        .evidence(LIMITS, evidence);
    }
    let outcome =
        Outcome::warn(format!("this user may lock {amount}: his guests with devices will not start"))
            .evidence(LIMITS, evidence)
            .cause("the limit is the distribution's, and all memory of a guest with a device is locked")
            .remedy(Remedy::command(
                "echo \"$USER - memlock unlimited\" | sudo tee /etc/security/limits.d/90-passthrough.conf",
                "holds from the next login on; `root` does not need it",
            ));
    if facts.scheduling.systemd == Fact::Known(true) {
        outcome
            .remedy(Remedy::advice("for guests that a service starts: `LimitMEMLOCK=infinity` in its unit"))
    } else {
        outcome
    }
}
