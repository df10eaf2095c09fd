//! The picture that firmware left: which drivers still draw into the memory of a display.
//!
//! Linux: drivers/firmware/sysfb.c hands the frame buffer of the firmware to efifb, vesafb or simpledrm, which claim a part
//! of the display's BAR. Claims stand in /proc/iomem below the function's own, by name; without privilege the kernel
//! shows the names and not the addresses, which is all that is needed.

use std::collections::BTreeMap;

use super::PciDevice;
use crate::host::parse;
use crate::host::source::Source;
use crate::spec::pci::PciAddress;

/// Where the kernel lists claims on memory.
pub const CLAIMS: &str = "/proc/iomem";

/// Names of claims on the frame buffer of the firmware: sysfb's own and those of the drivers that it is handed to.
const NAMES: [&str; 8] =
    ["BOOTFB", "efifb", "efidrm", "simpledrm", "simplefb", "simple-framebuffer", "vesafb", "vesadrm"];

/// Adds to displays who draws into their memory.
pub(super) fn add(source: &dyn Source, devices: &mut [PciDevice]) {
    let mut displays = devices.iter_mut().filter(|device| device.is_display()).peekable();
    if displays.peek().is_none() {
        return;
    }
    let claims = parse::required(source.text(CLAIMS), CLAIMS).map(|text| claims(&text));
    for display in displays {
        display.firmware_framebuffer =
            claims.as_ref().map(|claims| claims.get(&display.address).cloned().unwrap_or_default());
    }
}

/// Claims on frame buffers by the function whose memory they lie in.
fn claims(text: &str) -> BTreeMap<PciAddress, Vec<String>> {
    let mut found = BTreeMap::<PciAddress, Vec<String>>::new();
    // The function that the lines below belong to, and how far its own line is indented.
    let mut owner: Option<(usize, PciAddress)> = None;
    for line in text.lines() {
        let Some((range, name)) = line.split_once(" : ") else { continue };
        let depth = range.len() - range.trim_start().len();
        if owner.is_some_and(|(outer, _)| depth <= outer) {
            owner = None;
        }
        let name = name.trim();
        if let Ok(address) = name.parse() {
            owner = Some((depth, address));
        } else if let (Some((_, address)), true) = (owner, NAMES.contains(&name)) {
            let names = found.entry(address).or_default();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_belong_to_the_function_that_they_are_indented_below() {
        let text = "2800000000-36ffffffff : PCI Bus 0000:00\n\
                    \x20 2800000000-2fffffffff : PCI Bus 0000:c3\n\
                    \x20   2800000000-2fffffffff : 0000:c3:00.0\n\
                    \x20     2800000000-2801fa3fff : BOOTFB\n\
                    \x20       2800000000-2801fa3fff : simpledrm\n\
                    \x20   3000000000-30000fffff : 0000:c3:00.1\n\
                    \x20     3000000000-30000fffff : xhci-hcd\n\
                    \x20 3100000000-3100000fff : BOOTFB";
        let found = claims(text);
        let names: Vec<_> = found.into_iter().map(|(address, names)| (address.to_string(), names)).collect();
        assert_eq!(names, [("0000:c3:00.0".to_owned(), vec!["BOOTFB".to_owned(), "simpledrm".to_owned()])]);
    }

    #[test]
    fn without_addresses_the_names_still_tell() {
        let text = "00000000-00000000 : 0000:00:02.0\n  00000000-00000000 : efifb";
        assert_eq!(claims(text).values().next().unwrap(), &["efifb"]);
    }
}
