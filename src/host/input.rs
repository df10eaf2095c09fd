//! Keyboards that the kernel listens to, and the functions that they hang on.
//!
//! Linux: Documentation/input/input.rst, `/proc/bus/input/devices`: of each device its place (`S:`) and the keys that it has
//! (`B: KEY=`), as a bit map whose last word holds keys 0 to 63. Keys 1 to 31, from Escape to S, make a keyboard; a power
//! button or a mouse has others (systemd, src/udev/udev-builtin-input_id.c). USB, Bluetooth, PS/2 and I2C are told alike.

use serde::Serialize;

use crate::host::fact::Fact;
use crate::host::source::{Bundle, Source};
use crate::host::usage;
use crate::spec::pci::PciAddress;

const DEVICES: &str = "/proc/bus/input/devices";
/// Keys 1 to 31.
const LETTERS: u64 = 0xFFFF_FFFE;

/// What people type on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Keyboards, but for those that programs make; absent where the kernel lists none of its devices.
    pub keyboards: Fact<Vec<Keyboard>>,
}

impl Input {
    /// Whether documents leave it out: captures from before it was read hold no answer, and nothing else depends on it.
    pub(super) fn is_unseen(&self) -> bool {
        self.keyboards.known().is_none()
    }
}

/// A keyboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keyboard {
    /// Its place in the device tree.
    pub path: String,
    /// The function it hangs on; absent where that is no PCI function (PS/2).
    pub controller: Option<PciAddress>,
}

/// Reads the list.
pub(super) fn collect(source: &dyn Source) -> Input {
    Input { keyboards: source.text(DEVICES).map(|text| keyboards(&text)) }
}

/// Leaves names and serial numbers of devices out of a capture.
pub(super) fn abridge(bundle: &mut Bundle) {
    bundle.abridge(DEVICES, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let kept =
            text.lines().filter(|line| line.is_empty() || place(line).is_some() || keys(line).is_some());
        kept.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
    });
}

fn keyboards(text: &str) -> Vec<Keyboard> {
    let devices = text.split("\n\n");
    let listed = devices.filter_map(|device| {
        let path = device.lines().find_map(place)?;
        let keys = device.lines().find_map(keys)?;
        let types = keys & LETTERS == LETTERS;
        (types && !path.starts_with("/devices/virtual/"))
            .then(|| Keyboard { controller: usage::owner(path), path: path.to_owned() })
    });
    listed.collect()
}

fn place(line: &str) -> Option<&str> {
    line.strip_prefix("S: Sysfs=")
}

/// The lowest 64 keys; words are as wide as the kernel's, so a 32-bit kernel tells the lowest 32.
fn keys(line: &str) -> Option<u64> {
    u64::from_str_radix(line.strip_prefix("B: KEY=")?.split_ascii_whitespace().next_back()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
I: Bus=0019 Vendor=0000 Product=0001 Version=0000
N: Name=\"Power Button\"
S: Sysfs=/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0
B: EV=3
B: KEY=10000000000000 0

I: Bus=0011 Vendor=0001 Product=0001 Version=ab41
N: Name=\"AT Translated Set 2 keyboard\"
U: Uniq=4711
S: Sysfs=/devices/platform/i8042/serio0/input/input1
B: EV=120013
B: KEY=402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe

I: Bus=0003 Vendor=0627 Product=0001 Version=0111
S: Sysfs=/devices/pci0000:00/0000:00:03.0/0000:02:00.0/usb1/1-2/1-2:1.0/0003:0627:0001.0001/input/input5
B: KEY=e080ffdf 1cfffff ffffffff fffffffe

I: Bus=0003 Vendor=0627 Product=0001 Version=0111
S: Sysfs=/devices/pci0000:00/0000:00:03.0/0000:02:00.0/usb1/1-3/1-3:1.0/0003:0627:0001.0002/input/input6
B: KEY=1f0000 0 0 0 0

I: Bus=0003 Vendor=0001 Product=0001 Version=0001
S: Sysfs=/devices/virtual/input/input9
B: KEY=ffffffffffffffff fffffffffffffffe
";

    #[test]
    fn what_has_letters_is_a_keyboard_of_the_function_it_hangs_on() {
        let controllers: Vec<_> = keyboards(LIST)
            .into_iter()
            .map(|keyboard| keyboard.controller.map(|at| at.to_string()))
            .collect();
        assert_eq!(controllers, [None, Some("0000:02:00.0".to_owned())]);
    }

    #[test]
    fn garbage_is_no_keyboard() {
        assert_eq!(keyboards("S: Sysfs=\nB: KEY=\n\n\u{0}B: KEY=zz\nS: Sysfs=/x\n\nS: Sysfs=/y"), []);
    }

    #[test]
    fn a_capture_keeps_places_and_keys_only() {
        use crate::host::source::fake::{Entry, FakeHost};
        let host = FakeHost::new(&[(DEVICES, Entry::Text(LIST))]);
        let (facts, bundle) = crate::host::capture(&host.source());
        assert_eq!(facts.input.keyboards.known().map(Vec::len), Some(2));
        assert_eq!(collect(&bundle), facts.input);
        let kept = bundle.text(DEVICES).known().cloned().unwrap();
        assert!(!kept.contains("4711") && !kept.contains("Name="), "{kept}");
    }
}
