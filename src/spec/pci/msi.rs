//! The MSI capability (PCI 3.0, 6.8.1): offsets from the capability's first byte.
//!
//! The layout depends on two bits of the control register: with [`control::ADDRESS_64`] an upper address register
//! follows the address, with [`control::PER_VECTOR_MASKING`] mask and pending registers follow the data.

/// Message control, 16 bits.
pub const CONTROL: u16 = 0x02;
/// Message address, 32 bits.
pub const ADDRESS: u16 = 0x04;
/// Most vectors that a function can ask for.
pub const MAX_VECTORS: u8 = 32;

/// Bits of the control register.
pub mod control {
    /// The function sends messages and must not use INTx.
    pub const ENABLE: u16 = 1 << 0;
    /// Vectors that the function can use, as a power of two (bits 3:1, read-only).
    pub const CAPABLE_SHIFT: u32 = 1;
    /// Vectors that software allotted, as a power of two (bits 6:4).
    pub const ENABLED_SHIFT: u32 = 4;
    /// Width of both vector fields.
    pub const VECTORS_MASK: u16 = 0b111;
    /// The address has 64 bits.
    pub const ADDRESS_64: u16 = 1 << 7;
    /// Mask and pending registers exist.
    pub const PER_VECTOR_MASKING: u16 = 1 << 8;
}

/// Where the registers behind the address lie, for a given control register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Upper 32 bits of the address.
    pub upper_address: Option<u16>,
    /// Message data, 16 bits.
    pub data: u16,
    /// Mask bits, 32 bits.
    pub mask: Option<u16>,
    /// Pending bits, 32 bits.
    pub pending: Option<u16>,
    /// Length of the capability in bytes.
    pub length: u16,
}

impl Layout {
    /// The layout that `control` announces.
    #[must_use]
    pub const fn new(control: u16) -> Self {
        let wide = control & control::ADDRESS_64 != 0;
        let data = if wide { 0x0C } else { 0x08 };
        let upper_address = if wide { Some(0x08) } else { None };
        if control & control::PER_VECTOR_MASKING != 0 {
            Self { upper_address, data, mask: Some(data + 4), pending: Some(data + 8), length: data + 12 }
        } else {
            Self { upper_address, data, mask: None, pending: None, length: data + 2 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_layouts_have_the_lengths_of_the_specification() {
        let wide = control::ADDRESS_64;
        let masked = control::PER_VECTOR_MASKING;
        let lengths = [0, wide, masked, wide | masked].map(|control| Layout::new(control).length);
        assert_eq!(lengths, [0x0A, 0x0E, 0x14, 0x18]);
    }
}
