//! The whole report of a host as one page: verdicts, what to do first, every finding, the picture of the groups, the
//! facts, and what could not be read.
//!
//! The page loads nothing, and its policy (CSP Level 3, 3.3) forbids it to; it has no script. Where the browser's own
//! style sheet does not do, `style.css` does. Its tags are balanced and its attributes quoted, so that it is XML as well.
//! The same host gives the same page, byte by byte.

mod facts;
mod findings;
mod steps;
#[cfg(test)]
mod tests;

use crate::check::{Diagnosis, Status, Verdict};
use crate::host::HostFacts;
use crate::host::fact::Fact;
use crate::report::document::Unread;
use crate::report::markup::Markup;
use crate::report::style::Tone;
use crate::report::view::topology::{self, Shape, Topology};
use crate::report::view::verdicts;

/// More functions than this are shown when they are asked for.
const MOST_UNFOLDED: usize = 40;

/// What the page is about.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The host.
    pub facts: &'a HostFacts,
    /// The answer to every check.
    pub diagnosis: &'a Diagnosis,
    /// What could not be read.
    pub unread: &'a [Unread],
    /// Whether serial numbers, addresses and names are placeholders in it.
    pub redacted: bool,
}

/// What stands before everything that a host says.
const HEAD: &str = "\
<meta charset=\"utf-8\"/>
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
base-uri 'none'; form-action 'none'\"/>
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>
<meta name=\"color-scheme\" content=\"light dark\"/>
<meta name=\"referrer\" content=\"no-referrer\"/>
<link rel=\"icon\" href=\"data:,\"/>
";

/// The page.
#[must_use]
pub fn render(page: Page<'_>) -> String {
    let mut out = Markup::default();
    let machine = machine(page.facts);
    out.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n");
    out.raw(HEAD);
    out.element("title", &[], &format!("{machine}: what thruway says of it"));
    out.raw("\n<style>\n");
    out.raw(include_str!("style.css"));
    out.raw("</style>\n</head>\n<body>\n");
    header(&mut out, page, &machine);
    out.raw("<main>\n");
    verdict_cards(&mut out, page.diagnosis);
    contents(&mut out, page.diagnosis);
    steps::show(&mut out, page.diagnosis);
    findings::show(&mut out, page.diagnosis);
    picture(&mut out, page.facts);
    facts::show(&mut out, page.facts);
    unread(&mut out, page.unread);
    out.raw("</main>\n");
    footer(&mut out, page.redacted);
    out.raw("</body>\n</html>\n");
    out.into_string()
}

/// What firmware calls the machine.
fn machine(facts: &HostFacts) -> String {
    let dmi = &facts.firmware.dmi;
    joined(&[&dmi.system_vendor, &dmi.product_name]).unwrap_or_else(|| "A Linux host".to_owned())
}

/// The known ones of `facts`, if there are any.
fn joined(facts: &[&Fact<String>]) -> Option<String> {
    let known: Vec<_> = facts.iter().filter_map(|fact| fact.known().map(String::as_str)).collect();
    (!known.is_empty()).then(|| known.join(" "))
}

/// What people ask first when they are asked for help.
fn header(out: &mut Markup, page: Page<'_>, machine: &str) {
    let HostFacts { cpu, kernel, firmware, .. } = page.facts;
    let dmi = &firmware.dmi;
    let under = match &cpu.hypervisor.present {
        Fact::Known(true) => Some(cpu.hypervisor.name.clone().unwrap_or_else(|| "a hypervisor".to_owned())),
        _ => None,
    };
    out.raw("<header>\n<p class=\"kind\">thruway report</p>\n");
    out.element("h1", &[], machine);
    out.raw("\n<dl>\n");
    for (name, value) in [
        ("Board", joined(&[&dmi.board_vendor, &dmi.board_name])),
        ("Firmware", joined(&[&dmi.bios_vendor, &dmi.bios_version, &dmi.bios_date])),
        ("Processor", cpu.name.known().cloned()),
        ("Runs under", under),
        ("Kernel", kernel.release.known().cloned()),
        ("Command line", kernel.command_line.known().cloned()),
    ] {
        if let Some(value) = value {
            facts::pair(out, name, (Tone::Plain, &value));
        }
    }
    out.raw("</dl>\n</header>\n");
}

/// The class of what is said in `tone`.
const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Title => "title",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Notice => "notice",
        Tone::Detail => "detail",
    }
}

/// A sign beside the words, for those who see no colours; a voice leaves it out.
fn show_sign(out: &mut Markup, sign: &'static str) {
    out.element("span", &[("class", "sign"), ("aria-hidden", "true")], sign);
}

fn verdict_cards(out: &mut Markup, diagnosis: &Diagnosis) {
    out.raw("<section id=\"verdicts\" aria-label=\"Verdicts\">\n");
    verdict_card(out, ["verdict-kvm", "Virtual machines", "KVM"], &diagnosis.verdicts.kvm);
    verdict_card(out, ["verdict-iommu", "Passing devices through", "IOMMU"], &diagnosis.verdicts.iommu);
    out.raw("</section>\n");
}

