//! Structure and checksums of all tables; the compiler's opinion is asked in the integration tests.

use super::*;

fn platform() -> Platform {
    Platform {
        interrupts: InterruptMode::Kernel,
        apic_ids: vec![0, 1, 4, 5],
        nodes: vec![
            srat::Node { apic_ids: vec![0, 1], ranges: std::iter::once(0..0x4000_0000).collect() },
            srat::Node { apic_ids: vec![4, 5], ranges: vec![0x4000_0000..0xB000_0000, 1 << 32..5 << 30] },
        ],
        distances: vec![vec![10, 21], vec![30, 10]],
        windows: Windows { pio: layout::PIO, mmio32: layout::MMIO32, mmio64: layout::mmio64(1 << 30, 39) },
        last_bus: 30,
        interrupt_devices: (1..32).collect(),
        pvpanic: true,
        vmgenid: true,
        hpet: Hpet::Present,
        serial_ports: 2,
    }
}

fn tables() -> Vec<u8> {
    Tables::build(&platform()).unwrap().bytes
}

fn u32_at(data: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap())
}

fn u64_at(data: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(data[offset..offset + 8].try_into().unwrap())
}

/// The table at guest-physical `address`.
fn at(data: &[u8], address: u64) -> &[u8] {
    let start = usize::try_from(address - layout::ACPI_TABLES.start).unwrap();
    let length = usize::try_from(u32_at(data, start + 4)).unwrap();
    &data[start..start + length]
}

fn sum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn find(data: &[u8], signature: &[u8; 4]) -> Vec<u8> {
    let xsdt = at(data, u64_at(data, 24));
    xsdt[36..]
        .chunks_exact(8)
        .map(|entry| at(data, u64_at(entry, 0)))
        .find(|table| table.starts_with(signature))
        .unwrap()
        .to_vec()
}

#[test]
fn every_table_is_reached_from_the_root_pointer_and_sums_to_zero() {
    let data = tables();
    assert_eq!(&data[..8], b"RSD PTR ");
    assert_eq!((sum(&data[..20]), sum(&data[..36])), (0, 0));
    let xsdt = at(&data, u64_at(&data, 24));
    assert_eq!((&xsdt[..4], sum(xsdt)), (&b"XSDT"[..], 0));
    for signature in [b"FACP", b"APIC", b"MCFG", b"HPET", b"WAET", b"SPCR", b"SRAT", b"SLIT"] {
        assert_eq!(sum(&find(&data, signature)), 0);
    }
    let fadt = find(&data, b"FACP");
    let dsdt = at(&data, u64_at(&fadt, 140));
    assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
    assert_eq!(u64::from(u32_at(&fadt, 40)), u64_at(&fadt, 140), "both pointers to the DSDT agree");
    let facs = u64::from(u32_at(&fadt, 36));
    assert_eq!((&at(&data, facs)[..4], facs % 64), (&b"FACS"[..], 0));
}

#[test]
fn the_fixed_hardware_lies_where_the_power_device_answers() {
    let fadt = find(&tables(), b"FACP");
    assert_eq!(fadt.len(), 276);
    assert_eq!((u32_at(&fadt, 56), u32_at(&fadt, 64), u32_at(&fadt, 76)), (0x600, 0x604, 0x608));
    // Generic addresses: system I/O space, width in bits, address.
    assert_eq!((fadt[148], fadt[149], u64_at(&fadt, 152)), (1, 32, 0x600));
    assert_eq!((fadt[172], fadt[173], u64_at(&fadt, 176)), (1, 16, 0x604));
    assert_eq!((fadt[208], fadt[209], u64_at(&fadt, 212)), (1, 32, 0x608));
    assert_eq!((fadt[116], u64_at(&fadt, 120), fadt[128]), (1, 0x64, 0xFE));
}

#[test]
fn the_madt_lists_every_cpu_and_the_timers_override() {
    let madt = find(&tables(), b"APIC");
    let (mut offset, mut found) = (44, Vec::new());
    while offset < madt.len() {
        let length = usize::from(madt[offset + 1]);
        found.push(madt[offset..offset + length].to_vec());
        offset += length;
    }
    assert_eq!(
        found.iter().filter(|entry| entry[0] == 0).map(|entry| (entry[2], entry[3])).collect::<Vec<_>>(),
        [(0, 0), (1, 1), (2, 4), (3, 5)],
        "UID and APIC ID"
    );
    assert!(found.contains(&vec![2, 10, 0, 0, 2, 0, 0, 0, 0, 0]), "ISA 0 is GSI 2");
}

