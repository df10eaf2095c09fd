//! SMBIOS: who the machine is and what it is made of, for `dmidecode` and for whoever keeps an inventory.
//!
//! SMBIOS 3.7 (DSP0134). Without firmware the table lies in the BIOS area below 1 MiB, where Linux looks for its entry point;
//! firmware gets both by fw_cfg and puts them elsewhere.

mod config;
mod structure;

use std::ops::Range;

pub use config::SmbiosConfig;

use crate::vmm::layout;
use crate::vmm::memory::{AccessError, GuestMemory};
use crate::vmm::vcpu::topology::Topology;
use structure::Structure;

/// Name of fw_cfg's file with the entry point.
pub const ANCHOR: &str = "etc/smbios/smbios-anchor";
/// Name of fw_cfg's file with the table.
pub const TABLES: &str = "etc/smbios/smbios-tables";

/// Bytes of the 64-bit entry point (5.2.2).
const ENTRY_BYTES: usize = 24;
/// The table follows it at this distance.
const TABLE_OFFSET: u64 = 32;
/// Largest module of memory that is shown, in bytes.
const MODULE_BYTES: u64 = 16 << 30;
/// The day of the first version; the version tells more.
const RELEASE_DATE: &str = "01/01/2026";

/// Structure types (7).
mod kind {
    pub(super) const FIRMWARE: u8 = 0;
    pub(super) const SYSTEM: u8 = 1;
    pub(super) const BASEBOARD: u8 = 2;
    pub(super) const CHASSIS: u8 = 3;
    pub(super) const PROCESSOR: u8 = 4;
    pub(super) const OEM_STRINGS: u8 = 11;
    pub(super) const MEMORY_ARRAY: u8 = 16;
    pub(super) const MEMORY_DEVICE: u8 = 17;
    pub(super) const MAPPED_ADDRESS: u8 = 19;
    pub(super) const BOOT: u8 = 32;
    pub(super) const END: u8 = 127;
}

/// A handle that refers to nothing, and one for "no information provided" (7.17.4).
const NO_HANDLE: u16 = 0xFFFF;
const NO_ERRORS_TOLD: u16 = 0xFFFE;

/// What of the machine is told.
#[derive(Debug)]
pub struct Described<'a> {
    /// Who it says it is.
    pub config: &'a SmbiosConfig,
    /// How its vCPUs are arranged.
    pub topology: Topology,
    /// CPUID leaf 1 of them: EAX and EDX.
    pub processor_id: [u32; 2],
    /// Guest-physical addresses of RAM, ascending.
    pub ram: &'a [Range<u64>],
    /// Whether UEFI firmware runs in it.
    pub interface: Interface,
}

/// What the guest is started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// UEFI firmware.
    Uefi,
    /// A boot protocol, or firmware of which nothing is known.
    Other,
}

/// Entry point and table, ready to be written again at each reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    table: Vec<u8>,
}

/// The handle of structure number `index` of a type.
fn handle(kind: u8, index: u8) -> u16 {
    u16::from_be_bytes([kind, index])
}

impl Tables {
    /// The table of this machine.
    #[must_use]
    pub fn build(machine: &Described<'_>) -> Self {
        let mut table = Vec::new();
        let mut add = |structure: Structure| table.extend(structure.finish());
        add(firmware(machine.interface));
        add(system(machine.config));
        add(baseboard(machine.config));
        add(chassis(machine.config));
        for socket in 0..machine.topology.sockets() {
            add(processor(machine, socket));
        }
        if !machine.config.oem_strings.is_empty() {
            let strings = Structure::new(kind::OEM_STRINGS, handle(kind::OEM_STRINGS, 0));
            add(strings.list(&machine.config.oem_strings));
        }
        let ram_bytes: u64 = machine.ram.iter().map(|range| range.end - range.start).sum();
        let modules = modules(ram_bytes);
        add(memory_array(ram_bytes, u16::try_from(modules.len()).unwrap_or(u16::MAX)));
        for (index, bytes) in (0..u8::MAX).zip(&modules) {
            add(memory_device(index, *bytes));
        }
        for (index, range) in (0..u8::MAX).zip(machine.ram) {
            add(mapped_address(index, range));
        }
        // Six reserved bytes; no errors.
        add(Structure::new(kind::BOOT, handle(kind::BOOT, 0)).bytes(&[0; 6]).byte(0));
        add(Structure::new(kind::END, handle(kind::END, 0)));
        Self { table }
    }

    /// The entry point to a table at `address` (5.2.2).
    fn entry(&self, address: u64) -> Vec<u8> {
        let mut entry = b"_SM3_".to_vec();
        // Checksum, length; version 3.0 of the specification, whose structures these are; revision of this entry point.
        entry.extend([0, 24, 3, 0, 0, 1, 0]);
        entry.extend(u32::try_from(self.table.len()).unwrap_or(u32::MAX).to_le_bytes());
        entry.extend(address.to_le_bytes());
        let sum = entry.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if let Some(checksum) = entry.get_mut(5) {
            *checksum = sum.wrapping_neg();
        }
        debug_assert_eq!(entry.len(), ENTRY_BYTES);
        entry
    }

