//! Whether a document has the structure of a type: all that is wrong at once, in words for the one who wrote it.
//!
//! The structure is read from the type's JSON schema: the same definition that serde reads by. Serde stays the judge
//! of everything and is stricter; this only speaks first, because serde stops at its first error and names types of
//! this program. What is said here must therefore be wrong for serde too.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::profile::diagnostic::Finding;
use crate::profile::tree::{Cursor, Kind};
use crate::spec::spelling::closest;

/// Everything in `node` and beneath it that does not fit `schema`.
pub(super) fn check(node: Cursor<'_>, schema: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    Walk { root: schema, findings: &mut findings }.visit(node, vec![schema]);
    findings
}

struct Walk<'a> {
    root: &'a Value,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, node: Cursor<'_>, schemas: Vec<&'a Value>) {
        let shapes = self.shapes(schemas);
        if shapes.is_empty() {
            return; // anything goes
        }
        match node.kind() {
            Kind::Mapping => self.mapping(node, &shapes),
            Kind::Sequence if has_type(&shapes, "array") => {
                let items: Vec<&Value> = shapes.iter().filter_map(|shape| shape.get("items")).collect();
                for item in node.items() {
                    self.visit(item, items.clone());
                }
            }
            Kind::Sequence => self.report(node, expected(&shapes)),
            Kind::Scalar { text, plain } => self.scalar(node, text, plain, &shapes),
        }
    }

    fn mapping(&mut self, node: Cursor<'_>, shapes: &[&'a Value]) {
        if !has_type(shapes, "object") {
            self.report(node, expected(shapes));
            return;
        }
        let known = properties(shapes);
        let names: Vec<&str> = known.keys().copied().collect();
        for (key, value) in node.entries() {
            if let Some(schemas) = known.get(key.text.as_str()) {
                self.visit(value, schemas.clone());
            } else {
                let message = format!("unknown key `{}`", key.text.escape_debug());
                self.findings
                    .push(Finding::new(message, key.place.clone()).with_help(suggest(&key.text, &names)));
            }
        }
        self.alternatives(node, shapes);
    }

    /// Of several shapes that a mapping may have (an enum's variants), its keys must choose one, and complete it.
    fn alternatives(&mut self, node: Cursor<'_>, shapes: &[&'a Value]) {
        let known = properties(shapes);
        let keys: Vec<&str> = node.entries().map(|(key, _)| key.text.as_str()).collect();
        if keys.iter().any(|key| !known.contains_key(key)) {
            return;
        }
        let fits = |shape: &&Value| {
            keys.iter().all(|key| shape.pointer("/properties").and_then(|p| p.get(key)).is_some())
        };
        let mappings = shapes.iter().copied().filter(|shape| has_type(&[shape], "object"));
        let fitting: Vec<&Value> = mappings.filter(fits).collect();
        let missing = |shape: &'a Value| {
            let required = shape.get("required").and_then(Value::as_array).into_iter().flatten();
            required.filter_map(Value::as_str).filter(|key| !keys.contains(key)).collect::<Vec<&str>>()
        };
        match fitting.as_slice() {
            [] if keys.is_empty() => {}
            [] => self.report(node, format!("of {}, only one can be here", listed(&keys))),
            [shape] => {
                for key in missing(shape) {
                    self.report(node, format!("key `{key}` is missing"));
                }
            }
            _ if keys.is_empty() => {
                let names: Vec<&str> = known.keys().copied().collect();
                self.report(node, format!("one of {} is missing", listed(&names)));
            }
            _ => {}
        }
    }

    fn scalar(&mut self, node: Cursor<'_>, text: &str, plain: bool, shapes: &[&'a Value]) {
        let nothing = plain && matches!(text, "~" | "null" | "Null" | "NULL");
        if plain && text.is_empty() || nothing && has_type(shapes, "null") {
            return;
        }
        let quoted = format!("`{}`", text.escape_debug());
        let several = shapes.iter().filter_map(|shape| shape.get("enum")?.as_array()).flatten();
        let choices = shapes.iter().filter_map(|shape| shape.get("const")).chain(several);
        let choices: Vec<&str> = choices.filter_map(Value::as_str).collect();
        if !["string", "integer", "number", "boolean"].iter().any(|scalar| has_type(shapes, scalar)) {
            let known = properties(shapes);
            let finding = Finding::new(format!("{}, not {quoted}", expected(shapes)), node.place());
            let names: Vec<&str> = known.keys().copied().collect();
            self.findings.push(match known.contains_key(text) {
                true => finding.with_help(format!("write `{text}: {{}}`")),
                false if names.is_empty() => finding,
                false => finding.with_help(suggest(text, &names)),
            });
        } else if !choices.is_empty() && !choices.contains(&text) {
            let finding = Finding::new(format!("{quoted} is none of {}", listed(&choices)), node.place());
            self.findings.push(match closest(text, &choices) {
                Some(closest) => finding.with_help(format!("did you mean `{closest}`?")),
                None => finding,
            });
        } else if !has_type(shapes, "string") {
            let is_bool = plain && matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
            let is_number =
                plain && text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
            if has_type(shapes, "boolean") && !is_bool || has_type(shapes, "integer") && !is_number {
                self.report(node, format!("{}, not {quoted}", expected(shapes)));
            } else if let (Ok(number), Some((least, most))) = (text.parse::<i128>(), range(shapes))
                && !(least..=most).contains(&number)
            {
                self.report(node, format!("{number} is not between {least} and {most}"));
            }
        }
    }

    fn report(&mut self, node: Cursor<'_>, message: String) {
        self.findings.push(Finding::new(message, node.place()));
    }

    /// `schemas` with references followed and alternatives taken apart: each says for itself what it takes.
    fn shapes(&self, mut schemas: Vec<&'a Value>) -> Vec<&'a Value> {
        let mut shapes = Vec::new();
        while let Some(schema) = schemas.pop() {
            let reference =
                schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            schemas.extend(reference.and_then(|pointer| self.root.pointer(pointer)));
            for alternatives in ["oneOf", "anyOf"] {
                schemas.extend(schema.get(alternatives).and_then(Value::as_array).into_iter().flatten());
            }
            if schema.get("type").is_some() {
                shapes.push(schema);
            }
        }
        shapes
    }
}

