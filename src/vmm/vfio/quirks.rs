//! Devices that describe themselves wrongly: one row each.

/// A device whose MSI-X capability places the pending bit array outside of its BAR.
struct PendingBits {
    vendor: u16,
    /// Device IDs, first and last.
    devices: (u16, u16),
    /// Where the array lies in truth, in bytes from the start of its BAR.
    offset: u32,
}

const PENDING_BITS: [PendingBits; 2] = [
    // Chelsio T5 virtual functions.
    PendingBits { vendor: 0x1425, devices: (0x5800, 0x58FF), offset: 0x1000 },
    // Baidu Kunlun virtual function.
    PendingBits { vendor: 0x1D22, devices: (0x3685, 0x3685), offset: 0xB400 },
];

/// Where the pending bit array of `vendor`:`device` lies if not where its capability says.
pub(super) fn pending_bits_offset(vendor: u16, device: u16) -> Option<u32> {
    PENDING_BITS
        .iter()
        .find(|row| row.vendor == vendor && (row.devices.0..=row.devices.1).contains(&device))
        .map(|row| row.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_match_their_devices_only() {
        assert_eq!(pending_bits_offset(0x1425, 0x5803), Some(0x1000));
        assert_eq!(pending_bits_offset(0x1425, 0x5403), None);
        assert_eq!(pending_bits_offset(0x8086, 0x10CA), None);
    }
}
