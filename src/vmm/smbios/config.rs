//! Who the machine says it is: the settings of [`smbios`](super).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vmm::config::ConfigError;

/// Most bytes of all texts together.
const MAX_BYTES: usize = 32 << 10;
/// Most OEM strings: their number is a byte.
const MAX_STRINGS: usize = 255;

/// Who the machine says it is, by SMBIOS (`dmidecode`, `/sys/class/dmi/id`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a mapping with who made the machine, its name and numbers"
)]
pub struct SmbiosConfig {
    /// Who made it. Default: thruway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// What it is. Default: Virtual Machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Which version of it. Default: this program's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its stock keeping unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The family of products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Its UUID: 01234567-89ab-cdef-0123-456789abcdef. Without it the machine says that it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Texts for the guest, such as systemd's credentials: `io.systemd.credential:NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oem_strings: Vec<String>,
}

impl SmbiosConfig {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The UUID as SMBIOS has it: its first three parts little endian (SMBIOS 3.7, 7.2.1); zeros if there is none.
    #[must_use]
    pub fn uuid_bytes(&self) -> [u8; 16] {
        let Some(bytes) = self.uuid.as_deref().and_then(parse_uuid) else { return [0; 16] };
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let mut uuid = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        for (target, source) in uuid.iter_mut().skip(8).zip(rest) {
            *target = source;
        }
        uuid
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let Self { manufacturer, product, version, serial, sku, family, uuid: _, oem_strings } = self;
        let single = [
            ("manufacturer", manufacturer),
            ("product", product),
            ("version", version),
            ("serial", serial),
            ("sku", sku),
            ("family", family),
        ];
        let single = single.into_iter().filter_map(|(key, text)| text.as_ref().map(|text| (key, text)));
        single.chain(oem_strings.iter().map(|text| ("oem_strings", text)))
    }

    /// What is wrong with these settings.
    pub fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut wrong = |key: &str, problem: String| {
            errors.push(ConfigError::new(format!("smbios.{key}"), problem));
        };
        for (key, text) in self.texts() {
            if text.is_empty() || text.contains(char::is_control) {
                let text = text.escape_debug();
                wrong(key, format!("`{text}` is empty or holds a control character, which ends a text here"));
            }
        }
        if let Some(uuid) = self.uuid.as_ref().filter(|uuid| parse_uuid(uuid).is_none()) {
            let example = "01234567-89ab-cdef-0123-456789abcdef";
            wrong("uuid", format!("`{}` is not a UUID; write for example {example}", uuid.escape_debug()));
        }
        if self.oem_strings.len() > MAX_STRINGS {
            let count = self.oem_strings.len();
            wrong("oem_strings", format!("{count} are too many; there can be {MAX_STRINGS}"));
        }
        let bytes: usize = self.texts().map(|(_, text)| text.len()).sum();
        if bytes > MAX_BYTES {
            wrong(
                "oem_strings",
                format!("all texts together have {bytes} bytes; there is room for {MAX_BYTES}"),
            );
        }
    }
}

/// Sixteen bytes in the order in which they are written.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let digits: String = parts.concat();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(config: &SmbiosConfig) -> Vec<String> {
        let mut errors = Vec::new();
        config.check(&mut errors);
        errors.into_iter().map(|error| error.setting).collect()
    }

    #[test]
    fn a_uuid_is_turned_round_as_smbios_has_it() {
        let uuid = Some("00112233-4455-6677-8899-aabbccddeeff".to_owned());
        let config = SmbiosConfig { uuid, ..SmbiosConfig::default() };
        assert_eq!(
            config.uuid_bytes(),
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF]
        );
        assert_eq!(wrong(&config), [""; 0]);
        assert_eq!(SmbiosConfig::default().uuid_bytes(), [0; 16]);
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        for uuid in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeefg", "+0112233-4455-6677-8899-aabbccddeeff"]
        {
            let config = SmbiosConfig { uuid: Some(uuid.to_owned()), ..SmbiosConfig::default() };
            assert_eq!(wrong(&config), ["smbios.uuid"], "{uuid}");
        }
        let text = |text: &str| Some(text.to_owned());
        let config = SmbiosConfig { serial: text("a\nb"), family: text(""), ..SmbiosConfig::default() };
        assert_eq!(wrong(&config), ["smbios.serial", "smbios.family"]);
        let config = SmbiosConfig { oem_strings: vec!["x".repeat(200); 256], ..SmbiosConfig::default() };
        assert_eq!(wrong(&config), ["smbios.oem_strings", "smbios.oem_strings"]);
    }
}