fn verdict_card(out: &mut Markup, [id, question, name]: [&'static str; 3], verdict: &Verdict) {
    let (tone, word) = verdicts::in_a_word(verdict);
    out.open("article", &[("id", id), ("class", &format!("verdict {}", class(tone)))]);
    out.raw("<h2>");
    out.text(question);
    out.element("span", &[("class", "detail")], &format!(" {name}"));
    out.raw("</h2>\n<p class=\"answer\">");
    show_sign(
        out,
        match (verdict.usable, tone) {
            (None, _) => "?",
            (Some(false), _) => "✗",
            (Some(true), Tone::Good) => "✓",
            (Some(true), _) => "!",
        },
    );
    out.raw(" ");
    out.element("strong", &[], word);
    out.raw("</p>\n");
    out.raw("<p>");
    findings::prose(out, &verdict.explanation);
    out.raw("</p>\n");
    findings::evidence(out, &verdict.evidence);
    out.raw("</article>\n");
}

/// How many checks ended how, and where the rest of the page is.
fn contents(out: &mut Markup, diagnosis: &Diagnosis) {
    let counts = &diagnosis.counts;
    out.raw("<nav aria-label=\"On this page\">\n");
    let steps = usize::from(steps::any(diagnosis));
    for (count, href, tone, text) in [
        (steps, "#steps", Tone::Title, "What to do first".to_owned()),
        (counts.fail, "#fail", Tone::Bad, format!("{} failed", counts.fail)),
        (counts.warn, "#warn", Tone::Notice, format!("{} could be better", counts.warn)),
        (counts.unknown, "#unknown", Tone::Notice, format!("{} unknown", counts.unknown)),
        (counts.pass, "#pass", Tone::Good, format!("{} passed", counts.pass)),
        (1, "#groups", Tone::Plain, "Groups".to_owned()),
        (1, "#facts", Tone::Plain, "Facts".to_owned()),
        (1, "#unread", Tone::Plain, "Not read".to_owned()),
    ] {
        if count > 0 {
            out.element("a", &[("href", href), ("class", class(tone))], &text);
            out.end_line();
        }
    }
    out.raw("</nav>\n");
}

/// How the findings of one status are shown.
struct Heading {
    title: &'static str,
    tone: Tone,
    sign: &'static str,
    /// Anchor of their section.
    id: &'static str,
}

const fn heading(status: Status) -> Heading {
    let (title, tone, sign, id) = match status {
        Status::Fail => ("Does not work", Tone::Bad, "✗", "fail"),
        Status::Warn => ("Works, and could be better or safer", Tone::Notice, "!", "warn"),
        Status::Unknown => ("Unknown", Tone::Notice, "?", "unknown"),
        Status::Pass => ("As it should be", Tone::Good, "✓", "pass"),
        Status::NotApplicable => ("Does not apply here", Tone::Detail, "·", "not-applicable"),
    };
    Heading { title, tone, sign, id }
}

/// The tree of functions in the colours of their groups.
fn picture(out: &mut Markup, facts: &HostFacts) {
    let topology = Topology::of(facts);
    let count = facts.pci.functions().len();
    out.raw("<section id=\"groups\">\n<h2>PCI tree and IOMMU groups</h2>\n");
    out.raw(
        "<p>Functions of one colour and number are in one IOMMU group: they go to a guest together, or not at all. \
         Bridges in a group stay with the host.</p>\n",
    );
    if count > MOST_UNFOLDED {
        out.raw("<details>");
    } else {
        out.raw("<details open=\"open\">");
    }
    out.element("summary", &[], &format!("Picture ({count} functions)"));
    out.raw(
        "\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Picture of the PCI tree\">\n",
    );
    out.embed(&topology::svg(&topology, Shape::Column));
    out.raw("</div>\n</details>\n</section>\n");
}

fn unread(out: &mut Markup, unread: &[Unread]) {
    out.raw("<section id=\"unread\">\n<h2>What could not be read</h2>\n");
    if unread.is_empty() {
        out.raw("<p>Everything that was asked for could be read.</p>\n");
    } else {
        out.raw("<p>It is unknown, not absent. As root more is known.</p>\n");
        out.raw("<table class=\"places\"><thead><tr><th scope=\"col\">Place</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n");
        for (place, reason) in super::facts::grouped_unread(unread) {
            out.raw("<tr><td><code>");
            out.text(&place);
            out.raw("</code></td>");
            out.element("td", &[], reason);
            out.raw("</tr>\n");
        }
        out.raw("</tbody></table>\n");
    }
    out.raw("</section>\n");
}

fn footer(out: &mut Markup, redacted: bool) {
    out.raw("<footer>\n");
    out.element("p", &[], &format!("Made by thruway {}.", env!("CARGO_PKG_VERSION")));
    out.raw(if redacted {
        "<p id=\"redaction\">Serial numbers, MAC and IP addresses, UUIDs, host and user names are placeholders here.</p>\n"
    } else {
        "<p id=\"redaction\">Nothing was replaced: serial numbers, addresses, and names of the host and its users may be in \
         it. Think before you pass it on.</p>\n"
    });
    out.raw("<p>This page is one file and loads nothing.</p>\n</footer>\n");
}
