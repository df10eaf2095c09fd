//! A YAML document as a tree of places: where in the text each key and each value stands.
//!
//! The values themselves are read by `serde_yaml`; this tree only answers "where?", which that does not tell once
//! reading is over. It is built from the events of `granit-parser` (YAML 1.2.2), and what those events show to be
//! wrong is found here: syntax, duplicate keys, and what profiles do without (aliases, tags, more than one document).

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};

use crate::profile::diagnostic::Finding;

/// Deepest nesting of collections; the schema needs 8.
const MAX_DEPTH: usize = 32;

/// A document's nodes.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// Index of a node in its tree; the root is 0.
type NodeId = usize;

#[derive(Debug, Clone)]
struct Node {
    /// What an excerpt underlines: a scalar, or the key (else the first line) of a collection. In bytes.
    place: Range<usize>,
    children: Children,
}

#[derive(Debug, Clone)]
enum Children {
    None { text: String, plain: bool },
    Items(Vec<NodeId>),
    Entries(Vec<Entry>),
}

#[derive(Debug, Clone)]
struct Entry {
    key: Key,
    value: NodeId,
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Range<usize>,
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    Mapping,
    Sequence,
    /// `plain`: without quotes, so that it may stand for a number, a truth value or nothing.
    Scalar {
        text: &'a str,
        plain: bool,
    },
}

/// A view of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

/// A collection that has begun and not yet ended, or the document itself.
struct Open {
    id: NodeId,
    /// The key whose value comes next.
    key: Option<Key>,
}

impl Tree {
    /// Reads `text`.
    ///
    /// # Errors
    /// The first error of syntax; or all duplicate keys and tags, and the first alias.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Finding>> {
        let options = options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut builder = Builder {
            text,
            tree: Self::default(),
            open: Vec::new(),
            documents: 0,
            aliased: false,
            findings: Vec::new(),
        };
        for event in Parser::new_from_str_with_options(text, options) {
            match event {
                Ok((event, span)) => builder.take(&event, &span),
                Err(error) => return Err(vec![syntax(&error)]),
            }
        }
        if builder.tree.nodes.is_empty() {
            builder.findings.push(Finding::without_place("the document is empty"));
        }
        if builder.findings.is_empty() { Ok(builder.tree) } else { Err(builder.findings) }
    }

    pub(super) fn root(&self) -> Option<Cursor<'_>> {
        self.nodes.first().map(|node| Cursor { tree: self, node })
    }

    /// The place of `path`: keys and positions from the root, joined by dots. Of a path that the document does not
    /// have, the place of its deepest part that it has; `None` if it has none of it.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<Range<usize>> {
        let mut cursor = self.root()?;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            match cursor.child(step) {
                Some(child) => cursor = child,
                None => break,
            }
        }
        Some(cursor.place())
    }

    /// The place of the scalar that begins at byte `offset`, if one does.
    pub(super) fn scalar_at(&self, offset: usize) -> Option<Range<usize>> {
        let scalars = self.nodes.iter().filter(|node| matches!(node.children, Children::None { .. }));
        scalars.map(|node| &node.place).find(|place| place.start == offset && !place.is_empty()).cloned()
    }
}

impl<'a> Cursor<'a> {
    fn at(self, id: NodeId) -> Option<Self> {
        self.tree.nodes.get(id).map(|node| Self { tree: self.tree, node })
    }

    fn child(self, step: &str) -> Option<Self> {
        match &self.node.children {
            Children::None { .. } => None,
            Children::Items(items) => self.at(*items.get(step.parse::<usize>().ok()?)?),
            Children::Entries(entries) => self.at(entries.iter().find(|entry| entry.key.text == step)?.value),
        }
    }

    /// What an excerpt underlines for this node.
    pub(super) fn place(self) -> Range<usize> {
        self.node.place.clone()
    }

    pub(super) fn kind(self) -> Kind<'a> {
        match &self.node.children {
            Children::None { text, plain } => Kind::Scalar { text, plain: *plain },
            Children::Items(_) => Kind::Sequence,
            Children::Entries(_) => Kind::Mapping,
        }
    }

    /// Keys and values, if this is a mapping.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a Key, Self)> {
        let entries =
            if let Children::Entries(entries) = &self.node.children { entries.as_slice() } else { &[] };
        entries.iter().filter_map(move |entry| Some((&entry.key, self.at(entry.value)?)))
    }

    /// Items, if this is a sequence.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let items = if let Children::Items(items) = &self.node.children { items.as_slice() } else { &[] };
        items.iter().filter_map(move |&id| self.at(id))
    }
}

struct Builder<'a> {
    text: &'a str,
    tree: Tree,
    open: Vec<Open>,
    documents: usize,
    /// An alias was met.
    aliased: bool,
    findings: Vec<Finding>,
}

