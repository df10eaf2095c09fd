//! The distribution, from os-release (freedesktop.org: os-release(5)).

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

/// Where it is described; the first that is there counts (os-release(5)).
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The distribution that runs; all absent on a system that names none, such as an initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Name for people: `Debian GNU/Linux 12 (bookworm)`.
    pub name: Fact<String>,
    /// Name for programs: `debian`.
    pub id: Fact<String>,
    /// What it descends from, the closest first: `["rhel", "centos", "fedora"]`; empty if it descends from nothing.
    pub id_like: Fact<Vec<String>>,
    /// Version: `12`; absent where it has none.
    pub version: Fact<String>,
}

impl Distribution {
    /// Whether it is `id` or descends from it.
    #[must_use]
    pub fn is_like(&self, id: &str) -> bool {
        let own = self.id.known().is_some_and(|own| own == id);
        own || self.id_like.known().is_some_and(|like| like.iter().any(|like| like == id))
    }
}

pub(super) fn collect(source: &dyn Source) -> Distribution {
    let [etc, usr] = FILES;
    let text = match source.text(etc) {
        Fact::NotPresent => source.text(usr),
        text => text,
    };
    let value = |key: &str| {
        text.as_ref().and_then(|text| match assigned(text, key) {
            Some(value) if !value.is_empty() => Fact::Known(value),
            _ => Fact::NotPresent,
        })
    };
    Distribution {
        name: value("PRETTY_NAME"),
        id: value("ID"),
        id_like: text.as_ref().map(|text| {
            let like = assigned(text, "ID_LIKE").unwrap_or_default();
            like.split_ascii_whitespace().map(str::to_owned).collect()
        }),
        version: value("VERSION_ID"),
    }
}

/// The value that `text`, a list of assignments as a shell reads them, gives to `key`; the last one wins. Quotes around
/// the value are taken off, and backslashes before the characters that they protect.
pub(super) fn assigned(text: &str, key: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let value = line.trim_start().strip_prefix(key)?.strip_prefix('=')?.trim_end();
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|value| value.split(quote).next());
        if let Some(literal) = quoted('\'') {
            return Some(literal.to_owned());
        }
        let (mut out, mut escaped) = (String::new(), false);
        let inside = value.strip_prefix('"');
        for character in inside.unwrap_or(value).chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' => {
                    escaped = true;
                    continue;
                }
                '"' if inside.is_some() => break,
                ' ' | '#' if inside.is_none() => break,
                _ => {}
            }
            out.push(character);
        }
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    #[test]
    fn a_derivative_is_like_its_parents_and_not_like_others() {
        let host = FakeHost::new(&[(
            "/usr/lib/os-release",
            Entry::Text(
                "NAME=\"AlmaLinux\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID='9.4'",
            ),
        )]);
        let distribution = collect(&host.source());
        assert!(["almalinux", "rhel", "fedora"].iter().all(|id| distribution.is_like(id)));
        assert!(!distribution.is_like("debian"));
        assert_eq!(distribution.version, Fact::Known("9.4".to_owned()));
        assert_eq!(distribution.name, Fact::NotPresent);
    }

    #[test]
    fn no_file_is_no_distribution_and_a_denied_one_is_unknown() {
        let host = FakeHost::new(&[]);
        let distribution = collect(&host.source());
        assert_eq!((distribution.id, distribution.id_like), (Fact::NotPresent, Fact::NotPresent));
        let distribution = collect(&host.source_without(&["os-release"]));
        assert!(distribution.id.is_unread() && !distribution.is_like("debian"));
    }

    #[test]
    fn assignments_are_read_as_a_shell_reads_them() {
        let text = "A=first\nB=\"two \\\"words\\\"\" # note\nC='as $it is'\nA=plain # note\nAB=other\n#D=no";
        let value = |key| assigned(text, key);
        assert_eq!(value("A").as_deref(), Some("plain"));
        assert_eq!(value("B").as_deref(), Some("two \"words\""));
        assert_eq!(value("C").as_deref(), Some("as $it is"));
        assert_eq!(value("D"), None);
    }
}
