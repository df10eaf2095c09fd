//! FADT: fixed hardware (ACPI 6.5, 5.2.9), and the FACS that comes with it (5.2.10).
//!
//! The machine has ACPI's full hardware model (PM1a, timer, SCI) rather than the reduced one: under the reduced model
//! Linux gives up the PIC and the PM timer, and there is no way to tell a guest of a power button.

use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use crate::spec::acpi::{self, block};
use crate::vmm::acpi::{aml, table};
use crate::vmm::chipset::rtc;
use crate::vmm::layout;

/// Offsets in the table, in bytes (table 5.9).
mod field {
    pub(super) const FIRMWARE_CTRL: usize = 36;
    pub(super) const DSDT: usize = 40;
    pub(super) const SCI_INT: usize = 46;
    pub(super) const PM1A_EVT_BLK: usize = 56;
    pub(super) const PM1A_CNT_BLK: usize = 64;
    pub(super) const PM_TMR_BLK: usize = 76;
    pub(super) const PM1_EVT_LEN: usize = 88;
    pub(super) const PM1_CNT_LEN: usize = 89;
    pub(super) const PM_TMR_LEN: usize = 91;
    pub(super) const P_LVL2_LAT: usize = 96;
    pub(super) const P_LVL3_LAT: usize = 98;
    pub(super) const CENTURY: usize = 108;
    pub(super) const IAPC_BOOT_ARCH: usize = 109;
    pub(super) const FLAGS: usize = 112;
    pub(super) const RESET_REG: usize = 116;
    pub(super) const RESET_VALUE: usize = 128;
    pub(super) const MINOR_VERSION: usize = 131;
    pub(super) const X_FIRMWARE_CTRL: usize = 132;
    pub(super) const X_DSDT: usize = 140;
    pub(super) const X_PM1A_EVT_BLK: usize = 148;
    pub(super) const X_PM1A_CNT_BLK: usize = 172;
    pub(super) const X_PM_TMR_BLK: usize = 208;
    pub(super) const LENGTH: usize = 276;
}

/// Where pointers to other tables stand, and how many bytes each has.
pub(super) const POINTERS: [(usize, u8); 3] =
    [(field::FIRMWARE_CTRL, 4), (field::DSDT, 4), (field::X_DSDT, 8)];

/// Fixed feature flags (table 5.10).
mod flag {
    /// WBINVD works.
    pub(super) const WBINVD: u32 = 1 << 0;
    /// C1 on every processor.
    pub(super) const PROC_C1: u32 = 1 << 2;
    // Bit 4 stays clear: there is a fixed power button.
    /// No fixed sleep button.
    pub(super) const SLP_BUTTON: u32 = 1 << 5;
    // Bit 6 stays clear: the real-time clock's alarm is a fixed event.
    /// There is a reset register.
    pub(super) const RESET_REG_SUP: u32 = 1 << 10;
}

/// IA-PC boot architecture flags (table 5.11).
mod boot {
    /// There are devices that a PC had on its ISA bus (serial ports).
    pub(super) const LEGACY_DEVICES: u16 = 1 << 0;
    /// Do not touch VGA hardware: there is none.
    pub(super) const VGA_NOT_PRESENT: u16 = 1 << 2;
    /// There is a keyboard controller.
    pub(super) const KEYBOARD_CONTROLLER: u16 = 1 << 1;
}

/// Latencies above these mean that C2 and C3 are not supported, in microseconds (5.2.9).
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// The FADT that points to the FACS and DSDT at these guest-physical addresses.
pub(super) fn build(facs: u64, dsdt: u64) -> Vec<u8> {
    const HEADER: usize = 36;
    let mut body = vec![0; field::LENGTH - HEADER];
    let mut put = |offset: usize, data: &[u8]| {
        if let Some(target) = body.get_mut(offset - HEADER..offset - HEADER + data.len()) {
            target.copy_from_slice(data);
        }
    };
    let port = |offset: u16| layout::PM_BASE + offset;
    let register = |port: u16, bits: u8, access| {
        aml(&GAS::new(AddressSpace::SystemIo, bits, 0, access, u64::from(port)))
    };
    // Both the 32-bit and the 64-bit pointer to the DSDT may be set if they agree; the FACS must have one only.
    put(field::FIRMWARE_CTRL, &low32(facs));
    put(field::X_FIRMWARE_CTRL, &0u64.to_le_bytes());
    put(field::DSDT, &low32(dsdt));
    put(field::X_DSDT, &dsdt.to_le_bytes());
    put(field::SCI_INT, &u16::from(acpi::SCI).to_le_bytes());
    for (legacy, extended, offset, bytes, access) in [
        (field::PM1A_EVT_BLK, field::X_PM1A_EVT_BLK, block::PM1A_EVENT, 4u8, AccessSize::WordAccess),
        (field::PM1A_CNT_BLK, field::X_PM1A_CNT_BLK, block::PM1A_CONTROL, 2, AccessSize::WordAccess),
        (field::PM_TMR_BLK, field::X_PM_TMR_BLK, block::TIMER, 4, AccessSize::DwordAccess),
    ] {
        put(legacy, &u32::from(port(offset)).to_le_bytes());
        put(extended, &register(port(offset), 8 * bytes, access));
    }
    put(field::PM1_EVT_LEN, &[4]);
    put(field::PM1_CNT_LEN, &[2]);
    put(field::PM_TMR_LEN, &[4]);
    put(field::P_LVL2_LAT, &NO_C2.to_le_bytes());
    put(field::P_LVL3_LAT, &NO_C3.to_le_bytes());
    put(
        field::IAPC_BOOT_ARCH,
        &(boot::LEGACY_DEVICES | boot::KEYBOARD_CONTROLLER | boot::VGA_NOT_PRESENT).to_le_bytes(),
    );
    put(field::CENTURY, &[rtc::CENTURY]);
    let flags = flag::WBINVD | flag::PROC_C1 | flag::SLP_BUTTON | flag::RESET_REG_SUP;
    put(field::FLAGS, &flags.to_le_bytes());
    put(field::RESET_REG, &register(acpi::reset::PORT, 8, AccessSize::ByteAccess));
    put(field::RESET_VALUE, &[acpi::reset::VALUE]);
    put(field::MINOR_VERSION, &[5]);
    table(*b"FACP", 6, &body)
}

/// The FACS: no waking vector yet, nobody holds the global lock.
pub(super) fn facs() -> Vec<u8> {
    const LENGTH: u8 = 64;
    const VERSION: u8 = 2;
    let mut facs = vec![0; usize::from(LENGTH)];
    for (target, source) in facs.iter_mut().zip(*b"FACS") {
        *target = source;
    }
    for (offset, value) in [(4, LENGTH), (32, VERSION)] {
        if let Some(byte) = facs.get_mut(offset) {
            *byte = value;
        }
    }
    facs
}

fn low32(address: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = address.to_le_bytes();
    [a, b, c, d]
}
