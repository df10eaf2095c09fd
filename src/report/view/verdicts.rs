//! The two verdicts, a sentence each.

use crate::check::{Verdict, Verdicts};
use crate::host::cpu::Reason;
use crate::report::style::{Place, Tone, clean, wrap_at};

/// Where a sentence goes on in its next line.
const INDENT: usize = 7;

/// Writes both.
pub(super) fn show(out: &mut String, verdicts: &Verdicts, width: Option<u16>) {
    for (name, verdict) in [("KVM", &verdicts.kvm), ("IOMMU", &verdicts.iommu)] {
        let (tone, word) = in_a_word(verdict);
        out.push_str(&format!("{}  {}: ", Tone::Title.paint(&format!("{name:<5}")), tone.paint(word)));
        let place = Place { column: INDENT + word.len() + 2, indent: INDENT, width };
        wrap_at(out, Tone::Plain, &clean(&verdict.explanation), place);
    }
}

/// A verdict in a word, and its colour.
pub(super) fn in_a_word(verdict: &Verdict) -> (Tone, &'static str) {
    match (verdict.usable, verdict.reason) {
        (Some(true), Reason::Ok) => (Tone::Good, "usable"),
        (Some(true), _) => (Tone::Notice, "usable"),
        (Some(false), _) => (Tone::Bad, "not usable"),
        (None, _) => (Tone::Notice, "unknown"),
    }
}
