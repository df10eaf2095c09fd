//! Our decode of real DMAR and IVRS tables against that of `iasl -d`, the reference of the ACPI Component Architecture:
//! every table of `tests/acpi`, every unit, scope and reserved range in it.
//!
//! Structures of types that are younger than some iasl in the field are shown to it under an older type of the same
//! layout. Entries of IVHD type 40h that name a device by ACPI have no older layout; in such a block what stands before
//! the first of them is compared.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{program, root, run, skip};

/// A table, whose records start with their type in the first byte and their length in the third and fourth.
struct Layout {
    signature: &'static str,
    /// A type as it is shown to iasl.
    shown_as: fn(u8) -> u8,
}

/// DMAR: SATC and SIDP look like ATSR (VT-d 4.1, 8.5, 8.8, 8.9).
const DMAR: Layout =
    Layout { signature: "DMAR", shown_as: |kind| if matches!(kind, 5 | 6) { 2 } else { kind } };

/// IVRS: IVHD of type 40h looks like one of type 11h (AMD IOMMU 3.10, 5.2.2).
const IVRS: Layout = Layout { signature: "IVRS", shown_as: |kind| if kind == 0x40 { 0x11 } else { kind } };

/// Where records start in both.
const RECORDS: usize = 48;

impl Layout {
    /// The table with types that every iasl knows.
    fn shown(&self, table: &[u8]) -> Vec<u8> {
        let mut bytes = table.to_vec();
        let mut at = RECORDS;
        while at < bytes.len() {
            bytes[at] = (self.shown_as)(bytes[at]);
            at += usize::from(u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]));
        }
        bytes[9] = 0;
        bytes[9] = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        bytes
    }

    /// The files of `tests/acpi`.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let directory = root().join("tests/acpi");
        let names = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with(self.signature) && name.ends_with(".dat")).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
    }

    /// What we say of `table`.
    fn ours(&self, table: &[u8]) -> Value {
        let host = tempfile::tempdir().unwrap();
        let tables = host.path().join("sys/firmware/acpi/tables");
        fs::create_dir_all(&tables).unwrap();
        fs::write(tables.join(self.signature), table).unwrap();
        let run = run(program().args(["probe", "--format", "json", "--root"]).arg(host.path()), b"");
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        document["data"]["firmware"][self.signature.to_lowercase()].clone()
    }

    /// What iasl says of `table`, field by field.
    fn theirs(&self, table: &[u8]) -> Vec<Line> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("table.dat"), self.shown(table)).unwrap();
        let said = run(Command::new("iasl").args(["-d", "table.dat"]).current_dir(directory.path()), b"");
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        assert!(!said.stderr.contains("rror"), "{}", said.stderr);
        lines(&directory.path().join("table.dsl"))
    }
}

/// A line of iasl's output.
enum Line {
    /// `[offset] name : value`.
    Field(String, String),
    /// An entry whose type it does not know.
    UnknownEntry,
    /// A structure whose type it does not know; it looks no further.
    UnknownStructure,
}

fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        if line.starts_with("**** Unknown") {
            return Some(if line.contains("device entry") {
                Line::UnknownEntry
            } else {
                Line::UnknownStructure
            });
        }
        let (name, value) = line.strip_prefix('[')?.split_once(']')?.1.split_once(" : ")?;
        let value = value.split(" [").next().unwrap().trim().trim_matches('"');
        Some(Line::Field(name.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// One structure as iasl shows it.
#[derive(Default)]
struct Structure {
    kind: u64,
    fields: Vec<(String, String)>,
    /// Its entries go on where iasl does not follow.
    is_cut: bool,
}

impl Structure {
    fn number(&self, name: &str) -> u64 {
        let (_, value) =
            self.fields.iter().find(|(field, _)| field == name).unwrap_or_else(|| panic!("no {name}"));
        hex(value)
    }

    /// The fields from each `start` to the next, behind everything before the first.
    fn parts(&self, start: &str) -> impl Iterator<Item = &[(String, String)]> {
        let first = self.fields.iter().position(|(name, _)| name == start).unwrap_or(self.fields.len());
        let rest = &self.fields[first..];
        let mut starts: Vec<_> = (0..rest.len()).filter(|&at| rest[at].0 == start).collect();
        starts.push(rest.len());
        (1..starts.len()).map(move |end| &rest[starts[end - 1]..starts[end]])
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("`{text}` is not hexadecimal"))
}

/// The structures, and the type at which iasl stopped.
fn structures(lines: Vec<Line>) -> (Vec<Structure>, Option<u64>) {
    let mut found: Vec<Structure> = Vec::new();
    for line in lines {
        match line {
            Line::Field(name, value) if name == "Subtable Type" => {
                found.push(Structure { kind: hex(&value), ..Structure::default() });
            }
            Line::Field(name, value) => {
                if let Some(last) = found.last_mut().filter(|last| !last.is_cut) {
                    last.fields.push((name, value));
                }
            }
            Line::UnknownEntry => found.last_mut().unwrap().is_cut = true,
            Line::UnknownStructure => {
                let stopped = found.pop().map(|last| last.kind);
                return (found, stopped);
            }
        }
    }
    (found, None)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

/// The scopes of a structure, as iasl shows them.
fn their_scopes(structure: &Structure) -> Vec<String> {
    let scope = |fields: &[(String, String)]| {
        let mut text = String::new();
        for (name, value) in fields {
            match name.as_str() {
                "Device Scope Type" | "Enumeration ID" | "PCI Bus Number" => {
                    text += &format!("{:x} ", hex(value));
                }
                "PCI Path" => text += &value.split(',').map(|n| format!("{:x}.", hex(n))).collect::<String>(),
                _ => {}
            }
        }
        text
    };
    structure.parts("Device Scope Type").map(scope).collect()
}

fn our_scopes(structure: &Value) -> Vec<String> {
    let scope = |scope: &Value| {
        let kinds =
            ["pci_endpoint", "pci_sub_hierarchy", "io_apic", "msi_capable_hpet", "acpi_namespace_device"];
        let kind = 1 + kinds.iter().position(|kind| scope["kind"] == *kind).unwrap();
        let (id, bus) = (scope["enumeration_id"].as_u64().unwrap(), scope["start_bus"].as_u64().unwrap());
        let step = |step: &Value| {
            format!("{:x}.{:x}.", step["device"].as_u64().unwrap(), step["function"].as_u64().unwrap())
        };
        format!("{kind:x} {id:x} {bus:x} {}", list(scope, "path").iter().map(step).collect::<String>())
    };
    structure["scopes"].as_array().into_iter().flatten().map(scope).collect()
}

fn numbers(structure: &Value, keys: &[&str]) -> Vec<u64> {
    keys.iter()
        .map(|key| structure[*key].as_u64().unwrap_or_else(|| panic!("{key} in {structure}")))
        .collect()
}

/// A kind of structure.
struct Kind {
    /// Our lists of it.
    lists: &'static [&'static str],
    /// Its type, as it is shown to iasl.
    number: u64,
    /// Our names of its numbers, and iasl's.
    fields: &'static [(&'static str, &'static str)],
}

const DMAR_KINDS: [Kind; 4] = [
    Kind {
        lists: &["units"],
        number: 0,
        fields: &[("segment", "PCI Segment Number"), ("register_base", "Register Base Address")],
    },
    Kind {
        lists: &["reserved_memory"],
        number: 1,
        fields: &[
            ("segment", "PCI Segment Number"),
            ("base", "Base Address"),
            ("limit", "End Address (limit)"),
        ],
    },
    Kind {
        lists: &["root_port_ats", "soc_integrated_ats", "soc_integrated_properties"],
        number: 2,
        fields: &[("segment", "PCI Segment Number")],
    },
    Kind {
        lists: &["numa_affinity"],
        number: 3,
        fields: &[("register_base", "Base Address"), ("proximity_domain", "Proximity Domain")],
    },
];

#[test]
fn units_scopes_and_reserved_memory_of_intel_are_what_iasl_prints() {
    if !has_iasl() {
        return;
    }
    for (name, table) in DMAR.files() {
        let ours = DMAR.ours(&table);
        assert_eq!(list(&ours, "faults"), [0; 0], "{name}");
        let (theirs, stopped) = structures(DMAR.theirs(&table));
        assert_eq!(stopped, None, "{name}");
        for Kind { lists, number, fields } in DMAR_KINDS {
            let our_names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            let here = lists.iter().flat_map(|key| list(&ours, key));
            let here = here.map(|one| (numbers(one, &our_names), our_scopes(one)));
            let there = theirs.iter().filter(|one| one.kind == number);
            let there = there.map(|one| {
                let numbers: Vec<_> = fields.iter().map(|(_, name)| one.number(name)).collect();
                (numbers, their_scopes(one))
            });
            assert_eq!(here.collect::<Vec<_>>(), there.collect::<Vec<_>>(), "{name}: {lists:?}");
        }
        let names: Vec<_> = list(&ours, "acpi_devices").iter().map(|device| device["name"].clone()).collect();
        let there = theirs.iter().filter(|one| one.kind == 4);
        let there: Vec<_> = there
            .map(|one| one.fields.iter().find(|(name, _)| name == "Device Name").unwrap().1.as_str())
            .collect();
        assert_eq!(names, there, "{name}");
    }
}

/// Device ID, settings and alias of each entry, as iasl shows them; padding is left out.
fn their_entries(structure: &Structure) -> Vec<[u64; 3]> {
    let value = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|(field, _)| field == name).map_or(0, |(_, value)| hex(value))
    };
    let entries =
        structure.parts("Entry Type").filter(|fields| !matches!(value(fields, "Entry Type"), 0 | 0x40));
    entries
        .map(|fields| ["Device ID", "Data Setting", "Source Used Device ID"].map(|name| value(fields, name)))
        .collect()
}

