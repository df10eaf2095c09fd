//! The DMA Remapping Reporting table, DMAR: which IOMMUs firmware offers on a machine of Intel, for which devices, and
//! which memory devices were promised to reach without them.
//!
//! Intel Virtualization Technology for Directed I/O, revision 4.1, chapter 8. The bytes may be wrong in any way
//! ([`super::sdt`]).

mod scope;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::pci::PciAddress;
use super::sdt::{
    self, Fault, Frame, Header, Record, TooShort, UnknownRecord, u8_at, u16_at, u32_at, u64_at,
};

pub use scope::{PathStep, Scope, ScopeKind};

/// Signature of the table.
pub const SIGNATURE: &str = "DMAR";

/// Where the remapping structures start (8.1).
const RECORDS: usize = 48;

/// Types of remapping structures (8.2).
pub mod record {
    /// DMA Remapping Hardware Unit Definition.
    pub const DRHD: u16 = 0;
    /// Reserved Memory Region Reporting.
    pub const RMRR: u16 = 1;
    /// Root Port ATS Capability Reporting.
    pub const ATSR: u16 = 2;
    /// Remapping Hardware Static Affinity.
    pub const RHSA: u16 = 3;
    /// ACPI Name-space Device Declaration.
    pub const ANDD: u16 = 4;
    /// SoC Integrated Address Translation Cache.
    pub const SATC: u16 = 5;
    /// SoC Integrated Device Property.
    pub const SIDP: u16 = 6;
}

/// Bits of the table's flags (8.1).
pub mod flags {
    /// The platform supports interrupt remapping.
    pub const INTERRUPT_REMAPPING: u8 = 1 << 0;
    /// Firmware asks that x2APIC mode is not used.
    pub const X2APIC_OPT_OUT: u8 = 1 << 1;
    /// Firmware asks that DMA is controlled from the start.
    pub const DMA_CONTROL_OPT_IN: u8 = 1 << 2;
}

/// A decoded table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dmar {
    /// Header.
    pub header: Header,
    /// Bits of physical address that DMA can reach; the table holds one less.
    pub host_address_width_bits: u16,
    /// The flags, as they stand in the table.
    pub flags: u8,
    /// [`flags::INTERRUPT_REMAPPING`].
    pub interrupt_remapping: bool,
    /// [`flags::X2APIC_OPT_OUT`].
    pub x2apic_opt_out: bool,
    /// [`flags::DMA_CONTROL_OPT_IN`].
    pub dma_control_opt_in: bool,
    /// IOMMUs.
    pub units: Vec<Unit>,
    /// Memory that devices must reach at its physical addresses.
    pub reserved_memory: Vec<ReservedMemory>,
    /// Root ports that support Address Translation Services.
    pub root_port_ats: Vec<RootPortAts>,
    /// Nodes of the IOMMUs.
    pub numa_affinity: Vec<NumaAffinity>,
    /// Devices of the ACPI name space that do DMA.
    pub acpi_devices: Vec<AcpiDevice>,
    /// Devices of the chip with an address translation cache.
    pub soc_integrated_ats: Vec<SocIntegratedAts>,
    /// Properties of devices of the chip.
    pub soc_integrated_properties: Vec<SocIntegratedProperties>,
    /// Structures of unknown types, and such as are too short for their type.
    pub unknown_records: Vec<UnknownRecord>,
    /// What is wrong with the table.
    pub faults: Vec<Fault>,
}

/// DMA Remapping Hardware Unit Definition, DRHD (8.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// PCI segment of its devices.
    pub segment: u16,
    /// Physical address of its registers.
    pub register_base: u64,
    /// Length of its registers, in bytes.
    pub register_length_bytes: u64,
    /// Whether it takes every device of the segment that no other unit names.
    pub include_all: bool,
    /// Its devices; with `include_all` its I/O APICs and HPETs only.
    pub scopes: Vec<Scope>,
}

/// Reserved Memory Region Reporting, RMRR (8.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReservedMemory {
    /// PCI segment of its devices.
    pub segment: u16,
    /// First physical address.
    pub base: u64,
    /// Last physical address.
    pub limit: u64,
    /// The devices that need it.
    pub scopes: Vec<Scope>,
}

