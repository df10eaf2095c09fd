//! Takes out of a capture what tells this host and its users from others, and nothing that the inspector concludes
//! from.
//!
//! One value has one placeholder wherever it stands, so what belongs together still does: an address in two files is the
//! same address. Text is searched for forms (MAC, UUID, IP, home directories) and for words that stood where serial
//! numbers and names stand. Files that mix facts with more than we read keep what we read; bytes that are no text are
//! left out unless we know their layout.

mod binary;
mod line;
mod placeholder;
mod process;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use super::answers::{Answers, Refusal};
use super::bundle::Bundle;
use super::recording::{Recording, Refusals};
pub use placeholder::Kind;
use text::{Scope, TextRedactor};

/// What was done to a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Different values that were replaced, by kind.
    pub replaced: BTreeMap<Kind, usize>,
    /// Files that were left out as a whole, as the capture names them.
    pub left_out: Vec<String>,
    /// Processes that were left out, because they hold no device.
    pub processes_left_out: usize,
}

/// Files whose whole content is a serial number or another number that one device has.
const SERIALS: [&str; 15] = [
    "serial",
    "serial_number",
    "product_serial",
    "board_serial",
    "chassis_serial",
    "board_asset_tag",
    "chassis_asset_tag",
    "wwid",
    "wwn",
    "nguid",
    "eui",
    "unique_id",
    "subsysnqn",
    "hostnqn",
    "hostid",
];
/// Files that hold the host's name.
pub(in crate::host) const HOST_NAMES: [&str; 2] = ["/etc/hostname", "/proc/sys/kernel/hostname"];
/// What firmware and devices write where a serial number should stand.
const NO_SERIALS: [&str; 9] = [
    "none",
    "not specified",
    "not available",
    "not applicable",
    "default string",
    "to be filled by o.e.m.",
    "system serial number",
    "chassis serial number",
    "base board serial number",
];

impl Bundle {
    /// The capture with placeholders, and what they stand for in numbers.
    #[must_use]
    pub fn redacted(&self) -> (Self, Redaction) {
        let mut redaction = Redaction::default();
        let mut bundle = self.clone();
        redaction.processes_left_out = process::leave_out_idle(&mut bundle);
        let mut redactor = TextRedactor::default();
        learn(&mut redactor, &bundle);

        let mut redacted = Self::default();
        let mut binary = Vec::new();
        for (path, bytes) in &bundle.files {
            let place = redact_path(&mut redactor, path);
            match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => {
                    let text = content(&mut redactor, path, text);
                    redacted.files.insert(place, text.into_bytes());
                }
                _ => binary.push((path, place, bytes)),
            }
        }
        for (path, target) in &bundle.links {
            let target = redactor.redact(target, scope(path));
            redacted.links.insert(redact_path(&mut redactor, path), target);
        }
        redacted.answers = answers(&mut redactor, &bundle.answers);
        // Last, when it is known which addresses and words there are.
        for (path, place, bytes) in binary {
            match binary::redact(&mut redactor, path, bytes) {
                Some(bytes) => drop(redacted.files.insert(place, bytes)),
                None => {
                    if let Some(recording) = &mut redacted.answers.recording {
                        let why = Refusal::Unreadable("left out of this capture".to_owned());
                        recording.refused.entry(place.clone()).or_default().read = Some(why);
                    }
                    redaction.left_out.push(place);
                }
            }
        }
        redaction.replaced = redactor.placeholders.counts();
        (redacted, redaction)
    }
}

fn scope(path: &str) -> Scope {
    if path == "/sys" || path.starts_with("/sys/") { Scope::Kernel } else { Scope::Host }
}

/// A path, or the name of something at `above`. UUIDs in the names of firmware's variables and tables are those of
/// their makers, the same everywhere.
fn redact_path(redactor: &mut TextRedactor, path: &str) -> String {
    redact_name(redactor, path, path)
}

fn redact_name(redactor: &mut TextRedactor, above: &str, name: &str) -> String {
    if above.starts_with("/sys/firmware/") { name.to_owned() } else { redactor.redact(name, scope(above)) }
}

