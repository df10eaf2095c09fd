//! What this user may: open VFIO's device nodes, and lock memory.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::vfio::{NodeKind, VfioNode};
use crate::spec::units::ByteSize;

/// `vfio-node-access`: nodes of groups and functions, and those that address spaces are made with.
pub(super) fn nodes(facts: &HostFacts) -> Outcome {
    let nodes = match &facts.vfio.nodes {
        Fact::Known(nodes) => nodes,
        unread => return Outcome::unread(unread, "which device nodes VFIO has"),
    };
    let is_held = |node: &&VfioNode| matches!(node.kind, NodeKind::Group | NodeKind::Device);
    if !nodes.iter().any(|node| is_held(&node)) {
        return Outcome::not_applicable("no function is at VFIO, so there is no node to open");
    }
    let known = |node: &VfioNode| match &node.node {
        Fact::Known(access) => {
            format!("mode {:04o}, owner {}:{}", access.mode, access.uid, access.gid)
        }
        _ => String::new(),
    };
    let closed: Vec<_> =
        nodes.iter().filter(|node| node.node.known().is_some_and(|access| !access.may_open)).collect();
    if closed.is_empty() {
        if let Some(node) = nodes.iter().find(|node| node.node.known().is_none()) {
            return Outcome::unread(&node.node, "who may open VFIO's device nodes");
        }
        let pass = Outcome::pass("this user may open VFIO's device nodes");
        return nodes.iter().fold(pass, |outcome, node| outcome.evidence(&node.path, known(node)));
    }
    let paths: Vec<_> = closed.iter().map(|node| node.path.as_str()).collect();
    let warn = Outcome::warn(format!("this user may not open {}", paths.join(", ")))
        .cause("the kernel makes these nodes for root alone, and no rule of udev gives them to this user")
        .remedy(Remedy::advice(
            "run guests that have devices as root, or through libvirt, which runs as root",
        ))
        .remedy(Remedy::command(
            format!("sudo chown \"$(id -u)\" {}", paths.join(" ")),
            "until the node is made anew; whoever may open it has the device",
        ));
    closed.iter().fold(warn, |outcome, node| outcome.evidence(&node.path, known(node)))
}

/// `vfio-lock-limit`
pub(super) fn lock_limit(facts: &HostFacts) -> Outcome {
    /// Less than any guest of today has, with room for what a program locks of its own.
    const SMALLEST: u64 = 1 << 30;
    const LIMITS: &str = "/proc/self/limits";
    let limit = match &facts.vfio.lock_limit {
        Fact::Known(limit) => limit,
        unread => return Outcome::unread(unread, "how much memory this user may lock"),
    };
    let Some(soft) = limit.soft_bytes.filter(|_| !limit.unlimited) else {
        let value = if limit.may_lock_all { "CapEff has CAP_IPC_LOCK" } else { "unlimited" };
        let source = if limit.may_lock_all { "/proc/self/status" } else { LIMITS };
        return Outcome::pass("this user may lock any amount of memory").evidence(source, value);
    };
    let highest = limit.hard_bytes.unwrap_or(u64::MAX);
    let size = |bytes| ByteSize::from_bytes(bytes).to_string();
    let evidence = format!(
        "Max locked memory {soft} {}",
        limit.hard_bytes.map_or("unlimited".to_owned(), |it| it.to_string())
    );
    if highest >= SMALLEST {
        return Outcome::pass(format!(
            "this user may lock {}",
            limit.hard_bytes.map_or("any amount of memory, by raising his limit".to_owned(), size)
        ))
        .evidence(LIMITS, evidence);
    }
    Outcome::warn(format!("this user may lock {} of memory, less than a guest has", size(highest)))
        .evidence(LIMITS, evidence)
        .cause(
            "a guest with a device has all of its memory locked, and the limit is that of desktop programs",
        )
        .remedy(Remedy::command(
            "printf '%s - memlock unlimited\\n' \"$USER\" | sudo tee /etc/security/limits.d/90-memlock.conf",
            "for sessions that start later; who runs guests as root needs no limit",
        ))
        .remedy(Remedy::advice("a guest that systemd starts: `LimitMEMLOCK=infinity` in its unit"))
}
