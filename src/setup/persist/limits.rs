//! How much memory users may lock, from their next login on.
//!
//! VFIO counts all memory of a machine as locked by the user who runs it. Spec: limits.conf(5), `memlock` in KiB.

use std::fmt::Write as _;

use super::PersistedGoal;
use crate::setup::account::Account;
use crate::setup::action::install::{Content, Install, NewFile};

/// The step; none if nobody is named.
pub(super) fn step(goal: &PersistedGoal) -> Option<Install> {
    let mut out = String::new();
    for memlock in &goal.host.memlock {
        let domain = |prefix: &str, account: &Account| {
            let is_number = account.to_string().bytes().all(|byte| byte.is_ascii_digit());
            if is_number { format!("{prefix}{account}:{account}") } else { format!("{prefix}{account}") }
        };
        let user = memlock.user.as_ref().map(|user| domain("", user));
        let Some(domain) = user.or_else(|| memlock.group.as_ref().map(|group| domain("@", group))) else {
            continue;
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{domain} - memlock {}", memlock.limit.bytes().div_ceil(1024));
    }
    let name = &goal.name;
    let text = format!("# Written by thruway apply --persist for {name}; thruway undo removes it.\n{out}");
    (!out.is_empty()).then(|| Install {
        what: format!("how much memory users of {name} may lock from their next login on"),
        files: vec![NewFile {
            path: format!("/etc/security/limits.d/thruway-{name}.conf"),
            content: Content::Text(text),
        }],
        refresh: Vec::new(),
    })
}
