//! Finds in text what tells hosts and users apart, by its form or because it stood elsewhere, and replaces it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::placeholder::{self, Kind, Placeholders};

/// Where a text stands, which decides what in it can be what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Below `/sys`: dotted numbers are versions, and words are the kernel's, even where the host is called the same.
    Kernel,
    /// Anywhere else.
    Host,
}

/// Replaces in text; remembers what by what.
#[derive(Debug, Default)]
pub(super) struct TextRedactor {
    pub(super) placeholders: Placeholders,
    /// Texts that are taken out wherever they stand alone, by their first byte.
    words: BTreeMap<u8, Vec<(String, Kind)>>,
}

/// Something that was found at the start of a text: how long it is, and what stands in its place.
struct Found {
    length: usize,
    instead: String,
}

impl TextRedactor {
    /// Takes `word` out wherever it stands between other words.
    pub(super) fn learn(&mut self, word: &str, kind: Kind) {
        if let Some(first) = word.bytes().next() {
            let words = self.words.entry(first).or_default();
            if words.iter().all(|(known, _)| known != word) {
                words.push((word.to_owned(), kind));
                // The longest first: one serial number may begin with another.
                words.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            }
        }
    }

    /// The words that are taken out.
    pub(super) fn learnt(&self) -> impl Iterator<Item = &str> {
        self.words.values().flatten().map(|(word, _)| word.as_str())
    }

    /// `text` without what was found in it.
    pub(super) fn redact(&mut self, text: &str, scope: Scope) -> String {
        let mut redacted = String::with_capacity(text.len());
        let mut kept = 0;
        let mut at = 0;
        let mut before = None::<u8>;
        while let Some(first) = text.as_bytes().get(at).copied() {
            let rest = text.get(at..).unwrap_or_default();
            let found = if rest.is_empty() { None } else { self.find(rest, before, scope) };
            let length = match found {
                Some(found) => {
                    redacted.push_str(text.get(kept..at).unwrap_or_default());
                    redacted.push_str(&found.instead);
                    kept = at + found.length;
                    found.length
                }
                None => 1,
            };
            before = text.as_bytes().get(at + length - 1).copied().or(Some(first));
            at += length;
        }
        redacted.push_str(text.get(kept..).unwrap_or_default());
        redacted
    }

    /// What stands at the start of `rest`, with `before` in front of it.
    fn find(&mut self, rest: &str, before: Option<u8>, scope: Scope) -> Option<Found> {
        if let Some(found) = self.user(rest) {
            return Some(found);
        }
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let found = self.word(rest, scope).or_else(|| self.tagged(rest)).or_else(|| self.uuid(rest));
        let found = found.or_else(|| if before == Some(b':') { None } else { self.pairs(rest) });
        match scope {
            Scope::Kernel => found,
            Scope::Host => found
                .or_else(|| self.volume(rest))
                .or_else(|| self.password(rest))
                .or_else(|| self.long_number(rest))
                .or_else(|| self.ip(rest, before)),
        }
    }

    /// The placeholder for `value`.
    pub(super) fn instead(&mut self, kind: Kind, value: &str) -> String {
        let number = self.placeholders.number(kind, value);
        match kind {
            Kind::Serial => format!("SERIAL{number}"),
            Kind::HardwareAddress => {
                hex_pairs(&placeholder::hardware_address(value.split(':').count(), number))
            }
            Kind::Uuid => placeholder::uuid(number),
            Kind::Identifier => format!("{number:0width$x}", width = value.len()),
            Kind::IpAddress if value.contains(':') => placeholder::ipv6(number).to_string(),
            Kind::IpAddress => placeholder::ipv4(number).to_string(),
            Kind::HostName => "host".to_owned(),
            Kind::UserName => format!("user{number}"),
            Kind::Password => format!("password{number}"),
        }
    }

    fn replace(&mut self, kind: Kind, value: &str) -> Option<Found> {
        Some(Found { length: value.len(), instead: self.instead(kind, value) })
    }

    /// A word that was learnt.
    fn word(&mut self, rest: &str, scope: Scope) -> Option<Found> {
        let words = self.words.get(rest.as_bytes().first()?)?;
        let fits = |(word, kind): &&(String, Kind)| {
            rest.starts_with(word.as_str())
                && !continues(rest, word.len())
                && (scope == Scope::Host || *kind != Kind::HostName)
        };
        let (word, kind) = words.iter().find(fits)?.clone();
        self.replace(kind, &word)
    }

    /// The part of a path that is named after a user.
    fn user(&mut self, rest: &str) -> Option<Found> {
        const ABOVE: [&str; 5] = ["/home/", "/run/media/", "/media/", "/Users/", "/var/mail/"];
        let above = ABOVE.iter().find(|above| rest.starts_with(**above))?;
        let name = rest.get(above.len()..)?;
        let end = name.find(['/', ' ', '\n', '\t', ',', ':', '"', '\\']).unwrap_or(name.len());
        let name = name.get(..end).filter(|name| !name.is_empty())?;
        let found = self.replace(Kind::UserName, name)?;
        Some(Found { length: above.len() + found.length, instead: format!("{above}{}", found.instead) })
    }

