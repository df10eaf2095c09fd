//! One function: can it be passed through, who goes along, what does the host lose?

use super::Text;
use crate::check::{Assignment, Loss, Member, Role};
use crate::report::style::{Tone, clean, wrap};

/// The answer, before everything else.
pub(super) fn show(text: &mut Text, answer: &Assignment) {
    let (tone, word) = match answer.possible {
        Some(true) => (Tone::Good, "Yes"),
        Some(false) => (Tone::Bad, "No"),
        None => (Tone::Notice, "Unknown"),
    };
    let question = format!("Can {} be passed through?", answer.address);
    text.out.push_str(&format!("{} {}\n", Tone::Title.paint(&question), tone.paint(word)));
    if let Some(description) = &answer.description {
        text.line(2, Tone::Detail, description);
    }
    for (index, reason) in answer.reasons.iter().enumerate() {
        text.labelled(if index == 0 { "because" } else { "" }, Tone::Plain, reason);
    }
    group(text, answer);
    losses(text, &answer.losses);
    if answer.possible == Some(true) {
        text.labelled("next", Tone::Plain, &format!("thruway bind {} --dry-run", answer.address));
    }
}

fn group(text: &mut Text, answer: &Assignment) {
    let Some(id) = answer.iommu_group else { return };
    let (Some(own), others) = (answer.members.first(), answer.members.get(1..).unwrap_or_default()) else {
        return;
    };
    let driver =
        own.driver.as_ref().map_or_else(|| "no driver".to_owned(), |driver| format!("driver {driver}"));
    let company = if others.is_empty() { "alone in it" } else { "with these:" };
    text.labelled("now", Tone::Plain, &format!("{driver}, IOMMU group {id}, {company}"));
    for member in others {
        let (tone, fate) = fate(member);
        let name = member.description.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        text.labelled("", tone, &format!("{}: {fate}{name}", member.device));
    }
}

fn fate(member: &Member) -> (Tone, String) {
    let driver = member.driver.as_deref().unwrap_or("a driver");
    match member.role {
        Role::Asked => (Tone::Plain, "itself".to_owned()),
        Role::GoesAlong => (Tone::Bad, format!("goes along, the host has to take {driver} from it")),
        Role::Idle => (Tone::Plain, "has no driver, and must stay so".to_owned()),
        Role::Bridge => (Tone::Detail, "a bridge, stays as it is".to_owned()),
    }
}

fn losses(text: &mut Text, losses: &[Loss]) {
    if losses.is_empty() {
        return text.labelled("loses", Tone::Plain, "the host uses nothing of it");
    }
    for (index, loss) in losses.iter().enumerate() {
        let tone = match loss.in_use {
            Some(true) => Tone::Bad,
            Some(false) => Tone::Plain,
            None => Tone::Notice,
        };
        text.out.push_str(if index == 0 { "    loses   " } else { "            " });
        let sentence = format!("{} ({})", loss.text, loss.function);
        wrap(&mut text.out, tone, &clean(&sentence), super::INDENT, text.width);
    }
}
