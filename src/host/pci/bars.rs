//! Base address registers as the kernel placed them, from `resource`.
//!
//! Linux: Documentation/ABI/testing/sysfs-bus-pci; flags in include/linux/ioport.h. Line N of the file is BAR N, line 6 the
//! option ROM; later lines are windows of bridges and BARs of virtual functions. The size of a BAR can only be found out by
//! writing to it, which the kernel did; where it gave a BAR up it forgot its size, too, and the register alone tells that
//! there is one.

use serde::Serialize;

use super::Attributes;
use crate::host::fact::Fact;
use crate::host::parse;
use crate::spec::pci::walk::read_u32;
use crate::spec::pci::{BAR_COUNT, bar, header};

/// A base address register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its index; 6 is the option ROM.
    pub index: u8,
    /// What it is for.
    pub kind: BarKind,
    /// Its size; absent where the kernel gave it up.
    pub size_bytes: Option<u64>,
    /// Where it is; absent if it has no place.
    pub base: Option<u64>,
    /// Whether reads have no side effects, so that it may lie in a prefetchable window.
    pub prefetchable: bool,
}

impl Bar {
    /// Whether the kernel or the firmware found room for it. An option ROM gets its place when somebody reads it.
    #[must_use]
    pub fn is_assigned(&self) -> bool {
        self.base.is_some()
    }
}

/// What a base address register is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
    /// I/O ports.
    Io,
    /// The option ROM.
    Rom,
}

/// Index of the option ROM's line.
const ROM: usize = BAR_COUNT;

/// Flags of a resource (Linux: include/linux/ioport.h).
mod flag {
    pub(super) const IO: u64 = 0x100;
    pub(super) const MEMORY: u64 = 0x200;
    pub(super) const PREFETCH: u64 = 0x2000;
    pub(super) const MEMORY_64: u64 = 0x10_0000;
    pub(super) const UNSET: u64 = 0x2000_0000;
}

/// The registers of `function`, whose configuration space begins with `config`.
pub(super) fn collect(function: &Attributes<'_>, config: Option<&[u8]>) -> Fact<Vec<Bar>> {
    function.get("resource", |source, path| source.text(path).parse(path, |text| parse(&text))).map(
        |mut bars| {
            let given_up: Vec<_> = given_up(&bars, config.unwrap_or_default()).collect();
            bars.extend(given_up);
            bars.sort_unstable_by_key(|bar| bar.index);
            bars
        },
    )
}

fn parse(text: &str) -> Result<Vec<Bar>, String> {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let mut bars = Vec::new();
    for (index, line) in (0_u8..).zip(text.lines().take(ROM + 1)) {
        let words: Vec<_> = line.split_ascii_whitespace().map(number).collect();
        let [Some(start), Some(end), Some(flags)] = words[..] else {
            return Err(format!("`{}` is not a resource", parse::excerpt(line)));
        };
        let kind = match flags {
            _ if usize::from(index) == ROM && flags != 0 => BarKind::Rom,
            _ if flags & flag::IO != 0 => BarKind::Io,
            _ if flags & flag::MEMORY_64 != 0 => BarKind::Memory64,
            _ if flags & flag::MEMORY != 0 => BarKind::Memory32,
            _ => continue,
        };
        bars.push(Bar {
            index,
            kind,
            size_bytes: end.checked_sub(start).and_then(|last| last.checked_add(1)),
            base: (start != 0 && flags & flag::UNSET == 0).then_some(start),
            prefetchable: flags & flag::PREFETCH != 0,
        });
    }
    Ok(bars)
}

/// Registers whose type bits say that there is a BAR, of which the kernel knows nothing any more. A BAR for 32-bit memory
/// without side effects has no such bits: nobody can tell.
fn given_up<'a>(known: &'a [Bar], config: &'a [u8]) -> impl Iterator<Item = Bar> + use<'a> {
    let count = match config.get(usize::from(header::HEADER_TYPE)).map(|kind| kind & 0x7F) {
        Some(0) => BAR_COUNT,
        _ => 0, // bridges have two, and hardly ever use them
    };
    let mut upper_half = false;
    (0_u8..).zip(0..count).filter_map(move |(index, _)| {
        if std::mem::take(&mut upper_half) {
            return None;
        }
        let register = read_u32(config, header::BAR0 + u16::from(index) * 4)?;
        let is_wide = register & bar::IO == 0 && register & bar::MEMORY_64 != 0;
        upper_half = is_wide;
        let kind = match register {
            _ if known.iter().any(|bar| bar.index == index) => return None,
            _ if register & bar::IO != 0 => BarKind::Io,
            _ if is_wide => BarKind::Memory64,
            _ if register & bar::PREFETCHABLE != 0 => BarKind::Memory32,
            _ => return None,
        };
        let prefetchable = kind != BarKind::Io && register & bar::PREFETCHABLE != 0;
        Some(Bar { index, kind, size_bytes: None, base: None, prefetchable })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_sizes_and_places_are_told() {
        let text = "0x00000000fb000000 0x00000000fbffffff 0x0000000000040200\n\
                    0x000000e000000000 0x000000e00fffffff 0x000000000014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x0000000000000000 0x0000000001ffffff 0x000000002014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x000000000000e000 0x000000000000e07f 0x0000000000040101\n\
                    0x00000000fc000000 0x00000000fc07ffff 0x0000000000046200\n\
                    0x00000000fd000000 0x00000000fdffffff 0x0000000000040200";
        let bars = parse(text).unwrap();
        let kinds: Vec<_> = bars.iter().map(|bar| (bar.index, bar.kind, bar.is_assigned())).collect();
        assert_eq!(
            kinds,
            [
                (0, BarKind::Memory32, true),
                (1, BarKind::Memory64, true),
                (3, BarKind::Memory64, false),
                (5, BarKind::Io, true),
                (6, BarKind::Rom, true),
            ]
        );
        assert_eq!(bars[1].size_bytes, Some(256 << 20));
        assert_eq!((bars[1].base, bars[1].prefetchable), (Some(0xE0_0000_0000), true));
        assert_eq!(bars[2].size_bytes, Some(32 << 20));
    }

    #[test]
    fn a_register_that_the_kernel_gave_up_is_there_without_size_and_place() {
        let mut config = [0; 64];
        config[0x10] = 0x0C;
        config[0x18] = 0x01;
        let found: Vec<_> = given_up(&[], &config).map(|bar| (bar.index, bar.kind)).collect();
        assert_eq!(found, [(0, BarKind::Memory64), (2, BarKind::Io)]);
        config[0x0E] = 1;
        assert_eq!(given_up(&[], &config).count(), 0);
    }

    #[test]
    fn what_is_no_resource_is_not_taken_for_none() {
        assert!(parse("0x0 0x0").is_err());
        assert!(parse("zero zero zero").is_err());
        assert_eq!(parse("0x0 0xffffffffffffffff 0x200").unwrap()[0].size_bytes, None);
    }
}
