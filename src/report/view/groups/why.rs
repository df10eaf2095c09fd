//! Why one function's group is as it is, or two functions' groups are.

use super::{Text, tree};
use crate::check::Role;
use crate::check::groups::{Explanation, Pair};
use crate::host::fact::Fact;
use crate::host::iommu::Cause;
use crate::host::iommu::prospects::Prospect;
use crate::report::style::{Tone, clean};
use crate::report::table::Table;
use crate::report::view::findings::remedy_in_words;

/// The answer about one function, for a terminal of `width` columns.
#[must_use]
pub fn explanation(told: &Explanation, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    let group = match &told.iommu_group {
        Fact::Known(id) => format!("IOMMU group {id}"),
        Fact::NotPresent => "no IOMMU group".to_owned(),
        _ => "an unknown IOMMU group".to_owned(),
    };
    let title = format!("{} is in {group}", told.address);
    text.title(&title);
    if let Some(description) = &told.description {
        text.line(2, Tone::Detail, description);
    }
    causes(&mut text, &told.causes, &told.summary);
    let others = told.members.get(1..).unwrap_or_default();
    for (index, member) in others.iter().enumerate() {
        let (tone, fate) = match member.role {
            Role::Bridge => (Tone::Detail, "a bridge, does not count"),
            Role::Idle => (Tone::Plain, "no driver"),
            Role::Asked | Role::GoesAlong => {
                (Tone::Bad, member.driver.as_deref().unwrap_or("driver unknown"))
            }
        };
        let name = member.description.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        text.labelled(
            if index == 0 { "with" } else { "" },
            tone,
            &format!("{}: {fate}{name}", member.device),
        );
    }
    picture(&mut text, &told.tree);
    if !told.remedies.is_empty() {
        text.title("What would change it");
        for remedy in &told.remedies {
            text.line(2, Tone::Plain, &remedy_in_words(remedy));
        }
    }
    slots(&mut text, &told.slots);
    text.out
}

/// The answer about two functions.
#[must_use]
pub fn pair(told: &Pair, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    let [first, second] = told.addresses;
    let (tone, word) = match told.together {
        Some(true) => (Tone::Bad, "yes"),
        Some(false) => (Tone::Good, "no"),
        None => (Tone::Notice, "unknown"),
    };
    text.title(&format!("Do {first} and {second} share a group?"));
    text.line(2, tone, word);
    causes(&mut text, &told.causes, &told.summary);
    picture(&mut text, &told.tree);
    text.out
}

fn picture(text: &mut Text, branches: &[crate::check::groups::Branch]) {
    if !branches.is_empty() {
        text.title("The way from the root");
        tree::draw(&mut text.out, branches, text.width);
    }
}

/// Each cause with the registers that it rests on; the summary, where there is none.
fn causes(text: &mut Text, causes: &[Cause], summary: &str) {
    if causes.is_empty() {
        return text.labelled("why", Tone::Plain, summary);
    }
    for (index, cause) in causes.iter().enumerate() {
        text.labelled(if index == 0 { "why" } else { "and" }, Tone::Plain, &cause.summary);
        for sign in &cause.evidence {
            text.labelled("", Tone::Detail, &format!("{}: {}", sign.source, sign.value));
        }
    }
}

/// What each slot would give.
fn slots(text: &mut Text, slots: &[Prospect]) {
    if slots.is_empty() {
        return;
    }
    text.title("What another slot would give");
    let mut table = Table::new(&["PORT", "SLOT", "NOW", "THERE IT WOULD BE"], text.width).rigid(0).rigid(1);
    for prospect in slots {
        let slot = match &prospect.slot {
            None => "none".to_owned(),
            Some(slot) if slot.number == 0 => "unnumbered".to_owned(),
            Some(slot) => slot.number.to_string(),
        };
        let list = |functions: &[crate::spec::pci::PciAddress]| {
            functions.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let now =
            if prospect.occupied_by.is_empty() { "empty".to_owned() } else { list(&prospect.occupied_by) };
        let there = match prospect.alone {
            Some(true) => (Tone::Good, "alone".to_owned()),
            Some(false) => (Tone::Bad, format!("with\n{}", list(&prospect.neighbours))),
            None => (Tone::Notice, "unknown".to_owned()),
        };
        table.row([
            (Tone::Plain, prospect.port.to_string()),
            (Tone::Plain, clean(&slot)),
            (Tone::Detail, now),
            there,
        ]);
    }
    text.out.push_str(&table.render());
}
