//! What this user may: open VFIO's device nodes.

use crate::check::{Outcome, Remedy};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::vfio::{NodeKind, VfioNode};

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
