//! What could not be read.

use std::collections::{BTreeMap, BTreeSet};

use super::Text;
use crate::report::document::Unread;
use crate::report::style::{Tone, clean, wrap};
use crate::spec::pci::PciAddress;

/// What could not be read, places of the same kind together.
pub(super) fn show(text: &mut Text, unread: &[Unread]) {
    let mut kinds = BTreeMap::<(String, &str), BTreeSet<&str>>::new();
    for entry in unread {
        kinds.entry((general(&entry.source), &entry.reason)).or_default().insert(&entry.source);
    }
    if kinds.is_empty() {
        return;
    }
    text.section("Unknown, because it could not be read");
    for ((place, reason), sources) in &kinds {
        let place = match sources.iter().next() {
            Some(only) if sources.len() == 1 => (*only).to_owned(),
            _ => format!("{place} ({} of them)", sources.len()),
        };
        text.out.push_str("  ");
        wrap(&mut text.out, Tone::Notice, &clean(&format!("{place}: {reason}")), 4, text.width);
    }
    if kinds.keys().any(|(_, reason)| *reason == "permission denied") {
        text.note("root may read what is denied here");
    }
}

/// A place with addresses and numbers taken out, so that places of one kind read the same.
fn general(source: &str) -> String {
    let part = |part: &str| {
        let is_one_of_many = part.parse::<PciAddress>().is_ok()
            || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if is_one_of_many { "*".to_owned() } else { part.to_owned() }
    };
    source.split('/').map(part).collect::<Vec<_>>().join("/")
}
