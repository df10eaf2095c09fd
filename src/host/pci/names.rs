//! Names of vendors, devices and classes: those that we carry, and what they lack from the host's own pci.ids.
//!
//! A host has a few dozen different functions, so only what is wanted is kept of either list (format:
//! <https://pci-ids.ucw.cz/>). Ours comes first because the blocks of its vendors can be found without a look at the
//! 1.5 MB before them; the host's is newer where it is needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::source::Source;
use crate::spec::pci::ClassCode;

/// The list that we carry: vendors by number, classes behind them (`src/build.rs`).
static CARRIED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pci.ids"));
/// Where its blocks begin, in bytes: the classes, and each vendor by its number.
static BLOCKS: (usize, &[(u16, usize)]) = include!(concat!(env!("OUT_DIR"), "/pci_ids_blocks.rs"));

/// Where distributions put the list.
pub(super) const PLACES: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];
/// Most bytes that we read of it.
const LIMIT_BYTES: u64 = 16 << 20;

/// The names that the functions of a host need.
#[derive(Debug, Default)]
pub(super) struct Names {
    vendors: BTreeMap<u16, String>,
    devices: BTreeMap<(u16, u16), String>,
    classes: BTreeMap<u8, String>,
    subclasses: BTreeMap<(u8, u8), String>,
}

/// The block of the list that a line stands in.
#[derive(Clone, Copy)]
enum Block {
    Vendor(u16),
    Class(u8),
    Other,
}

impl Names {
    /// Names of the (vendor, device) pairs in `wanted`, and of all classes.
    pub(super) fn load(source: &dyn Source, wanted: &BTreeSet<(u16, u16)>) -> Self {
        if wanted.is_empty() {
            return Self::default();
        }
        let mut names = Self::carried(wanted);
        let lacking: BTreeSet<_> =
            wanted.iter().filter(|pair| !names.devices.contains_key(pair)).copied().collect();
        if !lacking.is_empty() {
            let read = |place: &&str| source.read_limited(place, LIMIT_BYTES).known().cloned();
            names.fill_up(Self::parse(&PLACES.iter().find_map(read).unwrap_or_default(), &lacking));
        }
        names
    }

    /// What our own list says.
    fn carried(wanted: &BTreeSet<(u16, u16)>) -> Self {
        let (classes, vendors) = BLOCKS;
        let mut names = Self::parse(CARRIED.get(classes..).unwrap_or_default(), wanted);
        for vendor in wanted.iter().map(|(vendor, _)| *vendor).collect::<BTreeSet<_>>() {
            if let Ok(at) = vendors.binary_search_by_key(&vendor, |(vendor, _)| *vendor) {
                let start = |at: usize| vendors.get(at).map_or(classes, |(_, start)| *start);
                let block = CARRIED.get(start(at)..start(at + 1)).unwrap_or_default();
                names.fill_up(Self::parse(block, wanted));
            }
        }
        names
    }

    fn parse(list: &[u8], wanted: &BTreeSet<(u16, u16)>) -> Self {
        let vendors: BTreeSet<u16> = wanted.iter().map(|(vendor, _)| *vendor).collect();
        let mut names = Self::default();
        let mut block = Block::Other;
        for line in lines(list) {
            match (line, block) {
                ([] | [b'#', ..] | [b'\t', b'\t', ..], _) | ([b'\t', ..], Block::Other) => {}
                ([b'\t', entry @ ..], Block::Vendor(vendor)) => {
                    if let Some(device) = hex::<4>(entry)
                        && wanted.contains(&(vendor, device))
                        && let Some((_, name)) = split_id::<4>(entry)
                    {
                        names.devices.insert((vendor, device), name);
                    }
                }
                ([b'\t', entry @ ..], Block::Class(base)) => {
                    if let Some((sub, name)) = split_id::<2>(entry)
                        && let Ok(sub) = u8::try_from(sub)
                    {
                        names.subclasses.insert((base, sub), name);
                    }
                }
                ([b'C', b' ', entry @ ..], _) => {
                    block = Block::Other;
                    if let Some((base, name)) = split_id::<2>(entry)
                        && let Ok(base) = u8::try_from(base)
                    {
                        block = Block::Class(base);
                        names.classes.insert(base, name);
                    }
                }
                (entry, _) => {
                    block = Block::Other;
                    if let Some(vendor) = hex::<4>(entry)
                        && vendors.contains(&vendor)
                        && let Some((_, name)) = split_id::<4>(entry)
                    {
                        block = Block::Vendor(vendor);
                        names.vendors.insert(vendor, name);
                    }
                }
            }
        }
        names
    }