/// Root Port ATS Capability Reporting, ATSR (8.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootPortAts {
    /// PCI segment of its ports.
    pub segment: u16,
    /// Whether all root ports of the segment support it.
    pub all_ports: bool,
    /// The root ports, where not all do.
    pub scopes: Vec<Scope>,
}

/// Remapping Hardware Static Affinity, RHSA (8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NumaAffinity {
    /// The IOMMU, by the address of its registers.
    pub register_base: u64,
    /// Its proximity domain, as the SRAT counts them.
    pub proximity_domain: u32,
}

/// ACPI Name-space Device Declaration, ANDD (8.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AcpiDevice {
    /// The number by which scopes name it.
    pub device_number: u8,
    /// Its path in the name space.
    pub name: String,
}

/// SoC Integrated Address Translation Cache, SATC (8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocIntegratedAts {
    /// PCI segment of its devices.
    pub segment: u16,
    /// Whether the devices work only with their cache on.
    pub cache_required: bool,
    /// The devices.
    pub scopes: Vec<Scope>,
}

/// SoC Integrated Device Property, SIDP (8.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocIntegratedProperties {
    /// PCI segment of its devices.
    pub segment: u16,
    /// The devices; each scope's flags are its properties.
    pub scopes: Vec<Scope>,
}

/// Bit of a hardware unit's flags: INCLUDE_PCI_ALL (8.3).
const INCLUDE_PCI_ALL: u8 = 1 << 0;
/// Bit of an ATSR's flags: ALL_PORTS (8.5).
const ALL_PORTS: u8 = 1 << 0;
/// Bit of a SATC's flags: ATC_REQUIRED (8.8).
const ATC_REQUIRED: u8 = 1 << 0;

/// How remapping structures are framed: type and length, 16 bits each (8.2).
const FRAME: Frame =
    Frame { what: "remapping structure", header: 4, length: |record| usize::from(u16_at(record, 2)) };

/// Decodes a table.
///
/// # Errors
/// The bytes do not hold the fixed part of the table. Everything else that is wrong is in [`Dmar::faults`].
pub fn parse(bytes: &[u8]) -> Result<Dmar, TooShort> {
    let mut faults = Vec::new();
    let header = Header::parse(bytes, SIGNATURE, RECORDS, &mut faults)?;
    let table = header.body(bytes, RECORDS);
    let table_flags = u8_at(bytes, 37);
    let mut dmar = Dmar {
        header,
        host_address_width_bits: u16::from(u8_at(bytes, 36)) + 1,
        flags: table_flags,
        interrupt_remapping: table_flags & flags::INTERRUPT_REMAPPING != 0,
        x2apic_opt_out: table_flags & flags::X2APIC_OPT_OUT != 0,
        dma_control_opt_in: table_flags & flags::DMA_CONTROL_OPT_IN != 0,
        units: Vec::new(),
        reserved_memory: Vec::new(),
        root_port_ats: Vec::new(),
        numa_affinity: Vec::new(),
        acpi_devices: Vec::new(),
        soc_integrated_ats: Vec::new(),
        soc_integrated_properties: Vec::new(),
        unknown_records: Vec::new(),
        faults,
    };
    let records = sdt::records(table.get(RECORDS..).unwrap_or_default(), RECORDS, FRAME, &mut dmar.faults);
    for record in &records {
        if dmar.add(record).is_none() {
            let Record { offset, length: length_bytes, bytes } = *record;
            dmar.unknown_records.push(UnknownRecord { kind: u16_at(bytes, 0), length_bytes, offset });
        }
    }
    Ok(dmar)
}

