//! SCSI: peripheral device types (SPC-5, 6.7.2, table 157 `PERIPHERAL DEVICE TYPE field`).

/// What a logical unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceType(pub u8);

impl DeviceType {
    /// Its name; `None` if it is not defined.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "disk",
            0x01 => "tape",
            0x02 => "printer",
            0x03 => "processor",
            0x04 => "write-once disk",
            0x05 => "cd/dvd",
            0x07 => "optical disk",
            0x08 => "medium changer",
            0x0C => "storage array",
            0x0D => "enclosure",
            0x0E => "simplified disk",
            0x0F => "card reader",
            0x11 => "object storage",
            0x14 => "zoned disk",
            0x1E => "well-known unit",
            _ => return None,
        })
    }
}