impl Builder<'_> {
    fn take(&mut self, event: &Event<'_>, span: &Span) {
        let bytes = span.byte_range().unwrap_or(0..0);
        let tag = match event {
            Event::Scalar(.., tag) | Event::SequenceStart(.., tag) | Event::MappingStart(.., tag) => {
                tag.is_some()
            }
            _ => false,
        };
        if tag {
            let place = span.tag_span().and_then(|tag| tag.byte_range()).unwrap_or_else(|| bytes.clone());
            self.findings.push(Finding::new("tags (`!..`) have no meaning in a profile", place));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.findings
                        .push(Finding::new("a profile is one document; a second one starts here", bytes));
                }
            }
            Event::Scalar(text, style, ..) => self.scalar(text, *style == ScalarStyle::Plain, bytes),
            Event::SequenceStart(..) => self.begin(Children::Items(Vec::new()), bytes),
            Event::MappingStart(..) => self.begin(Children::Entries(Vec::new()), bytes),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Alias(_) => {
                if !std::mem::replace(&mut self.aliased, true) {
                    let finding = Finding::new("aliases (`*..`) have no meaning in a profile", bytes.clone());
                    self.findings.push(finding.with_help("write the value out"));
                }
                self.scalar("", true, bytes);
            }
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, plain: bool, place: Range<usize>) {
        if self.documents > 1 {
            return;
        }
        let text = if plain && place.is_empty() { "" } else { text }; // left out
        let is_key = self.open.last().is_some_and(|open| open.key.is_none() && self.is_mapping(open.id));
        if is_key {
            self.key(Key { text: text.to_owned(), place });
        } else {
            self.add(Node { place, children: Children::None { text: text.to_owned(), plain } });
        }
    }

    fn key(&mut self, key: Key) {
        let Some(open) = self.open.last_mut() else { return };
        let children = self.tree.nodes.get(open.id).map(|node| &node.children);
        if let Some(Children::Entries(entries)) = children
            && let Some(first) = entries.iter().find(|entry| entry.key.text == key.text)
        {
            let finding =
                Finding::new(format!("duplicate key `{}`", key.text.escape_debug()), key.place.clone());
            self.findings.push(finding.with_context(first.key.place.clone(), "it is here already"));
        }
        open.key = Some(key);
    }

    fn begin(&mut self, children: Children, start: Range<usize>) {
        if self.documents > 1 {
            return;
        }
        if let Some(open) = self.open.last()
            && open.key.is_none()
            && self.is_mapping(open.id)
        {
            self.findings.push(Finding::new("a key must be a text", start.clone()));
            self.key(Key { text: String::new(), place: start.clone() });
        }
        let key = self.open.last().and_then(|open| open.key.as_ref()).map(|key| key.place.clone());
        let place = key.unwrap_or_else(|| start.start..self.end_of_line(start.start));
        let id = self.add(Node { place, children });
        self.open.push(Open { id, key: None });
    }

    /// Adds `node` beneath the collection that is open.
    fn add(&mut self, node: Node) -> NodeId {
        let id = self.tree.nodes.len();
        self.tree.nodes.push(node);
        let Some(open) = self.open.last_mut() else { return id };
        let key = open.key.take();
        match (self.tree.nodes.get_mut(open.id).map(|parent| &mut parent.children), key) {
            (Some(Children::Items(items)), _) => items.push(id),
            (Some(Children::Entries(entries)), Some(key)) => entries.push(Entry { key, value: id }),
            _ => {}
        }
        id
    }

    fn is_mapping(&self, id: NodeId) -> bool {
        self.tree.nodes.get(id).is_some_and(|node| matches!(node.children, Children::Entries(_)))
    }

    fn end_of_line(&self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.lines().next().unwrap_or_default().trim_end().len()
    }
}

fn syntax(error: &ScanError) -> Finding {
    let at = error.marker().byte_offset().unwrap_or(0);
    Finding::new(format!("this is not YAML: {}", error.info()), at..at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "name: x\nmachine:\n  devices:\n    - virtio-rng: {}\n    - virtio-net: {tap: t}\n  memory: 4GB\n";

    fn at(path: &str) -> &str {
        &TEXT[Tree::read(TEXT).unwrap().place(path).unwrap()]
    }

    fn messages(text: &str) -> Vec<(String, String)> {
        let findings = Tree::read(text).unwrap_err();
        findings
            .into_iter()
            .map(|finding| (finding.message, text[finding.place.unwrap()].to_owned()))
            .collect()
    }

    #[test]
    fn a_path_finds_scalars_and_keys_of_collections() {
        assert_eq!(at("machine.memory"), "4GB");
        assert_eq!(at("machine.devices"), "devices");
        assert_eq!(at("machine.devices.1"), "virtio-net: {tap: t}");
        assert_eq!(at("machine.devices.1.virtio-net.tap"), "t");
    }

    #[test]
    fn a_path_that_is_not_there_finds_its_deepest_part() {
        assert_eq!(at("machine.devices.1.virtio-net.mac"), "virtio-net");
        assert_eq!(at("machine.cpus"), "machine");
        assert_eq!(at("machine.devices.7"), "devices");
    }

    #[test]
    fn all_duplicate_keys_are_found_at_their_second_place() {
        let text = "a: 1\nb: {c: 1, c: 2}\na: 2\n";
        let places: Vec<_> =
            Tree::read(text).unwrap_err().into_iter().map(|finding| finding.place.unwrap()).collect();
        assert_eq!(places, [15..16, 21..22]);
    }

    #[test]
    fn aliases_tags_second_documents_and_odd_keys_are_refused() {
        for (text, place) in [("a: &x 1\nb: *x\n", "*x"), ("a: !vfio {}\n", "!vfio"), ("[a]: 1\n", "[")] {
            assert_eq!(messages(text).first().unwrap().1, place, "{text:?}");
        }
        assert_eq!(messages("a: 1\n---\nb: 1\n").len(), 1);
    }

    #[test]
    fn syntax_errors_and_deep_nesting_stop_at_their_place() {
        for text in ["a: [1\nb: 2", "a: b: c", "a:\n\t- b", "\u{1}", "a: \"x", &"[".repeat(10_000)] {
            let findings = Tree::read(text).unwrap_err();
            assert_eq!(findings.len(), 1);
            assert!(findings[0].message.starts_with("this is not YAML"), "{}", findings[0].message);
        }
    }

    #[test]
    fn an_empty_document_is_an_error() {
        for text in ["", "# nothing\n", "\n\n"] {
            assert_eq!(Tree::read(text).unwrap_err().len(), 1, "{text:?}");
        }
    }
}
