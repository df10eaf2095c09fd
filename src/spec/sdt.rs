//! System description tables of ACPI as bytes that may be wrong in any way: header, checksum, and the chain of records
//! behind it.
//!
//! ACPI 6.5, 5.2.6 (header). Tables of records give each record's length in its header; a wrong length can point
//! anywhere. What is readable is kept, each fault is told, and every step goes forward.

#[cfg(test)]
pub(crate) mod testing;

use serde::{Serialize, Serializer};

/// Length of the header that all tables share, in bytes.
pub const HEADER_LENGTH: usize = 36;

/// Offsets in the header (ACPI 6.5, table 5.4).
mod offset {
    pub(super) const LENGTH: usize = 4;
    pub(super) const REVISION: usize = 8;
    pub(super) const OEM_ID: usize = 10;
    pub(super) const OEM_TABLE_ID: usize = 16;
}

/// What is wrong with a table. Offsets are in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is another table, or none.
    #[error("the signature is {found:?} and not {expected:?}")]
    Signature {
        /// What it should be.
        expected: &'static str,
        /// What stands there; bytes that are no letters are dots.
        found: String,
    },
    /// The header's length is not that of the bytes.
    #[error("the header says {stated} bytes, and there are {actual}")]
    Length {
        /// What the header says.
        stated: u32,
        /// What is there.
        actual: usize,
    },
    /// The bytes do not add up to zero (ACPI 6.5, 5.2.6).
    #[error("the checksum is wrong: the bytes add up to {0:#04x} and not to 0")]
    Checksum(u8),
    /// Too few bytes for another header are left.
    #[error("{length} bytes at offset {offset:#x} are too few for a {what}")]
    Remainder {
        /// What should stand there.
        what: &'static str,
        /// Where.
        offset: usize,
        /// How many bytes are left.
        length: usize,
    },
    /// A length that does not even cover the header that it stands in: nothing behind it can be found.
    #[error("the {what} at offset {offset:#x} says that it is {length} bytes long, which ends the list")]
    NoLength {
        /// What it is.
        what: &'static str,
        /// Where.
        offset: usize,
        /// What it says.
        length: usize,
    },
    /// A length that ends behind what it lies in.
    #[error("the {what} at offset {offset:#x} says that it is {length} bytes long, and {room} are left")]
    Overrun {
        /// What it is.
        what: &'static str,
        /// Where.
        offset: usize,
        /// What it says.
        length: usize,
        /// What is left.
        room: usize,
    },
    /// A length that is too short for the fields of this type.
    #[error("the {what} at offset {offset:#x} has {length} bytes; its fields need {needed}")]
    Short {
        /// What it is.
        what: &'static str,
        /// Where.
        offset: usize,
        /// What it has.
        length: usize,
        /// What it needs.
        needed: usize,
    },
    /// A path of bridges without a step, or with half a step.
    #[error("the path of the device scope at offset {offset:#x} has {length} bytes; a step has two")]
    Path {
        /// Where.
        offset: usize,
        /// Bytes of the path.
        length: usize,
    },
    /// A range that ends before it starts.
    #[error("the range of the {what} at offset {offset:#x} ends before it starts")]
    Range {
        /// What it is.
        what: &'static str,
        /// Where.
        offset: usize,
    },
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The bytes are too few for the fixed part of a table, so that nothing can be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are too few for this table, whose fixed part has {needed}")]
pub struct TooShort {
    /// How many there are.
    pub length: usize,
    /// How many are needed.
    pub needed: usize,
}

/// The header of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Length that the header states, in bytes.
    pub length_bytes: u32,
    /// Revision of the table's layout.
    pub revision: u8,
    /// Who made the table.
    pub oem_id: String,
    /// What its maker calls it.
    pub oem_table_id: String,
}

