//! The journal as text for people: what is applied, by which command, and whether it is still so.

use std::fmt::Write as _;

use crate::report::style::{Tone, clean, wrap};
use crate::setup::apply::Left;
use crate::setup::journal::{StepState, Transaction};
use crate::setup::status::{Now, Status};

/// Column in which the text of a step starts.
const TEXT: usize = 14;

/// All of `status`, for a terminal of `width` columns.
#[must_use]
pub fn render(status: &Status, width: Option<u16>) -> String {
    let mut out = String::new();
    if status.transactions.is_empty() {
        out.push_str("Nothing of thruway's is applied in this boot\n");
    }
    for transaction in &status.transactions {
        let argv = transaction.argv.join(" ");
        let _ = writeln!(
            out,
            "{}  {}",
            Tone::Title.paint(&format!("Transaction {}", transaction.id)),
            clean(&argv)
        );
        if transaction.confirm_by_boot_s.is_some() {
            let text = "  waits for thruway confirm, and is taken back if that does not come in time";
            let _ = writeln!(out, "{}", Tone::Notice.paint(text));
        }
        for step in &transaction.steps {
            let (tone, word, detail) = match (&step.now, &step.recorded) {
                (_, StepState::Pending { reason, .. }) => (Tone::Bad, "pending", Some(reason.as_str())),
                (Now::Applied, StepState::Done) => (Tone::Good, "applied", None),
                (Now::Applied, _) => {
                    (Tone::Notice, "applied", Some("the command that did it did not end well"))
                }
                (Now::Before, StepState::Done) => (Tone::Notice, "undone", Some("not by thruway")),
                (Now::Before, _) => (Tone::Detail, "not applied", None),
                (Now::Between, _) => (Tone::Bad, "half way", Some("the command that did it was interrupted")),
                (Now::Superseded, _) => (Tone::Detail, "superseded", None),
                (Now::Drifted(found), _) => (Tone::Bad, "changed", Some(found.as_str())),
                (Now::Gone, _) => (Tone::Notice, "gone", Some("what it is about is not there any more")),
                (Now::Unread(reason), _) => (Tone::Notice, "unknown", Some(reason.as_str())),
            };
            let _ = write!(out, "  {}", tone.paint(&format!("{word:<width$}", width = TEXT - 2)));
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            wrap(&mut out, Tone::Plain, &clean(&format!("{}{detail}", step.text)), TEXT, width);
        }
    }
    if !status.transactions.is_empty() {
        out.push_str("\nthruway undo takes the last one back, thruway undo --all everything\n");
    }
    for (count, what) in [(status.undone, "taken back in this boot"), (status.history, "of earlier boots")] {
        if count > 0 {
            let _ = writeln!(
                out,
                "{}",
                Tone::Detail
                    .paint(&format!("{count} more transaction{} {what}", if count == 1 { "" } else { "s" }))
            );
        }
    }
    out
}

/// What undo is about to take back.
#[must_use]
pub fn render_undo(transactions: &[Transaction], boot_id: &str, width: Option<u16>) -> String {
    let mut out = String::new();
    for transaction in transactions {
        let argv = transaction.header.argv.join(" ");
        let title = Tone::Title.paint(&format!("To take back: transaction {}", transaction.header.id));
        let _ = writeln!(out, "{title}  {}", clean(&argv));
        for step in transaction.open_steps().rev().filter(|step| !transaction.leaves(step, boot_id)) {
            out.push_str("  ");
            wrap(&mut out, Tone::Plain, &clean(&step.change.describe_undo()), 4, width);
        }
    }
    out
}

/// What is left behind, and why.
#[must_use]
pub fn render_left(left: &[Left], width: Option<u16>) -> String {
    let mut out = Tone::Bad.paint("Left behind:");
    out.push('\n');
    for left in left {
        out.push_str("  ");
        wrap(&mut out, Tone::Title, &clean(&left.change), 4, width);
        out.push_str("    ");
        wrap(&mut out, Tone::Plain, &clean(&left.why), 4, width);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::status::{StepStatus, TransactionStatus};

    #[test]
    fn each_state_of_a_step_has_its_word() {
        let pending = StepState::Pending { reason: "a write did not return".to_owned(), pid: 7 };
        let steps = [
            (Now::Applied, StepState::Done, "applied     x"),
            (Now::Applied, StepState::Begun, "applied     x (the command that did it did not end well)"),
            (Now::Before, StepState::Done, "undone      x (not by thruway)"),
            (Now::Before, StepState::Begun, "not applied x"),
            (Now::Between, StepState::Begun, "half way    x (the command that did it was interrupted)"),
            (Now::Superseded, StepState::Done, "superseded  x"),
            (Now::Drifted("driver nvme".to_owned()), StepState::Done, "changed     x (driver nvme)"),
            (Now::Before, pending, "pending     x (a write did not return)"),
        ];
        for (now, recorded, expected) in steps {
            let steps = vec![StepStatus { step: 0, text: "x".to_owned(), recorded, now }];
            let one = TransactionStatus {
                id: 3,
                argv: vec!["thruway".to_owned(), "apply".to_owned()],
                begun_unix_s: 0,
                tool_version: "0".to_owned(),
                confirm_by_boot_s: None,
                steps,
            };
            let text = render(&Status { transactions: vec![one], undone: 0, history: 0 }, None);
            let text = anstream::adapter::strip_str(&text).to_string();
            assert!(text.starts_with(&format!("Transaction 3  thruway apply\n  {expected}\n")), "{text}");
        }
    }
}
