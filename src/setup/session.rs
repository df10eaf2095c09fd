//! Whether whoever asks came over the network: then a NIC may be the branch that they sit on.
//!
//! `sudo` takes SSH_CONNECTION out of the environment, so the ancestors of the process are asked too.
//! Spec: Linux: proc_pid_stat(5).

use crate::host::source::Source;

/// Ancestors that are looked at; no session is nested deeper.
const MOST_ANCESTORS: usize = 64;

/// Whether an ancestor of process `pid` serves sessions over the network.
#[must_use]
pub fn came_over_network(source: &dyn Source, pid: u32) -> bool {
    let mut next = Some(pid);
    for _ in 0..MOST_ANCESTORS {
        let Some(pid) = next.filter(|&pid| pid > 1) else { return false };
        let stat = source.text(&format!("/proc/{pid}/stat"));
        // `4711 (sshd: x) S 1 ...`: the name may hold anything, `)` too.
        let parsed = stat.known().and_then(|stat| {
            let (_, rest) = stat.split_once('(')?;
            let (name, rest) = rest.rsplit_once(')')?;
            Some((name.to_owned(), rest.split_whitespace().nth(1)?.parse::<u32>().ok()?))
        });
        let Some((name, parent)) = parsed else { return false };
        if name.starts_with("sshd") || name.starts_with("mosh-server") || name.starts_with("in.telnetd") {
            return true;
        }
        next = Some(parent);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    #[test]
    fn a_shell_below_sshd_and_sudo_came_over_the_network() {
        let host = FakeHost::new(&[
            ("/proc/30/stat", Entry::Text("30 (thruway) R 20 30 30")),
            ("/proc/20/stat", Entry::Text("20 (sudo (x)) S 10 20 20")),
            ("/proc/10/stat", Entry::Text("10 (sshd-session) S 1 10 10")),
            ("/proc/40/stat", Entry::Text("40 (bash) S 1 40 40")),
        ]);

        assert!(came_over_network(&host.source(), 30));
        assert!(!came_over_network(&host.source(), 40));
    }
}
