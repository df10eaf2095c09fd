//! `/proc/cpuinfo`: what the kernel says of each CPU, and whether it says the same of all.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::Source;

pub(super) const CPUINFO: &str = "/proc/cpuinfo";
/// Most bytes of it that are read: two kilobytes or three for each CPU that Linux can have (x86: 8,192).
const LIMIT_BYTES: u64 = 32 << 20;
/// The lines in which all CPUs of a machine should agree.
const AGREED: [&str; 7] = ["vendor_id", "cpu family", "model", "stepping", "microcode", "flags", "vmx flags"];

/// The file.
pub(super) struct CpuInfo(Fact<String>);

/// Something in which a CPU is not like the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Number of the CPU.
    pub cpu: u32,
    /// The line of `/proc/cpuinfo`: `microcode`, `flags`.
    pub field: &'static str,
    /// What this CPU has; of flags those that the first one lacks.
    pub here: String,
    /// What the first CPU has; of flags those that this one lacks.
    pub first: String,
}

impl CpuInfo {
    pub(super) fn read(source: &dyn Source) -> Self {
        let bytes = source.read_limited(CPUINFO, LIMIT_BYTES);
        Self(bytes.parse(CPUINFO, |bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8")))
    }

    /// The file.
    pub(super) fn text(&self) -> Fact<&str> {
        self.0.as_ref().map(String::as_str)
    }

    /// A line of the first CPU.
    pub(super) fn value(&self, key: &str) -> Fact<String> {
        self.text().and_then(|text| {
            let first = text.split("\n\n").next().unwrap_or_default();
            value_in(first, key).map_or(Fact::NotPresent, |value| Fact::Known(value.to_owned()))
        })
    }

    /// A line of the first CPU that holds a number in decimal.
    pub(super) fn number(&self, key: &str) -> Fact<u32> {
        self.value(key).parse(CPUINFO, |text| text.parse().map_err(|_| format!("`{key}` is not a number")))
    }

    /// Whether the flag is there; unknown without a line of flags.
    pub(super) fn flag(&self, flag: &str) -> Fact<bool> {
        match self.value("flags") {
            Fact::NotPresent => {
                Fact::Unreadable { source: CPUINFO.to_owned(), reason: "it has no line of flags".to_owned() }
            }
            flags => flags.map(|flags| flags.split_ascii_whitespace().any(|word| word == flag)),
        }
    }

    /// CPUs that run.
    pub(super) fn count(&self) -> Fact<u32> {
        self.text().map(|text| {
            let count = text.lines().filter(|line| line.starts_with("processor")).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        })
    }

    /// In what CPUs are not like the first one.
    pub(super) fn differences(&self) -> Fact<Vec<Difference>> {
        self.text().map(|text| {
            let mut cpus = text.split("\n\n").filter(|cpu| cpu.starts_with("processor"));
            let Some(first) = cpus.next() else { return Vec::new() };
            let first = AGREED.map(|field| (field, value_in(first, field).unwrap_or_default()));
            cpus.flat_map(|cpu| differences(&first, cpu)).collect()
        })
    }
}

/// The value of `key` among the lines of one CPU.
fn value_in<'a>(cpu: &'a str, key: &str) -> Option<&'a str> {
    cpu.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim_end() == key).then(|| value.trim())
    })
}

fn differences(first: &[(&'static str, &str)], cpu: &str) -> Vec<Difference> {
    let number = value_in(cpu, "processor").and_then(|number| number.parse().ok()).unwrap_or_default();
    let differing = first.iter().filter_map(|(field, first)| {
        let here = value_in(cpu, field).unwrap_or_default();
        let (here, first) = match *first == here {
            true => return None,
            false if field.ends_with("flags") => (words_without(here, first), words_without(first, here)),
            false => (here.to_owned(), (*first).to_owned()),
        };
        Some(Difference { cpu: number, field, here, first })
    });
    differing.collect()
}

/// The words of `line` that do not stand in `other`.
fn words_without(line: &str, other: &str) -> String {
    let others: Vec<_> = other.split_ascii_whitespace().collect();
    let left = line.split_ascii_whitespace().filter(|word| !others.contains(word));
    left.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    fn info(text: &str) -> CpuInfo {
        CpuInfo::read(&FakeHost::new(&[(CPUINFO, Entry::Text(text))]).source())
    }

    #[test]
    fn cpus_that_differ_are_told_with_what_each_has() {
        let info = info(
            "processor\t: 0\nmicrocode\t: 0x2b\nflags\t: fpu vmx\n\nprocessor\t: 1\nmicrocode\t: 0x2b\nflags\t: fpu \
             vmx\n\nprocessor\t: 6\nmicrocode\t: 0x2a\nflags\t: fpu sse",
        );
        let difference = |field, here: &str, first: &str| Difference {
            cpu: 6,
            field,
            here: here.to_owned(),
            first: first.to_owned(),
        };
        assert_eq!(
            info.differences(),
            Fact::Known(vec![difference("microcode", "0x2a", "0x2b"), difference("flags", "sse", "vmx")])
        );
        assert_eq!(info.count(), Fact::Known(3));
    }

    #[test]
    fn more_cpus_than_a_mebibyte_holds_are_read() {
        let cpu = format!("flags\t: {}\n\n", "flag ".repeat(400));
        let text: String = (0..600).map(|number| format!("processor\t: {number}\n{cpu}")).collect();
        let info = info(&text);
        assert_eq!((info.count(), info.differences()), (Fact::Known(600), Fact::Known(Vec::new())));
    }

    #[test]
    fn a_file_without_cpus_or_flags_says_nothing() {
        let info = info("nothing : here");
        assert_eq!((info.count(), info.differences()), (Fact::Known(0), Fact::Known(Vec::new())));
        assert!(info.flag("vmx").is_unread());
        assert_eq!(info.value("microcode"), Fact::NotPresent);
    }
}
