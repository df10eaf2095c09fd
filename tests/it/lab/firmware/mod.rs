//! Stock OVMF in our machine, in an emulated host: its shell, its variables over cold starts, a kernel that it starts, and
//! an installed disk that it boots by the disk's own loader.
//!
//! Scripts are files beside this one, behind `library.sh`, which types at the firmware. Firmware needs a host whose clock
//! counts instructions (`cpu: {clock: instructions}`).

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

/// Runs a script of this directory on that hardware; `None` after saying why it cannot run.
fn run(lab: &'static Lab, hardware: &str, script: &str, options: Options) -> Option<Run> {
    if let Some(missing) = FIRMWARE.iter().find(|path| !Path::new(path).exists()) {
        skip(&format!("{missing} is missing (package ovmf)"));
        return None;
    }
    let mut hardware = Hardware::load(hardware).unwrap();
    hardware.cpu.count = 1;
    hardware.cpu.clock = Clock::Instructions;
    let options = Options { limit: Some(Duration::from_secs(1800)), ..options };
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

/// In a guest whose kernel the firmware starts.
const KERNEL_GUEST: &str = r#"
echo "firmware $(cat /sys/firmware/efi/fw_platform_size)"
echo "word $(grep -o 'lab.word=[a-z]*' /proc/cmdline)"
"#;

#[test]
fn the_shell_keeps_variables_over_a_reset_and_a_kernel_is_started_by_the_firmware() {
    let Some(lab) = Lab::open() else { return };
    let files = vec![("guest.initrd".to_owned(), lab.guest_initrd(KERNEL_GUEST))];
    let options = Options { files, ..Options::default() };
    let Some(run) = run(lab, "no-iommu", include_str!("shell.sh"), options) else { return };

    run.succeeded();
    let (shell, kernel) = (said(&run, "shell"), said(&run, "kernel"));
    assert_eq!(run.stdout(), "second 3\nshell 0\nkernel 0\n", "{shell}\n{kernel}\n{}", run.stderr());
    let in_use = run.file("in-use");
    assert!(in_use.contains("/tmp/vars.fd: the file is in use by process"), "{in_use}");
    for line in ["ProductName: Virtual Machine", "Manufacturer: thruway"] {
        assert!(shell.contains(line), "{line}\n{shell}");
    }
    assert_eq!(shell.matches("UEFI Interactive Shell").count(), 2, "{shell}");
    assert!(shell.contains("greeting = hello"), "{shell}");
    let errors = run.file("shell.errors");
    let nothing =
        "the firmware will find nothing to boot (/tmp/blank: it has no partition table and no boot sector)";
    assert!(errors.contains(nothing) && errors.lines().count() == 1, "{errors}");
    assert_eq!(
        (lines(&kernel, "firmware "), lines(&kernel, "word ")),
        (vec!["64"], vec!["lab.word=said"]),
        "{kernel}"
    );
    assert!(kernel.contains("thruway-guest: status 0 "), "{kernel}");
    assert_eq!(run.file("kernel.errors"), "");
}

/// What stands behind `start` on the lines of `text` that begin with it.
fn lines<'a>(text: &'a str, start: &'a str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim().strip_prefix(start)).collect()
}

