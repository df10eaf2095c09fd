//! The table's structure, and what dmidecode reads in it.

use super::*;

fn tables(config: &SmbiosConfig, ram: &[Range<u64>]) -> Tables {
    Tables::build(&Described {
        config,
        topology: Topology::new([2, 1, 4, 2]).unwrap(),
        processor_id: [0x00A2_0F12, 0x178B_FBFF],
        ram,
        interface: Interface::Uefi,
    })
}

/// Structures as type, formatted part and strings.
fn structures(table: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let (formatted, behind) = rest.split_at(usize::from(rest[1]));
        let end = behind.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let strings = behind[..end].split(|byte| *byte == 0).filter(|text| !text.is_empty());
        let strings = strings.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
        found.push((formatted[0], formatted.to_vec(), strings));
        rest = &behind[end + 2..];
    }
    found
}

#[test]
fn every_structure_has_the_length_of_its_version_and_a_handle_of_its_own() {
    let config = SmbiosConfig { oem_strings: vec!["a=b".to_owned()], ..SmbiosConfig::default() };
    let tables = tables(&config, &[0..0xB000_0000, 4 << 30..40 << 30]);
    let found = structures(&tables.table);
    let lengths: Vec<(u8, usize)> = found.iter().map(|(kind, bytes, _)| (*kind, bytes.len())).collect();
    assert_eq!(
        lengths,
        [
            (0, 24),
            (1, 27),
            (2, 15),
            (3, 22),
            (4, 48),
            (4, 48),
            (11, 5),
            (16, 23),
            (17, 40),
            (17, 40),
            (17, 40),
            (19, 31),
            (19, 31),
            (32, 11),
            (127, 4)
        ]
    );
    let mut handles: Vec<_> = found.iter().map(|(_, bytes, _)| [bytes[2], bytes[3]]).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), found.len());
    assert_eq!(found[6].2, ["a=b"]);
}

#[test]
fn sizes_beyond_a_field_stand_in_the_one_behind() {
    let config = SmbiosConfig::default();
    let found = structures(&tables(&config, std::slice::from_ref(&(0..5 << 40))).table);
    let of = |kind: u8| found.iter().find(|(found, ..)| *found == kind).unwrap().1.clone();
    assert_eq!(of(16)[7..11], 0x8000_0000u32.to_le_bytes());
    assert_eq!(of(16)[15..23], (5u64 << 40).to_le_bytes());
    assert_eq!(of(19)[4..12], [0xFF; 8]);
    assert_eq!(of(19)[23..31], ((5u64 << 40) - 1).to_le_bytes());
    assert_eq!(of(17)[12..14], 0x4000u16.to_le_bytes(), "16 GiB in MiB");
}

#[test]
fn the_entry_point_sums_to_zero_and_lies_where_linux_looks() {
    let tables = tables(&SmbiosConfig::default(), std::slice::from_ref(&(0..16 << 20)));
    let memory = GuestMemory::new(16 << 20).unwrap();
    tables.write(&memory).unwrap();
    let mut entry = [0; ENTRY_BYTES];
    memory.read(0xF_0000, &mut entry).unwrap();
    assert!(entry.starts_with(b"_SM3_"));
    assert_eq!(entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    assert_eq!(entry[16..24], 0xF_0020u64.to_le_bytes());
    let mut table = vec![0; tables.table.len()];
    memory.read(0xF_0020, &mut table).unwrap();
    assert_eq!(table, tables.table);
}

#[test]
fn texts_of_any_length_are_carried_or_left_out() {
    let long = SmbiosConfig { oem_strings: vec!["x".repeat(1 << 16)], ..SmbiosConfig::default() };
    let memory = GuestMemory::new(16 << 20).unwrap();
    tables(&long, &[]).write(&memory).unwrap();
    let many = SmbiosConfig { oem_strings: vec!["\0".to_owned(); 300], ..SmbiosConfig::default() };
    let found = structures(&tables(&many, &[]).table);
    assert_eq!(found.iter().find(|(kind, ..)| *kind == 11).unwrap().1[4], 255);
}

/// Asks dmidecode, which complains of what it does not understand.
#[test]
fn dmidecode_reads_every_structure() {
    use std::process::Command;
    let config = SmbiosConfig {
        serial: Some("S-1".to_owned()),
        uuid: Some("00112233-4455-6677-8899-aabbccddeeff".to_owned()),
        oem_strings: vec!["one".to_owned(), "two".to_owned()],
        ..SmbiosConfig::default()
    };
    let tables = tables(&config, &[0..0xB000_0000, 4 << 30..40 << 30]);
    let mut dump = tables.entry(32);
    dump.resize(32, 0);
    dump.extend(&tables.table);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dump");
    std::fs::write(&path, dump).unwrap();
    let Ok(output) = Command::new("dmidecode").arg("--from-dump").arg(&path).output() else {
        println!("SKIP: dmidecode is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    for said in [
        "SMBIOS 3.0.0 present",
        "Product Name: Virtual Machine",
        "UUID: 00112233-4455-6677-8899-aabbccddeeff",
        "Serial Number: S-1",
        "System is a virtual machine",
        "UEFI is supported",
        "Core Count: 4",
        "Thread Count: 8",
        "String 2: two",
        "Maximum Capacity: 39680 MB",
        "Size: 16 GB",
        "Starting Address: 0x00100000000",
        "Status: No errors detected",
        "End Of Table",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    for wrong in ["OUT OF SPEC", "BAD INDEX", "Invalid", "Wrong", "# "] {
        assert!(!text.lines().skip(2).any(|line| line.contains(wrong)), "{wrong}\n{text}");
    }
}