fn our_entry(entry: &Value) -> [u64; 3] {
    let alias = &entry["alias_device_id"];
    let source = alias.as_u64().or_else(|| entry["special_device"]["source_device_id"].as_u64());
    [entry["device_id"].as_u64().unwrap(), entry["settings"].as_u64().unwrap(), source.unwrap_or(0)]
}

#[test]
fn units_entries_and_memory_of_amd_are_what_iasl_prints() {
    if !has_iasl() {
        return;
    }
    for (name, table) in IVRS.files() {
        let ours = IVRS.ours(&table);
        assert_eq!(list(&ours, "faults"), [0; 0], "{name}");
        let (theirs, stopped) = structures(IVRS.theirs(&table));
        let unknown: Vec<_> = list(&ours, "unknown_records").iter().map(|one| one["type"].as_u64()).collect();
        assert_eq!(stopped, unknown.first().copied().flatten(), "{name}: what neither of us knows");

        let (units, their_units) =
            (list(&ours, "units"), theirs.iter().filter(|one| matches!(one.kind, 0x10 | 0x11)));
        let their_units: Vec<_> = their_units.collect();
        assert_eq!(units.len(), their_units.len(), "{name}");
        for (unit, theirs) in units.iter().zip(their_units) {
            let here = numbers(unit, &["device_id", "base", "segment", "capability_offset", "flags"]);
            let there = ["DeviceId", "Base Address", "PCI Segment Group", "Capability Offset", "Flags"];
            assert_eq!(here, there.map(|name| theirs.number(name)), "{name}");
            let block_type = u8::try_from(unit["block_type"].as_u64().unwrap()).unwrap();
            assert_eq!(u64::from((IVRS.shown_as)(block_type)), theirs.kind, "{name}");
            let there = their_entries(theirs);
            let entries = list(unit, "entries");
            let (shared, behind) = entries.split_at(there.len().min(entries.len()));
            assert_eq!(shared.iter().map(our_entry).collect::<Vec<_>>(), there, "{name}");
            assert_eq!(
                behind.first().map(|entry| entry["kind"] == "acpi_device"),
                theirs.is_cut.then_some(true),
                "{name}"
            );
        }

        let memory = list(&ours, "memory").iter();
        let memory: Vec<_> = memory
            .map(|one| {
                numbers(one, &["block_type", "start_device", "end_device", "base", "length_bytes", "flags"])
            })
            .collect();
        let there = theirs.iter().filter(|one| matches!(one.kind, 0x20..=0x22));
        let there: Vec<_> = there
            .map(|one| {
                let (device, auxiliary) = (one.number("DeviceId"), one.number("Auxiliary Data"));
                let (start, end) = match one.kind {
                    0x20 => (0, 0xFFFF),
                    0x21 => (device, device),
                    _ => (device, auxiliary),
                };
                vec![
                    one.kind,
                    start,
                    end,
                    one.number("Start Address"),
                    one.number("Memory Length"),
                    one.number("Flags"),
                ]
            })
            .collect();
        assert_eq!(memory, there, "{name}");
    }
}

fn has_iasl() -> bool {
    let found = Command::new("iasl").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip("there is no iasl here (Debian: acpica-tools)");
    }
    found
}
