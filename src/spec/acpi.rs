//! ACPI fixed hardware: the registers of power management (ACPI 6.5, 4.8) and the numbers that tables and devices share.

/// ISA interrupt of the System Control Interrupt (ACPI 6.5, 4.8.1.1).
pub const SCI: u8 = 9;
/// Value of SLP_TYP that this project's machines use for S5, soft off.
pub const SLP_TYP_S5: u8 = 5;
/// Frequency of the power management timer in hertz (ACPI 6.5, 4.8.2.1).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// The timer counts in so many bits where TMR_VAL_EXT is clear.
pub const PM_TIMER_BITS: u32 = 24;

/// Offsets of the register blocks from the power management base, in bytes.
pub mod block {
    /// PM1a event block: status, then enable, 16 bits each (4.8.4.1).
    pub const PM1A_EVENT: u16 = 0;
    /// PM1a control block, 16 bits (4.8.4.2).
    pub const PM1A_CONTROL: u16 = 4;
    /// Timer, 32 bits (4.8.4.3).
    pub const TIMER: u16 = 8;
    /// Bytes that all blocks together occupy.
    pub const LENGTH: u16 = 12;
}

/// Bits of the PM1 status register, and of the enable register where an event has both (tables 4.14 and 4.15).
pub mod pm1_event {
    /// The highest bit of the power management timer changed.
    pub const TIMER: u16 = 1 << 0;
    /// The global lock was released.
    pub const GLOBAL_LOCK: u16 = 1 << 5;
    /// The power button was pressed.
    pub const POWER_BUTTON: u16 = 1 << 8;
    /// The sleep button was pressed.
    pub const SLEEP_BUTTON: u16 = 1 << 9;
    /// The real-time clock's alarm came.
    pub const RTC: u16 = 1 << 10;
    /// The machine woke from a sleep state; has no enable bit.
    pub const WAKE: u16 = 1 << 15;
    /// Bits that can be enabled.
    pub const ENABLES: u16 = TIMER | GLOBAL_LOCK | POWER_BUTTON | SLEEP_BUTTON | RTC;
}

/// Bits of the PM1 control register (table 4.16).
pub mod pm1_control {
    /// The SCI is in use; read-only where there is no SMI command port.
    pub const SCI_EN: u16 = 1 << 0;
    /// Shift of the field SLP_TYP.
    pub const SLP_TYP_SHIFT: u32 = 10;
    /// Mask of the field SLP_TYP, after shifting.
    pub const SLP_TYP_MASK: u16 = 0b111;
    /// Enter the sleep state; reads as zero.
    pub const SLP_EN: u16 = 1 << 13;
    /// Bits that keep what was written: bus master reload and SLP_TYP.
    pub const STORED: u16 = 1 << 1 | SLP_TYP_MASK << SLP_TYP_SHIFT;
}

/// The reset register that this project's machines announce (ACPI 6.5, 4.8.3.6): the keyboard controller's command port
/// and its command to pulse the processor's reset line.
pub mod reset {
    /// Port.
    pub const PORT: u16 = 0x64;
    /// Value.
    pub const VALUE: u8 = 0xFE;
}
