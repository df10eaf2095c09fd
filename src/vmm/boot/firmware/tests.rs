//! Firmware and variables, made by hand: whole, and damaged in every way that a user meets.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::testing::{VARS_BYTES, code, pair, volume};
use super::*;
use crate::spec::firmware_volume::VARIABLES;
use crate::vmm::chipset::fw_cfg::FwCfg;
use crate::vmm::pci::root::testing::FakeMapper;

fn config(directory: &TempDir, firmware: &str, variables: Option<&str>) -> BootConfig {
    let path = |name: &str| directory.path().join(name);
    BootConfig { firmware: Some(path(firmware)), firmware_vars: variables.map(path), ..BootConfig::default() }
}

fn open(directory: &TempDir, firmware: &str, variables: Option<&str>) -> Result<Firmware, BootError> {
    Firmware::open(&config(directory, firmware, variables)).map(Option::unwrap)
}

/// What is said of this code.
fn said_of_code(content: &[u8]) -> String {
    let directory = pair();
    fs::write(directory.path().join("OVMF_CODE_4M.fd"), content).unwrap();
    let said = open(&directory, "OVMF_CODE_4M.fd", None).unwrap_err().to_string();
    assert!(said.contains("OVMF_CODE_4M.fd"), "{said}");
    said
}

/// What is said of these variables, all causes in one line.
fn said_of_variables(prepare: impl FnOnce(&Path)) -> String {
    let directory = pair();
    let path = directory.path().join("vars.fd");
    prepare(&path);
    let error = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    error
}

fn placed(firmware: &Firmware) -> (Vec<String>, Placed) {
    let mapper = FakeMapper::default();
    let shared: Arc<dyn Mapper> = Arc::new(mapper.clone());
    let placed = firmware.place(&shared).unwrap();
    (mapper.0.lock().unwrap().clone(), placed)
}

#[test]
fn code_ends_at_four_gib_and_variables_lie_below_it() {
    let directory = pair();
    let firmware = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap();
    let (slots, placed) = placed(&firmware);
    assert_eq!(slots, ["read 0xfffe0000+0x20000", "read 0xfff5c000+0x84000"]);
    let memory = GuestMemory::new(16 << 20).unwrap();
    assert_eq!(placed.load(&memory).unwrap(), Entry::PowerOn);
    let mut vector = [0; 16];
    memory.read(0xF_FFF0, &mut vector).unwrap();
    assert_eq!(vector, [0xE9; 16], "the last of the code also answers below 1 MiB");
}

#[test]
fn firmware_that_waits_by_the_local_apics_timer_is_not_started_without_one() {
    let directory = pair();
    let firmware = open(&directory, "OVMF_CODE_4M.fd", None).unwrap();
    let error = firmware.check_interrupts(InterruptMode::Userspace).unwrap_err().to_string();
    assert!(error.contains("needs a local APIC"), "{error}");
    assert!(firmware.check_interrupts(InterruptMode::Split).is_ok());
}

#[test]
fn one_file_with_both_is_cut_in_two() {
    let directory = pair();
    fs::write(directory.path().join("OVMF.fd"), [volume(VARIABLES, 0x2_0000), code()].concat()).unwrap();
    let firmware = open(&directory, "OVMF.fd", None).unwrap();
    assert_eq!(placed(&firmware).0, ["read 0xfffe0000+0x20000", "read 0xfffc0000+0x20000"]);
    let kept = open(&directory, "OVMF.fd", Some("vars.fd")).unwrap();
    assert_eq!(placed(&kept).0.len(), 2);
    assert_eq!(fs::read(directory.path().join("vars.fd")).unwrap(), volume(VARIABLES, 0x2_0000));
}

#[test]
fn variables_are_made_from_the_template_kept_and_never_made_again() {
    let directory = pair();
    let path = directory.path().join("vars.fd");
    let write = |firmware: &Firmware| {
        let flash = placed(firmware).1.flash.unwrap();
        use crate::vmm::bus::{AccessSize, BusDevice};
        for byte in [0x10, 0x42, 0xFF] {
            let _ = flash.write(0x100, AccessSize::Byte, byte).unwrap();
        }
    };
    write(&open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap());
    assert_eq!(fs::read(&path).unwrap()[0x100], 0x42);
    let again = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap();
    let flash = placed(&again).1.flash.unwrap();
    let mut byte = [0];
    flash.image().read(0x100, &mut byte).unwrap();
    assert_eq!(byte, [0x42]);
    // Without a file they are the template's, and it stays as it is.
    write(&open(&directory, "OVMF_CODE_4M.fd", None).unwrap());
    assert_eq!(fs::read(directory.path().join("OVMF_VARS_4M.fd")).unwrap(), volume(VARIABLES, VARS_BYTES));
}