#[test]
fn an_installed_disk_reaches_its_own_loader_also_on_a_passed_through_controller() {
    let Some(lab) = Lab::open() else { return };
    let base = match disk(lab, Loader::Grub) {
        Ok(base) => base,
        Err(why) => return skip(&why),
    };
    let directory = lab.assets().cache.run_directory().unwrap();
    let image = directory.path().join("disk");
    ran(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).arg(base).arg(&image));
    prepare(directory.path(), &image);
    let drive = format!("if=none,id=installed,format=raw,file={}", image.display());
    let qemu_arguments = [
        "-device",
        "pcie-root-port,id=installed-port,chassis=32,slot=32,addr=05.0",
        "-drive",
        &drive,
        "-device",
        "nvme,serial=INSTALLED,drive=installed,bus=installed-port",
    ];
    let options =
        Options { qemu_arguments: qemu_arguments.map(str::to_owned).to_vec(), ..Options::default() };
    // Each boot to a login takes an emulated host minutes.
    let is_whole = std::env::var_os("THRUWAY_TEST_SOAK").is_some();
    let script = format!("WHOLE={}\n{}", if is_whole { "yes" } else { "no" }, include_str!("disk.sh"));
    let Some(run) = run(lab, "vtd-igb", &script, options) else { return };

    run.succeeded();
    let (virtio, controller) = (said(&run, "virtio"), said(&run, "controller"));
    if !is_whole {
        assert_eq!(run.stdout(), "virtio 130\ncontroller 130\n", "{virtio}\n{controller}\n{}", run.stderr());
        return;
    }
    assert_eq!(run.stdout(), "virtio 0\ncontroller 0\n", "{virtio}\n{controller}\n{}", run.stderr());
    assert_eq!(virtio.matches("Welcome to GRUB!").count(), 2, "{virtio}");
    assert_eq!(lines(&virtio, "root "), ["/dev/vda2", "/dev/vda2"], "{virtio}");
    assert_eq!(lines(&controller, "root "), ["/dev/nvme0n1p2"], "{controller}");
    for line in ["firmware 64", "serial S-4711", "oem 1", "answered 5"] {
        assert!(virtio.lines().any(|said| said.trim() == line), "{line}\n{virtio}");
    }
    // What the guest puts first in the order is booted next time, in place; what it wants once, from cold, and once.
    let entry = |text: &str, name: &str| lines(text, &format!("entry {name} "))[0].to_owned();
    let first = entry(&controller, "first");
    assert_eq!(lines(&virtio, "current ")[1], first, "{virtio}");
    assert_eq!(lines(&controller, "current "), [entry(&controller, "once")], "{controller}");
    assert_eq!(lines(&controller, "first "), [&first], "{controller}");
    assert_eq!(lines(&virtio, "kept "), ["", "once and for all"], "{virtio}");
    assert_eq!(lines(&controller, "kept "), ["once and for all"], "{controller}");
    let text = virtio + &controller;
    let complaints = lines(&text, "complaint ");
    println!("{}", complaints.join("\n"));
    let ours = ["ACPI", "efi:", "BIOS", "firmware", "0600", "pci", "BAR"];
    let ours = complaints.iter().filter(|line| ours.iter().any(|word| line.contains(word)));
    assert_eq!(ours.collect::<Vec<_>>(), [&""; 0]);
}

/// Puts `look.sh` on a disk, and has it boot to a login prompt on the serial port and no further.
fn prepare(directory: &Path, disk: &Path) {
    const CONFIGURATION: &str = "/boot/grub/grub.cfg";
    let disk = format!("{}?offset={ROOT_OFFSET_BYTES}", disk.display());
    let debugfs = || Command::new(program("debugfs").unwrap());
    let grub = ran(debugfs().args(["-R", &format!("cat {CONFIGURATION}"), &disk]));
    let [look, configuration, request] = ["look", "grub.cfg", "request"].map(|name| directory.join(name));
    fs::write(&look, include_str!("look.sh")).unwrap();
    fs::write(&configuration, grub.replace(" quiet ", " quiet systemd.unit=getty.target ")).unwrap();
    let commands = format!(
        "rm /etc/systemd/system/serial-getty@ttyS0.service\nwrite {} /root/look\nrm {CONFIGURATION}\nwrite {} {CONFIGURATION}\n",
        look.display(),
        configuration.display()
    );
    fs::write(&request, commands).unwrap();
    ran(debugfs().arg("-w").arg("-f").arg(request).arg(disk));
}

/// Runs a program that must succeed; what it printed.
fn ran(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
