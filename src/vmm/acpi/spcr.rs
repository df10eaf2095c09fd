//! SPCR: which serial port is the console (Microsoft, "Serial Port Console Redirection Table" 1.05).

use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use crate::vmm::acpi::{aml, table};
use crate::vmm::chipset::serial;

/// A 16550 with its parameter set.
const INTERFACE_16550: u8 = 0;
/// Interrupt types: the PIC's pair, the I/O APIC.
const INTERRUPT_PIC: u8 = 1 << 0;
const INTERRUPT_IO_APIC: u8 = 1 << 1;
const BAUD_115200: u8 = 7;
const TERMINAL_ANSI: u8 = 3;
const NO_PCI_DEVICE: u16 = 0xFFFF;

/// COM1 at 115200 baud, 8 bits, no parity, one stop bit.
pub(super) fn build() -> Vec<u8> {
    let mut body = vec![INTERFACE_16550, 0, 0, 0];
    body.extend(aml(&GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, serial::COM1.into())));
    let irq = u8::try_from(serial::COM1_GSI).unwrap_or_default();
    body.extend([INTERRUPT_PIC | INTERRUPT_IO_APIC, irq]);
    body.extend(serial::COM1_GSI.to_le_bytes());
    // Baud rate, parity, stop bits, flow control, terminal, language
    body.extend([BAUD_115200, 0, 1, 0, TERMINAL_ANSI, 0]);
    // No PCI device: identity, then place, flags, segment
    body.extend(NO_PCI_DEVICE.to_le_bytes());
    body.extend(NO_PCI_DEVICE.to_le_bytes());
    body.extend([0; 3]);
    body.extend(0u32.to_le_bytes());
    body.push(0);
    body.extend([0; 4]);
    table(*b"SPCR", 2, &body)
}
