//! Settings that are written as one value or as a mapping: `cpus: 4` is `cpus: {count: 4}`.
//!
//! For fields: `#[serde(with = "short_form")]`, and `#[schemars(with = "ShortOrLong<T>")]` for the schema that tells of
//! both.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Settings of which one value says what matters most.
pub trait ShortForm: Sized + Serialize + DeserializeOwned + JsonSchema {
    /// The value that stands for all; read from a number or a text.
    type Value: Serialize + DeserializeOwned;

    /// What is expected, for messages.
    const EXPECTING: &'static str;

    /// The settings that `value` alone makes.
    fn from_value(value: Self::Value) -> Self;

    /// The value that alone makes these settings, if one does.
    fn as_value(&self) -> Option<Self::Value>;

    /// What the value may be.
    fn value_schema(generator: &mut SchemaGenerator) -> Schema;
}

/// Writes the short form where it says all.
///
/// # Errors
/// The serializer's.
pub fn serialize<T: ShortForm, S: Serializer>(settings: &T, serializer: S) -> Result<S::Ok, S::Error> {
    match settings.as_value() {
        Some(value) => value.serialize(serializer),
        None => settings.serialize(serializer),
    }
}

/// Reads either form.
///
/// # Errors
/// The deserializer's, and those of either form.
pub fn deserialize<'de, T: ShortForm, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Either(PhantomData))
}

struct Either<T>(PhantomData<T>);

impl<'de, T: ShortForm> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        T::Value::deserialize(number.into_deserializer()).map(T::from_value)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        T::Value::deserialize(number.into_deserializer()).map(T::from_value)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::Value::deserialize(text.into_deserializer()).map(T::from_value)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Has the schema of both forms of `T`.
#[derive(Debug)]
pub struct ShortOrLong<T>(PhantomData<T>);

impl<T: ShortForm> JsonSchema for ShortOrLong<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("ShortOrLong{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (value, settings) = (T::value_schema(generator), generator.subschema_for::<T>());
        schemars::json_schema!({ "anyOf": [value, settings] })
    }
}
