//! What firmware calls the machine and itself: the strings of SMBIOS that every user may read.
//!
//! Linux: Documentation/ABI/testing/sysfs-class-dmi; fields of SMBIOS 3.7, 7.1 to 7.4. Serial numbers and UUIDs are not
//! read. Makers leave placeholders (`To Be Filled By O.E.M.`); they are told as they stand.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::parse;
use crate::host::source::Source;

const DMI: &str = "/sys/class/dmi/id";

/// Identification of the machine; a field is absent where firmware left it empty or has no SMBIOS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dmi {
    /// Maker of the main board.
    pub board_vendor: Fact<String>,
    /// Name of the main board.
    pub board_name: Fact<String>,
    /// Version of the main board.
    pub board_version: Fact<String>,
    /// Maker of the system.
    pub system_vendor: Fact<String>,
    /// Name of the system; some makers put a model number here.
    pub product_name: Fact<String>,
    /// Version of the system; Lenovo puts the model's name here.
    pub product_version: Fact<String>,
    /// Maker of the firmware.
    pub bios_vendor: Fact<String>,
    /// Version of the firmware.
    pub bios_version: Fact<String>,
    /// Date of the firmware, month/day/year.
    pub bios_date: Fact<String>,
    /// Type of the enclosure (SMBIOS 3.7, 7.4.1).
    pub chassis_type: Fact<u8>,
}

impl Dmi {
    pub(super) fn collect(source: &dyn Source) -> Self {
        let text = |name: &str| {
            source.text(&format!("{DMI}/{name}")).and_then(|text| match text.trim() {
                "" => Fact::NotPresent,
                text => Fact::Known(text.to_owned()),
            })
        };
        Self {
            board_vendor: text("board_vendor"),
            board_name: text("board_name"),
            board_version: text("board_version"),
            system_vendor: text("sys_vendor"),
            product_name: text("product_name"),
            product_version: text("product_version"),
            bios_vendor: text("bios_vendor"),
            bios_version: text("bios_version"),
            bios_date: text("bios_date"),
            chassis_type: parse::number(source, &format!("{DMI}/chassis_type"), 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::source::fake::{Entry, FakeHost};

    #[test]
    fn strings_are_trimmed_and_empty_ones_absent() {
        let host = FakeHost::new(&[
            ("/sys/class/dmi/id/board_vendor", Entry::Text("ASUSTeK COMPUTER INC. ")),
            ("/sys/class/dmi/id/sys_vendor", Entry::Text("System manufacturer")),
            ("/sys/class/dmi/id/board_version", Entry::Text(" ")),
            ("/sys/class/dmi/id/chassis_type", Entry::Text("3")),
        ]);
        let dmi = Dmi::collect(&host.source());
        assert_eq!(dmi.board_vendor, Fact::Known("ASUSTeK COMPUTER INC.".to_owned()));
        assert_eq!(dmi.system_vendor, Fact::Known("System manufacturer".to_owned()));
        assert_eq!((dmi.board_version, dmi.board_name), (Fact::NotPresent, Fact::NotPresent));
        assert_eq!(dmi.chassis_type, Fact::Known(3));
    }

    #[test]
    fn what_may_not_be_read_is_unknown_and_not_empty() {
        let host = FakeHost::new(&[("/sys/class/dmi/id/sys_vendor", Entry::Text("QEMU"))]);
        let dmi = Dmi::collect(&host.source_without(&["/sys/class/dmi"]));
        assert!(dmi.system_vendor.is_unread());
    }
}