/// Keys that any of `shapes` knows, with what each may hold.
fn properties<'a>(shapes: &[&'a Value]) -> BTreeMap<&'a str, Vec<&'a Value>> {
    let mut known: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (key, value) in shapes.iter().filter_map(|shape| shape.get("properties")?.as_object()).flatten() {
        known.entry(key).or_default().push(value);
    }
    known
}

fn has_type(shapes: &[&Value], name: &str) -> bool {
    shapes.iter().any(|shape| match shape.get("type") {
        Some(Value::String(single)) => single == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    })
}

/// What an integer of this width holds (JSON schema's `format`). Narrower bounds are for whoever uses the value.
fn range(shapes: &[&Value]) -> Option<(i128, i128)> {
    match shapes.iter().find_map(|shape| shape.get("format"))?.as_str()? {
        "uint8" => Some((0, u8::MAX.into())),
        "uint16" => Some((0, u16::MAX.into())),
        "uint32" => Some((0, u32::MAX.into())),
        "uint64" => Some((0, u64::MAX.into())),
        "int64" => Some((i64::MIN.into(), i64::MAX.into())),
        _ => None,
    }
}

fn expected(shapes: &[&Value]) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("object", "keys and values"),
        ("array", "a list"),
        ("string", "a text"),
        ("integer", "a whole number"),
        ("boolean", "true or false"),
    ];
    let words: Vec<&str> =
        WORDS.iter().filter(|(name, _)| has_type(shapes, name)).map(|&(_, word)| word).collect();
    format!("expected {} here", words.join(" or "))
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn suggest(text: &str, known: &[&str]) -> String {
    match closest(text, known) {
        Some(closest) => format!("did you mean `{closest}`?"),
        None if known.is_empty() => "nothing can be set here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;
    use crate::profile::tree::Tree;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    #[serde(deny_unknown_fields)]
    struct Thing {
        list: Option<Vec<Part>>,
        part: Option<Part>,
        color: Option<Color>,
        name: Option<String>,
        flag: Option<bool>,
        count: Option<u16>,
        needed: u8,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    #[serde(rename_all = "kebab-case")]
    enum Part {
        BigWheel(Wheel),
        Engine(Empty),
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    #[serde(deny_unknown_fields)]
    struct Wheel {
        spokes: u16,
        tyre: Option<String>,
    }

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    #[serde(rename_all = "kebab-case")]
    enum Color {
        Red,
        Green,
    }

    fn wrong(text: &str) -> Vec<String> {
        let tree = Tree::read(text).unwrap();
        let schema = schemars::schema_for!(Thing).to_value();
        let findings = check(tree.root().unwrap(), &schema);
        findings
            .into_iter()
            .map(|finding| format!("{} @ {}", finding.message, &text[finding.place.unwrap()]))
            .collect()
    }

    #[test]
    fn a_fitting_document_has_no_findings() {
        let text = "needed: 1\nlist:\n  - big-wheel: {spokes: 3, tyre: soft}\n  - engine: {}\ncolor: red\nflag: true\nname: 1\ncount: ~\npart:\n";
        assert_eq!(wrong(text), [""; 0]);
    }

    #[test]
    fn unknown_keys_are_found_at_every_depth_at_once() {
        let text =
            "needed: 1\nlst: 1\nlist: [{big-wheel: {spokes: 1, tire: x}}, {motor: {}}, {engine: {oil: 1}}]\n";
        assert_eq!(
            wrong(text),
            [
                "unknown key `lst` @ lst",
                "unknown key `tire` @ tire",
                "unknown key `motor` @ motor",
                "unknown key `oil` @ oil"
            ]
        );
    }

    #[test]
    fn missing_and_competing_keys_are_found() {
        assert_eq!(
            wrong("part: {big-wheel: {}}\n"),
            ["key `spokes` is missing @ big-wheel", "key `needed` is missing @ part: {big-wheel: {}}"]
        );
        assert_eq!(
            wrong("needed: 1\npart: {engine: {}, big-wheel: {spokes: 1}}\n"),
            ["of `engine`, `big-wheel`, only one can be here @ part"]
        );
        assert_eq!(wrong("needed: 1\npart: {}\n"), ["one of `big-wheel`, `engine` is missing @ part"]);
    }

    #[test]
    fn values_of_another_kind_are_found() {
        let text = "needed: [1]\nlist: {}\npart: engine\ncolor: blue\nname: {}\nflag: yes\ncount: two\n";
        assert_eq!(
            wrong(text),
            [
                "expected a whole number here @ needed",
                "expected a list here @ list",
                "expected keys and values here, not `engine` @ engine",
                "`blue` is none of `red`, `green` @ blue",
                "expected a text here @ name",
                "expected true or false here, not `yes` @ yes",
                "expected a whole number here, not `two` @ two",
            ]
        );
    }

    #[test]
    fn nothing_is_not_a_mapping_unless_it_is_left_out() {
        assert_eq!(
            wrong("needed: 1\npart: {engine: null}\n"),
            ["expected keys and values here, not `null` @ null"]
        );
        assert_eq!(wrong("needed: 1\npart: {engine: }\n"), [""; 0]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_found() {
        assert_eq!(
            wrong("needed: 256\ncount: -1\n"),
            ["256 is not between 0 and 255 @ 256", "-1 is not between 0 and 65535 @ -1"]
        );
    }
}
