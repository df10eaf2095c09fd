//! What could not be read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Block, Section};
use crate::report::document::Unread;
use crate::report::style::Tone;
use crate::spec::pci::PciAddress;

/// What could not be read, and why; places of the same kind together.
pub(in crate::report) fn grouped(unread: &[Unread]) -> Vec<(String, &str)> {
    let mut kinds = BTreeMap::<(String, &str), BTreeSet<&str>>::new();
    for entry in unread {
        kinds.entry((general(&entry.source), &entry.reason)).or_default().insert(&entry.source);
    }
    let one = |((place, reason), sources): ((String, _), BTreeSet<&str>)| {
        let place = match sources.first() {
            Some(only) if sources.len() == 1 => (*only).to_owned(),
            _ => format!("{place} ({} of them)", sources.len()),
        };
        (place, reason)
    };
    kinds.into_iter().map(one).collect()
}

/// Its section, if anything could not be read.
pub(super) fn section(unread: &[Unread]) -> Option<Section> {
    let kinds = grouped(unread);
    let mut blocks: Vec<_> = kinds
        .iter()
        .map(|(place, reason)| Block::Paragraph { tone: Tone::Notice, text: format!("{place}: {reason}") })
        .collect();
    if kinds.iter().any(|(_, reason)| *reason == "permission denied") {
        blocks.push(Block::Note("root may read what is denied here".to_owned()));
    }
    let title = "Unknown, because it could not be read".to_owned();
    (!blocks.is_empty()).then_some(Section { title, blocks })
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
