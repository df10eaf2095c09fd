//! What every PCI device can be told beside its own settings: where the guest finds it, and its expansion ROM.
//!
//! A device's settings know nothing of this: [`OnPci`] reads the keys of both from one mapping.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::pci::PciAddress;
use crate::vmm::pci::rom::RomConfig;

/// A device's settings, and those of its place on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnPci<T> {
    /// The device's own.
    #[serde(flatten)]
    pub device: T,
    /// Those that every PCI device has.
    #[serde(flatten)]
    pub pci: PciSettings,
}

/// What every PCI device can be told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct PciSettings {
    /// Where the guest finds it: the number of its root port (01 to 1e), device 00, and a function (0 to 7): "03:00.0". Without
    /// it, behind the first root port that no other device names, in the order of the devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_address: Option<PciAddress>,
    /// Its expansion ROM: a file, or false for none. Without it, a host function shows its own, and no other device has one.
    #[serde(skip_serializing_if = "RomConfig::is_own")]
    pub rom: RomConfig,
}

impl<T> Deref for OnPci<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.device
    }
}

impl<T> From<T> for OnPci<T> {
    /// In its place by the order of the devices.
    fn from(device: T) -> Self {
        Self { device, pci: PciSettings::default() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OnPci<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Both(PhantomData))
    }
}

struct Both<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Both<T> {
    type Value = OnPci<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with the settings of a device")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnPci<T>, A::Error> {
        let mut pci = PciSettings::default();
        let device = T::deserialize(MapAccessDeserializer::new(Rest { map, pci: &mut pci }))?;
        Ok(OnPci { device, pci })
    }
}

/// The entries of a mapping that are not [`PciSettings`]; those are taken out on the way.
struct Rest<'a, A> {
    map: A,
    pci: &'a mut PciSettings,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            match key.as_str() {
                "guest_address" => self.pci.guest_address = self.map.next_value()?,
                "rom" => self.pci.rom = self.map.next_value()?,
                _ => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

impl<T: JsonSchema> JsonSchema for OnPci<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OnPci", T::schema_name()).into()
    }

    /// The schema of `T`, with the further keys in each mapping that it can be.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let further = PciSettings::json_schema(generator).to_value();
        let mut schema = T::json_schema(generator).to_value();
        let alternatives = schema.get_mut("anyOf").and_then(serde_json::Value::as_array_mut);
        match alternatives {
            Some(alternatives) => alternatives.iter_mut().for_each(|one| add_properties(one, &further)),
            None => add_properties(&mut schema, &further),
        }
        schema.try_into().unwrap_or_default()
    }
}

fn add_properties(schema: &mut serde_json::Value, further: &serde_json::Value) {
    let further = further.get("properties").and_then(serde_json::Value::as_object);
    let Some(schema) = schema.as_object_mut() else { return };
    let own = schema.entry("properties").or_insert_with(|| serde_json::json!({}));
    if let (Some(own), Some(further)) = (own.as_object_mut(), further) {
        own.extend(further.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Disk {
        path: String,
        #[serde(default)]
        readonly: bool,
    }

    fn read(text: &str) -> Result<OnPci<Disk>, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn both_kinds_of_keys_are_read_from_one_mapping_in_any_order() {
        let disk =
            read(r#"{"rom": "a.rom", "path": "/d", "guest_address": "03:00.1", "readonly": true}"#).unwrap();
        assert_eq!(disk.device, Disk { path: "/d".to_owned(), readonly: true });
        assert_eq!(disk.pci.guest_address, Some("0000:03:00.1".parse().unwrap()));
        assert_eq!(disk.pci.rom, RomConfig::File("a.rom".into()));
        let text = serde_json::to_string(&disk).unwrap();
        assert_eq!(text, r#"{"path":"/d","readonly":true,"guest_address":"0000:03:00.1","rom":"a.rom"}"#);
        assert_eq!(read(&text).unwrap(), disk);
        let plain = read(r#"{"path": "/d"}"#).unwrap();
        assert_eq!(plain, Disk { path: "/d".to_owned(), readonly: false }.into());
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"path":"/d","readonly":false}"#);
    }

    #[test]
    fn what_neither_of_them_knows_is_refused() {
        for text in [
            r#"{"path": "/d", "addr": "03:00.0"}"#,
            r#"{"path": "/d", "guest_address": "03"}"#,
            r#"{"path": "/d", "rom": 7}"#,
            r#"{"rom": false}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_schema_has_both_kinds_of_keys() {
        let schema = schemars::schema_for!(OnPci<Disk>).to_value();
        let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["path", "readonly", "guest_address", "rom"]);
        assert_eq!(
            (&schema["additionalProperties"], &schema["required"]),
            (&false.into(), &["path"].as_slice().into())
        );
    }
}
