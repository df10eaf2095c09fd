//! Firmware volumes: what images of UEFI firmware, and its store of variables, are made of.
//!
//! UEFI Platform Initialization 1.7, volume 3, 3.2.1. All numbers are little endian.

/// Bytes of a header up to its block map.
pub const HEADER_BYTES: usize = 56;
/// File system GUID of a volume that holds variables: FFF12B8D-7696-4C8B-A985-2747075B4F50 (edk2 calls it
/// gEfiSystemNvDataFvGuid).
pub const VARIABLES: [u8; 16] =
    [0x8D, 0x2B, 0xF1, 0xFF, 0x96, 0x76, 0x8B, 0x4C, 0xA9, 0x85, 0x27, 0x47, 0x07, 0x5B, 0x4F, 0x50];

/// Offsets, in bytes.
mod field {
    pub(super) const FILE_SYSTEM: usize = 16;
    pub(super) const LENGTH: usize = 32;
    pub(super) const SIGNATURE: usize = 40;
    pub(super) const HEADER_LENGTH: usize = 48;
}

/// The beginning of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which file system it has.
    pub file_system: [u8; 16],
    /// Bytes of the volume, header included.
    pub length_bytes: u64,
    /// Bytes of the header with its block map.
    pub header_bytes: u16,
}

/// Why these bytes do not begin a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAVolume {
    /// There is no signature, or not even room for one.
    #[error("it does not begin with a firmware volume")]
    Signature,
    /// The header's words do not sum to zero, or it does not lie in these bytes as a whole.
    #[error("the checksum of its firmware volume's header is wrong")]
    Checksum,
    /// Its length is less than its header's.
    #[error("its firmware volume claims to have {0:#x} bytes")]
    Length(u64),
}

fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

impl Header {
    /// The header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`NotAVolume`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAVolume> {
        if bytes.len() < HEADER_BYTES || number(bytes, field::SIGNATURE) != Some(*b"_FVH") {
            return Err(NotAVolume::Signature);
        }
        let header_bytes = number(bytes, field::HEADER_LENGTH).map_or(0, u16::from_le_bytes);
        let header = bytes.get(..usize::from(header_bytes)).ok_or(NotAVolume::Checksum)?;
        let sum = header
            .chunks(2)
            .fold(0u16, |sum, word| sum.wrapping_add(number(word, 0).map_or(0, u16::from_le_bytes)));
        if usize::from(header_bytes) < HEADER_BYTES || sum != 0 {
            return Err(NotAVolume::Checksum);
        }
        let length_bytes = number(bytes, field::LENGTH).map_or(0, u64::from_le_bytes);
        if length_bytes < u64::from(header_bytes) {
            return Err(NotAVolume::Length(length_bytes));
        }
        let file_system = number(bytes, field::FILE_SYSTEM).unwrap_or_default();
        Ok(Self { file_system, length_bytes, header_bytes })
    }

    /// Whether it holds variables.
    #[must_use]
    pub fn holds_variables(&self) -> bool {
        self.file_system == VARIABLES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn volume() -> Vec<u8> {
        let mut bytes = vec![0; 72];
        bytes[16..32].copy_from_slice(&VARIABLES);
        bytes[32..40].copy_from_slice(&0x8_4000u64.to_le_bytes());
        bytes[40..44].copy_from_slice(b"_FVH");
        bytes[48..50].copy_from_slice(&72u16.to_le_bytes());
        let sum =
            bytes.chunks(2).fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
        bytes[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_tells_what_the_volume_is_and_how_long() {
        let header = Header::parse(&volume()).unwrap();
        assert!(header.holds_variables());
        assert_eq!((header.length_bytes, header.header_bytes), (0x8_4000, 72));
    }

    #[test]
    fn damage_is_told() {
        assert_eq!(Header::parse(&[]), Err(NotAVolume::Signature));
        assert_eq!(Header::parse(&volume()[..71]), Err(NotAVolume::Checksum));
        let mut flipped = volume();
        flipped[20] ^= 1;
        assert_eq!(Header::parse(&flipped), Err(NotAVolume::Checksum));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(at in 0usize..72, value: u8) {
            let mut bytes = volume();
            bytes[at] = value;
            let _ = Header::parse(&bytes);
            let _ = Header::parse(&bytes[..at]);
        }
    }
}
