//! The one place where YAML becomes typed values.
//!
//! Two readers look at each document. `granit-parser` gives the places of keys and values ([`Tree`]); `serde_yaml`
//! gives the value. A document must satisfy both. Types are read strictly: `deny_unknown_fields`, and enums as
//! mappings with one key (`- virtio-net: {..}`), put on once for the whole document.

use std::ops::Range;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::profile::diagnostic::Finding;
use crate::profile::structure;
pub use crate::profile::tree::Tree;

/// Largest document, in bytes.
pub const MAX_SIZE: usize = 64 << 10;

/// Reads `text` as a `T`, together with the places of its parts.
///
/// # Errors
/// All that is wrong and that can be told apart: a document over [`MAX_SIZE`]; the first error of syntax; all duplicate
/// keys, aliases and tags; all that does not have the structure of `T`; or the first value that `T` does not take.
pub fn parse<T: DeserializeOwned + JsonSchema>(text: &str) -> Result<(T, Tree), Vec<Finding>> {
    if text.len() > MAX_SIZE {
        let message = format!("{} bytes are too many; at most {MAX_SIZE} are read", text.len());
        return Err(vec![Finding::without_place(message)]);
    }
    let tree = Tree::read(text)?;
    if let Some(root) = tree.root() {
        let findings = structure::check(root, schemars::schema_for!(T).as_value());
        if !findings.is_empty() {
            return Err(findings);
        }
    }
    let document = serde_yaml::Deserializer::from_str(text);
    match serde_yaml::with::singleton_map_recursive::deserialize(document) {
        Ok(value) => Ok((value, tree)),
        Err(error) => Err(vec![finding(&error, text, &tree)]),
    }
}

/// An error of `serde_yaml` at its place; that crate counts lines and columns in characters.
fn finding(error: &serde_yaml::Error, text: &str, tree: &Tree) -> Finding {
    let message = error.to_string();
    let Some(location) = error.location() else {
        return Finding::without_place(message);
    };
    let at = offset(text, location.line(), location.column());
    let suffix = format!(" at line {} column {}", location.line(), location.column());
    let message = message.strip_suffix(&suffix).unwrap_or(&message);
    Finding::new(message, tree.scalar_at(at).unwrap_or_else(|| token(text, at)))
}

/// The byte at `line` and `column`, both counted from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>()
}

/// From `at` to the end of the word, or of the line if a flow collection begins there.
fn token(text: &str, at: usize) -> Range<usize> {
    let rest = text.get(at..).unwrap_or_default();
    if rest.starts_with(['[', '{']) {
        return at..at + rest.lines().next().unwrap_or_default().trim_end().len();
    }
    let length =
        rest.find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '}' | ']')).unwrap_or(rest.len());
    at..at + length.max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::profile::Profile;
    use crate::spec::units::ByteSize;

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        size: ByteSize,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Part {
        BigWheel { spokes: u8 },
    }

    fn wrong(text: &str) -> (String, String) {
        let finding = parse::<Thing>(text).unwrap_err().remove(0);
        (finding.message, finding.place.and_then(|place| text.get(place)).unwrap_or_default().to_owned())
    }

    #[test]
    fn enums_are_mappings_with_one_key() {
        let (thing, _) = parse::<Thing>("size: 1MiB\nparts:\n  - big-wheel: {spokes: 3}\n").unwrap();
        assert_eq!(thing.parts, [Part::BigWheel { spokes: 3 }]);
    }

    #[test]
    fn values_of_a_wrong_type_are_found_at_their_place() {
        assert_eq!(wrong("size: [1]\n").1, "size");
        assert_eq!(wrong("é: 1\nsize: 1\n").1, "é");
        assert_eq!(wrong("size: 1\nparts:\n  - big-wheel: {spokes: 300}\n").1, "300");
        assert_eq!(wrong("size: 1\nparts:\n  - big-wheel: {spokes: x}\n").1, "x");
        assert_eq!(
            wrong("size: 4GB\n"),
            ("size: `GB` is not a unit of size; use B, KiB, MiB, GiB or TiB".to_owned(), "4GB".to_owned())
        );
    }

    #[test]
    fn a_large_document_is_refused_unread() {
        let text = format!("size: 1\n#{}", "x".repeat(MAX_SIZE));
        assert!(wrong(&text).0.contains("are too many"));
    }

    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Profile).to_value());

    /// All places in `value`, as JSON pointers.
    fn places(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found));
            }
            _ => {}
        }
    }

    /// What built-in profiles say in short, at length.
    const LONG: &str = "schema: 1\nname: long\nmachine:\n  cpus: {count: 4, sockets: 2, dies: 1, cores: 1, threads: 2, \
        model: x86-64-v2, features: {aes: true}, pin: [0, \"1-2\", 3, 4], realtime_priority: 2}\n  memory: {size: 64MiB, \
        hugepages: 2MiB, shared: false, file: x, prefault: true, lock: true, ksm: true}\n  numa: [{cpus: 0-3, memory: \
        64MiB, host_node: 0, distances: [10]}]\n";

    /// A profile in which a few values are others that could stand there.
    fn spoilt() -> impl Strategy<Value = String> {
        let others = [
            json!(null),
            json!(true),
            json!("true"),
            json!("reset"),
            json!("x"),
            json!(1),
            json!(-1),
            json!(70000),
            json!({}),
            json!([]),
            json!([{}]),
            json!({"address": "01:00.0"}),
            json!({"address": 1, "id": "x"}),
            json!({"virtio-rng": null}),
            json!([{"pf": {"address": "1:0.0"}, "count": 1, "autoprobe": null}]),
            json!([{"virtio-net": {"tap": "t", "mac": null}}]),
            json!({"machine": {}}),
            json!("512MiB"),
        ];
        let swap = (any::<prop::sample::Index>(), prop::sample::select(others.to_vec()));
        let swaps = prop::collection::vec(swap, 1..3);
        let texts = crate::profile::builtin::ALL.iter().map(|builtin| builtin.text).chain([LONG]);
        let whole: Vec<Value> = texts
            .map(|text| {
                let (profile, _) = parse::<Profile>(text).unwrap();
                serde_json::to_value(profile).unwrap()
            })
            .collect();
        (prop::sample::select(whole), swaps).prop_map(|(mut value, swaps)| {
            for (at, other) in swaps {
                let mut found = Vec::new();
                places(&value, "", &mut found);
                *value.pointer_mut(at.get(&found).as_str()).unwrap() = other;
            }
            serde_yaml::to_string(&value).unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~\\n\\té\u{1f600}]{0,200}") {
            if let Err(findings) = parse::<Profile>(&text) {
                let shown = crate::profile::Findings { origin: "x".to_owned(), text, findings }.to_string();
                prop_assert!(shown.starts_with("error: "));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_the_structure_forbids_serde_forbids_too(text in spoilt()) {
            let Ok(tree) = Tree::read(&text) else { return Ok(()) };
            let findings = structure::check(tree.root().unwrap(), &SCHEMA);
            let document = serde_yaml::Deserializer::from_str(&text);
            let read: Result<Profile, _> = serde_yaml::with::singleton_map_recursive::deserialize(document);
            prop_assert!(findings.is_empty() || read.is_err(), "{findings:?}\n{text}");
        }
    }
}