    /// A number that a tag announces: World Wide Names, EUI-64, network interfaces named after their address.
    fn tagged(&mut self, rest: &str) -> Option<Found> {
        const INTERFACES: [&str; 3] = ["enx", "wlx", "wwx"];
        const NAMES: [&str; 3] = ["eui.", "naa.", "wwn-0x"];
        if let Some(tag) = INTERFACES.iter().find(|tag| rest.starts_with(**tag)) {
            let digits = hex_run(rest.get(tag.len()..)?);
            if digits.len() != 12 || continues(rest, tag.len() + 12) {
                return None;
            }
            let pairs: Vec<_> = (0..12).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
            let address = self.instead(Kind::HardwareAddress, &pairs.join(":"));
            return Some(Found {
                length: tag.len() + 12,
                instead: format!("{tag}{}", address.replace(':', "")),
            });
        }
        let tag = NAMES.iter().find(|tag| rest.starts_with(**tag))?;
        let digits = hex_run(rest.get(tag.len()..)?);
        if digits.len() < 16 {
            return None;
        }
        let instead = format!("{tag}{}", self.instead(Kind::Identifier, digits));
        Some(Found { length: tag.len() + digits.len(), instead })
    }

    fn uuid(&mut self, rest: &str) -> Option<Found> {
        const LENGTH: usize = 36;
        let value = rest.get(..LENGTH)?;
        let fits = value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        let says_something = value.bytes().any(|byte| !matches!(byte, b'0' | b'-'));
        if fits && says_something && !continues(rest, LENGTH) {
            self.replace(Kind::Uuid, value)
        } else {
            None
        }
    }

    /// Six or more pairs of hexadecimal digits with colons between them.
    fn pairs(&mut self, rest: &str) -> Option<Found> {
        let mut length = 0;
        let mut count = 0;
        while let Some([a, b]) = rest.as_bytes().get(length..length + 2) {
            if !(a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
                break;
            }
            count += 1;
            length += 2;
            if rest.as_bytes().get(length) != Some(&b':') {
                break;
            }
            length += 1;
        }
        let value = rest.get(..length)?;
        let same = |digit| value.bytes().all(|byte| byte == b':' || byte.eq_ignore_ascii_case(&digit));
        if count < 6 || value.ends_with(':') || continues(rest, length) || same(b'0') || same(b'f') {
            return None;
        }
        self.replace(Kind::HardwareAddress, value)
    }

    /// `UUID=`, `PARTUUID=` and the like, of file systems whose numbers do not look like UUIDs.
    fn volume(&mut self, rest: &str) -> Option<Found> {
        const TAGS: [&str; 6] = ["UUID=", "PARTUUID=", "by-uuid/", "by-partuuid/", "UUID_SUB=", "luks-"];
        let tag = TAGS.iter().find(|tag| rest.starts_with(**tag))?;
        let value = rest.get(tag.len()..)?;
        let end = value.find(|c: char| !c.is_ascii_hexdigit() && c != '-').unwrap_or(value.len());
        let value = value.get(..end).filter(|value| value.len() >= 8)?;
        let instead = format!("{tag}{}", self.instead(Kind::Uuid, value));
        Some(Found { length: tag.len() + value.len(), instead })
    }

    /// `key=value` where the key says that the value is nobody's business.
    fn password(&mut self, rest: &str) -> Option<Found> {
        const WORDS: [&str; 5] = ["passw", "secret", "token", "passphrase", "apikey"];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
        let (key, value) = (rest.get(..end)?, rest.get(end..)?.strip_prefix('=')?);
        let key_lower = key.to_ascii_lowercase();
        if !WORDS.iter().any(|word| key_lower.contains(word)) {
            return None;
        }
        let end = value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len());
        let value = value.get(..end).filter(|value| !value.is_empty())?;
        let instead = format!("{key}={}", self.instead(Kind::Password, value));
        Some(Found { length: key.len() + 1 + value.len(), instead })
    }

    /// 32 or more hexadecimal digits: the number of a machine or a container, or a digest of something.
    fn long_number(&mut self, rest: &str) -> Option<Found> {
        let digits = hex_run(rest);
        let says_something = digits.bytes().any(|byte| byte != b'0');
        if digits.len() < 32 || !says_something || continues(rest, digits.len()) {
            return None;
        }
        self.replace(Kind::Identifier, digits)
    }

    /// An address, unless it is the end of a longer number; behind a colon an IPv4 address may stand.
    fn ip(&mut self, rest: &str, before: Option<u8>) -> Option<Found> {
        if before == Some(b'.') {
            return None;
        }
        let end =
            rest.find(|c: char| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':')).unwrap_or(rest.len());
        let candidate = rest.get(..end)?;
        // Behind an address there may be a port, a full stop, or more of a list: `ip=10.0.0.2::10.0.0.1`.
        let colon = candidate.find(':').unwrap_or(candidate.len());
        for value in [candidate, candidate.trim_end_matches(['.', ':']), candidate.get(..colon)?] {
            if continues(rest, value.len()) {
                continue;
            }
            if let Ok(address) = value.parse::<Ipv4Addr>() {
                let harmless = address.is_loopback() || address.is_unspecified() || is_mask(address);
                return if harmless {
                    Some(Found { length: value.len(), instead: value.to_owned() })
                } else {
                    self.replace(Kind::IpAddress, value)
                };
            }
            let may_be_v6 = before != Some(b':') && (value.contains("::") || value.matches(':').count() == 7);
            if may_be_v6 && let Ok(address) = value.parse::<Ipv6Addr>() {
                let harmless = address.is_loopback() || address.is_unspecified();
                return if harmless { None } else { self.replace(Kind::IpAddress, value) };
            }
        }
        None
    }
}

