//! The MSI-X capability and the structures that it points to (PCI 3.0, 6.8.2).

/// Message control, 16 bits.
pub const CONTROL: u16 = 0x02;
/// Offset of the vector table (bits 31:3) and the BAR that holds it (bits 2:0).
pub const TABLE: u16 = 0x04;
/// Offset of the pending bit array (bits 31:3) and the BAR that holds it (bits 2:0).
pub const PBA: u16 = 0x08;
/// Length of the capability in bytes.
pub const LENGTH: u16 = 0x0C;
/// The field of [`TABLE`] and [`PBA`] that names the BAR.
pub const BAR_MASK: u32 = 0b111;
/// Most vectors that a table can have.
pub const MAX_VECTORS: u16 = 2048;

/// Bits of the control register.
pub mod control {
    /// Vectors minus one, read-only.
    pub const SIZE_MASK: u16 = 0x07FF;
    /// All vectors are masked, whatever their own mask bits say.
    pub const FUNCTION_MASK: u16 = 1 << 14;
    /// The function sends MSI-X messages and must not use INTx.
    pub const ENABLE: u16 = 1 << 15;
}

/// One entry of the vector table (PCI 3.0, 6.8.2.6 to 6.8.2.9).
pub mod entry {
    /// Bytes of one entry.
    pub const SIZE: usize = 16;
    /// Message address, lower 32 bits.
    pub const ADDRESS: usize = 0x0;
    /// Message address, upper 32 bits.
    pub const UPPER_ADDRESS: usize = 0x4;
    /// Message data, 32 bits.
    pub const DATA: usize = 0x8;
    /// Vector control, 32 bits.
    pub const CONTROL: usize = 0xC;
    /// Mask bit of the vector control; set after reset.
    pub const MASKED: u8 = 1 << 0;
}

/// Bytes of a table of `vectors` vectors.
#[must_use]
pub const fn table_size(vectors: u16) -> u64 {
    vectors as u64 * entry::SIZE as u64
}

/// Bytes of a pending bit array of `vectors` vectors: a multiple of 8.
#[must_use]
pub const fn pba_size(vectors: u16) -> u64 {
    (vectors as u64).div_ceil(64) * 8
}
