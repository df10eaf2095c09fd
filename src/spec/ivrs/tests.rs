//! Real tables decode without a fault; broken ones keep what is readable, tell each fault, and never stop the decode.

use proptest::prelude::*;

use super::*;
use crate::spec::sdt::testing::{mutated, real_tables, table};

/// An IVHD block of `kind` for IOMMU 00:00.2 with `entries`.
fn ivhd(kind: u8, entries: &[u8]) -> Vec<u8> {
    let fixed = unit_length(kind);
    let length = u16::try_from(fixed + entries.len()).unwrap().to_le_bytes();
    let mut bytes =
        vec![kind, 0x30, length[0], length[1], 2, 0, 0x40, 0, 0, 0, 0x20, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.resize(fixed, 0);
    bytes.extend(entries);
    bytes
}

/// An IVMD block of `kind`, devices 0000 to 0FFF, one page at 16 MiB.
fn ivmd(kind: u8, flags: u8) -> Vec<u8> {
    let mut bytes = vec![kind, flags, 32, 0, 0, 0, 0xFF, 0x0F];
    bytes.resize(16, 0);
    bytes.extend(0x0100_0000_u64.to_le_bytes());
    bytes.extend(0x1000_u64.to_le_bytes());
    bytes
}

/// A table with IVinfo 0x0020_3043, and these blocks.
fn ivrs(blocks: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0x43, 0x30, 0x20, 0];
    body.resize(12, 0);
    body.extend(blocks.concat());
    table(SIGNATURE, &body)
}

fn decoded(blocks: &[&[u8]]) -> Ivrs {
    parse(&ivrs(blocks)).unwrap()
}

#[test]
fn every_real_table_decodes_without_a_fault() {
    let tables = real_tables(SIGNATURE);
    assert!(tables.len() > 25, "{} tables", tables.len());
    for (name, bytes) in tables {
        let ivrs = parse(&bytes).unwrap();
        assert_eq!(ivrs.faults, [], "{name}");
        assert!(ivrs.unknown_records.iter().all(|record| record.kind == 0x51), "{name}: {ivrs:#?}");
        assert!(ivrs.units.iter().any(|unit| !unit.superseded && unit.base != 0), "{name}: {ivrs:#?}");
    }
}

#[test]
fn header_and_a_unit_are_decoded() {
    let table = decoded(&[&ivhd(0x10, &[3, 3, 0, 0, 4, 0xFE, 0xFF, 0xD7])]);
    assert_eq!((table.iv_info, table.efr_supported, table.dma_remapped_at_boot), (0x0020_3043, true, true));
    assert_eq!((table.physical_address_bits, table.virtual_address_bits), (48, 64));
    let [unit] = table.units.as_slice() else { panic!("{table:#?}") };
    assert_eq!(
        (unit.base, unit.device_id, unit.address.to_string().as_str()),
        (0xFD20_0000, 2, "0000:00:00.2")
    );
    assert_eq!(unit.extended_features, None);
    let entries: Vec<_> = unit.entries.iter().map(|e| (e.kind, e.device_id, e.settings)).collect();
    assert_eq!(entries, [(EntryKind::START_OF_RANGE, 3, 0), (EntryKind::END_OF_RANGE, 0xFFFE, 0xD7)]);
    assert_eq!(table.faults, []);
}

#[test]
fn the_block_of_the_latest_revision_counts() {
    let table = decoded(&[&ivhd(0x10, &[]), &ivhd(0x11, &[]), &ivhd(0x40, &[])]);
    let superseded: Vec<_> = table.units.iter().map(|unit| (unit.block_type, unit.superseded)).collect();
    assert_eq!(superseded, [(0x10, true), (0x11, true), (0x40, false)]);
    assert_eq!(table.units[1].extended_features, Some(0));
}

#[test]
fn entries_of_every_length_are_decoded_and_padding_is_left_out() {
    let mut entries = vec![0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0];
    entries.extend([67, 0, 0xFF, 0, 0, 0xA5, 0, 0]);
    entries.extend([70, 8, 0, 0, 1, 0, 0, 0x80]);
    entries.extend([72, 0, 0, 0xD7, 0x21, 0xA0, 0, 1]);
    entries.extend([240, 0xA5, 0, 0x40]);
    entries.extend(b"AMDI0020\0\0\0\0\0\0\0\0\x02\x05\\_SB.");
    entries.extend([2, 9, 0, 0]);
    let table = decoded(&[&ivhd(0x40, &entries)]);
    let [alias, extended, special, acpi, select] = table.units[0].entries.as_slice() else {
        panic!("{table:#?}")
    };
    assert_eq!((alias.device_id, alias.alias_device_id), (0xFF00, Some(0xA5)));
    assert_eq!(extended.extended_settings, Some(0x8000_0001));
    let io_apic = SpecialDevice { variety: 1, handle: 0x21, source_device_id: 0xA0 };
    assert_eq!(special.special_device, Some(io_apic));
    let named = acpi.acpi.as_ref().unwrap();
    assert_eq!(
        (named.hid.as_str(), named.cid.as_str(), named.uid.as_deref()),
        ("AMDI0020", "", Some("\\_SB."))
    );
    assert_eq!((select.kind, select.device_id), (EntryKind::SELECT, 9));
    assert_eq!(table.faults, []);
}

