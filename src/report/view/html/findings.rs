//! What does not work, what could be better, what is unknown: each with its cause, what to do, and what it rests on.

use super::{Heading, class, heading, show_sign};
use crate::check::{self, Confidence, Diagnosis, Evidence, Finding, Remedy, RemedyKind, Status};
use crate::report::markup::Markup;

/// More unknown answers than this are folded away: without privilege there are many.
const MOST_UNFOLDED: usize = 10;

/// All findings, the worst first; what is as it should be is folded away.
pub(super) fn show(out: &mut Markup, diagnosis: &Diagnosis) {
    for status in [Status::Fail, Status::Warn, Status::Unknown, Status::Pass, Status::NotApplicable] {
        let found: Vec<_> = diagnosis.with_status(status).collect();
        if found.is_empty() {
            continue;
        }
        let Heading { title, id, .. } = heading(status);
        let title = format!("{title} ({})", found.len());
        out.open("section", &[("id", id)]);
        out.end_line();
        if matches!(status, Status::Fail | Status::Warn) {
            out.element("h2", &[], &title);
            found.iter().for_each(|finding| card(out, finding));
        } else {
            let unfolded = status == Status::Unknown && found.len() <= MOST_UNFOLDED;
            out.raw(if unfolded { "<details open=\"open\">" } else { "<details>" });
            out.raw("<summary><h2>");
            out.text(&title);
            out.raw("</h2></summary>\n");
            found.iter().for_each(|finding| row(out, finding));
            out.raw("</details>\n");
        }
        out.raw("</section>\n");
    }
}

/// A finding with all that is known about it.
fn card(out: &mut Markup, finding: &Finding) {
    let outcome = &finding.outcome;
    let class = class(heading(outcome.status).tone);
    out.open("article", &[("id", finding.id), ("class", &format!("finding {class}"))]);
    headline(out, finding, "h3");
    if let Some(cause) = &outcome.cause {
        out.raw("<p>");
        prose(out, cause);
        out.raw("</p>\n");
    }
    for (index, remedy) in outcome.remedy.iter().enumerate() {
        out.raw("<div class=\"remedy\">");
        out.raw(if index == 0 { "<p class=\"label\">Do: " } else { "<p class=\"label\">Or: " });
        self::remedy(out, remedy);
        out.raw("</div>\n");
    }
    evidence(out, &outcome.evidence);
    if let Some(check) = check::by_id(finding.id) {
        out.raw("<details><summary>Why it matters</summary><p>");
        prose(out, check.why);
        out.raw("</p>");
        check.refs.iter().for_each(|source| out.element("p", &[("class", "detail")], source));
        out.raw("</details>\n");
    }
    out.raw("</article>\n");
}

/// A finding in short.
fn row(out: &mut Markup, finding: &Finding) {
    let class = class(heading(finding.outcome.status).tone);
    out.open("div", &[("id", finding.id), ("class", &format!("row {class}"))]);
    headline(out, finding, "p");
    evidence(out, &finding.outcome.evidence);
    out.raw("</div>\n");
}

/// The answer and the identifier.
fn headline(out: &mut Markup, finding: &Finding, element: &'static str) {
    out.open(element, &[]);
    show_sign(out, heading(finding.outcome.status).sign);
    out.raw(" ");
    prose(out, &finding.outcome.summary);
    out.raw(" <code class=\"id\">");
    out.text(finding.id);
    out.raw("</code>");
    out.close(element);
    out.end_line();
}

/// What kind of step it is, the step, and what to know about it. Closes the paragraph that it starts in.
pub(super) fn remedy(out: &mut Markup, remedy: &Remedy) {
    out.raw(match remedy.kind {
        RemedyKind::Firmware => "in the firmware setup (BIOS)",
        RemedyKind::KernelArgument => "kernel argument",
        RemedyKind::Command => "command",
        RemedyKind::Hardware => "by hand",
        RemedyKind::Advice => "advice",
    });
    if remedy.reboot {
        out.raw(" <span class=\"badge\">takes a reboot</span>");
    }
    if let Some(confidence) = remedy.confidence {
        out.raw(match confidence {
            Confidence::High => " <span class=\"badge\">confidence: high</span>",
            Confidence::Medium => " <span class=\"badge\">confidence: medium</span>",
            Confidence::Low => " <span class=\"badge\">confidence: low</span>",
        });
    }
    out.raw("</p>\n");
    if remedy.is_command() {
        out.raw("<pre tabindex=\"0\"><code>");
        out.text(&remedy.text);
        out.raw("</code></pre>\n");
    } else {
        out.raw("<p>");
        prose(out, &remedy.text);
        out.raw("</p>\n");
    }
    if let Some(note) = &remedy.note {
        out.raw("<p class=\"detail\">");
        prose(out, note);
        out.raw("</p>\n");
    }
}

/// What an answer rests on.
pub(super) fn evidence(out: &mut Markup, evidence: &[Evidence]) {
    if evidence.is_empty() {
        return;
    }
    out.raw("<details><summary>What was seen</summary><dl>\n");
    for Evidence { source, value } in evidence {
        out.raw("<dt><code>");
        out.text(source);
        out.raw("</code></dt><dd><code>");
        out.text(value);
        out.raw("</code></dd>\n");
    }
    out.raw("</dl></details>\n");
}

/// A sentence, in which words between grave accents are to be typed or found as they stand.
pub(super) fn prose(out: &mut Markup, text: &str) {
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            out.element("code", &[], part);
        } else {
            out.text(part);
        }
    }
}