impl Dmar {
    /// Decodes `record` and puts it where it belongs; `None` if its type is unknown or its fields are not there.
    fn add(&mut self, record: &Record<'_>) -> Option<()> {
        let Record { bytes, .. } = *record;
        match u16_at(bytes, 0) {
            record::DRHD => {
                let segment = self.segment(record, "DRHD", 16)?;
                let flags = u8_at(bytes, 4);
                self.units.push(Unit {
                    segment,
                    register_base: u64_at(bytes, 8),
                    // Bits 3:0: two to so many pages of 4 KiB; zero in tables before revision 4 of the specification.
                    register_length_bytes: 4096 << (u8_at(bytes, 5) & 0xF),
                    include_all: flags & INCLUDE_PCI_ALL != 0,
                    scopes: scope::parse(record, 16, segment, &mut self.faults),
                });
            }
            record::RMRR => {
                let segment = self.segment(record, "RMRR", 24)?;
                let (base, limit) = (u64_at(bytes, 8), u64_at(bytes, 16));
                if limit < base {
                    self.faults.push(Fault::Range { what: "RMRR", offset: record.offset });
                }
                let scopes = scope::parse(record, 24, segment, &mut self.faults);
                self.reserved_memory.push(ReservedMemory { segment, base, limit, scopes });
            }
            record::ATSR => {
                let segment = self.segment(record, "ATSR", 8)?;
                let all_ports = u8_at(bytes, 4) & ALL_PORTS != 0;
                let scopes = scope::parse(record, 8, segment, &mut self.faults);
                self.root_port_ats.push(RootPortAts { segment, all_ports, scopes });
            }
            record::RHSA => {
                record.has("RHSA", 20, &mut self.faults).then_some(())?;
                let (register_base, proximity_domain) = (u64_at(bytes, 8), u32_at(bytes, 16));
                self.numa_affinity.push(NumaAffinity { register_base, proximity_domain });
            }
            record::ANDD => {
                record.has("ANDD", 8, &mut self.faults).then_some(())?;
                let name = sdt::text(bytes, 8, bytes.len());
                self.acpi_devices.push(AcpiDevice { device_number: u8_at(bytes, 7), name });
            }
            record::SATC => {
                let segment = self.segment(record, "SATC", 8)?;
                let cache_required = u8_at(bytes, 4) & ATC_REQUIRED != 0;
                let scopes = scope::parse(record, 8, segment, &mut self.faults);
                self.soc_integrated_ats.push(SocIntegratedAts { segment, cache_required, scopes });
            }
            record::SIDP => {
                let segment = self.segment(record, "SIDP", 8)?;
                let scopes = scope::parse(record, 8, segment, &mut self.faults);
                self.soc_integrated_properties.push(SocIntegratedProperties { segment, scopes });
            }
            _ => return None,
        }
        Some(())
    }

    /// The segment of a structure that needs `needed` bytes before its scopes: all that have scopes keep it at offset 6.
    fn segment(&mut self, record: &Record<'_>, what: &'static str, needed: usize) -> Option<u16> {
        record.has(what, needed, &mut self.faults).then(|| u16_at(record.bytes, 6))
    }

    /// Finds the functions that scopes name by a path over bridges. `secondary_bus` tells the bus behind the bridge at an
    /// address, as it was programmed on this machine.
    pub fn resolve(&mut self, secondary_bus: &dyn Fn(PciAddress) -> Option<u8>) {
        let units = self.units.iter_mut().map(|unit| (unit.segment, &mut unit.scopes));
        let memory = self.reserved_memory.iter_mut().map(|region| (region.segment, &mut region.scopes));
        let ports = self.root_port_ats.iter_mut().map(|ports| (ports.segment, &mut ports.scopes));
        let caches = self.soc_integrated_ats.iter_mut().map(|caches| (caches.segment, &mut caches.scopes));
        let properties = self.soc_integrated_properties.iter_mut().map(|own| (own.segment, &mut own.scopes));
        for (segment, scopes) in units.chain(memory).chain(ports).chain(caches).chain(properties) {
            for scope in scopes {
                scope.resolve(segment, secondary_bus);
            }
        }
    }
}

/// Decodes anything, for fuzzers and tests: no panic, and what is told lies in the bytes.
///
/// # Panics
/// The decoder tells more than the bytes can hold.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(mut dmar) = parse(bytes) else { return assert!(bytes.len() < RECORDS) };
    let fixed = dmar.units.len() * 16
        + dmar.reserved_memory.len() * 24
        + dmar.root_port_ats.len() * 8
        + dmar.numa_affinity.len() * 20
        + dmar.acpi_devices.len() * 8
        + dmar.soc_integrated_ats.len() * 8
        + dmar.soc_integrated_properties.len() * 8
        + dmar.unknown_records.len() * FRAME.header;
    assert!(fixed <= bytes.len() - RECORDS, "{dmar:#?}");
    assert!(dmar.unknown_records.iter().all(|record| record.offset < bytes.len()));
    dmar.resolve(&|bridge| Some(bridge.bus.wrapping_add(1)));
    for fault in &dmar.faults {
        assert!(!fault.to_string().is_empty());
    }
}