#[test]
fn nodes_have_their_processors_memory_and_distances_and_without_them_no_table_tells() {
    let srat = find(&tables(), b"SRAT");
    let (mut offset, mut processors, mut memory) = (48, Vec::new(), Vec::new());
    while offset < srat.len() {
        let entry = &srat[offset..offset + usize::from(srat[offset + 1])];
        match entry[0] {
            0 => processors.push((entry[2], entry[3], u32_at(entry, 4))),
            _ => memory.push((u32_at(entry, 2), u64_at(entry, 8), u64_at(entry, 16), u32_at(entry, 28))),
        }
        offset += entry.len();
    }
    assert_eq!(processors, [(0, 0, 1), (0, 1, 1), (1, 4, 1), (1, 5, 1)]);
    assert_eq!(memory, [(0, 0, 0x4000_0000, 1), (1, 0x4000_0000, 0x7000_0000, 1), (1, 1 << 32, 1 << 30, 1)]);
    let slit = find(&tables(), b"SLIT");
    assert_eq!((u64_at(&slit, 36), &slit[44..]), (2, &[10, 21, 30, 10][..]));
    let plain = Platform { nodes: Vec::new(), distances: Vec::new(), ..platform() };
    let data = Tables::build(&plain).unwrap().bytes;
    let xsdt = at(&data, u64_at(&data, 24));
    assert_eq!(xsdt.len(), 36 + 6 * 8);
}

#[test]
fn without_an_apic_there_is_no_madt() {
    let platform =
        Platform { interrupts: InterruptMode::Userspace, apic_ids: vec![0], nodes: Vec::new(), ..platform() };
    let data = Tables::build(&platform).unwrap().bytes;
    let xsdt = at(&data, u64_at(&data, 24));
    let signatures: Vec<&[u8]> =
        xsdt[36..].chunks_exact(8).map(|entry| &at(&data, u64_at(entry, 0))[..4]).collect();
    assert_eq!(signatures, [b"FACP", b"MCFG", b"HPET", b"WAET", b"SPCR"]);
}

#[test]
fn the_tables_of_the_largest_machine_fit() {
    let largest = Platform { apic_ids: (0..64).collect(), ..platform() };
    assert!(Tables::build(&largest).unwrap().bytes.len() < 0x1_0000);
}

/// What firmware does with the commands, with the tables at `base` and the root pointer in front of them.
fn link(files: &loader::Files, base: u64) -> Vec<u8> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.split(|b| *b == 0).next().unwrap().to_vec()).unwrap();
    let mut tables = files.tables.clone();
    let mut root = files.root_pointer.clone();
    let mut allocated = Vec::new();
    for command in files.loader.chunks(128) {
        let file = text(&command[4..60]);
        let target = if file == loader::TABLES { &mut tables } else { &mut root };
        match u32_at(command, 0) {
            1 => allocated.push(file),
            2 => {
                assert_eq!(text(&command[60..116]), loader::TABLES);
                let (at, bytes) = (u32_at(command, 116) as usize, usize::from(command[120]));
                let mut value = [0; 8];
                value[..bytes].copy_from_slice(&target[at..at + bytes]);
                assert!(u64::from_le_bytes(value) < files.tables.len() as u64);
                let value = (u64::from_le_bytes(value) + base).to_le_bytes();
                target[at..at + bytes].copy_from_slice(&value[..bytes]);
            }
            3 => {
                let [at, start, length] = [60, 64, 68].map(|at| u32_at(command, at) as usize);
                assert_eq!(target[at], 0);
                target[at] = sum(&target[start..start + length]).wrapping_neg();
            }
            other => panic!("command {other}"),
        }
    }
    assert_eq!(allocated, [loader::ROOT_POINTER, loader::TABLES]);
    root.resize(ALIGNMENT, 0);
    [root, tables].concat()
}

#[test]
fn firmware_links_the_same_tables_wherever_it_puts_them() {
    let tables = Tables::build(&platform()).unwrap();
    let files = tables.files();
    assert_eq!(link(&files, layout::ACPI_TABLES.start + ALIGNMENT as u64), tables.bytes);
    let moved = link(&files, 0x7F00_0000);
    assert_eq!((sum(&moved[..20]), sum(&moved[..36])), (0, 0));
    assert_ne!(moved, tables.bytes);
}

/// Asks ACPICA's own disassembler, and compiles what it printed again. Needs `iasl` (Debian: acpica-tools) in PATH.
#[test]
fn acpica_understands_every_table() {
    use std::process::Command;
    let data = tables();
    let fadt = find(&data, b"FACP");
    let directory = tempfile::tempdir().unwrap();
    let named = [
        ("dsdt", at(&data, u64_at(&fadt, 140)).to_vec()),
        ("facp", fadt),
        ("apic", find(&data, b"APIC")),
        ("mcfg", find(&data, b"MCFG")),
        ("hpet", find(&data, b"HPET")),
        ("waet", find(&data, b"WAET")),
        ("spcr", find(&data, b"SPCR")),
        ("srat", find(&data, b"SRAT")),
        ("slit", find(&data, b"SLIT")),
    ];
    for (name, table) in named {
        std::fs::write(directory.path().join(format!("{name}.dat")), table).unwrap();
        let iasl =
            |arguments: &[&str]| Command::new("iasl").args(arguments).current_dir(directory.path()).output();
        let Ok(output) = iasl(&["-d", &format!("{name}.dat")]) else {
            println!("SKIP: iasl is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {text}");
        let wrong = text
            .lines()
            .find(|line| line.contains("Error") || line.contains("Invalid") || line.contains("Warning"));
        assert_eq!(wrong, None, "{name}: {text}");
        let output = iasl(&[&format!("{name}.dsl")]).unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.contains(" 0 Errors, 0 Warnings"), "{name}: {text}");
    }
}
