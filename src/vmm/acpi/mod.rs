//! ACPI tables, made from what was built, and their place in guest memory.
//!
//! One file per table; this one chains them: root pointer → XSDT → FADT (→ FACS, DSDT), MADT, MCFG, HPET, WAET, SPCR, SRAT,
//! SLIT. ACPI 6.5, chapter 5. All lie in the BIOS area below 1 MiB, where an operating system that got no pointer finds them by
//! itself; firmware in the guest gets them by [`loader`] and puts them elsewhere.

pub mod dsdt;
pub mod fadt;
mod hpet;
pub mod loader;
pub mod madt;
pub mod mcfg;
mod routing;
mod slit;
mod spcr;
pub mod srat;
mod waet;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;

use loader::{Checksum, Links, Pointer};

use crate::vmm::config::{Hpet, InterruptMode};
use crate::vmm::layout;
use crate::vmm::memory::{AccessError, GuestMemory};
use crate::vmm::pci::root::Windows;

const OEM_ID: [u8; 6] = *b"THRWAY";
const OEM_TABLE_ID: [u8; 8] = *b"THRUWAY ";
const OEM_REVISION: u32 = 1;

/// What of the machine the tables describe.
#[derive(Debug, Clone)]
pub struct Platform {
    /// APIC IDs of the vCPUs, in their order.
    pub apic_ids: Vec<u8>,
    /// Where the interrupt controllers are, and thus which there are.
    pub interrupts: InterruptMode,
    /// NUMA nodes, if it has any.
    pub nodes: Vec<srat::Node>,
    /// How far they are from each other, a row for each.
    pub distances: Vec<Vec<u8>>,
    /// Where BARs lie.
    pub windows: Windows,
    /// The highest number of a PCI bus.
    pub last_bus: u8,
    /// Device numbers on bus 0 that raise interrupt pins, their own or those of what is behind them.
    pub interrupt_devices: Vec<u8>,
    /// Whether the panic port is there.
    pub pvpanic: bool,
    /// Whether the generation identity is there.
    pub vmgenid: bool,
    /// Whether the high precision timers are there.
    pub hpet: Hpet,
    /// How many serial ports there are.
    pub serial_ports: usize,
}

/// The tables cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// They are larger than the area.
    #[error("the ACPI tables have {size} bytes, {room} are available")]
    TooLarge {
        /// Their size in bytes.
        size: u64,
        /// Size of the area in bytes.
        room: u64,
    },
    /// They cannot be written.
    #[error("cannot write the ACPI tables")]
    Write(#[from] AccessError),
}

/// The tables as one block of bytes, ready to be written again at each reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    bytes: Vec<u8>,
    links: Links,
}

/// Tables begin at multiples of this, in bytes: what the FACS needs (5.2.10).
const ALIGNMENT: usize = 64;
/// Offset of the checksum in the standard header (5.2.6).
const CHECKSUM: usize = 9;
/// Bytes of the standard header.
const HEADER: usize = 36;

/// Lays tables out one after the other, behind the root pointer.
struct Area {
    bytes: Vec<u8>,
    links: Links,
}

impl Area {
    /// Like [`Self::place`], for a table with a standard header and with pointers of so many bytes at these offsets.
    fn place_linked(&mut self, table: &[u8], pointers: impl IntoIterator<Item = (usize, u8)>) -> u64 {
        let address = self.place(table);
        let start = self.bytes.len() - table.len();
        let pointers = pointers.into_iter().map(|(at, bytes)| Pointer { at: start + at, bytes });
        self.links.pointers.extend(pointers);
        self.links.checksums.push(Checksum { at: start + CHECKSUM, over: start..self.bytes.len() });
        address
    }

    /// Appends `table` at the next multiple of [`ALIGNMENT`]; its guest-physical address.
    fn place(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let address = layout::ACPI_TABLES.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

/// A table with the standard header (5.2.6) and `body` behind it.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let header = u32::try_from(HEADER).unwrap_or_default();
    let mut table = Sdt::new(signature, header, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(body);
    table.as_slice().to_vec()
}

/// What an object looks like as bytes.
fn aml(object: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.to_aml_bytes(&mut bytes);
    bytes
}

impl Tables {
    /// All tables of `platform`.
    ///
    /// # Errors
    /// [`AcpiError::TooLarge`].
    pub fn build(platform: &Platform) -> Result<Self, AcpiError> {
        let mut area = Area { bytes: vec![0; Rsdp::len()], links: Links::default() };
        let facs = area.place(&fadt::facs());
        let dsdt = area.place(&dsdt::build(platform));
        let fadt = area.place_linked(&fadt::build(facs, dsdt), fadt::POINTERS);
        let mut tables = vec![fadt, area.place(&mcfg::build(platform.last_bus))];
        // Without an APIC there is nothing to describe: a machine without a MADT has the PIC of a PC (5.2.12).
        if platform.interrupts != InterruptMode::Userspace {
            tables.push(area.place(&madt::build(&platform.apic_ids)));
        }
        if platform.hpet == Hpet::Present {
            tables.push(area.place(&hpet::build()));
        }
        tables.push(area.place(&waet::build()));
        if platform.serial_ports > 0 {
            tables.push(area.place(&spcr::build()));
        }
        if !platform.nodes.is_empty() {
            tables.push(area.place(&srat::build(&platform.nodes)));
            tables.push(area.place(&slit::build(&platform.distances)));
        }
        let entries: Vec<u8> = tables.iter().copied().flat_map(u64::to_le_bytes).collect();
        let pointers = (HEADER..).step_by(8).zip(&tables).map(|(at, _)| (at, 8));
        let xsdt = area.place_linked(&table(*b"XSDT", 1, &entries), pointers);
        let rsdp = aml(&Rsdp::new(OEM_ID, xsdt));
        for (byte, source) in area.bytes.iter_mut().zip(rsdp) {
            *byte = source;
        }
        let (size, room) = (area.bytes.len() as u64, layout::ACPI_TABLES.end - layout::ACPI_TABLES.start);
        if size > room {
            return Err(AcpiError::TooLarge { size, room });
        }
        let Area { bytes, mut links } = area;
        // The root pointer: its address of the XSDT, and two checksums (5.2.5.3).
        links.pointers.push(Pointer { at: 24, bytes: 8 });
        links.checksums.extend([(8, 20), (32, 36)].map(|(at, end)| Checksum { at, over: 0..end }));
        Ok(Self { bytes, links })
    }

    /// The tables as files for firmware that puts them where it likes.
    #[must_use]
    pub fn files(&self) -> loader::Files {
        let (base, root_bytes) = (layout::ACPI_TABLES.start, Rsdp::len());
        loader::files(&self.bytes, base, root_bytes, root_bytes.next_multiple_of(ALIGNMENT), &self.links)
    }

    /// Guest-physical address of the root pointer.
    #[must_use]
    pub fn root_pointer(&self) -> u64 {
        layout::ACPI_TABLES.start
    }

    /// Puts the tables into guest memory.
    ///
    /// # Errors
    /// [`AcpiError::Write`] if the area is no RAM.
    pub fn write(&self, memory: &GuestMemory) -> Result<(), AcpiError> {
        Ok(memory.write(layout::ACPI_TABLES.start, &self.bytes)?)
    }
}

#[cfg(test)]
mod tests;
