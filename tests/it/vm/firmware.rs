//! A PC's BIOS as firmware: SeaBIOS from its power-on to its boot menu on the serial port, and from there a boot sector.
//!
//! It is small enough for a KVM that is software itself; UEFI firmware is tried in the emulated host.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use super::{Guest, Lab};
use crate::support::{program, skip};

/// Debian's package seabios, which QEMU's needs.
const SEABIOS: &str = "/usr/share/seabios/bios-256k.bin";

/// A disk whose boot sector prints `text` and powers off. It has room for a cylinder, without which no BIOS reads it.
fn disk(text: &str) -> Vec<u8> {
    // mov dx, 0x3F8; (mov al, byte; out dx, al)..; mov dx, 0x604; mov ax, SLP_TYP 5 with SLP_EN; out dx, ax; hlt
    let mut sector = vec![0xBA, 0xF8, 0x03];
    sector.extend(text.bytes().flat_map(|byte| [0xB0, byte, 0xEE]));
    sector.extend([0xBA, 0x04, 0x06, 0xB8, 0x00, 0x34, 0xEF, 0xF4]);
    sector.resize(510, 0);
    sector.extend([0x55, 0xAA]);
    sector.resize(1 << 20, 0);
    sector
}

/// Reads until `text` was said; all of it.
fn until(output: &mut impl Read, text: &str) -> String {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(text.as_bytes()) {
        let read = output.read(&mut byte).unwrap();
        assert_eq!(read, 1, "it ended before `{text}`:\n{}", String::from_utf8_lossy(&said));
        said.extend(byte);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn seabios_offers_its_menu_on_the_serial_port_and_starts_a_boot_sector() {
    if !Path::new(SEABIOS).exists() {
        skip(&format!("{SEABIOS} is missing (package seabios)"));
        return;
    }
    let Some(lab) = Lab::new(&Guest::default()) else { return };
    fs::write(lab.path("first"), disk("(the first)")).unwrap();
    fs::write(lab.path("second"), disk("(the second)")).unwrap();
    let mut command = program();
    command.args(["run", "--firmware", SEABIOS, "--memory", "32MiB"]);
    for disk in ["first", "second"] {
        command.arg("--disk").arg(lab.path(disk));
    }
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    let (mut keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());

    until(&mut output, "SeaBIOS (version");
    until(&mut output, "Press ESC for boot menu.");
    keys.write_all(b"\x1b").unwrap();
    let menu = until(&mut output, "2. ");
    assert!(menu.contains("1. "), "{menu}");
    keys.write_all(b"2").unwrap();

    // What SeaBIOS itself says last, it prints late: in between.
    until(&mut output, "second)");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
