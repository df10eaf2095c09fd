//! The small notations of sysfs and procfs: hexadecimal numbers, yes and no, the kernel's `(null)`.

use crate::host::fact::Fact;
use crate::host::source::Source;
use crate::spec::cpu_list::CpuList;

/// A file that holds a number in hexadecimal, with or without `0x`, or in decimal.
pub(crate) fn number<T: TryFrom<u64>>(source: &dyn Source, path: &str, radix: u32) -> Fact<T> {
    source.text(path).parse(path, |text| {
        let digits = text.trim();
        let digits = if radix == 16 { digits.strip_prefix("0x").unwrap_or(digits) } else { digits };
        let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        plain
            .then(|| u64::from_str_radix(digits, radix).ok())
            .flatten()
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| format!("`{}` is not a number that fits here", excerpt(&text)))
    })
}

/// A file that holds `0`, `1`, `N` or `Y`.
pub(crate) fn flag(source: &dyn Source, path: &str) -> Fact<bool> {
    source.text(path).parse(path, |text| match text.trim() {
        "0" | "N" => Ok(false),
        "1" | "Y" => Ok(true),
        _ => Err(format!("`{}` is neither 0 nor 1", excerpt(&text))),
    })
}

/// Text where empty and `(null)` mean that nothing is set.
pub(crate) fn optional_text(source: &dyn Source, path: &str) -> Fact<String> {
    source.text(path).and_then(|text| match text.trim() {
        "" | "(null)" => Fact::NotPresent,
        text => Fact::Known(text.to_owned()),
    })
}

/// The first characters of `text`, fit to stand in one line of a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// A fact that every host has at `path`: if it is not there, it is unknown and not absent.
pub(crate) fn required<T>(fact: Fact<T>, path: &str) -> Fact<T> {
    match fact {
        Fact::NotPresent => {
            Fact::Unreadable { source: path.to_owned(), reason: "it is not there".to_owned() }
        }
        fact => fact,
    }
}

/// A list of CPUs. Where none is set some kernels write `(null)`.
pub(crate) fn cpus(source: &dyn Source, path: &str) -> Fact<CpuList> {
    source.text(path).parse(path, |text| match text.trim() {
        "(null)" => Ok(CpuList::default()),
        text => text.parse(),
    })
}

/// The value of `Key:   123 kB` in the text of a file such as `/proc/meminfo`, in bytes.
pub(crate) fn kibibytes(text: &Fact<String>, path: &str, key: &str) -> Fact<u64> {
    text.as_ref().and_then(|text| {
        let value = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            // Files of a node have `Node 0 ` in front of the key.
            (name.rsplit(' ').next() == Some(key)).then_some(value)
        });
        let Some(value) = value else { return Fact::NotPresent };
        let number = value.trim().strip_suffix("kB").and_then(|digits| digits.trim().parse::<u64>().ok());
        match number.and_then(|number| number.checked_mul(1024)) {
            Some(bytes) => Fact::Known(bytes),
            None => Fact::Unreadable {
                source: path.to_owned(),
                reason: format!("`{}` of {key} is no number of kB", excerpt(value.trim())),
            },
        }
    })
}
