//! Addresses and expansion ROMs of a machine's devices as the writer of a profile meets them: what is wrong is said in its
//! place, before anything is touched.

use std::fs;
use std::path::Path;

use crate::support::{Run, program, run};

/// A profile with these devices, one a line, in `directory`.
fn write(directory: &Path, devices: &[&str]) {
    let list: String = devices.iter().map(|device| format!("    - {device}\n")).collect();
    let text = format!("schema: 1\nname: x\nmachine:\n  boot: {{kernel: /vmlinuz}}\n  devices:\n{list}");
    fs::write(directory.join("x.yaml"), text).unwrap();
}

fn thruway(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = program();
    command.current_dir(directory).args(arguments);
    run(&mut command, b"")
}

#[test]
fn everything_wrong_with_addresses_is_shown_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &[
            "virtio-rng: {guest_address: \"03:00.0\"}",
            "virtio-block: {path: d, format: raw, guest_address: \"03:00.0\"}",
            "virtio-console: {guest_address: \"00:1f.0\", file: log}",
            "virtio-net: {tap: t, guest_address: \"04:00.1\"}",
            // Which function it is, only a host can tell; where it is, the profile does.
            "vfio-pci: {select: {disk: sda}, guest_address: \"05:00.0\"}",
            "virtio-rng: {guest_address: \"05:00.1\"}",
        ],
    );
    let check = thruway(directory.path(), &["profile", "check", "./x.yaml"]);
    assert_eq!(check.code, Some(2), "{}", check.stderr);
    for (message, place) in [
        ("machine.devices[1].virtio-block.guest_address: device 0 is at 0000:03:00.0 already", "x.yaml:7:"),
        ("machine.devices[2].virtio-console.guest_address: there is no place 0000:00:1f.0", "x.yaml:8:"),
        (
            "machine.devices[3].virtio-net.guest_address: no device has the guest_address 0000:04:00.0",
            "x.yaml:9:",
        ),
    ] {
        assert!(check.stderr.contains(message) && check.stderr.contains(place), "{}", check.stderr);
    }
    assert_eq!(check.stderr.matches("error: ").count(), 3, "{}", check.stderr);

    for (device, said) in [
        ("virtio-rng: {guest_address: 3}", "`3` is not a PCI address"),
        ("virtio-rng: {guest_adress: \"03:00.0\"}", "did you mean `guest_address`?"),
        ("virtio-rng: {rom: [a]}", "expected a text or true or false here"),
        ("pvpanic: {guest_address: \"03:00.0\"}", "unknown key `guest_address`"),
    ] {
        write(directory.path(), &[device]);
        let check = thruway(directory.path(), &["profile", "check", "./x.yaml"]);
        assert_eq!(check.code, Some(2), "{device}: {}", check.stderr);
        assert!(
            check.stderr.contains(said) && check.stderr.contains("x.yaml:6:"),
            "{device}: {}",
            check.stderr
        );
    }
}

#[test]
fn a_dry_run_tells_where_every_device_is_and_flags_give_them_roms() {
    let directory = tempfile::tempdir().unwrap();
    let devices = [
        "virtio-rng: {}",
        "pvpanic: {}",
        "virtio-console: {file: /log, guest_address: \"02:00.0\", rom: a.rom}",
        "virtio-rng: {rom: false}",
    ];
    write(directory.path(), &devices);
    let dry = |flags: &[&str]| {
        let arguments = [&["run", "./x.yaml", "--dry-run", "--format", "json"], flags].concat();
        let run = thruway(directory.path(), &arguments);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let mut document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        document["data"]["devices"].take()
    };
    // Relative paths are taken from the profile's directory and, in flags, from the current one.
    let expected = serde_json::json!([
        {"virtio-rng": {"guest_address": "0000:01:00.0"}},
        {"pvpanic": {}},
        {"virtio-console": {"file": "/log", "guest_address": "0000:02:00.0", "rom": "./a.rom"}},
        {"virtio-rng": {"guest_address": "0000:03:00.0", "rom": false}},
    ]);
    assert_eq!(dry(&[]), expected);
    let changed = dry(&["--rom", "03:00.0=b.rom", "--rom", "02:00.0=off", "--tap", "t"]);
    assert_eq!(changed[2]["virtio-console"]["rom"], false);
    let here = directory.path().canonicalize().unwrap().join("b.rom");
    assert_eq!(changed[3]["virtio-rng"]["rom"], here.to_str().unwrap());
    assert_eq!(changed[4]["virtio-net"]["guest_address"], "0000:04:00.0");

    let run = thruway(directory.path(), &["run", "./x.yaml", "--dry-run", "--rom", "09:00.0=b.rom"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let said =
        "--rom: the guest has no device at 0000:09:00.0; it has 0000:01:00.0 (virtio-rng), 0000:02:00.0";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn files_that_are_no_expansion_rom_are_refused_before_a_device_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    // Firmware as far as anybody looks before a ROM is read.
    fs::write(directory.path().join("CODE.fd"), vec![0xF4; 0x1_0000]).unwrap();
    let path = directory.path().join("a.rom");
    let refused = |content: Option<&[u8]>| {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let arguments = ["run", "--firmware", "CODE.fd", "--rom", "01:00.0=a.rom"];
        let run = thruway(directory.path(), &arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
        run.stderr
    };
    assert!(refused(None).contains("a.rom\n  because: No such file or directory"));
    assert!(
        refused(Some(b"")).contains("a.rom is no expansion ROM\n  because: it does not begin with 55h AAh")
    );
    assert!(refused(Some(&[0x55, 0xAA, 1])).contains("its image at 0x0 has no PCI data structure"));
    let mut rom = vec![0; 512];
    rom[..2].copy_from_slice(&[0x55, 0xAA]);
    rom[0x18] = 0x1C;
    rom[0x1C..0x24].copy_from_slice(b"PCIR\xF4\x1A\x44\x10");
    rom[0x2C] = 9;
    assert!(refused(Some(&rom)).contains("it is cut off: its image at 0x0 ends at 0x1200, the ROM at 0x200"));
    assert!(refused(Some(&vec![0x55; (16 << 20) + 1])).contains("a.rom is larger than 16 MiB"));
}
