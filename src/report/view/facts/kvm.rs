//! KVM.

use super::{Text, word};
use crate::host::HostFacts;
use crate::host::cpu::Reason;
use crate::host::fact::Fact;
use crate::host::kvm::{Backing, Kvm};
use crate::report::style::Tone;

/// Its section.
pub(super) fn show(text: &mut Text, facts: &HostFacts) {
    let kvm = &facts.kvm;
    text.section("KVM");
    let (tone, usable) = verdict(kvm);
    text.line("usable", (tone, format!("{usable}: {}", kvm.explanation)));
}

fn verdict(kvm: &Kvm) -> (Tone, String) {
    let tone = match (&kvm.usable, kvm.reason, &kvm.backing) {
        (Fact::Known(true), Reason::Ok, Fact::Known(Backing::Hardware)) => Tone::Good,
        (Fact::Known(false), ..) => Tone::Bad,
        _ => Tone::Notice,
    };
    (tone, word(&kvm.usable, |usable| if *usable { "yes" } else { "no" }.to_owned()))
}