#[test]
fn memory_is_for_all_one_or_a_range_of_devices() {
    let table = decoded(&[&ivmd(0x20, 1), &ivmd(0x21, 8), &ivmd(0x22, 7)]);
    let devices: Vec<_> = table.memory.iter().map(|m| (m.start_device, m.end_device)).collect();
    assert_eq!(devices, [(0, 0xFFFF), (0, 0), (0, 0x0FFF)]);
    let Memory { base, length_bytes, unity, exclusion, .. } = table.memory[1];
    assert_eq!((base, length_bytes, unity, exclusion), (0x0100_0000, 0x1000, false, true));
    assert!(table.memory[2].unity && table.memory[2].readable && table.memory[2].writable);
}

#[test]
fn unknown_types_are_listed_and_do_not_stop_the_decode() {
    let table = decoded(&[&[0x51, 0, 8, 0, 1, 2, 3, 4], &ivhd(0x10, &[])]);
    assert_eq!(table.unknown_records, [UnknownRecord { kind: 0x51, length_bytes: 8, offset: 48 }]);
    assert_eq!((table.units.len(), &*table.faults), (1, &[][..]));
}

#[test]
fn wrong_lengths_are_told_and_the_rest_is_kept() {
    let mut long = ivmd(0x22, 1);
    long[2] = 255;
    let table = decoded(&[&ivhd(0x10, &[3, 0, 0]), &[0x22, 0, 4, 0], &long]);
    let [
        Fault::Overrun { length: 255, room: 32, .. },
        Fault::Remainder { what: "device entry", length: 3, .. },
        Fault::Short { what: "IVMD block", .. },
    ] = table.faults.as_slice()
    else {
        panic!("{:#?}", table.faults)
    };
    assert_eq!((table.units.len(), table.memory.len(), table.unknown_records.len()), (1, 1, 1));
}

#[test]
fn a_block_without_length_ends_the_list() {
    let table = decoded(&[&ivhd(0x10, &[]), &[0x10, 0, 0, 0], &ivhd(0x10, &[])]);
    assert_eq!(table.units.len(), 1);
    assert_eq!(table.faults, [Fault::NoLength { what: "block", offset: 72, length: 0 }]);
}

#[test]
fn a_unique_id_that_runs_out_of_its_block_keeps_what_is_there() {
    let mut entries = vec![240, 0, 0, 0];
    entries.extend(b"AMDI0020\0\0\0\0\0\0\0\0\x02\xFFUID");
    let table = decoded(&[&ivhd(0x40, &entries), &ivmd(0x20, 1)]);
    let acpi = table.units[0].entries[0].acpi.as_ref().unwrap();
    assert_eq!(acpi.uid.as_deref(), Some("UID"));
    assert_eq!(table.memory.len(), 1);
    assert!(
        matches!(table.faults.as_slice(), [Fault::Overrun { length: 277, room: 25, .. }]),
        "{:?}",
        table.faults
    );
}

#[test]
fn a_range_that_ends_before_it_starts_is_told() {
    let mut backwards = ivmd(0x22, 1);
    backwards[5] = 0xFF;
    let mut endless = ivmd(0x20, 1);
    endless[24..].fill(0xFF);
    let table = decoded(&[&backwards, &endless]);
    assert!(
        matches!(table.faults.as_slice(), [Fault::Range { .. }, Fault::Range { .. }]),
        "{:?}",
        table.faults
    );
}

#[test]
fn every_truncation_of_a_real_table_is_decoded() {
    for (_, bytes) in real_tables(SIGNATURE) {
        for length in 0..bytes.len() {
            fuzz(&bytes[..length]);
        }
    }
}

proptest! {
    #[test]
    fn mutated_real_tables_are_decoded(bytes in mutated(SIGNATURE)) {
        fuzz(&bytes);
    }

    #[test]
    fn any_bytes_are_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz(&bytes);
    }
}