#[test]
fn firmware_that_is_none_is_told_with_its_cause() {
    assert!(said_of_code(&[]).contains("is empty"));
    assert!(
        said_of_code(&code()[..1000])
            .contains("is truncated: its 1000 bytes are not a whole number of pages")
    );
    let cut = said_of_code(&code()[..0x1_0000]);
    assert!(
        cut.contains("is truncated: its firmware volume at byte 0x0 claims 0x20000 bytes, and 0x10000"),
        "{cut}"
    );
    let mut large = vec![0; 17 << 20];
    *large.last_mut().unwrap() = 1;
    assert!(said_of_code(&large).contains("has 17825792 bytes; at most 16777216 fit below 4 GiB"));
    assert!(said_of_code(&[0; 0x1000]).contains("no code in its last 16 bytes"));
    assert!(
        said_of_code(&volume(VARIABLES, VARS_BYTES)).contains("holds a firmware's variables and no firmware")
    );
    let directory = pair();
    let said = |name| open(&directory, name, None).unwrap_err().to_string();
    assert!(said("missing.fd").contains("cannot read firmware"));
    assert!(said("").contains("is not a regular file"));
}

#[test]
fn variables_that_are_none_are_told_with_cause_and_remedy() {
    let truncated = said_of_variables(|path| {
        fs::write(path, &volume(VARIABLES, VARS_BYTES)[..0x1000]).unwrap();
    });
    assert!(truncated.contains("has 4096 bytes, and its firmware's have 540672"), "{truncated}");
    assert!(truncated.contains("move it away, and a new one is made"), "{truncated}");
    let other = said_of_variables(|path| fs::write(path, volume(VARIABLES, 0x2_0000)).unwrap());
    assert!(other.contains("has 131072 bytes, and its firmware's have 540672"), "{other}");
    let corrupt = said_of_variables(|path| {
        let mut content = volume(VARIABLES, VARS_BYTES);
        content[33] ^= 0x40;
        fs::write(path, content).unwrap();
    });
    assert!(
        corrupt.contains("the file is corrupt: the checksum of its firmware volume's header"),
        "{corrupt}"
    );
    let zeros = said_of_variables(|path| File::create(path).unwrap().set_len(VARS_BYTES).unwrap());
    assert!(zeros.contains("corrupt: it does not begin with a firmware volume"), "{zeros}");
    let code = said_of_variables(|path| fs::write(path, volume([7; 16], VARS_BYTES)).unwrap());
    assert!(code.contains("no variables but other firmware"), "{code}");
    assert!(said_of_variables(|path| fs::create_dir(path).unwrap()).contains("not a regular file"));
    assert!(said_of_variables(|path| symlink(path, path).unwrap()).contains("cannot be read"));
}

#[test]
fn without_a_template_nothing_is_made_and_the_place_is_named() {
    let directory = pair();
    fs::remove_file(directory.path().join("OVMF_VARS_4M.fd")).unwrap();
    let said = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap_err().to_string();
    assert!(
        said.contains("does not exist, and there is no template") && said.contains("OVMF_VARS_4M.fd"),
        "{said}"
    );
    assert!(!directory.path().join("vars.fd").exists());
    // Not needed where variables are there, or nothing is to be kept.
    fs::write(directory.path().join("vars.fd"), volume(VARIABLES, VARS_BYTES)).unwrap();
    assert!(open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).is_ok());
    assert_eq!(placed(&open(&directory, "OVMF_CODE_4M.fd", None).unwrap()).0.len(), 1);
}

#[test]
fn a_directory_that_takes_no_file_is_told() {
    let directory = pair();
    let said = open(&directory, "OVMF_CODE_4M.fd", Some("none/vars.fd")).unwrap_err().to_string();
    assert!(said.contains("cannot be made; is its directory there, and writable?"), "{said}");
}

#[test]
fn variables_of_a_running_machine_are_taken_by_no_other() {
    let directory = pair();
    let first = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap();
    let said = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap_err().to_string();
    assert!(
        said.contains(&format!("in use by process {}; stop that machine first", std::process::id())),
        "{said}"
    );
    let (_, flash) = placed(&first);
    drop(first);
    assert!(open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).is_err(), "the flash holds the lock, too");
    drop(flash);
    assert!(open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).is_ok());
}

