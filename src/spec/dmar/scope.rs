//! Device scopes: how structures of the table name devices (VT-d 4.1, 8.3.1).

use std::fmt;

use serde::{Serialize, Serializer};

use crate::spec::pci::PciAddress;
use crate::spec::sdt::{self, Fault, Frame, Record, u8_at};

/// What a scope names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScopeKind(pub u8);

impl ScopeKind {
    /// One PCI endpoint.
    pub const PCI_ENDPOINT: Self = Self(1);
    /// A PCI bridge and everything behind it.
    pub const PCI_SUB_HIERARCHY: Self = Self(2);
    /// An I/O APIC.
    pub const IO_APIC: Self = Self(3);
    /// A High Precision Event Timer that sends messages.
    pub const MSI_CAPABLE_HPET: Self = Self(4);
    /// A device of the ACPI name space.
    pub const ACPI_NAMESPACE_DEVICE: Self = Self(5);
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PCI_ENDPOINT => f.write_str("pci_endpoint"),
            Self::PCI_SUB_HIERARCHY => f.write_str("pci_sub_hierarchy"),
            Self::IO_APIC => f.write_str("io_apic"),
            Self::MSI_CAPABLE_HPET => f.write_str("msi_capable_hpet"),
            Self::ACPI_NAMESPACE_DEVICE => f.write_str("acpi_namespace_device"),
            Self(unknown) => write!(f, "type_{unknown}"),
        }
    }
}

impl Serialize for ScopeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A device that a structure names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// What it names.
    pub kind: ScopeKind,
    /// Flags; properties of devices of the chip, reserved elsewhere.
    pub flags: u8,
    /// I/O APIC ID, HPET number or ACPI device number.
    pub enumeration_id: u8,
    /// Bus on which the path starts.
    pub start_bus: u8,
    /// Steps over bridges to the device.
    pub path: Vec<PathStep>,
    /// The function at the end of the path; absent where a bridge on the way is not known.
    pub address: Option<PciAddress>,
}

/// A step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathStep {
    /// Device number.
    pub device: u8,
    /// Function number.
    pub function: u8,
}

/// Bytes of a scope before its path.
const PATH: usize = 6;

/// How scopes are framed: type and length, 8 bits each.
const FRAME: Frame =
    Frame { what: "device scope", header: PATH, length: |scope| usize::from(u8_at(scope, 1)) };

/// The scopes of `record`, which start at `start` in it; their devices are on `segment`.
pub(super) fn parse(record: &Record<'_>, start: usize, segment: u16, faults: &mut Vec<Fault>) -> Vec<Scope> {
    let bytes = record.bytes.get(start..).unwrap_or_default();
    let scopes = sdt::records(bytes, record.offset.saturating_add(start), FRAME, faults);
    scopes.iter().map(|scope| decode(scope, segment, faults)).collect()
}

fn decode(record: &Record<'_>, segment: u16, faults: &mut Vec<Fault>) -> Scope {
    let Record { offset, bytes, .. } = *record;
    let path = bytes.get(PATH..).unwrap_or_default();
    let (steps, half) = path.as_chunks::<2>();
    if steps.is_empty() || !half.is_empty() {
        faults.push(Fault::Path { offset, length: path.len() });
    }
    let mut scope = Scope {
        kind: ScopeKind(u8_at(bytes, 0)),
        flags: u8_at(bytes, 2),
        enumeration_id: u8_at(bytes, 4),
        start_bus: u8_at(bytes, 5),
        path: steps.iter().map(|&[device, function]| PathStep { device, function }).collect(),
        address: None,
    };
    scope.resolve(segment, &|_| None);
    scope
}

impl Scope {
    /// Follows the path: each step but the last is a bridge, and the next one is on the bus behind it (8.3.1).
    pub(super) fn resolve(&mut self, segment: u16, secondary_bus: &dyn Fn(PciAddress) -> Option<u8>) {
        let Some((last, bridges)) = self.path.split_last() else { return };
        let at = |bus, step: &PathStep| {
            let PathStep { device, function } = *step;
            let domain = u32::from(segment);
            (device < 32 && function < 8).then_some(PciAddress { domain, bus, device, function })
        };
        let bus = bridges.iter().try_fold(self.start_bus, |bus, bridge| secondary_bus(at(bus, bridge)?));
        self.address = bus.and_then(|bus| at(bus, last));
    }
}
