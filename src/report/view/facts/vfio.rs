//! VFIO: what vfio-pci is told to take, its parameters, device nodes.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::host::vfio::{RequestedIds, Vfio, VfioNode};
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let vfio = &facts.vfio;
    text.section("VFIO");
    for list in vfio.requested.known().into_iter().flatten() {
        text.line("vfio-pci takes", ids(list));
    }
    let switched: Vec<_> = switched_on(vfio).collect();
    if !switched.is_empty() {
        text.line("vfio-pci is told", (Tone::Notice, switched.join(", ")));
    }
    match &vfio.nodes {
        Fact::Known(nodes) if nodes.is_empty() => {
            text.line("device nodes", (Tone::Plain, "none".to_owned()));
        }
        Fact::Known(nodes) => nodes.iter().for_each(|node| text.line("device node", described(node))),
        unread => text.line("device nodes", (Tone::Notice, word(unread, |_| String::new()))),
    }
    for entry in vfio.overrides.known().into_iter().flatten() {
        let words = format!("{} for {}", word(&entry.driver, Clone::clone), entry.address);
        text.line("driver at boot", (Tone::Plain, format!("{words} ({})", entry.file)));
    }
    for early in vfio.early_modules.known().into_iter().flatten() {
        let unread = if early.is_read { "" } else { ", which is not read" };
        text.line("loaded early", (Tone::Plain, format!("{} ({}{unread})", early.module, early.file)));
    }
}

fn ids(list: &RequestedIds) -> (Tone, String) {
    let ids: Vec<_> = list
        .ids
        .iter()
        .map(|id| {
            let functions: Vec<_> = id.functions.iter().map(ToString::to_string).collect();
            let functions =
                if functions.is_empty() { "nothing here".to_owned() } else { functions.join(", ") };
            format!("{} ({functions})", id.text)
        })
        .collect();
    let (tone, effect) = if list.in_effect { (Tone::Plain, "") } else { (Tone::Notice, ", without effect") };
    (tone, format!("{}, by {}{effect}", ids.join("; "), list.source))
}

fn switched_on(vfio: &Vfio) -> impl Iterator<Item = &'static str> {
    vfio.parameters.iter().filter(|(_, value)| **value == Fact::Known(true)).map(|(name, _)| *name)
}

fn described(node: &VfioNode) -> (Tone, String) {
    match &node.node {
        Fact::Known(access) => {
            let (tone, may) = if access.may_open {
                (Tone::Good, "this user may open it")
            } else {
                (Tone::Notice, "this user may not open it")
            };
            let owner = format!("mode {:04o}, owner {}:{}", access.mode, access.uid, access.gid);
            (tone, format!("{} ({owner}): {may}", node.path))
        }
        unread => (Tone::Plain, format!("{}: {}", node.path, word(unread, |_| String::new()))),
    }
}
