//! Tables for tests: such as tests make, the real ones of `tests/acpi`, and mutations of those.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A table `signature` with `body` behind the common header; length and checksum are right.
pub(crate) fn table(signature: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.as_bytes().to_vec();
    bytes.extend(u32::try_from(super::HEADER_LENGTH + body.len()).unwrap().to_le_bytes());
    bytes.extend([1, 0]);
    bytes.resize(super::HEADER_LENGTH, b' ');
    bytes.extend(body);
    mend_checksum(&mut bytes);
    bytes
}

fn mend_checksum(bytes: &mut [u8]) {
    bytes[9] = 0;
    bytes[9] = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}

/// The real tables `signature`, with the names of their files.
pub(in crate::spec) fn real_tables(signature: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acpi");
    let names =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| name.starts_with(signature) && name.ends_with(".dat")).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), std::fs::read(directory.join(name)).unwrap())).collect()
}

/// Real tables in which some bytes have other values, and which may end early.
pub(in crate::spec) fn mutated(signature: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let tables: Vec<_> = real_tables(signature).into_iter().map(|(_, bytes)| bytes).collect();
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 1..12);
    let end = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (select(tables), changes, end).prop_map(|(mut bytes, changes, end)| {
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}
