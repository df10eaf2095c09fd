//! USB: class codes of devices and interfaces (USB-IF, Defined Class Codes; USB 2.0, 9.6.1 and 9.6.5).

/// A base class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseClass(pub u8);

impl BaseClass {
    /// Each interface says its own class.
    pub const PER_INTERFACE: Self = Self(0x00);
    /// Human interface devices.
    pub const HID: Self = Self(0x03);
    /// Mass storage.
    pub const MASS_STORAGE: Self = Self(0x08);
    /// Hubs.
    pub const HUB: Self = Self(0x09);

    /// Its name; `None` if it is not defined.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x01 => "audio",
            0x02 | 0x0A => "communications",
            0x03 => "HID",
            0x05 => "physical",
            0x06 => "still imaging",
            0x07 => "printer",
            0x08 => "mass storage",
            0x09 => "hub",
            0x0B => "smart card",
            0x0D => "content security",
            0x0E => "video",
            0x0F => "personal healthcare",
            0x10 => "audio/video",
            0x11 => "billboard",
            0x12 => "Type-C bridge",
            0x13 => "bulk display",
            0x3C => "I3C",
            0xDC => "diagnostic",
            0xE0 => "wireless",
            0xEF => "miscellaneous",
            0xFE => "application specific",
            0xFF => "vendor specific",
            _ => return None,
        })
    }
}

/// Subclass of a HID interface that speaks the boot protocol (HID 1.11, 4.2).
pub const HID_SUBCLASS_BOOT: u8 = 0x01;
/// Protocol of a keyboard among these (HID 1.11, 4.3).
pub const HID_PROTOCOL_KEYBOARD: u8 = 0x01;
