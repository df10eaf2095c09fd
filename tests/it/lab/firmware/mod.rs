//! Stock OVMF in our machine, in an emulated host: its shell, its variables over cold starts, a kernel that it starts, and
//! an installed disk that it boots by the disk's own loader.
//!
//! Scripts are files beside this one, behind `library.sh`, which types at the firmware. Firmware needs a host whose clock
//! counts instructions (`cpu: {clock: instructions}`).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use thruway::rehearse::hardware::Clock;
use thruway::rehearse::{Hardware, Options};

use super::disk::{Loader, ROOT_OFFSET_BYTES, disk, program};
use super::{Lab, Run};
use crate::support::skip;

const LIBRARY: &str = include_str!("library.sh");
/// Debian's package ovmf: code, template, and both in one.
const FIRMWARE: [&str; 3] =
    ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/share/ovmf/OVMF.fd"];

/// Runs a script of this directory; `None` after saying why it cannot run.
fn run(lab: &'static Lab, script: &str, options: Options) -> Option<Run> {
    if let Some(missing) = FIRMWARE.iter().find(|path| !Path::new(path).exists()) {
        skip(&format!("{missing} is missing (package ovmf)"));
        return None;
    }
    let mut hardware = Hardware::load("no-iommu").unwrap();
    hardware.cpu.count = 1;
    hardware.cpu.clock = Clock::Instructions;
    let options = Options { limit: Some(Duration::from_secs(900)), ..options };
    Some(lab.run_on(&hardware, options, &format!("{LIBRARY}\n{script}")))
}

/// What a guest said, without the terminal's control sequences.
fn said(run: &Run, name: &str) -> String {
    let mut text = String::new();
    let raw = run.file(name).replace('\r', "");
    let mut rest = raw.as_str();
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        rest = sequence.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default();
    }
    text + rest
}

#[test]
fn the_shell_is_reached_and_variables_are_kept_over_cold_starts_and_resets() {
    let Some(lab) = Lab::open() else { return };
    let Some(run) = run(lab, include_str!("shell.sh"), Options::default()) else { return };

    run.succeeded();
    let status: Vec<&str> = ["second 3", "first 0", "again 0", "small 10"].to_vec();
    assert_eq!(run.stdout().lines().collect::<Vec<_>>(), status, "{}", run.stderr());
    let in_use = run.file("in-use");
    assert!(in_use.contains("/tmp/vars.fd: the file is in use by process"), "{in_use}");
    let first = said(&run, "first");
    for line in ["UEFI Interactive Shell", "ProductName: Virtual Machine", "Manufacturer: thruway"] {
        assert!(first.contains(line), "{line}\n{first}");
    }
    let again = said(&run, "again");
    assert_eq!(again.matches("greeting = hello").count(), 2, "{again}");
    assert_eq!(again.matches("UEFI Interactive Shell").count(), 2, "{again}");
    for name in ["first", "again", "small"] {
        assert_eq!(run.file(&format!("{name}.errors")), "");
    }
}

#[test]
fn an_installed_disk_boots_by_its_own_loader_and_reboots_in_place() {
    let Some(lab) = Lab::open() else { return };
    let base = match disk(lab, Loader::Grub) {
        Ok(base) => base,
        Err(why) => return skip(&why),
    };
    let directory = lab.assets().cache.run_directory().unwrap();
    let image = directory.path().join("disk");
    ran(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).arg(base).arg(&image));
    put(directory.path(), &image, "/usr/local/sbin/lab-agent", include_str!("agent.sh"));
    let drive = format!("if=none,id=installed,format=raw,file={}", image.display());
    let qemu_arguments = ["-drive", &drive, "-device", "virtio-blk-pci,drive=installed,addr=1e.3"];
    let options =
        Options { qemu_arguments: qemu_arguments.map(str::to_owned).to_vec(), ..Options::default() };
    let Some(run) = run(lab, include_str!("disk.sh"), options) else { return };

    run.succeeded();
    let text = said(&run, "installed");
    assert_eq!(run.stdout(), "installed 0\n", "{text}\n{}", run.stderr());
    for line in [
        "Welcome to GRUB!",
        "boot 1",
        "end 1",
        "boot 2",
        "end 2",
        "firmware 64",
        "serial S-4711",
        "oem 1",
        "root /dev/vda2",
    ] {
        assert!(text.lines().any(|said| said.contains(line)), "{line}\n{text}");
    }
    assert!(text.contains("entry Boot0"), "{text}");
    let complaints: Vec<&str> = text.lines().filter(|line| line.starts_with("complaint")).collect();
    println!("{}", complaints.join("\n"));
    let ours = ["ACPI", "efi:", "BIOS", "firmware", "0600"];
    let ours = complaints.iter().filter(|line| ours.iter().any(|word| line.contains(word)));
    assert_eq!(ours.collect::<Vec<_>>(), [&""; 0]);
}

/// Puts an executable file in the place of one on a disk.
fn put(directory: &Path, disk: &Path, target: &str, content: &str) {
    let (file, request) = (directory.join("put.file"), directory.join("put.request"));
    fs::write(&file, content).unwrap();
    let mut commands = format!("rm {target}\nwrite {} {target}\n", file.display());
    for (field, value) in [("mode", "0100755"), ("uid", "0"), ("gid", "0")] {
        writeln!(commands, "set_inode_field {target} {field} {value}").unwrap();
    }
    fs::write(&request, commands).unwrap();
    let disk = format!("{}?offset={ROOT_OFFSET_BYTES}", disk.display());
    ran(Command::new(program("debugfs").unwrap()).arg("-w").arg("-f").arg(request).arg(disk));
}

/// Runs a program that must succeed.
fn ran(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
}
