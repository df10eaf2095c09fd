//! MADT: the interrupt controllers (ACPI 6.5, 5.2.12).

use crate::spec::acpi;
use crate::vmm::acpi::table;
use crate::vmm::interrupt::irqchip::TIMER_INPUT;
use crate::vmm::interrupt::timer;
use crate::vmm::layout;

/// The PCs also have two 8259 PICs.
const PCAT_COMPAT: u32 = 1 << 0;
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_NMI: u8 = 4;
const ENABLED: u32 = 1 << 0;
const ISA_BUS: u8 = 0;
/// Override flags: as the bus says; active high and level-triggered (table 5.26).
const CONFORMS: u16 = 0;
const HIGH_LEVEL: u16 = 0b1101;
const ALL_PROCESSORS: u8 = 0xFF;

/// Processors with these APIC IDs, one I/O APIC, the two ISA interrupts that are not wired straight.
pub(super) fn build(apic_ids: &[u8]) -> Vec<u8> {
    let local_apic = u32::try_from(layout::LOCAL_APIC).unwrap_or_default();
    let io_apic = u32::try_from(layout::IOAPIC).unwrap_or_default();
    let mut body = Vec::new();
    body.extend(local_apic.to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for (uid, id) in (0..=u8::MAX).zip(apic_ids) {
        body.extend([LOCAL_APIC, 8, uid, *id]);
        body.extend(ENABLED.to_le_bytes());
    }
    // ID 0, inputs from GSI 0 on.
    body.extend([IO_APIC, 12, 0, 0]);
    body.extend(io_apic.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    let timer = u8::try_from(timer::GSI).unwrap_or_default();
    for (isa, gsi, flags) in [(timer, TIMER_INPUT, CONFORMS), (acpi::SCI, u32::from(acpi::SCI), HIGH_LEVEL)] {
        body.extend([SOURCE_OVERRIDE, 10, ISA_BUS, isa]);
        body.extend(gsi.to_le_bytes());
        body.extend(flags.to_le_bytes());
    }
    // Non-maskable interrupts come in at LINT1 of every processor.
    body.extend([LOCAL_APIC_NMI, 6, ALL_PROCESSORS, 0, 0, 1]);
    table(*b"APIC", 5, &body)
}
