//! The DMAR table of an emulated host whose firmware reserves memory for devices.
//!
//! QEMU's own table never does. The kernel takes another in its place from the front of its initial RAM file system, if
//! maker and name are the same and the revision is higher (Linux: Documentation/admin-guide/acpi/
//! initrd_table_override.rst). This one says what QEMU's says (10.0.2: hw/i386/acpi-build.c, `build_dmar_q35`), but
//! that its unit takes all devices rather than name each, and the reserved memory.
//!
//! Layout: Intel Virtualization Technology for Directed I/O, revision 4.1, chapter 8.

use super::{ReservedMemory, Vtd};
use crate::spec::dmar::{ScopeKind, flags, record};

/// Maker, name, revision, and the compiler's name and version, as QEMU writes them but for the revision, which is 1.
const IDENTITY: &[u8] = b"BOCHS BXPC    \x02\0\0\0BXPC\x01\0\0\0";
/// Registers of the unit.
const REGISTER_BASE: u64 = 0xFED9_0000;
/// Where the IOAPIC's messages come from: enumeration ID 0, on a bus that no function is on.
const IO_APIC: (u8, u8) = (0, 0xFF);
/// Where the checksum stands in a table's header (ACPI 6.5, table 5.4).
const CHECKSUM: usize = 9;

/// The table for `vtd`.
pub(super) fn table(vtd: &Vtd) -> Vec<u8> {
    let mut body = vec![vtd.address_width_bits - 1];
    body.push(if vtd.interrupt_remapping { flags::INTERRUPT_REMAPPING } else { 0 });
    body.extend([0; 10]);
    let (enumeration_id, bus) = IO_APIC;
    let io_apic = scope(ScopeKind::IO_APIC, enumeration_id, bus, &[(0, 0)]);
    let include_all = [1, 0, 0, 0]; // flags, size of the registers, segment
    body.extend(structure(record::DRHD, &[&include_all, &REGISTER_BASE.to_le_bytes(), &io_apic]));
    if vtd.device_iotlb {
        let all_ports = [1, 0, 0, 0]; // flags, segment
        body.extend(structure(record::ATSR, &[&all_ports]));
    }
    for memory in &vtd.reserved_memory {
        body.extend(reserved(memory));
    }
    let mut table = b"DMAR".to_vec();
    table.extend(u32::try_from(36 + body.len()).unwrap_or(u32::MAX).to_le_bytes());
    table.extend([1, 0]); // revision, checksum
    table.extend(IDENTITY);
    table.extend(body);
    let sum = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    table.iter_mut().skip(CHECKSUM).take(1).for_each(|byte| *byte = sum);
    table
}

fn reserved(memory: &ReservedMemory) -> Vec<u8> {
    let steps: Vec<_> = memory.path.iter().map(|slot| (slot.device, slot.function)).collect();
    let limit = memory.base + (memory.size.bytes() - 1);
    let device = scope(ScopeKind::PCI_ENDPOINT, 0, 0, &steps);
    structure(record::RMRR, &[&[0; 4], &memory.base.to_le_bytes(), &limit.to_le_bytes(), &device])
}

/// A device scope (8.3.1).
fn scope(kind: ScopeKind, enumeration_id: u8, start_bus: u8, path: &[(u8, u8)]) -> Vec<u8> {
    let length = u8::try_from(6 + path.len() * 2).unwrap_or(u8::MAX);
    let mut bytes = vec![kind.0, length, 0, 0, enumeration_id, start_bus];
    bytes.extend(path.iter().flat_map(|&(device, function)| [device, function]));
    bytes
}

/// A remapping structure (8.2).
fn structure(kind: u16, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = u16::try_from(4 + fields.len()).unwrap_or(u16::MAX);
    [&kind.to_le_bytes(), &length.to_le_bytes(), fields.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::dmar::parse;

    #[test]
    fn the_table_is_whole_and_names_memory_and_device() {
        let memory = ReservedMemory {
            path: vec!["02.0".parse().unwrap(), "00.1".parse().unwrap()],
            base: 0xF_0000,
            size: "64KiB".parse().unwrap(),
        };
        let vtd = Vtd { device_iotlb: true, reserved_memory: vec![memory], ..Vtd::default() };

        let dmar = parse(&table(&vtd)).unwrap();

        assert_eq!((dmar.faults.as_slice(), dmar.unknown_records.as_slice()), (&[][..], &[][..]));
        assert_eq!((dmar.host_address_width_bits, dmar.interrupt_remapping), (48, true));
        assert_eq!((dmar.units[0].register_base, dmar.units[0].include_all), (REGISTER_BASE, true));
        assert_eq!(dmar.units[0].scopes[0].kind, ScopeKind::IO_APIC);
        assert!(dmar.root_port_ats[0].all_ports);
        let memory = &dmar.reserved_memory[0];
        assert_eq!((memory.base, memory.limit), (0xF_0000, 0xF_FFFF));
        let path: Vec<_> = memory.scopes[0].path.iter().map(|step| (step.device, step.function)).collect();
        assert_eq!((memory.scopes[0].kind, path), (ScopeKind::PCI_ENDPOINT, vec![(2, 0), (0, 1)]));
    }
}
