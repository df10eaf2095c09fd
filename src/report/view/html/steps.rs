//! What to do first: the likeliest remedy of everything that is wrong, in order, each once.

use super::findings::{prose, remedy};
use crate::check::{Diagnosis, Finding, Remedy, RemedyKind, Status};
use crate::report::markup::Markup;

/// One step, and what it mends.
struct Step<'a> {
    remedy: &'a Remedy,
    mends: Vec<&'a Finding>,
}

/// The steps for what does not work, then those for what could be better; within each the firmware first, then the
/// kernel's arguments, so that one reboot does for both, then the rest.
fn steps(diagnosis: &Diagnosis) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for status in [Status::Fail, Status::Warn] {
        let mut wrong: Vec<_> = diagnosis
            .with_status(status)
            .filter_map(|finding| Some((finding.outcome.remedy.first()?, finding)))
            .collect();
        wrong.sort_by_key(|(remedy, _)| turn(remedy.kind)); // stable: nearest to the hardware stays first
        for (remedy, finding) in wrong {
            match steps.iter_mut().find(|step| step.remedy.text == remedy.text) {
                Some(step) => step.mends.push(finding),
                None => steps.push(Step { remedy, mends: vec![finding] }),
            }
        }
    }
    steps
}

const fn turn(kind: RemedyKind) -> u8 {
    match kind {
        RemedyKind::Hardware => 0,
        RemedyKind::Firmware => 1,
        RemedyKind::KernelArgument => 2,
        RemedyKind::Command => 3,
        RemedyKind::Advice => 4,
    }
}

/// Whether there is anything to do.
pub(super) fn any(diagnosis: &Diagnosis) -> bool {
    !steps(diagnosis).is_empty() || !ways_to_know(diagnosis).is_empty()
}

/// How to learn what is unknown, and how many answers each way gives.
fn ways_to_know(diagnosis: &Diagnosis) -> Vec<(&Remedy, usize)> {
    let mut ways: Vec<(&Remedy, usize)> = Vec::new();
    for remedy in diagnosis.with_status(Status::Unknown).flat_map(|finding| &finding.outcome.remedy) {
        match ways.iter_mut().find(|(known, _)| *known == remedy) {
            Some((_, count)) => *count += 1,
            None => ways.push((remedy, 1)),
        }
    }
    ways
}

/// Its section; nothing, if there is nothing to do.
pub(super) fn show(out: &mut Markup, diagnosis: &Diagnosis) {
    if !any(diagnosis) {
        return;
    }
    out.raw("<section id=\"steps\">\n<h2>What to do first</h2>\n<ol>\n");
    for step in steps(diagnosis) {
        out.raw("<li>");
        for finding in step.mends {
            out.raw("<p class=\"mends\">");
            out.open("a", &[("href", &format!("#{}", finding.id))]);
            prose(out, &finding.outcome.summary);
            out.raw("</a></p>\n");
        }
        out.raw("<p class=\"label\">");
        remedy(out, step.remedy);
        out.raw("</li>\n");
    }
    for (way, count) in ways_to_know(diagnosis) {
        out.raw("<li><p class=\"mends\"><a href=\"#unknown\">");
        out.text(&match count {
            1 => "to know what is unknown (1 answer)".to_owned(),
            _ => format!("to know what is unknown ({count} answers)"),
        });
        out.raw("</a></p>\n<p class=\"label\">");
        remedy(out, way);
        out.raw("</li>\n");
    }
    out.raw("</ol>\n</section>\n");
}
