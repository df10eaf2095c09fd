//! The captures in `tests/hosts`: each is what `thruway capture` wrote in an emulated host, redacted.
//!
//! ```text
//! UPDATE_HOSTS=1 cargo test --test it lab::captures          all of them anew, one boot each
//! UPDATE_HOSTS=vtd-igb,virtio cargo test --test it lab::captures    these only
//! UPDATE_GOLDEN=1 cargo test --test it                       then what is said of them
//! ```
//!
//! Without the variable the files are only looked at. One is of no emulated host: `software-kvm`, a virtual machine without an
//! IOMMU whose KVM is software; it is captured anew where such a machine runs the tests, and kept elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::{Lab, agreement};
use crate::hosts;
use crate::support::{program, root, run};
use thruway::rehearse::Options;

/// More than any of them needs: they are part of every checkout.
const MOST_BYTES: u64 = 60_000;

/// A host to capture.
struct Capture {
    /// Of the file in `tests/hosts`.
    name: &'static str,
    /// A built-in name, or a file of `lab/matrix`.
    hardware: &'static str,
    /// What happens on it before.
    script: &'static str,
}

const fn plain(name: &'static str) -> Capture {
    Capture { name, hardware: name, script: "" }
}

const CAPTURES: [Capture; 12] = [
    Capture {
        name: "vtd-igb",
        hardware: "vtd-igb",
        // Two virtual functions, one of them with a guest's process.
        script: r#"
            ip link set "$(ls /sys/bus/pci/devices/0000:01:00.0/net)" up
            echo 2 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
            thruway bind 0000:01:10.0 --yes
            group=$(readlink /sys/bus/pci/devices/0000:01:10.0/iommu_group)
            exec 9<>"/dev/vfio/${group##*/}"
        "#,
    },
    plain("vtd-nvme"),
    plain("amdvi"),
    plain("no-iommu"),
    plain("shared-group"),
    plain("vtd-off-in-kernel"),
    plain("vtd-no-interrupt-remapping"),
    plain("vtd-no-dma-translation"),
    plain("vtd-reserved-memory"),
    plain("virtio"),
    plain("svm-off"),
    Capture {
        name: "many-kinds",
        hardware: "many-kinds",
        script: "modprobe -a virtio_scsi sd_mod sg usbhid hid-generic",
    },
];

/// The capture of this machine, if it is of that kind.
const SOFTWARE_KVM: &str = "software-kvm";

fn path(name: &str) -> PathBuf {
    root().join(format!("tests/hosts/{name}.tar.gz"))
}

/// Whether `UPDATE_HOSTS` asks for the capture `name`.
fn is_asked_for(name: &str) -> bool {
    let asked = std::env::var("UPDATE_HOSTS").unwrap_or_default();
    asked == "1" || asked.split(',').any(|word| word == name)
}

/// Says how far it is, past the test harness, which keeps what tests print.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{text}").unwrap();
}

fn of_emulated_host(lab: &Lab, capture: &Capture) -> Vec<u8> {
    let file = root().join(format!("tests/it/lab/matrix/{}.yaml", capture.hardware));
    let hardware = if file.exists() { file.to_str().unwrap() } else { capture.hardware };
    let mut options = Options::default();
    if capture.hardware == "many-kinds" {
        options.qemu_arguments = agreement::qemu_arguments();
    }
    // The process that plays a guest has a device open as descriptor 9; the tool has not.
    let rest = "thruway capture -o \"$LAB_OUT/host.tar.gz\" 9>&-";
    let script = format!("set -e\n{}\n{rest}\n", capture.script);
    let run = lab.run_with(hardware, options, &script);
    run.succeeded();
    fs::read(run.outcome.files().join("host.tar.gz")).unwrap()
}

/// A capture of this machine, without what its operator tells it: that is his affair, and has nothing to do with
/// virtualization.
fn of_this_machine() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (file, tree) = (directory.path().join("host.tar.gz"), directory.path().join("tree"));
    let capture = |options: &[&OsStr]| {
        let captured = run(program().args(["capture", "-o"]).arg(&file).args(options), b"");
        assert_eq!(captured.code, Some(0), "{}", captured.stderr);
        fs::read(&file).unwrap()
    };
    let whole = capture(&[]);
    tar::Archive::new(flate2::read::GzDecoder::new(whole.as_slice())).unpack(&tree).unwrap();
    fs::write(tree.join("proc/cmdline"), "console=ttyS0 quiet\n").unwrap();
    fs::write(tree.join("proc/self/mountinfo"), "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n").unwrap();
    let release = fs::read_to_string(tree.join("proc/sys/kernel/osrelease")).unwrap();
    let number = release.trim().split('-').next().unwrap();
    fs::write(tree.join("proc/sys/kernel/osrelease"), format!("{number}\n")).unwrap();
    let answers = tree.join("answers.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&answers).unwrap()).unwrap();
    document["kernel_log"] = json!([]);
    fs::write(answers, document.to_string()).unwrap();
    fs::remove_file(&file).unwrap();
    capture(&["--root".as_ref(), tree.as_os_str()])
}

/// KVM as a paravirtual hypervisor, without an extension of the processor and without an IOMMU.
fn this_machine_is_one_with_software_kvm() -> bool {
    let units = fs::read_dir("/sys/class/iommu").map_or(0, Iterator::count);
    Path::new("/sys/module/kvm_pvm").exists() && units == 0
}

#[test]
fn every_host_is_captured() {
    let wanted: Vec<_> = CAPTURES.iter().filter(|capture| is_asked_for(capture.name)).collect();
    if let Some(lab) = (!wanted.is_empty()).then(Lab::open).flatten() {
        for (number, capture) in (1..).zip(&wanted) {
            let began = Instant::now();
            let bytes = of_emulated_host(lab, capture);
            fs::write(path(capture.name), &bytes).unwrap();
            let (count, seconds) = (wanted.len(), began.elapsed().as_secs());
            say(&format!("{number} of {count}: {}, {} bytes, {seconds} s", capture.name, bytes.len()));
        }
    }
    if is_asked_for(SOFTWARE_KVM) {
        if this_machine_is_one_with_software_kvm() {
            fs::write(path(SOFTWARE_KVM), of_this_machine()).unwrap();
            say(&format!("{SOFTWARE_KVM}: of this machine"));
        } else {
            say(&format!("{SOFTWARE_KVM}: kept, this machine is none with software KVM and no IOMMU"));
        }
    }
    let names = CAPTURES.iter().map(|capture| capture.name).chain([SOFTWARE_KVM]);
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!(names, hosts::CAPTURED, "the list of captures and that of `hosts`");
    for name in names {
        let size = fs::metadata(path(name)).unwrap_or_else(|error| panic!("{name}: {error}")).len();
        assert!(size < MOST_BYTES, "{name} has {size} bytes");
    }
}