impl Header {
    /// Decodes the header of the table `signature` and compares length and checksum with all of `bytes`. `needed` is the
    /// length of the table's fixed part.
    pub(super) fn parse(
        bytes: &[u8],
        signature: &'static str,
        needed: usize,
        faults: &mut Vec<Fault>,
    ) -> Result<Self, TooShort> {
        if bytes.len() < needed.max(HEADER_LENGTH) {
            return Err(TooShort { length: bytes.len(), needed });
        }
        if !bytes.starts_with(signature.as_bytes()) {
            faults.push(Fault::Signature { expected: signature, found: text(bytes, 0, signature.len()) });
        }
        let length_bytes = u32_at(bytes, offset::LENGTH);
        if usize::try_from(length_bytes) != Ok(bytes.len()) {
            faults.push(Fault::Length { stated: length_bytes, actual: bytes.len() });
        }
        let sum = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        if sum != 0 {
            faults.push(Fault::Checksum(sum));
        }
        Ok(Self {
            length_bytes,
            revision: u8_at(bytes, offset::REVISION),
            oem_id: text(bytes, offset::OEM_ID, 6),
            oem_table_id: text(bytes, offset::OEM_TABLE_ID, 8),
        })
    }

    /// The part of `bytes` that belongs to the table: what is stated, as far as it is there.
    pub(super) fn body<'a>(&self, bytes: &'a [u8], fixed: usize) -> &'a [u8] {
        let end =
            usize::try_from(self.length_bytes).unwrap_or(usize::MAX).clamp(fixed, bytes.len().max(fixed));
        bytes.get(..end).unwrap_or(bytes)
    }
}

/// How the records of a list are framed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// What one is, for faults.
    pub(super) what: &'static str,
    /// Bytes of the header that holds the length; also the least length.
    pub(super) header: usize,
    /// Reads the length out of a record that has at least its header.
    pub(super) length: fn(&[u8]) -> usize,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// From the start of the table, in bytes.
    pub(super) offset: usize,
    /// The length that it states, in bytes.
    pub(super) length: usize,
    /// Its bytes, as far as they are there.
    pub(super) bytes: &'a [u8],
}

impl Record<'_> {
    /// Whether the fields of `what`, `needed` bytes, are there; a fault if not.
    pub(super) fn has(&self, what: &'static str, needed: usize, faults: &mut Vec<Fault>) -> bool {
        let length = self.bytes.len();
        if length < needed {
            faults.push(Fault::Short { what, offset: self.offset, length, needed });
        }
        length >= needed
    }
}

/// Splits `bytes`, which start at `start` in the table, into records.
pub(super) fn records<'a>(
    mut bytes: &'a [u8],
    start: usize,
    frame: Frame,
    faults: &mut Vec<Fault>,
) -> Vec<Record<'a>> {
    let Frame { what, header, length } = frame;
    let mut offset = start;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        if bytes.len() < header {
            faults.push(Fault::Remainder { what, offset, length: bytes.len() });
            break;
        }
        let length = length(bytes);
        if length < header {
            faults.push(Fault::NoLength { what, offset, length });
            break;
        }
        if length > bytes.len() {
            faults.push(Fault::Overrun { what, offset, length, room: bytes.len() });
        }
        let (own, rest) = bytes.split_at(length.min(bytes.len()));
        found.push(Record { offset, length, bytes: own });
        offset = offset.saturating_add(own.len());
        bytes = rest;
    }
    found
}

/// A record of a type that is not known, or too short for its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnknownRecord {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: u16,
    /// The length that it states, in bytes.
    pub length_bytes: usize,
    /// Where it starts in the table, in bytes.
    pub offset: usize,
}

/// Reads `N` bytes at `offset`; zeros where there are none.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let field = offset.checked_add(N).and_then(|end| bytes.get(offset..end));
    field.and_then(|field| field.try_into().ok()).unwrap_or([0; N])
}

/// The byte at `offset`; zero behind the end, which callers rule out before.
pub(super) fn u8_at(bytes: &[u8], offset: usize) -> u8 {
    let [byte] = at(bytes, offset);
    byte
}

/// The 16-bit field at `offset`; zero behind the end.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(at(bytes, offset))
}

/// The 32-bit field at `offset`; zero behind the end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(at(bytes, offset))
}

/// The 64-bit field at `offset`; zero behind the end.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(at(bytes, offset))
}

/// The text of `length` bytes at `offset`, to the first zero; bytes that cannot be printed are dots.
pub(super) fn text(bytes: &[u8], offset: usize, length: usize) -> String {
    let field = bytes.get(offset..).unwrap_or_default();
    let field = field.get(..length).unwrap_or(field);
    let printable = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
    let text: String = field.iter().take_while(|byte| **byte != 0).map(printable).collect();
    text.trim_end().to_owned()
}
