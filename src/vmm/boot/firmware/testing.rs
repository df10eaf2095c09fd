//! Firmware made by hand: a volume of code and one of variables, whole.

use std::fs;

use tempfile::TempDir;

use crate::spec::firmware_volume::VARIABLES;

/// Length of the variables.
pub(crate) const VARS_BYTES: u64 = 0x8_4000;
const CODE_BYTES: u64 = 0x2_0000;

/// A volume of `length` bytes with this file system.
pub(crate) fn volume(file_system: [u8; 16], length: u64) -> Vec<u8> {
    let mut bytes = vec![0xFF; usize::try_from(length).unwrap()];
    bytes[..72].fill(0);
    bytes[16..32].copy_from_slice(&file_system);
    bytes[32..40].copy_from_slice(&length.to_le_bytes());
    bytes[40..44].copy_from_slice(b"_FVH");
    bytes[48..50].copy_from_slice(&72u16.to_le_bytes());
    let sum = bytes[..72]
        .chunks(2)
        .fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
    bytes[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    bytes
}

/// Code with a jump where a processor begins.
pub(crate) fn code() -> Vec<u8> {
    let mut bytes = volume([7; 16], CODE_BYTES);
    let end = bytes.len();
    bytes[end - 16..].copy_from_slice(&[0xE9; 16]);
    bytes
}

/// A directory with a pair of code and template.
pub(crate) fn pair() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("OVMF_CODE_4M.fd"), code()).unwrap();
    fs::write(directory.path().join("OVMF_VARS_4M.fd"), volume(VARIABLES, VARS_BYTES)).unwrap();
    directory
}
