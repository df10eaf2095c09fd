//! KVM.

use super::{Text, why, word};
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;
use crate::host::kvm::{Backing, Kvm, Measured};
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let kvm = &facts.kvm;
    text.section("KVM");
    let (tone, usable) = verdict(kvm);
    text.line("usable", (tone, format!("{usable}: {}", kvm.explanation)));
    if let Some(others) = kvm.other_hypervisors.known().filter(|others| !others.is_empty()) {
        text.line("beside it", (Tone::Notice, format!("{} is loaded", others.join(", "))));
    }
    if kvm.ignores_msrs == Fact::Known(true) {
        text.line(
            "ignore_msrs",
            (Tone::Notice, "on: accesses to unknown registers are not reported".to_owned()),
        );
    }
    match &kvm.measured {
        Fact::Known(measured) => text.line("measured", speeds(measured)),
        unread => {
            if let Some(why) = why(unread) {
                text.line("measured", (Tone::Notice, format!("unknown ({why})")));
            }
        }
    }
}

/// Speeds of the small guests, and what they mean.
fn speeds(measured: &Measured) -> (Tone, String) {
    let (tone, behind) = match measured.backing {
        Backing::Hardware => (Tone::Good, "hardware"),
        Backing::Software => (Tone::Notice, "an interpreter"),
    };
    let words = format!(
        "{behind}: {} exits/s, {} instructions/s in a guest, {} outside",
        rate(measured.exits_per_second),
        rate(measured.guest_instructions_per_second),
        rate(measured.host_instructions_per_second),
    );
    (tone, words)
}

/// A rate with two digits or three and a unit.
fn rate(per_second: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| per_second >= *unit) else {
        return per_second.to_string();
    };
    let (whole, tenth) = (per_second / unit, per_second % unit / (unit / 10));
    if whole < 10 { format!("{whole}.{tenth} {letter}") } else { format!("{whole} {letter}") }
}

fn verdict(kvm: &Kvm) -> (Tone, String) {
    let tone = match (&kvm.usable, kvm.reason, &kvm.backing) {
        (Fact::Known(true), Reason::Ok, Fact::Known(Backing::Hardware)) => Tone::Good,
        (Fact::Known(false), ..) => Tone::Bad,
        _ => Tone::Notice,
    };
    (tone, word(&kvm.usable, |usable| if *usable { "yes" } else { "no" }.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let short = [0, 999, 1_000, 9_960, 15_000, 1_540_000, 4_890_000_000].map(rate);
        assert_eq!(short, ["0", "999", "1.0 k", "9.9 k", "15 k", "1.5 M", "4.8 G"]);
    }
}
