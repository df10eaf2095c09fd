//! One emulated host with a disk: its files, and the command line of QEMU for each of its boots.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thruway::rehearse::Hardware;
use thruway::rehearse::assets::RunDirectory;
use thruway::rehearse::hardware::{Accelerator, Rendered, render};
use thruway::sys::process::TiedChild;

use super::boot::{Boot, Cut, Watch};
use super::image::{self, FIRMWARE, Loader, ROOT_OFFSET_BYTES};
use crate::lab::Lab;
use crate::support::{PROGRAM, skip};

/// A host that keeps its disk from boot to boot.
pub(crate) struct DiskHost {
    lab: &'static Lab,
    directory: RunDirectory,
    hardware: Hardware,
    rendered: Rendered,
    boots: u32,
}

impl DiskHost {
    /// A fresh host with the hardware `vtd-igb`, or `None` after saying why there is none.
    pub(crate) fn open(lab: &'static Lab, loader: Loader) -> Option<Self> {
        Self::with_hardware(lab, loader, "vtd-igb")
    }

    /// Like [`Self::open`], with a built-in hardware or the file at that path. Its arguments for the kernel are not used: they
    /// are the disk's. It has one processor; more only wait for each other here.
    pub(crate) fn with_hardware(lab: &'static Lab, loader: Loader, hardware: &str) -> Option<Self> {
        let mut hardware = Hardware::load(hardware).unwrap();
        hardware.cpu.count = 1;
        let rendered = render(&hardware, Accelerator::Tcg);
        assert!(rendered.acpi_tables.is_empty(), "a disk's initial RAM file system takes no tables");
        let base = match image::disk(lab, loader) {
            Ok(base) => base,
            Err(why) => {
                skip(&why);
                return None;
            }
        };
        let host = Self {
            lab,
            directory: lab.assets().cache.run_directory().unwrap(),
            hardware,
            rendered,
            boots: 0,
        };
        ran(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).arg(base).arg(host.path("disk")));
        fs::copy(FIRMWARE[1], host.path("variables")).unwrap();
        fs::create_dir(host.path("images")).unwrap();
        for image in &host.rendered.images {
            let file = File::create(host.path("images").join(&image.name)).unwrap();
            file.set_len(image.size.bytes()).unwrap();
        }
        ran(Command::new("strip").arg("-o").arg(host.path("thruway")).arg(PROGRAM));
        host.put(&host.path("thruway"), "/usr/local/bin/thruway");
        Some(host)
    }

    /// Boots, runs `script`, and waits for the shutdown after it. Panics with the end of the console when it does not get there.
    pub(crate) fn boot(&mut self, script: &str) -> Boot {
        self.run(script, None)
    }

    /// Boots, runs `script`, and takes the power away at the moment `cut`. Panics when the script ends before.
    pub(crate) fn boot_and_cut(&mut self, script: &str, cut: &Cut) -> Boot {
        self.run(script, Some(cut))
    }

    fn run(&mut self, script: &str, cut: Option<&Cut>) -> Boot {
        self.boots += 1;
        let share = self.path(&format!("boot-{}", self.boots));
        fs::create_dir_all(share.join("out")).unwrap();
        fs::write(share.join("script"), script).unwrap();
        let _room = self.lab.room(&self.hardware);
        let mut watch = Watch::new(&share);
        let qemu = TiedChild::spawn(self.command(&share)).unwrap();
        let boot = watch.until_the_end(&qemu, cut);
        println!("boot {}: script after {:.1?}, end after {:.1?}", self.boots, boot.up, boot.elapsed);
        boot
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts an executable file on the disk, which was never mounted before.
    fn put(&self, file: &Path, target: &str) {
        let mut request = String::new();
        writeln!(request, "write {} {target}", file.display()).unwrap();
        for (field, value) in [("mode", "0100755"), ("uid", "0"), ("gid", "0")] {
            writeln!(request, "set_inode_field {target} {field} {value}").unwrap();
        }
        let commands = self.path("put");
        fs::write(&commands, request).unwrap();
        let disk = format!("{}?offset={ROOT_OFFSET_BYTES}", self.path("disk").display());
        ran(Command::new(image::program("debugfs").unwrap()).arg("-w").arg("-f").arg(commands).arg(disk));
    }

    fn command(&self, share: &Path) -> Command {
        let mut command = Command::new(&self.lab.assets().qemu);
        let errors = File::create(share.join("qemu.log")).unwrap();
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]);
        // A reboot ends QEMU as a shutdown does: the next boot is another QEMU with the same disk and variables.
        command.args(["-name", "thruway-disk", "-no-reboot"]).args(&self.rendered.arguments);
        let share = share.display();
        let [firmware, _] = FIRMWARE;
        for (name, value) in [
            ("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={firmware}")),
            ("-drive", "if=pflash,unit=1,format=raw,file=variables".to_owned()),
            ("-drive", "if=none,id=disk,format=raw,cache=writeback,file=disk".to_owned()),
            ("-fsdev", format!("local,id=lab,path={share},security_model=none")),
            // The slot of the other emulated hosts' own devices, 1e.
            ("-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab,addr=1e.0,multifunction=on".to_owned()),
            ("-device", "virtio-blk-pci,drive=disk,bootindex=0,addr=1e.1".to_owned()),
            ("-chardev", format!("file,id=console,path={share}/console")),
            ("-serial", "chardev:console".to_owned()),
        ] {
            command.arg(name).arg(value);
        }
        command
    }
}

/// Runs a program that must succeed.
fn ran(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
}
