//! What differs between two readings of a host, for people.

use serde_json::Value;

use crate::host::diff::{Change, ChangeKind, Diff};
use crate::report::style::{Tone, clean, wrap};

/// Most characters of a value that are shown; the document has the whole.
const MOST: usize = 200;

/// All changes, those of one part of the document together.
#[must_use]
pub fn render(diff: &Diff, width: Option<u16>) -> String {
    let mut out = String::new();
    if diff.is_empty() {
        out.push_str("Nothing has changed.\n");
    }
    let mut part = None;
    for change in &diff.changes {
        let this = change.path.first();
        if part != this {
            if part.is_some() {
                out.push('\n');
            }
            let title = this.map_or("", String::as_str);
            out.push_str(&format!("{}\n", Tone::Title.paint(&clean(title))));
            part = this;
        }
        out.push_str("  ");
        wrap(&mut out, tone(change.kind), &clean(&sentence(change)), 4, width);
    }
    if !diff.not_compared.is_empty() {
        let count = diff.not_compared.len();
        out.push('\n');
        let text = format!(
            "{count} {} could be read on one side only and {} not compared; --format json lists them",
            if count == 1 { "fact" } else { "facts" },
            if count == 1 { "was" } else { "were" },
        );
        wrap(&mut out, Tone::Detail, &text, 0, width);
    }
    out
}

fn tone(kind: ChangeKind) -> Tone {
    match kind {
        ChangeKind::Changed => Tone::Plain,
        ChangeKind::Appeared => Tone::Good,
        ChangeKind::Gone => Tone::Bad,
        ChangeKind::Moved => Tone::Notice,
    }
}

fn sentence(change: &Change) -> String {
    let (before, after) = (shown(&change.before), shown(&change.after));
    // The first key is the title; a list's own name says nothing that its members do not.
    let subject: Vec<_> =
        change.path.iter().skip(1).filter(|key| *key != "devices").map(String::as_str).collect();
    let subject = subject.join(" ").replace('_', " ");
    match change.kind {
        ChangeKind::Moved => format!("{before} moved to {after}"),
        ChangeKind::Appeared if change.after.is_object() => {
            format!("{subject} is new{}", named(&change.after))
        }
        ChangeKind::Gone if change.before.is_object() => {
            format!("{subject} is gone{}", named(&change.before))
        }
        ChangeKind::Appeared => format!("{subject}: {after} (was not there)"),
        ChangeKind::Gone => format!("{subject}: gone (was {before})"),
        ChangeKind::Changed => format!("{subject}: {before} -> {after}"),
    }
}

/// What a function or device calls itself.
fn named(value: &Value) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let parts: Vec<_> = [text("vendor").or(text("manufacturer")), text("device").or(text("product"))]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(" ")) }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "-".to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) if values.iter().all(|value| !value.is_object()) => {
            values.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &[&str], kind: ChangeKind, before: Value, after: Value) -> Change {
        Change { path: path.iter().map(|&key| key.to_owned()).collect(), kind, before, after }
    }

    #[test]
    fn changes_read_as_sentences_under_their_part() {
        let nic = serde_json::json!({"vendor": "Intel", "device": "82576"});
        let diff = Diff {
            changes: vec![
                change(&["pci", "devices", "b"], ChangeKind::Moved, "a".into(), "b".into()),
                change(&["pci", "devices", "c"], ChangeKind::Gone, nic, Value::Null),
                change(
                    &["pci", "devices", "b", "driver"],
                    ChangeKind::Changed,
                    "igb".into(),
                    "vfio-pci".into(),
                ),
                change(&["kernel", "release"], ChangeKind::Changed, "1".into(), "2\u{1b}[0m".into()),
            ],
            not_compared: vec!["x".to_owned()],
        };
        let text = anstream::adapter::strip_str(&render(&diff, None)).to_string();
        assert_eq!(
            text,
            "pci\n  a moved to b\n  c is gone: Intel 82576\n  b driver: igb -> vfio-pci\n\nkernel\n  release: 1 -> 2?[0m\n\n1 fact could be read on one side only and was not compared; --format json lists them\n"
        );
    }

    #[test]
    fn no_change_is_said() {
        let none = Diff { changes: Vec::new(), not_compared: Vec::new() };
        assert_eq!(render(&none, Some(80)), "Nothing has changed.\n");
    }
}