/// Whether a netmask, which says nothing about who uses it.
fn is_mask(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    bits.leading_ones() >= 8 && bits.leading_ones() + bits.trailing_zeros() >= 32
}

/// Whether the word at the start of `rest` goes on behind `length`.
fn continues(rest: &str, length: usize) -> bool {
    rest.as_bytes().get(length).is_some_and(u8::is_ascii_alphanumeric)
}

/// The hexadecimal digits at the start of `text`.
fn hex_run(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn hex_pairs(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        TextRedactor::default().redact(text, Scope::Host)
    }

    #[test]
    fn what_has_the_form_of_a_secret_is_replaced() {
        for (text, redacted) in [
            ("52:54:00:AB:cd:ef", "02:00:00:00:00:01"),
            ("at enx525400abcdef:", "at enx020000000001:"),
            (
                "root=UUID=6fa1e9e2-3c1d-4c35-a2d4-0b7a3a2d5f11 ro",
                "root=UUID=00000000-0000-4000-8000-000000000001 ro",
            ),
            ("root=UUID=ABCD-1234", "root=UUID=00000000-0000-4000-8000-000000000001"),
            ("/dev/disk/by-id/wwn-0x5000c500a1b2c3d4", "/dev/disk/by-id/wwn-0x0000000000000001"),
            ("eui.0025385b71b0a1b2", "eui.0000000000000001"),
            ("/home/alice/x /home/alice", "/home/user1/x /home/user1"),
            ("/run/media/bob/disk", "/run/media/user1/disk"),
            ("ip=10.1.2.3::10.1.2.1:255.255.255.0", "ip=198.18.0.1::198.18.0.2:255.255.255.0"),
            ("nfsroot=192.168.7.9:/x", "nfsroot=198.18.0.1:/x"),
            ("fe80::5054:ff:feab:cdef", "2001:db8::1"),
            ("d41d8cd98f00b204e9800998ecf8427e", "00000000000000000000000000000001"),
            ("iscsi.password=hunter2 quiet", "iscsi.password=password1 quiet"),
        ] {
            assert_eq!(redact(text), redacted, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for text in [
            "0000:01:00.0",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "0x00000000fe000000 0x00000000fe01ffff 0x0000000000040200",
            "127.0.0.1 ::1 0.0.0.0 255.255.255.0",
            "12:34:56",
            "00000000-0000-0000-0000-000000000000",
            "6.12.95+deb12-amd64",
            "/home/",
            "IR-PCI-MSIX-0000:02:00.0 é 1-edge",
        ] {
            assert_eq!(redact(text), text);
        }
        let version = "1.16.3.2";
        assert_eq!(TextRedactor::default().redact(version, Scope::Kernel), version);
    }

    #[test]
    fn one_value_has_one_placeholder() {
        let mut redactor = TextRedactor::default();
        let mut redact = |text| redactor.redact(text, Scope::Host);
        assert_eq!(redact("52:54:00:00:00:0a 52:54:00:00:00:0b"), "02:00:00:00:00:01 02:00:00:00:00:02");
        assert_eq!(redact("52:54:00:00:00:0B"), "02:00:00:00:00:02");
        assert_eq!(redact("enx52540000000b"), "enx020000000002");
    }

    #[test]
    fn words_are_taken_out_where_they_stand_alone() {
        let mut redactor = TextRedactor::default();
        redactor.learn("S5H9NS0N", Kind::Serial);
        redactor.learn("S5H9NS0N123", Kind::Serial);
        redactor.learn("kvm", Kind::HostName);
        let mut redact = |text, scope| redactor.redact(text, scope);
        assert_eq!(redact("nvme-SSD_S5H9NS0N_1 S5H9NS0N123", Scope::Kernel), "nvme-SSD_SERIAL1_1 SERIAL2");
        assert_eq!(redact("XS5H9NS0N", Scope::Kernel), "XS5H9NS0N");
        assert_eq!(redact("/dev/mapper/kvm--vg-root", Scope::Host), "/dev/mapper/host--vg-root");
        assert_eq!(redact("/sys/module/kvm", Scope::Kernel), "/sys/module/kvm");
    }
}
