//! The kernel's version.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;

const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// What came with which version, the oldest first.
const GAINS: [((u32, u32), &str); 3] = [
    ((5, 9), "functions that are known to harm the host are not handed out"),
    ((5, 11), "default domains of groups are told"),
    ((5, 15), "ways to reset a function are told, and can be chosen"),
];

/// `kernel-version`
pub(super) fn version(facts: &HostFacts) -> Outcome {
    let release = match &facts.kernel.release {
        Fact::Known(release) => release,
        unread => return Outcome::unread(unread, "the kernel's version"),
    };
    let Some(version) = facts.kernel.version() else {
        return Outcome::unknown("the kernel's release does not begin with a version")
            .evidence(RELEASE, release);
    };
    let missed: Vec<_> = GAINS.iter().filter(|(since, _)| *since > version).collect();
    let Some((newest, _)) = missed.last() else {
        return Outcome::pass(format!("Linux {}.{} has all that is asked for", version.0, version.1))
            .evidence(RELEASE, release);
    };
    let gains: Vec<_> =
        missed.iter().map(|((major, minor), gain)| format!("since {major}.{minor} {gain}")).collect();
    Outcome::warn(format!("Linux {}.{} is old for passing devices through", version.0, version.1))
        .evidence(RELEASE, release)
        .cause(gains.join("; "))
        .remedy(
            Remedy::advice(format!("install a kernel of {}.{} or later", newest.0, newest.1)).after_reboot(),
        )
}
