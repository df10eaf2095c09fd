//! Real tables decode without a fault; broken ones keep what is readable, tell each fault, and never stop the decode.

use proptest::prelude::*;

use super::*;
use crate::spec::sdt::testing::{mutated, real_tables, table};

/// A hardware unit with `scopes`: on segment 0, registers at 0xFED9_0000.
fn drhd(scopes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(16 + scopes.len()).unwrap().to_le_bytes();
    let mut record = vec![0, 0, length[0], length[1], 1, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0];
    record.extend(scopes);
    record
}

/// One endpoint, 1f.7, on bus 0.
const ENDPOINT: [u8; 8] = [1, 8, 0, 0, 0, 0, 0x1F, 7];

/// A table with flags 5 and width 39, and these records.
fn dmar(records: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![38, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend(records.concat());
    table(SIGNATURE, &body)
}

fn decoded(records: &[&[u8]]) -> Dmar {
    parse(&dmar(records)).unwrap()
}

#[test]
fn every_real_table_decodes_without_a_fault() {
    let tables = real_tables(SIGNATURE);
    assert!(tables.len() > 40, "{} tables", tables.len());
    for (name, bytes) in tables {
        let dmar = parse(&bytes).unwrap();
        assert_eq!((&*dmar.faults, &*dmar.unknown_records), (&[][..], &[][..]), "{name}");
        assert!(
            !dmar.units.is_empty() && (36..=52).contains(&dmar.host_address_width_bits),
            "{name}: {dmar:#?}"
        );
        let last = dmar.units.iter().rposition(|unit| unit.include_all);
        assert!(last.is_none_or(|last| last == dmar.units.len() - 1), "{name}: a unit after the one for all");
    }
}

#[test]
fn header_flags_and_a_unit_are_decoded() {
    let table = decoded(&[&drhd(&ENDPOINT)]);
    assert_eq!((table.host_address_width_bits, table.flags), (39, 5));
    assert!(table.interrupt_remapping && !table.x2apic_opt_out && table.dma_control_opt_in);
    let [unit] = table.units.as_slice() else { panic!("{table:#?}") };
    assert_eq!((unit.register_base, unit.register_length_bytes, unit.include_all), (0xFED9_0000, 4096, true));
    let [scope] = unit.scopes.as_slice() else { panic!("{unit:#?}") };
    assert_eq!(scope.kind, ScopeKind::PCI_ENDPOINT);
    assert_eq!(scope.address, Some("0000:00:1f.7".parse().unwrap()));
    assert_eq!(table.faults, []);
}

#[test]
fn every_type_of_structure_finds_its_list() {
    let table = decoded(&[
        &[1, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xFF, 0x0F, 0, 1, 0, 0, 0, 0],
        &[2, 0, 8, 0, 1, 0, 0, 0],
        &[3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 2, 0, 0, 0],
        &[4, 0, 18, 0, 0, 0, 0, 7, b'\\', b'_', b'S', b'B', b'.', b'I', b'2', b'C', b'0', 0],
        &[5, 0, 8, 0, 1, 0, 0, 0],
        &[6, 0, 16, 0, 0, 0, 0, 0, 1, 8, 4, 0, 0, 0, 2, 0],
    ]);
    let [region] = table.reserved_memory.as_slice() else { panic!("{table:#?}") };
    assert_eq!((region.segment, region.base, region.limit), (1, 0x0100_0000, 0x0100_0FFF));
    assert!(table.root_port_ats[0].all_ports && table.soc_integrated_ats[0].cache_required);
    let affinity = NumaAffinity { register_base: 0xFED9_0000, proximity_domain: 2 };
    assert_eq!(table.numa_affinity, [affinity]);
    assert_eq!(table.acpi_devices, [AcpiDevice { device_number: 7, name: "\\_SB.I2C0".to_owned() }]);
    assert_eq!(table.soc_integrated_properties[0].scopes[0].flags, 4);
    assert_eq!((&*table.faults, &*table.unknown_records), (&[][..], &[][..]));
}

#[test]
fn unknown_types_are_listed_and_do_not_stop_the_decode() {
    let table = decoded(&[&[9, 0, 6, 0, 0xAA, 0xBB], &drhd(&ENDPOINT)]);
    assert_eq!(table.unknown_records, [UnknownRecord { kind: 9, length_bytes: 6, offset: 48 }]);
    assert_eq!((table.units.len(), &*table.faults), (1, &[][..]));
}

#[test]
fn a_wrong_checksum_length_and_signature_are_told_and_the_rest_is_kept() {
    let mut bytes = dmar(&[&drhd(&ENDPOINT)]);
    bytes[0] = b'X';
    bytes[4] += 1;
    let table = parse(&bytes).unwrap();
    let [Fault::Signature { .. }, Fault::Length { stated: 73, actual: 72 }, Fault::Checksum(_)] =
        table.faults.as_slice()
    else {
        panic!("{:#?}", table.faults)
    };
    assert_eq!(table.units.len(), 1);
}

#[test]
fn a_stated_length_that_is_too_small_ends_the_table_there() {
    let mut bytes = dmar(&[&drhd(&ENDPOINT), &drhd(&ENDPOINT)]);
    bytes[4] = 48 + 24;
    let table = parse(&bytes).unwrap();
    assert_eq!(table.units.len(), 1);
    assert!(table.faults.contains(&Fault::Length { stated: 72, actual: 96 }));
}

#[test]
fn a_structure_without_length_ends_the_list() {
    let table = decoded(&[&drhd(&ENDPOINT), &[0, 0, 0, 0], &drhd(&ENDPOINT)]);
    assert_eq!(table.units.len(), 1);
    assert_eq!(table.faults, [Fault::NoLength { what: "remapping structure", offset: 72, length: 0 }]);
}

#[test]
fn a_structure_that_runs_out_of_the_table_keeps_what_is_there() {
    let mut long = drhd(&ENDPOINT);
    long[2] = 200;
    let table = decoded(&[&long]);
    assert_eq!(table.units[0].scopes.len(), 1);
    let overrun = Fault::Overrun { what: "remapping structure", offset: 48, length: 200, room: 24 };
    assert_eq!(table.faults, [overrun]);
}

#[test]
fn a_structure_too_short_for_its_fields_is_listed_as_unknown() {
    let table = decoded(&[&[1, 0, 8, 0, 0, 0, 0, 0], &drhd(&ENDPOINT)]);
    assert_eq!(table.unknown_records, [UnknownRecord { kind: 1, length_bytes: 8, offset: 48 }]);
    assert_eq!(table.faults, [Fault::Short { what: "RMRR", offset: 48, length: 8, needed: 24 }]);
    assert_eq!(table.units.len(), 1);
}

#[test]
fn a_scope_of_length_0_ends_the_scopes_of_its_structure_only() {
    let broken = [ENDPOINT, [1, 0, 0, 0, 0, 0, 2, 0], ENDPOINT].concat();
    let table = decoded(&[&drhd(&broken), &drhd(&ENDPOINT)]);
    assert_eq!(table.units.iter().map(|unit| unit.scopes.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(table.faults, [Fault::NoLength { what: "device scope", offset: 72, length: 0 }]);
}

#[test]
fn a_scope_of_length_255_keeps_the_path_that_is_there() {
    let mut broken = ENDPOINT;
    broken[1] = 255;
    let table = decoded(&[&drhd(&broken), &drhd(&ENDPOINT)]);
    assert_eq!(table.units[0].scopes[0].path, [PathStep { device: 0x1F, function: 7 }]);
    assert_eq!(table.units.len(), 2);
    assert_eq!(table.faults, [Fault::Overrun { what: "device scope", offset: 64, length: 255, room: 8 }]);
}

#[test]
fn paths_without_a_step_or_with_half_of_one_are_told() {
    let table = decoded(&[&drhd(&[1, 6, 0, 0, 0, 0]), &drhd(&[1, 9, 0, 0, 0, 0, 2, 0, 3])]);
    assert_eq!(table.faults, [Fault::Path { offset: 64, length: 0 }, Fault::Path { offset: 86, length: 3 }]);
    assert_eq!(table.units[0].scopes[0].address, None);
    assert_eq!(table.units[1].scopes[0].address, Some("0000:00:02.0".parse().unwrap()));
}

#[test]
fn a_region_that_ends_before_it_starts_is_told() {
    let region = [1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let table = decoded(&[&region]);
    assert_eq!(table.faults, [Fault::Range { what: "RMRR", offset: 48 }]);
    assert_eq!(table.reserved_memory.len(), 1);
}

#[test]
fn a_path_over_bridges_is_followed_by_their_secondary_buses() {
    let mut table = decoded(&[&drhd(&[1, 12, 0, 0, 0, 0, 0x1C, 4, 0, 0, 2, 1])]);
    assert_eq!(table.units[0].scopes[0].address, None);
    table.resolve(&|bridge| match bridge.to_string().as_str() {
        "0000:00:1c.4" => Some(3),
        "0000:03:00.0" => Some(9),
        _ => None,
    });
    assert_eq!(table.units[0].scopes[0].address, Some("0000:09:02.1".parse().unwrap()));
}

#[test]
fn steps_that_are_no_device_or_function_lead_nowhere() {
    let table = decoded(&[&drhd(&[1, 8, 0, 0, 0, 0, 32, 0]), &drhd(&[1, 8, 0, 0, 0, 0, 0, 8])]);
    assert!(table.units.iter().all(|unit| unit.scopes[0].address.is_none()));
}

#[test]
fn bytes_without_the_fixed_part_are_no_table() {
    assert_eq!(parse(&[]), Err(TooShort { length: 0, needed: 48 }));
    assert_eq!(parse(&dmar(&[])[..47]), Err(TooShort { length: 47, needed: 48 }));
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