    /// Takes from `more` what is still missing.
    fn fill_up(&mut self, more: Self) {
        fn fill<K: Ord>(names: &mut BTreeMap<K, String>, more: BTreeMap<K, String>) {
            for (key, name) in more {
                names.entry(key).or_insert(name);
            }
        }
        fill(&mut self.vendors, more.vendors);
        fill(&mut self.devices, more.devices);
        fill(&mut self.classes, more.classes);
        fill(&mut self.subclasses, more.subclasses);
    }

    /// Name of a vendor.
    pub(super) fn vendor(&self, vendor: u16) -> Option<&str> {
        self.vendors.get(&vendor).map(String::as_str)
    }

    /// Name of a device.
    pub(super) fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        self.devices.get(&(vendor, device)).map(String::as_str)
    }

    /// Name of a sub-class, or of its base class if the sub-class has none.
    pub(super) fn class(&self, class: ClassCode) -> Option<&str> {
        self.subclasses
            .get(&(class.base, class.sub))
            .or_else(|| self.classes.get(&class.base))
            .map(String::as_str)
    }
}

/// The lines of `list` that name what is `wanted`, and all classes: [`Names`] of it are the names of the whole list.
pub(super) fn abridged(list: &[u8], wanted: &BTreeSet<(u16, u16)>) -> Vec<u8> {
    let (mut vendor, mut is_class) = (None, false);
    let keep = |line: &&[u8]| match line {
        [] | [b'#', ..] | [b'\t', b'\t', ..] => false,
        [b'\t', entry @ ..] => {
            is_class || vendor.zip(hex::<4>(entry)).is_some_and(|pair| wanted.contains(&pair))
        }
        [b'C', b' ', ..] => {
            (vendor, is_class) = (None, true);
            true
        }
        entry => {
            let wanted = |id: &u16| wanted.range((*id, 0)..=(*id, u16::MAX)).next().is_some();
            (vendor, is_class) = (hex::<4>(entry).filter(wanted), false);
            // What is no vendor ends a block too.
            vendor.is_some() || hex::<4>(entry).is_none()
        }
    };
    let kept: Vec<&[u8]> = lines(list).filter(keep).collect();
    kept.join(&b'\n')
}

/// The lines of a list, the last one too if nothing ends it.
fn lines(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', list).chain([list.len()]);
    ends.scan(0, |start, end| list.get(std::mem::replace(start, end + 1)..end))
}

/// The number in the first `DIGITS` hexadecimal digits of `text`.
fn hex<const DIGITS: usize>(text: &[u8]) -> Option<u16> {
    text.get(..DIGITS)?.iter().try_fold(0_u16, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | u16::try_from(digit).ok()?)
    })
}

