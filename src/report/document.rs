//! The document that programs read: one envelope for every command, and nothing unknown passed off as known.
//!
//! A [`Fact`](crate::host::fact::Fact) that could not be read serialises to a marker. Here each marker becomes null,
//! and `data.unread[]` says where it stands, why, and where the answer would have been.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::host::fact::UNREAD_MARKER;

/// `data` in its envelope `{schema, schema_version, tool_version, data}`. `schema` names the document
/// (`thruway.probe`), `version` its shape: adding keys leaves it, renaming one or changing its unit raises it.
///
/// # Errors
/// `data` does not serialise: a map with keys that are no strings, a fault of ours.
pub fn document<T: Serialize>(schema: &str, version: u32, data: &T) -> Result<Value, serde_json::Error> {
    let (mut data, unread) = split(data)?;
    if let Value::Object(data) = &mut data {
        data.insert("unread".to_owned(), serde_json::to_value(unread)?);
    }
    let envelope = [
        ("schema", Value::from(schema)),
        ("schema_version", Value::from(version)),
        ("tool_version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("data", data),
    ];
    Ok(Value::Object(envelope.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()))
}

/// `data` with null for every fact that could not be read, and the list of these.
///
/// # Errors
/// As [`document`].
pub fn split<T: Serialize>(data: &T) -> Result<(Value, Vec<Unread>), serde_json::Error> {
    let mut data = serde_json::to_value(data)?;
    let mut unread = Vec::new();
    collect_unread(&mut data, &Place::Data, &mut unread);
    Ok((data, unread))
}

/// A fact that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unread {
    /// Where it stands in the document (RFC 6901).
    pub pointer: String,
    /// Why it could not be read.
    pub reason: String,
    /// Where the answer would have been: a path, a CPUID leaf, a register.
    pub source: String,
}

/// Where a value stands, told only when somebody asks.
enum Place<'a> {
    Data,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl Place<'_> {
    /// As a JSON pointer (RFC 6901).
    fn pointer(&self) -> String {
        match self {
            Self::Data => "/data".to_owned(),
            Self::Key(above, key) => {
                format!("{}/{}", above.pointer(), key.replace('~', "~0").replace('/', "~1"))
            }
            Self::Index(above, index) => format!("{}/{index}", above.pointer()),
        }
    }
}

/// Replaces every marker below `value`, which stands at `place`, by null.
fn collect_unread(value: &mut Value, place: &Place<'_>, unread: &mut Vec<Unread>) {
    match value {
        Value::Object(map) => {
            if let Some(entry) = marker(map, place) {
                unread.push(entry);
                *value = Value::Null;
                return;
            }
            for (key, value) in map {
                collect_unread(value, &Place::Key(place, key), unread);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter_mut().enumerate() {
                collect_unread(value, &Place::Index(place, index), unread);
            }
        }
        _ => {}
    }
}

/// The entry for a marker object at `place`; `None` if `map` is something else.
fn marker(map: &Map<String, Value>, place: &Place<'_>) -> Option<Unread> {
    let [source, reason] = map.get(UNREAD_MARKER)?.as_array()?.as_slice() else { return None };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Unread { pointer: place.pointer(), reason: text(reason), source: text(source) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::fact::Fact;

    #[test]
    fn unread_facts_become_null_and_are_listed_with_their_pointer() {
        let denied = Fact::Denied { source: "/sys/x".to_owned() };
        let data = BTreeMap::from([("a/b~c", vec![Fact::Known(1), Fact::NotPresent, denied])]);
        let document = document("thruway.test", 1, &data).unwrap();
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            format!(
                r#"{{"schema":"thruway.test","schema_version":1,"tool_version":"{}","data":{}}}"#,
                env!("CARGO_PKG_VERSION"),
                r#"{"a/b~c":[1,null,null],"unread":[{"pointer":"/data/a~1b~0c/2","reason":"permission denied","source":"/sys/x"}]}"#
            )
        );
        assert_eq!(document.pointer("/data/a~1b~0c/2"), Some(&Value::Null));
    }
}