fn is_serial(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| SERIALS.contains(&name))
}

/// Remembers the words that stand where serial numbers and names stand.
fn learn(redactor: &mut TextRedactor, bundle: &Bundle) {
    for (path, bytes) in &bundle.files {
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        let word = text.trim();
        if is_serial(path) && is_telling(word) {
            redactor.learn(word, Kind::Serial);
        } else if HOST_NAMES.contains(&path.as_str()) && word.len() >= 3 && word != "localhost" {
            redactor.learn(word, Kind::HostName);
            if let Some((short, _)) = word.split_once('.').filter(|(short, _)| short.len() >= 3) {
                redactor.learn(short, Kind::HostName);
            }
        } else if path.starts_with("/run/udev/data/") {
            for value in line::udev_serials(text).filter(|value| is_telling(value)) {
                redactor.learn(value, Kind::Serial);
            }
        }
    }
}

/// Whether `word` can be looked for elsewhere: a serial number of small letters only may be any word.
fn is_telling(word: &str) -> bool {
    word.len() >= 4
        && word.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && word.bytes().any(|byte| byte.is_ascii_alphanumeric() && byte != b'0')
        && !NO_SERIALS.contains(&word.to_ascii_lowercase().as_str())
}

/// The text of one file without what is nobody's business.
fn content(redactor: &mut TextRedactor, path: &str, text: &str) -> String {
    if is_serial(path) {
        let word = text.trim();
        let says_nothing = word.is_empty() || NO_SERIALS.contains(&word.to_ascii_lowercase().as_str());
        return if says_nothing { text.to_owned() } else { redactor.instead(Kind::Serial, word) + "\n" };
    }
    if HOST_NAMES.contains(&path) {
        return redactor.instead(Kind::HostName, text.trim()) + "\n";
    }
    match path {
        "/proc/net/route" => line::ipv4_routes(redactor, text),
        "/proc/net/ipv6_route" => line::ipv6_routes(redactor, text),
        "/proc/self/status" => line::capabilities_kept(text),
        _ if path.starts_with("/run/udev/data/") => redactor.redact(&line::udev_kept(text), Scope::Host),
        _ if path.ends_with("/mountinfo") => redactor.redact(&line::mounts_kept(text), Scope::Host),
        _ => redactor.redact(text, scope(path)),
    }
}

/// The answers that are no files. Whatever else is recorded there in time, its texts go through the same search.
fn answers(redactor: &mut TextRedactor, answers: &Answers) -> Answers {
    let recording = answers.recording.as_ref().map(|recording| Recording {
        redacted: true,
        tool_version: recording.tool_version.clone(),
        listed: recording
            .listed
            .iter()
            .map(|(path, names)| {
                let mut names: Vec<_> = names.iter().map(|name| redactor.redact(name, scope(path))).collect();
                names.sort_unstable();
                names.dedup();
                (redact_path(redactor, path), names)
            })
            .collect(),
        refused: recording
            .refused
            .iter()
            .map(|(path, refusals)| {
                let mut refusals = refusals.clone();
                let Refusals { read, list, link } = &mut refusals;
                for refusal in [read, list, link].into_iter().flatten() {
                    if let Refusal::Unreadable(reason) = refusal {
                        *reason = redactor.redact(reason, scope(path));
                    }
                }
                (redact_path(redactor, path), refusals)
            })
            .collect(),
    });
    let others = Answers { recording: None, ..answers.clone() };
    let mut others = serde_json::to_value(others).unwrap_or_default();
    redact_values(redactor, &mut others);
    let others: Answers = serde_json::from_value(others).unwrap_or_default();
    Answers { recording, ..others }
}

/// Searches every text in `value`, keys too.
fn redact_values(redactor: &mut TextRedactor, value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = redactor.redact(text, Scope::Host),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_values(redactor, value)),
        Value::Object(map) => {
            let entries = std::mem::take(map);
            map.extend(entries.into_iter().map(|(key, mut value)| {
                redact_values(redactor, &mut value);
                (redactor.redact(&key, Scope::Host), value)
            }));
        }
        _ => {}
    }
}