/// `<id>  <name>`; a name that is not UTF-8 is kept as far as it is.
fn split_id<const DIGITS: usize>(text: &[u8]) -> Option<(u16, String)> {
    let id = hex::<DIGITS>(text)?;
    let name = text.get(DIGITS..)?.strip_prefix(b"  ")?;
    Some((id, String::from_utf8_lossy(name).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    const LIST: &[u8] =
        b"# comment\n\n8086  Intel Corporation\n\t10c9  82576 Gigabit\n\t\t8086 a03c  Adapter\n\
        \t10ca  82576 VF\nzzzz  Broken\n\t10c9  Nobody's\n1af4  Red Hat\n\t10c9  Other\n\
        C 02  Network controller\n\t00  Ethernet controller\n\t\t00  Interface\n";

    #[test]
    fn wanted_names_are_found_in_their_own_block() {
        let names = Names::parse(LIST, &BTreeSet::from([(0x8086, 0x10c9)]));
        assert_eq!(names.vendor(0x8086), Some("Intel Corporation"));
        assert_eq!(names.device(0x8086, 0x10c9), Some("82576 Gigabit"));
        assert_eq!(names.vendor(0x1af4), None);
        assert_eq!(names.devices.len(), 1);
        assert_eq!(names.class(ClassCode::from_u24(0x02_00_00)), Some("Ethernet controller"));
        assert_eq!(names.class(ClassCode::from_u24(0x02_FF_00)), Some("Network controller"));
    }

    #[test]
    fn an_abridged_list_has_the_wanted_names_and_little_else() {
        let wanted = BTreeSet::from([(0x8086, 0x10c9), (0x1af4, 0x1000)]);
        let abridged = abridged(LIST, &wanted);
        let (whole, part) = (Names::parse(LIST, &wanted), Names::parse(&abridged, &wanted));
        assert_eq!(format!("{part:?}"), format!("{whole:?}"));
        let text = String::from_utf8(abridged).unwrap();
        assert!(
            !text.contains("82576 VF") && !text.contains("Adapter") && !text.contains("comment"),
            "{text}"
        );
    }

    #[test]
    fn the_list_that_we_carry_is_found_by_its_blocks() {
        let (classes, vendors) = BLOCKS;
        assert!(vendors.len() > 2000 && vendors.is_sorted());
        for pair in [(vendors[0].0, 0), (0x8086, 0x10c9), (vendors[vendors.len() - 1].0, 0)] {
            let wanted = BTreeSet::from([pair]);
            let (found, whole) = (Names::carried(&wanted), Names::parse(CARRIED, &wanted));
            assert_eq!(format!("{found:?}"), format!("{whole:?}"));
            assert!(found.vendor(pair.0).is_some(), "{pair:x?}");
        }
        assert!(CARRIED[classes..].starts_with(b"C 00  "));
        let names = Names::carried(&BTreeSet::from([(0x8086, 0x10c9)]));
        assert!(names.device(0x8086, 0x10c9).unwrap().contains("82576"));
        assert_eq!(names.class(ClassCode::from_u24(0x01_08_02)), Some("Non-Volatile memory controller"));
    }

    #[test]
    fn the_hosts_list_tells_what_ours_lacks_and_no_more() {
        let host = FakeHost::new(&[(
            PLACES[1],
            Entry::Text(
                "8086  Renamed\n\t10c9  Renamed too\n\tfffe  From tomorrow\nfff9  Nobody yet\n\t0001  Card\n",
            ),
        )]);
        let wanted = BTreeSet::from([(0x8086, 0x10c9), (0x8086, 0xFFFE), (0xFFF9, 1)]);
        let names = Names::load(&host.source(), &wanted);
        assert_eq!(names.vendor(0x8086), Some("Intel Corporation"));
        assert!(names.device(0x8086, 0x10c9).unwrap().contains("82576"));
        assert_eq!(names.device(0x8086, 0xFFFE), Some("From tomorrow"));
        assert_eq!((names.vendor(0xFFF9), names.device(0xFFF9, 1)), (Some("Nobody yet"), Some("Card")));
    }

    #[test]
    fn bytes_that_are_no_list_yield_no_names() {
        let names = Names::parse(&[0xFF; 4096], &BTreeSet::from([(0x8086, 0x10c9)]));
        assert!(names.vendors.is_empty() && names.classes.is_empty());
    }
}
