//! What is printed, to the letter: help, and what is said about each kind of bad profile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{assert_golden, program, root, run, thruway};

const PROFILES: &str = "tests/golden/profiles";

#[test]
fn help() {
    assert_golden("tests/golden/help.txt", &thruway(["--help"]).stdout);
    assert_golden("tests/golden/help-short.txt", &thruway(["-h"]).stdout);
    assert_golden("tests/golden/help-profile.txt", &thruway(["profile", "--help"]).stdout);
    assert_golden("tests/golden/help-profile-check.txt", &thruway(["profile", "check", "--help"]).stdout);
}

#[test]
fn version() {
    let expected = format!("thruway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(thruway(["--version"]).stdout, expected);
    assert_eq!(
        thruway(["profile", "--version"]).stdout,
        format!("thruway-profile {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn usage() {
    assert_golden(
        "tests/golden/usage-unknown-option.txt",
        &thruway(["profile", "list", "--frmat", "json"]).stderr,
    );
    assert_golden("tests/golden/usage-unknown-command.txt", &thruway(["profil"]).stderr);
}

#[test]
fn builtin_profiles() {
    assert_golden("tests/golden/profile-list.txt", &thruway(["profile", "list"]).stdout);
    for name in ["minimal", "nvme", "sriov-nic"] {
        let text = fs::read_to_string(root().join("profiles").join(name).with_extension("yaml")).unwrap();
        assert_eq!(thruway(["profile", "show", name]).stdout, text);
    }
    assert_golden(
        "tests/golden/profile-show.yaml",
        &thruway(["profile", "show", "sriov-nic", "--format", "yaml"]).stdout,
    );
}

/// What `profile check` says about a committed file, `NAME.yaml`: exit code 2, and stderr as in `NAME.txt`.
fn refused(name: &str) {
    let path = format!("{PROFILES}/{name}.yaml");
    assert!(root().join(&path).exists(), "{path} is missing");
    let run = thruway(["profile", "check", path.as_str()]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{path}: {}", run.stderr);
    assert_golden(format!("{PROFILES}/{name}.txt"), &run.stderr);
}

macro_rules! refused {
    ($($name:ident)*) => {
        mod refused {
            $(#[test]
            fn $name() {
                super::refused(stringify!($name));
            })*
        }

        #[test]
        fn every_bad_profile_has_its_test() {
            let mut files: Vec<String> = fs::read_dir(root().join(PROFILES))
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned))
                .collect();
            files.sort();
            assert_eq!(files, [$(stringify!($name)),*]);
        }
    };
}

refused! {
    address_malformed
    alias_bomb
    competing_keys
    duplicate_key
    empty
    mac_malformed
    many_values
    missing_key
    pool_twice
    second_document
    size_exbibyte
    size_negative
    size_unit
    size_zero
    syntax
    tab
    unknown_key
    vf_settings
    vf_twice
    wrong_type
}

/// What `profile check` says about a file that is made on the spot; its directory is shown as `DIR`.
fn refused_in(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    let run = thruway(["profile".as_ref(), "check".as_ref(), path.as_os_str()]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{}", run.stderr);
    run.stderr.replace(directory.to_str().unwrap(), "DIR")
}

#[test]
fn a_missing_file_a_directory_and_a_name_that_is_none() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(refused_in(directory.path(), "none.yaml"), "error: there is no profile at DIR/none.yaml\n");
    assert_eq!(refused_in(directory.path(), ""), "error: DIR/ is a directory; name a profile in it\n");
    assert_golden("tests/golden/profile-no-such-name.txt", &thruway(["profile", "check", "sriovnic"]).stderr);
}

#[test]
fn a_profile_of_ten_megabytes_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("big.yaml"), "# x\n".repeat(10 << 18)).unwrap();
    let said = refused_in(directory.path(), "big.yaml");
    assert_eq!(said, "error: DIR/big.yaml is larger than 64 KiB; a profile is not\n");
}

#[test]
fn an_endless_profile_is_refused() {
    let run = thruway(["profile", "check", "/dev/zero"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (Some(2), "error: /dev/zero is larger than 64 KiB; a profile is not\n")
    );
}

#[test]
fn deep_nesting_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("deep.yaml"), "[".repeat(60_000)).unwrap();
    let said = refused_in(directory.path(), "deep.yaml");
    assert!(said.starts_with("error: this is not YAML: recursion limit exceeded\n"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bytes.yaml"), b"schema: 1\nname: \xff\n").unwrap();
    let said = refused_in(directory.path(), "bytes.yaml");
    assert_eq!(said, "error: DIR/bytes.yaml is not UTF-8 text (byte 16 is wrong)\n");
}

#[test]
fn an_unreadable_profile_names_the_cause() {
    let directory = tempfile::tempdir().unwrap();
    let run =
        thruway(["profile".as_ref(), "check".as_ref(), directory.path().join("x".repeat(300)).as_os_str()]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("because: File name too long"), "{}", run.stderr);
}

#[test]
fn a_profile_can_come_through_a_pipe() {
    let text = fs::read(root().join("profiles/minimal.yaml")).unwrap();
    let checked = run(program().args(["profile", "check", "/dev/stdin"]), &text);
    assert_eq!(
        (checked.code, checked.stdout.as_str()),
        (Some(0), "/dev/stdin: valid\n"),
        "{}",
        checked.stderr
    );
}

#[test]
fn checking_does_not_ask_who_can_write_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("open.yaml");
    fs::write(&path, "schema: 1\nname: x\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(thruway(["profile".as_ref(), "check".as_ref(), path.as_os_str()]).code, Some(0));
}
