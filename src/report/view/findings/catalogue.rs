//! The checks themselves: all of them as a list, and one of them explained.

use super::{Text, tone};
use crate::check::{Check, Finding, Purpose, Question};
use crate::report::style::Tone;
use crate::report::table::Table;

/// Identifiers, titles, and what each is asked for.
#[must_use]
pub fn list(checks: &[&Check], width: Option<u16>) -> String {
    let mut table = Table::new(&["ID", "QUESTION", "FOR"], width).rigid(0);
    for check in checks {
        table.row([
            (Tone::Title, check.id.to_owned()),
            (Tone::Plain, check.title.to_owned()),
            (Tone::Detail, purposes(check)),
        ]);
    }
    table.render()
}

fn purposes(check: &Check) -> String {
    let purposes = check.purposes.iter().copied().map(Purpose::name).collect::<Vec<_>>().join(" ");
    match check.run {
        Question::Host(_) => purposes,
        Question::Function(_) => "ADDR".to_owned(),
    }
}

/// One check: the question, why it matters, where to read on, and the answer on this host.
#[must_use]
pub fn explain(check: &Check, here: Option<&Finding>, width: Option<u16>) -> String {
    let mut text = Text { out: String::new(), width };
    text.out.push_str(&format!("{}: {}\n", Tone::Title.paint(check.id), check.title));
    text.line(2, Tone::Plain, check.why);
    for (index, reference) in check.refs.iter().enumerate() {
        text.labelled(if index == 0 { "read" } else { "" }, Tone::Plain, reference);
    }
    match here {
        Some(finding) => {
            text.section("On this host");
            let status = format!("{:?}", finding.outcome.status).to_lowercase();
            text.out.push_str(&format!("  {}\n", tone(finding.outcome.status).paint(&status)));
            text.finding(finding);
        }
        None => {
            text.section("Asked of one function");
            text.line(2, Tone::Plain, "thruway doctor --for ADDR");
        }
    }
    text.out
}
