//! The doctor's answer as text for people: the verdicts, then what is wrong with cause, remedy and evidence.

mod assignment;
mod catalogue;
#[cfg(test)]
mod tests;

use crate::check::{Confidence, Diagnosis, Finding, Remedy, RemedyKind, Status};
use crate::report::style::{Place, Tone, clean, wrap, wrap_at};
use crate::report::view::verdicts;

pub use catalogue::{explain, list};

/// Where the text behind a finding's labels stands.
const INDENT: usize = 12;

/// How much of a diagnosis is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What passed is counted.
    Brief,
    /// What passed is listed, and what does not apply.
    Full,
}

/// All of `diagnosis`, for a terminal of `width` columns.
#[must_use]
pub fn render(diagnosis: &Diagnosis, detail: Detail, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    if let Some(answer) = &diagnosis.assignment {
        assignment::show(&mut text, answer);
        text.out.push('\n');
    }
    verdicts::show(&mut text.out, &diagnosis.verdicts, width);
    for (status, title) in [
        (Status::Fail, "Does not work"),
        (Status::Warn, "Works, and could be better or safer"),
        (Status::Unknown, "Unknown"),
    ] {
        let found: Vec<_> = diagnosis.with_status(status).collect();
        if !found.is_empty() {
            text.section(&format!("{title} ({})", found.len()));
            match status {
                Status::Unknown => text.unknowns(&found),
                _ => found.iter().for_each(|finding| text.finding(finding)),
            }
        }
    }
    text.rest(diagnosis, detail);
    text.out
}

/// Text that grows line by line.
struct Text {
    out: String,
    width: Option<u16>,
}

/// The colour of a status.
const fn tone(status: Status) -> Tone {
    match status {
        Status::Pass => Tone::Good,
        Status::Warn | Status::Unknown => Tone::Notice,
        Status::Fail => Tone::Bad,
        Status::NotApplicable => Tone::Detail,
    }
}

impl Text {
    fn section(&mut self, title: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&Tone::Title.paint(title));
        self.out.push('\n');
    }

    /// A line behind a label, hanging at [`INDENT`].
    fn labelled(&mut self, label: &str, tone: Tone, text: &str) {
        self.out.push_str(&format!("    {label:<width$}", width = INDENT - 4));
        wrap(&mut self.out, tone, &clean(text), INDENT, self.width);
    }

    fn line(&mut self, indent: usize, tone: Tone, text: &str) {
        self.out.push_str(&" ".repeat(indent));
        wrap(&mut self.out, tone, &clean(text), indent, self.width);
    }

    fn finding(&mut self, finding: &Finding) {
        let outcome = &finding.outcome;
        self.headline(finding);
        if let Some(cause) = &outcome.cause {
            self.labelled("why", Tone::Plain, cause);
        }
        for (index, remedy) in outcome.remedy.iter().enumerate() {
            self.labelled(if index == 0 { "do" } else { "or" }, Tone::Plain, &remedy_in_words(remedy));
        }
        for (index, evidence) in outcome.evidence.iter().enumerate() {
            let label = if index == 0 { "seen" } else { "" };
            self.labelled(label, Tone::Detail, &format!("{}: {}", evidence.source, evidence.value));
        }
    }

    /// The identifier and the answer.
    fn headline(&mut self, finding: &Finding) {
        let outcome = &finding.outcome;
        self.out.push_str(&format!("  {}  ", tone(outcome.status).paint(finding.id)));
        let place = Place { column: finding.id.len() + 4, indent: 4, width: self.width };
        wrap_at(&mut self.out, Tone::Plain, &clean(&outcome.summary), place);
    }

    /// What cannot be told: one line each, then the ways to find out, each once.
    fn unknowns(&mut self, found: &[&Finding]) {
        let mut ways: Vec<(&Remedy, usize)> = Vec::new();
        for finding in found {
            self.headline(finding);
            for remedy in &finding.outcome.remedy {
                match ways.iter_mut().find(|(known, _)| *known == remedy) {
                    Some((_, count)) => *count += 1,
                    None => ways.push((remedy, 1)),
                }
            }
        }
        for (remedy, count) in ways {
            let text = format!("{} ({count} of these)", remedy_in_words(remedy));
            self.out.push_str("  to know: ");
            wrap(&mut self.out, Tone::Plain, &clean(&text), 11, self.width);
        }
    }

    fn rest(&mut self, diagnosis: &Diagnosis, detail: Detail) {
        let counts = &diagnosis.counts;
        if detail == Detail::Full {
            for (status, title) in
                [(Status::Pass, "As it should be"), (Status::NotApplicable, "Does not apply here")]
            {
                let found: Vec<_> = diagnosis.with_status(status).collect();
                if !found.is_empty() {
                    self.section(&format!("{title} ({})", found.len()));
                    for finding in found {
                        self.headline(finding);
                        for evidence in &finding.outcome.evidence {
                            self.line(
                                INDENT,
                                Tone::Detail,
                                &format!("{}: {}", evidence.source, evidence.value),
                            );
                        }
                    }
                }
            }
        }
        self.out.push('\n');
        let count = |number: usize, what: &str| (number > 0).then(|| format!("{number} {what}"));
        let parts: Vec<_> = [
            count(counts.fail, "failed"),
            count(counts.warn, "warned"),
            count(counts.unknown, "unknown"),
            count(counts.pass, "passed"),
            count(counts.not_applicable, "do not apply here"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let total = diagnosis.findings.len();
        self.line(0, Tone::Title, &format!("{total} checks: {}", parts.join(", ")));
        let hidden = detail == Detail::Brief && counts.pass + counts.not_applicable > 0;
        let hint = match (hidden, total) {
            (_, 0) => return,
            (true, _) => "-v lists what passed; --explain ID says why a check matters",
            (false, _) => "--explain ID says why a check matters",
        };
        self.line(0, Tone::Detail, hint);
    }
}

/// One way to mend it, in one line.
#[must_use]
pub fn remedy_in_words(remedy: &Remedy) -> String {
    let text = &remedy.text;
    let mut words = match remedy.kind {
        RemedyKind::KernelArgument => format!("kernel argument: {text}"),
        RemedyKind::Command => format!("run: {text}"),
        RemedyKind::Firmware | RemedyKind::Hardware | RemedyKind::Advice => text.clone(),
    };
    if let Some(confidence) = remedy.confidence {
        words.push_str(match confidence {
            Confidence::High => " [confidence: high]",
            Confidence::Medium => " [confidence: medium]",
            Confidence::Low => " [confidence: low]",
        });
    }
    if let Some(note) = &remedy.note {
        words.push_str(&format!("; {note}"));
    }
    if remedy.reboot {
        words.push_str("; takes a reboot");
    }
    words
}
