//! Firmware and variables that are none: the file, the cause and the remedy are told before anything of the host is touched,
//! with the exit code that says whose fault it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Run, program, run, skip};

/// A volume with a store of variables, as far as its header tells.
fn variables(length: u64) -> Vec<u8> {
    let mut bytes = vec![0xFF; usize::try_from(length).unwrap()];
    bytes[..72].fill(0);
    bytes[16..32].copy_from_slice(&[
        0x8D, 0x2B, 0xF1, 0xFF, 0x96, 0x76, 0x8B, 0x4C, 0xA9, 0x85, 0x27, 0x47, 0x07, 0x5B, 0x4F, 0x50,
    ]);
    bytes[32..40].copy_from_slice(&length.to_le_bytes());
    bytes[40..44].copy_from_slice(b"_FVH");
    bytes[48] = 72;
    let words = bytes[..72].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add).wrapping_neg();
    bytes[50..52].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// A directory with code, which only hangs, and a template.
fn pair() -> TempDir {
    let directory = TempDir::new().unwrap();
    let mut code = vec![0xFF; 0x1_0000];
    code[0xFFF0..].fill(0xF4);
    fs::write(directory.path().join("CODE.fd"), code).unwrap();
    fs::write(directory.path().join("VARS.fd"), variables(0x8_4000)).unwrap();
    directory
}

fn start(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = program();
    command.current_dir(directory).args(["run", "--memory", "32MiB"]).args(arguments);
    run(&mut command, b"")
}

/// What is said of `CODE.fd` with this content.
fn refused(content: &[u8]) -> String {
    let directory = pair();
    fs::write(directory.path().join("CODE.fd"), content).unwrap();
    let run = start(directory.path(), &["--firmware", "CODE.fd"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("CODE.fd"), "{}", run.stderr);
    run.stderr
}

#[test]
fn firmware_that_is_empty_truncated_or_too_large_is_refused() {
    assert!(refused(b"").contains("is empty"));
    assert!(refused(&[0xF4; 100]).contains("truncated: its 100 bytes are not a whole number of pages"));
    assert!(refused(&vec![0xF4; 17 << 20]).contains("17825792 bytes; at most 16777216 fit below 4 GiB"));
    assert!(refused(&variables(0x8_4000)).contains("name the file with CODE in its name as firmware"));
}

#[test]
fn variables_that_are_truncated_corrupt_or_of_another_firmware_are_refused() {
    let refused = |content: &[u8]| {
        let directory = pair();
        fs::write(directory.path().join("kept.fd"), content).unwrap();
        let run = start(directory.path(), &["--firmware", "CODE.fd", "--firmware-vars", "kept.fd"]);
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("kept.fd: the file"), "{}", run.stderr);
        assert_eq!(fs::read(directory.path().join("kept.fd")).unwrap(), content, "it is not touched");
        run.stderr
    };
    assert!(refused(&variables(0x8_4000)[..0x2000]).contains("8192 bytes, and its firmware's have 540672"));
    assert!(refused(&variables(0x2_0000)).contains("truncated, or belongs to another firmware"));
    assert!(refused(&vec![0; 0x8_4000]).contains("corrupt: it does not begin with a firmware volume"));
    let mut corrupt = variables(0x8_4000);
    corrupt[34] ^= 1;
    assert!(refused(&corrupt).contains("corrupt: the checksum"));
}

#[test]
fn variables_in_use_by_another_machine_name_it() {
    let directory = pair();
    let path = directory.path().join("kept.fd");
    fs::write(&path, variables(0x8_4000)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    assert!(thruway::sys::lock::try_lock(&file, thruway::sys::lock::LockKind::Exclusive).unwrap());

    let run = start(directory.path(), &["--firmware", "CODE.fd", "--firmware-vars", "kept.fd"]);

    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let holder = format!("in use by process {}; stop that machine first", std::process::id());
    assert!(run.stderr.contains(&holder), "{}", run.stderr);
}

#[test]
fn variables_that_cannot_be_written_or_made_are_the_hosts_fault() {
    let directory = pair();
    let run = start(directory.path(), &["--firmware", "CODE.fd", "--firmware-vars", "none/kept.fd"]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("is its directory there, and writable?"), "{}", run.stderr);

    if !nix::unistd::geteuid().is_root() {
        skip("a file system that is read-only needs root");
        return;
    }
    let script = format!(
        "mount -t tmpfs none /mnt && cp {} /mnt/kept.fd && mount -o remount,ro /mnt && exec \"$@\"",
        directory.path().join("VARS.fd").display()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(program().get_program());
    command.args(["run", "--firmware", "CODE.fd", "--firmware-vars", "/mnt/kept.fd"]);
    let run = crate::support::run(command.current_dir(directory.path()), b"");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(
        run.stderr.contains("cannot be written, so nothing could be kept; make it writable"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_belongs_to_firmware_needs_it() {
    let directory = pair();
    File::create(directory.path().join("kernel")).unwrap().write_all(b"MZ").unwrap();
    let run = start(directory.path(), &["--kernel", "kernel", "--firmware-vars", "kept.fd"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(
        run.stderr.contains("machine.boot.firmware_vars: variables belong to firmware"),
        "{}",
        run.stderr
    );
    let run = start(directory.path(), &["--firmware", "CODE.fd", "--kernel", "kernel"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("no bzImage with an EFI stub"), "{}", run.stderr);
    assert!(!directory.path().join("kept.fd").exists());
}
