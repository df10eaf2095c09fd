//! The way from the root to functions, drawn: each port with what its Access Control Services do.

use crate::check::groups::{Branch, State};
use crate::host::fact::Fact;
use crate::report::style::{Tone, clean};
use crate::report::view::topology::shortened;
use crate::spec::acs::Services;
use crate::spec::port::PortType;

/// Branches that are drawn; a group of hundreds of functions is no picture.
const MOST: usize = 40;

/// Draws `branches` into `out`.
pub(super) fn draw(out: &mut String, branches: &[Branch], width: Option<u16>) {
    let mut left = MOST;
    let mut bus = None;
    for (index, branch) in branches.iter().enumerate() {
        let own = (branch.address.domain, branch.address.bus);
        if bus != Some(own) {
            out.push_str(&format!("  root bus {:04x}:{:02x}\n", own.0, own.1));
            bus = Some(own);
        }
        let is_last =
            branches.get(index + 1).is_none_or(|next| (next.address.domain, next.address.bus) != own);
        node(out, branch, "  ", is_last, width, &mut left);
    }
    if left == 0 {
        out.push_str("  ...\n");
    }
}

fn node(out: &mut String, branch: &Branch, stem: &str, is_last: bool, width: Option<u16>, left: &mut usize) {
    let Some(rest) = left.checked_sub(1) else { return };
    *left = rest;
    let below = format!("{stem}{}", if is_last { "   " } else { "│  " });
    let address = branch.address.to_string();
    let tone = if branch.asked { Tone::Title } else { Tone::Plain };
    let lead = format!("{stem}{}", if is_last { "└─ " } else { "├─ " });
    out.push_str(&format!("{}{}  ", Tone::Detail.paint(&lead), tone.paint(&address)));
    let inner = format!("{below}{}", if branch.functions.is_empty() { "   " } else { "│  " });
    // A line that goes on below would break the branches.
    let room = |taken: usize| width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(taken));
    let own = shortened(&what(branch), room(lead.chars().count() + address.len() + 2));
    let (state_tone, words) = state(branch);
    let words = shortened(&words, room(inner.chars().count()));
    out.push_str(&format!(
        "{}\n{}{}\n",
        tone.paint(&own),
        Tone::Detail.paint(&inner),
        state_tone.paint(&words)
    ));
    for (index, child) in branch.functions.iter().enumerate() {
        node(out, child, &below, index + 1 == branch.functions.len(), width, left);
    }
}

/// What a function is, and its group.
fn what(branch: &Branch) -> String {
    let port = branch.express.known().and_then(|express| match express.port_type {
        PortType::ROOT_PORT => Some("root port"),
        PortType::UPSTREAM_PORT => Some("upstream port of a switch"),
        PortType::DOWNSTREAM_PORT => Some("downstream port of a switch"),
        PortType::BRIDGE_TO_PCI => Some("bridge to conventional PCI"),
        PortType::BRIDGE_FROM_PCI => Some("bridge from conventional PCI"),
        _ => None,
    });
    let name = match (port, &branch.description) {
        (Some(port), _) => port.to_owned(),
        (None, Some(description)) => clean(description),
        (None, None) => "function".to_owned(),
    };
    let slot =
        branch.express.known().and_then(|express| express.slot.as_ref()).map(|slot| match slot.number {
            0 => ", with a slot".to_owned(),
            number => format!(", slot {number}"),
        });
    let group = match &branch.iommu_group {
        Fact::Known(group) => format!("group {group}"),
        Fact::NotPresent => "no group".to_owned(),
        _ => "group unknown".to_owned(),
    };
    let mark = if branch.asked { ", asked about" } else { "" };
    format!("{group}{mark}: {name}{}", slot.unwrap_or_default())
}

/// Whether it keeps its peers apart, and by what.
fn state(branch: &Branch) -> (Tone, String) {
    let services = |of: fn(&crate::host::pci::ports::Acs) -> Services| {
        branch.acs.known().map_or_else(String::new, |acs| match of(acs).short() {
            none if none.is_empty() => "nothing".to_owned(),
            some => some,
        })
    };
    let words = match branch.state {
        State::Acs => format!("keeps peers apart: ACS enables {}", services(|acs| acs.enabled)),
        State::SingleFunction => "has no peers: a single function".to_owned(),
        State::Quirk => "keeps peers apart, as the kernel knows of this device".to_owned(),
        State::Override => "does not keep peers apart: no ACS, and an override pretends it".to_owned(),
        State::NoAcs => "does not keep peers apart: no ACS".to_owned(),
        State::AcsOff => format!(
            "does not keep peers apart: ACS offers {}, enables {}",
            services(|acs| acs.offered),
            services(|acs| acs.enabled)
        ),
        State::Conventional => "does not keep peers apart: conventional PCI".to_owned(),
        State::Unread => "not known: its registers could not be read; as root more is known".to_owned(),
    };
    let tone = match branch.isolates {
        Some(true) => Tone::Good,
        Some(false) => Tone::Bad,
        None => Tone::Notice,
    };
    (tone, words)
}
