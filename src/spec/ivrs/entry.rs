//! Device entries: how IVHD blocks name devices (AMD IOMMU 3.10, 5.2.2).

use std::fmt;

use serde::{Serialize, Serializer};

use crate::spec::sdt::{self, Fault, Frame, Record, u8_at, u16_at, u32_at};

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryKind(pub u8);

impl EntryKind {
    /// Nothing, 4 bytes.
    pub const PADDING: Self = Self(0);
    /// All devices of the IOMMU.
    pub const ALL: Self = Self(1);
    /// One device.
    pub const SELECT: Self = Self(2);
    /// The first device of a range.
    pub const START_OF_RANGE: Self = Self(3);
    /// The last device of a range.
    pub const END_OF_RANGE: Self = Self(4);
    /// Nothing, 8 bytes.
    pub const PADDING_8: Self = Self(64);
    /// One device that sends under another's requester ID.
    pub const ALIAS_SELECT: Self = Self(66);
    /// The first device of a range that sends under another's requester ID.
    pub const ALIAS_START_OF_RANGE: Self = Self(67);
    /// One device with extended settings.
    pub const EXTENDED_SELECT: Self = Self(70);
    /// The first device of a range with extended settings.
    pub const EXTENDED_START_OF_RANGE: Self = Self(71);
    /// An I/O APIC or a High Precision Event Timer.
    pub const SPECIAL_DEVICE: Self = Self(72);
    /// A device that ACPI names.
    pub const ACPI_DEVICE: Self = Self(240);
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PADDING | Self::PADDING_8 => f.write_str("padding"),
            Self::ALL => f.write_str("all"),
            Self::SELECT => f.write_str("select"),
            Self::START_OF_RANGE => f.write_str("start_of_range"),
            Self::END_OF_RANGE => f.write_str("end_of_range"),
            Self::ALIAS_SELECT => f.write_str("alias_select"),
            Self::ALIAS_START_OF_RANGE => f.write_str("alias_start_of_range"),
            Self::EXTENDED_SELECT => f.write_str("extended_select"),
            Self::EXTENDED_START_OF_RANGE => f.write_str("extended_start_of_range"),
            Self::SPECIAL_DEVICE => f.write_str("special_device"),
            Self::ACPI_DEVICE => f.write_str("acpi_device"),
            Self(unknown) => write!(f, "type_{unknown}"),
        }
    }
}

impl Serialize for EntryKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceEntry {
    /// What it names.
    pub kind: EntryKind,
    /// Requester ID of the device.
    pub device_id: u16,
    /// Settings for its device table entry: which of its legacy interrupts pass, and system management messages.
    pub settings: u8,
    /// The requester ID under which it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_device_id: Option<u16>,
    /// Extended settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_settings: Option<u32>,
    /// The interrupt controller or timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special_device: Option<SpecialDevice>,
    /// The names that ACPI has for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<AcpiId>,
}

/// An interrupt controller or timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SpecialDevice {
    /// 1 is an I/O APIC, 2 a High Precision Event Timer.
    pub variety: u8,
    /// I/O APIC ID or number of the timer.
    pub handle: u8,
    /// The requester ID under which it sends.
    pub source_device_id: u16,
}

/// The names of a device in ACPI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AcpiId {
    /// Hardware ID.
    pub hid: String,
    /// Compatible ID.
    pub cid: String,
    /// Unique ID: a path, or a number in hexadecimal; absent if there is none.
    pub uid: Option<String>,
}

/// Bytes of an entry of type 240 before its unique ID.
const ACPI_FIXED: usize = 22;

/// How entries are framed: the two high bits of the type choose 4, 8, 16 or 32 bytes; entries that ACPI names carry the
/// length of their last field.
const FRAME: Frame = Frame {
    what: "device entry",
    header: 4,
    length: |entry| match u8_at(entry, 0) {
        240 => ACPI_FIXED + usize::from(u8_at(entry, 21)),
        kind => 4 << (kind >> 6),
    },
};

/// The entries in `bytes`, which start at `offset` in the table. Padding is left out.
pub(super) fn parse(bytes: &[u8], offset: usize, faults: &mut Vec<Fault>) -> Vec<DeviceEntry> {
    let records = sdt::records(bytes, offset, FRAME, faults);
    let entries = records.iter().map(|record| decode(record, faults));
    entries.filter(|entry| !matches!(entry.kind, EntryKind::PADDING | EntryKind::PADDING_8)).collect()
}

fn decode(record: &Record<'_>, faults: &mut Vec<Fault>) -> DeviceEntry {
    let Record { bytes, .. } = *record;
    let kind = EntryKind(u8_at(bytes, 0));
    let mut entry = DeviceEntry {
        kind,
        device_id: u16_at(bytes, 1),
        settings: u8_at(bytes, 3),
        alias_device_id: None,
        extended_settings: None,
        special_device: None,
        acpi: None,
    };
    match kind {
        EntryKind::ALIAS_SELECT | EntryKind::ALIAS_START_OF_RANGE if record.has("alias entry", 8, faults) => {
            entry.alias_device_id = Some(u16_at(bytes, 5));
        }
        EntryKind::EXTENDED_SELECT | EntryKind::EXTENDED_START_OF_RANGE
            if record.has("extended entry", 8, faults) =>
        {
            entry.extended_settings = Some(u32_at(bytes, 4));
        }
        EntryKind::SPECIAL_DEVICE if record.has("special device entry", 8, faults) => {
            entry.special_device = Some(SpecialDevice {
                variety: u8_at(bytes, 7),
                handle: u8_at(bytes, 4),
                source_device_id: u16_at(bytes, 5),
            });
        }
        EntryKind::ACPI_DEVICE if record.has("ACPI device entry", ACPI_FIXED, faults) => {
            entry.acpi = Some(AcpiId {
                hid: sdt::text(bytes, 4, 8),
                cid: sdt::text(bytes, 12, 8),
                uid: uid(bytes.get(ACPI_FIXED..).unwrap_or_default(), u8_at(bytes, 20)),
            });
        }
        _ => {}
    }
    entry
}

/// The unique ID; format 0 is none, 1 a number, 2 a string.
fn uid(bytes: &[u8], format: u8) -> Option<String> {
    match format {
        0 => None,
        1 => Some(format!(
            "{:#x}",
            bytes.iter().take(8).rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        )),
        _ => Some(sdt::text(bytes, 0, bytes.len())),
    }
}
