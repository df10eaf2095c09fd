//! Names of vendors, devices and classes: the host's own pci.ids first, the copy that we carry for the rest.
//!
//! The list is 1.5 MB and a host has a few dozen different functions, so it is read once from start to end and only
//! what is wanted is kept (format: <https://pci-ids.ucw.cz/>).

use std::collections::{BTreeMap, BTreeSet};

use pci_ids::FromId;

use crate::host::source::Source;
use crate::spec::pci::ClassCode;

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
        let mut names = PLACES
            .iter()
            .find_map(|place| {
                source.read_limited(place, LIMIT_BYTES).known().map(|list| Self::parse(list, wanted))
            })
            .unwrap_or_default();
        names.fill_up(wanted);
        names
    }

    fn parse(list: &[u8], wanted: &BTreeSet<(u16, u16)>) -> Self {
        let vendors: BTreeSet<u16> = wanted.iter().map(|(vendor, _)| *vendor).collect();
        let mut names = Self::default();
        let mut block = Block::Other;
        for line in list.split(|byte| *byte == b'\n') {
            match (line, block) {
                ([] | [b'#', ..] | [b'\t', b'\t', ..], _) | ([b'\t', ..], Block::Other) => {}
                ([b'\t', entry @ ..], Block::Vendor(vendor)) => {
                    if let Some((device, name)) = split_id::<4>(entry)
                        && wanted.contains(&(vendor, device))
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

    /// Takes what is still missing from the list that was compiled in.
    fn fill_up(&mut self, wanted: &BTreeSet<(u16, u16)>) {
        for &(vendor, device) in wanted {
            if let Some(known) = pci_ids::Vendor::from_id(vendor) {
                self.vendors.entry(vendor).or_insert_with(|| known.name().to_owned());
            }
            if let Some(known) = pci_ids::Device::from_vid_pid(vendor, device) {
                self.devices.entry((vendor, device)).or_insert_with(|| known.name().to_owned());
            }
        }
        for class in pci_ids::Classes::iter() {
            self.classes.entry(class.id()).or_insert_with(|| class.name().to_owned());
            for sub in class.subclasses() {
                self.subclasses.entry((class.id(), sub.id())).or_insert_with(|| sub.name().to_owned());
            }
        }
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
    let kept: Vec<&[u8]> = list.split(|byte| *byte == b'\n').filter(keep).collect();
    kept.join(&b'\n')
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
    fn the_list_that_we_carry_fills_gaps() {
        let wanted = BTreeSet::from([(0x8086, 0x10c9)]);
        let mut names = Names::parse(b"8086  Renamed\n", &wanted);
        names.fill_up(&wanted);
        assert_eq!(names.vendor(0x8086), Some("Renamed"));
        assert!(names.device(0x8086, 0x10c9).unwrap().contains("82576"));
        assert_eq!(names.class(ClassCode::from_u24(0x01_08_02)), Some("Non-Volatile memory controller"));
    }

    #[test]
    fn bytes_that_are_no_list_yield_no_names() {
        let names = Names::parse(&[0xFF; 4096], &BTreeSet::from([(0x8086, 0x10c9)]));
        assert!(names.vendors.is_empty() && names.classes.is_empty());
    }
}