    /// The files of fw_cfg: [`ANCHOR`], whose address firmware replaces, and [`TABLES`].
    #[must_use]
    pub fn files(&self) -> [(&'static str, Vec<u8>); 2] {
        [(ANCHOR, self.entry(0)), (TABLES, self.table.clone())]
    }

    /// Puts both into guest memory. A table that is longer than the area, which no checked configuration makes, stays away.
    ///
    /// # Errors
    /// The area is no RAM.
    pub fn write(&self, memory: &GuestMemory) -> Result<(), AccessError> {
        let Range { start, end } = layout::SMBIOS;
        if self.table.len() as u64 > end - start - TABLE_OFFSET {
            tracing::warn!(bytes = self.table.len(), "the SMBIOS table is too long, and left out");
            return Ok(());
        }
        memory.write(start, &self.entry(start + TABLE_OFFSET))?;
        memory.write(start + TABLE_OFFSET, &self.table)
    }
}

/// What this program is called in a field about manufacturers, and what in one about products.
fn manufacturer(config: &SmbiosConfig) -> &str {
    config.manufacturer.as_deref().unwrap_or("thruway")
}

fn product(config: &SmbiosConfig) -> &str {
    config.product.as_deref().unwrap_or("Virtual Machine")
}

fn version(config: &SmbiosConfig) -> &str {
    config.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
}

fn text(setting: Option<&String>) -> &str {
    setting.map_or("", String::as_str)
}

/// Type 0 (7.1).
fn firmware(interface: Interface) -> Structure {
    /// The other bits say nothing.
    const CHARACTERISTICS_NOT_SUPPORTED: u64 = 1 << 3;
    const ACPI: u8 = 1 << 0;
    const UEFI: u8 = 1 << 3;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    let part = |text: &str| text.parse().unwrap_or(0u8);
    let uefi = if interface == Interface::Uefi { UEFI } else { 0 };
    Structure::new(kind::FIRMWARE, handle(kind::FIRMWARE, 0))
        .string("thruway")
        .string(env!("CARGO_PKG_VERSION"))
        // Segment of the BIOS below 1 MiB; none with UEFI.
        .word(if interface == Interface::Uefi { 0 } else { 0xE000 })
        .string(RELEASE_DATE)
        // 64 KiB.
        .byte(0)
        .qword(CHARACTERISTICS_NOT_SUPPORTED)
        .bytes(&[ACPI, VIRTUAL_MACHINE | uefi])
        .bytes(&[part(env!("CARGO_PKG_VERSION_MAJOR")), part(env!("CARGO_PKG_VERSION_MINOR"))])
        // There is no embedded controller.
        .bytes(&[0xFF, 0xFF])
}

/// Type 1 (7.2).
fn system(config: &SmbiosConfig) -> Structure {
    const POWER_SWITCH: u8 = 6;
    Structure::new(kind::SYSTEM, handle(kind::SYSTEM, 0))
        .string(manufacturer(config))
        .string(product(config))
        .string(version(config))
        .string(text(config.serial.as_ref()))
        .bytes(&config.uuid_bytes())
        .byte(POWER_SWITCH)
        .string(text(config.sku.as_ref()))
        .string(text(config.family.as_ref()))
}

/// Type 2 (7.3).
fn baseboard(config: &SmbiosConfig) -> Structure {
    const HOSTING: u8 = 1 << 0;
    const MOTHERBOARD: u8 = 0x0A;
    Structure::new(kind::BASEBOARD, handle(kind::BASEBOARD, 0))
        .string(manufacturer(config))
        .string(product(config))
        .string(version(config))
        .string(text(config.serial.as_ref()))
        // Asset tag.
        .string("")
        .byte(HOSTING)
        // Where in the chassis.
        .string("")
        .word(handle(kind::CHASSIS, 0))
        .byte(MOTHERBOARD)
        // It contains no other.
        .byte(0)
}

/// Type 3 (7.4).
fn chassis(config: &SmbiosConfig) -> Structure {
    const OTHER: u8 = 1;
    const UNKNOWN: u8 = 2;
    const SAFE: u8 = 3;
    Structure::new(kind::CHASSIS, handle(kind::CHASSIS, 0))
        .string(manufacturer(config))
        .byte(OTHER)
        .string(version(config))
        .string(text(config.serial.as_ref()))
        // Asset tag.
        .string("")
        // States of boot, power supply and temperature; security.
        .bytes(&[SAFE, SAFE, SAFE, UNKNOWN])
        // OEM-defined; height, power cords, elements and their length.
        .dword(0)
        .bytes(&[0, 0, 0, 0])
        .string(text(config.sku.as_ref()))
}

/// Type 4 (7.5), for one socket.
fn processor(machine: &Described<'_>, socket: u8) -> Structure {
    const CENTRAL: u8 = 3;
    /// "Other", of which the second field tells no more.
    const FAMILY_OTHER: u8 = 1;
    const POPULATED_AND_ENABLED: u8 = 1 << 6 | 1;
    const UPGRADE_OTHER: u8 = 1;
    /// 64-bit capable, several cores, several threads, execute protection.
    const WIDE: u16 = 1 << 2;
    const CORES: u16 = 1 << 3;
    const THREADS: u16 = 1 << 4;
    const EXECUTE_PROTECTION: u16 = 1 << 5;
    let topology = machine.topology;
    let threads = topology.per_package();
    let cores = threads / topology.threads().max(1);
    let [signature, features] = machine.processor_id;
    let many = |count: u8, bit: u16| if count > 1 { bit } else { 0 };
    Structure::new(kind::PROCESSOR, handle(kind::PROCESSOR, socket))
        .string(&format!("CPU {socket}"))
        .bytes(&[CENTRAL, FAMILY_OTHER])
        .string(manufacturer(machine.config))
        .dword(signature)
        .dword(features)
        .string(version(machine.config))
        // Voltage, clock and speeds are not known.
        .byte(0)
        .bytes(&[0; 6])
        .bytes(&[POPULATED_AND_ENABLED, UPGRADE_OTHER])
        // Caches are told by CPUID.
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        // Serial number, asset tag, part number.
        .bytes(&[0, 0, 0])
        .bytes(&[cores, cores, threads])
        .word(WIDE | EXECUTE_PROTECTION | many(cores, CORES) | many(topology.threads(), THREADS))
        .word(FAMILY_OTHER.into())
        .word(cores.into())
        .word(cores.into())
        .word(threads.into())
}

/// The sizes of modules that together are `ram_bytes`.
fn modules(ram_bytes: u64) -> Vec<u64> {
    let mut left = ram_bytes;
    let mut modules = Vec::new();
    while left > 0 {
        let bytes = left.min(MODULE_BYTES);
        modules.push(bytes);
        left -= bytes;
    }
    modules
}

/// Type 16 (7.17).
fn memory_array(ram_bytes: u64, modules: u16) -> Structure {
    const SYSTEM_BOARD: u8 = 3;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The capacity stands in the field behind.
    const EXTENDED: u32 = 1 << 31;
    let capacity = u32::try_from(ram_bytes >> 10).unwrap_or(EXTENDED).min(EXTENDED);
    Structure::new(kind::MEMORY_ARRAY, handle(kind::MEMORY_ARRAY, 0))
        .bytes(&[SYSTEM_BOARD, SYSTEM_MEMORY, NO_CORRECTION])
        .dword(capacity)
        .word(NO_ERRORS_TOLD)
        .word(modules)
        .qword(if capacity == EXTENDED { ram_bytes } else { 0 })
}

/// Type 17 (7.18).
fn memory_device(index: u8, bytes: u64) -> Structure {
    const UNKNOWN_WIDTH: u16 = 0xFFFF;
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const DETAIL_OTHER: u16 = 1 << 1;
    /// The size stands in the field behind.
    const EXTENDED: u16 = 0x7FFF;
    let mebibytes = u32::try_from(bytes >> 20).unwrap_or(u32::MAX >> 1);
    let size = u16::try_from(mebibytes).unwrap_or(EXTENDED).min(EXTENDED);
    Structure::new(kind::MEMORY_DEVICE, handle(kind::MEMORY_DEVICE, index))
        .word(handle(kind::MEMORY_ARRAY, 0))
        .word(NO_ERRORS_TOLD)
        .word(UNKNOWN_WIDTH)
        .word(UNKNOWN_WIDTH)
        .word(size)
        .bytes(&[DIMM, 0])
        .string(&format!("DIMM {index}"))
        // Bank.
        .string("")
        .byte(RAM)
        .word(DETAIL_OTHER)
        // Speed.
        .word(0)
        .string("thruway")
        // Serial number, asset tag, part number, rank.
        .bytes(&[0, 0, 0, 0])
        .dword(if size == EXTENDED { mebibytes } else { 0 })
        // Configured speed; voltages.
        .bytes(&[0; 8])
}

/// Type 19 (7.20).
fn mapped_address(index: u8, range: &Range<u64>) -> Structure {
    /// The addresses stand in the fields behind.
    const EXTENDED: u32 = u32::MAX;
    let kibibytes = |address: u64| u32::try_from(address >> 10).ok().filter(|value| *value != EXTENDED);
    let last = range.end.saturating_sub(1);
    let (start, end, extended) = match (kibibytes(range.start), kibibytes(last)) {
        (Some(start), Some(end)) => (start, end, [0, 0]),
        _ => (EXTENDED, EXTENDED, [range.start, last]),
    };
    let [extended_start, extended_end] = extended;
    Structure::new(kind::MAPPED_ADDRESS, handle(kind::MAPPED_ADDRESS, index))
        .dword(start)
        .dword(end)
        .word(handle(kind::MEMORY_ARRAY, 0))
        // Partition width.
        .byte(1)
        .qword(extended_start)
        .qword(extended_end)
}

#[cfg(test)]
mod tests;