#[test]
fn variables_that_cannot_be_written_are_refused() {
    let directory = pair();
    let path = directory.path().join("vars.fd");
    fs::write(&path, volume(VARIABLES, VARS_BYTES)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    if File::options().write(true).open(&path).is_ok() {
        println!("SKIP: root writes to files that nobody may write to");
        return;
    }
    let said = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd")).unwrap_err();
    assert!(
        said.to_string().contains("cannot be written, so nothing could be kept; make it writable"),
        "{said}"
    );
}

#[test]
fn templates_have_the_names_that_distributions_give_them() {
    let names = |name: &str| {
        let found = variables::names(Path::new("/usr/share").join(name).as_path());
        found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("OVMF_CODE_4M.fd"), ["OVMF_VARS_4M.fd"]);
    assert_eq!(names("OVMF_CODE_4M.secboot.fd"), ["OVMF_VARS_4M.secboot.fd", "OVMF_VARS_4M.fd"]);
    assert_eq!(names("edk2-x86_64-code.fd"), ["edk2-x86_64-vars.fd"]);
    assert_eq!(names("bios-256k.bin"), [""; 0]);
}

#[test]
fn a_kernel_is_offered_to_firmware_in_its_two_parts() {
    let directory = pair();
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    let mut kernel = vec![0; 1024 + 2048];
    let mut put = |offset: usize, data: &[u8]| kernel[offset..offset + data.len()].copy_from_slice(data);
    put(0x1F1, &[1]);
    put(0x1FE, &[0x55, 0xAA, 0xEB, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x020Fu16.to_le_bytes());
    put(0x211, &[1]);
    put(1024, b"CODE");
    fs::write(path("plain"), &kernel).unwrap();
    kernel[..2].copy_from_slice(b"MZ");
    fs::write(path("stub"), &kernel).unwrap();
    fs::write(path("initrd"), b"initrd").unwrap();
    let with = |name: &str| BootConfig {
        kernel: Some(path(name)),
        initrd: Some(path("initrd")),
        cmdline: "quiet".to_owned(),
        ..config(&directory, "OVMF_CODE_4M.fd", None)
    };
    let error = Firmware::open(&with("plain")).unwrap_err().to_string();
    assert!(error.contains("no bzImage with an EFI stub"), "{error}");

    let firmware = Firmware::open(&with("stub")).unwrap().unwrap();
    let mut items = Items::default();
    firmware.add_kernel(&mut items);
    let device = FwCfg::new(items, Arc::new(GuestMemory::new(16 << 20).unwrap()));
    let read = |key: u16, count: usize| -> Vec<u8> {
        use crate::vmm::bus::{AccessSize, BusDevice};
        let _ = device.write(0, AccessSize::Word, key.into()).unwrap();
        (0..count).map(|_| u8::try_from(device.read(1, AccessSize::Byte).unwrap()).unwrap()).collect()
    };
    assert_eq!(read(key::SETUP_SIZE, 4), 1024u32.to_le_bytes());
    assert_eq!(read(key::KERNEL_SIZE, 4), 2048u32.to_le_bytes());
    assert_eq!(read(key::SETUP_DATA, 2), b"MZ");
    assert_eq!(read(key::KERNEL_DATA, 4), b"CODE");
    assert_eq!(read(key::INITRD_DATA, 6), b"initrd");
    assert_eq!(read(key::CMDLINE_SIZE, 4), 6u32.to_le_bytes());
    assert_eq!(read(key::CMDLINE_DATA, 6), b"quiet\0");
}

proptest! {
    #[test]
    fn any_damage_is_answered(at in 0usize..72, value: u8, code_at in 0usize..72) {
        let directory = pair();
        let damage = |name: &str, at: usize| {
            let file = File::options().write(true).open(directory.path().join(name)).unwrap();
            file.write_all_at(&[value], at as u64).unwrap();
        };
        damage("OVMF_VARS_4M.fd", at);
        let _ = open(&directory, "OVMF_VARS_4M.fd", None);
        let _ = open(&directory, "OVMF_CODE_4M.fd", Some("vars.fd"));
        damage("OVMF_CODE_4M.fd", code_at);
        let _ = open(&directory, "OVMF_CODE_4M.fd", None);
    }
}
