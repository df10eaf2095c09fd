//! `thruway capture`: one file that stands for a host, and what is done with a file that does not.

use std::fs;
use std::path::Path;

use crate::hosts::{self, Host};
use crate::support::{Run, program, root, run};

fn capture(host: &Host, file: &Path, options: &[&str]) -> Run {
    run(
        program().args(["capture", "--root"]).arg(host.directory.path()).arg("-o").arg(file).args(options),
        b"",
    )
}

/// What `command` prints of the host at `root`.
fn answer(command: &[&str], root: &Path) -> (Option<i32>, String) {
    let run = run(program().args(command).args(["--format", "json", "--root"]).arg(root), b"");
    assert_eq!(run.stderr, "");
    (run.code, run.stdout)
}

#[test]
fn a_replay_says_what_the_host_said_to_the_letter() {
    for name in hosts::all() {
        let host = Host::new(name);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("host.tar.gz");
        let captured = capture(&host, &file, &["--no-redact"]);
        assert_eq!((captured.code, captured.stdout.as_str()), (Some(0), ""), "{name}: {}", captured.stderr);
        for command in [&["probe"][..], &["doctor"]] {
            assert_eq!(answer(command, &file), answer(command, host.directory.path()), "{name}: {command:?}");
        }
    }
}

#[test]
fn a_committed_capture_says_the_same_packed_and_unpacked() {
    for name in hosts::CAPTURED {
        let host = Host::new(name);
        let file = root().join(format!("tests/hosts/{name}.tar.gz"));
        assert_eq!(answer(&["doctor"], &file), answer(&["doctor"], host.directory.path()), "{name}");
    }
}

#[test]
fn redaction_changes_no_verdict() {
    for name in ["container", "intel-off", "no-pci"] {
        let host = Host::new(name);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("host.tar.gz");
        assert_eq!(capture(&host, &file, &[]).code, Some(0));
        let verdicts = |root: &Path| {
            let (code, document) = answer(&["doctor"], root);
            let document: serde_json::Value = serde_json::from_str(&document).unwrap();
            let findings = document["data"]["findings"].as_array().unwrap();
            let verdict = |finding: &serde_json::Value| (finding["id"].clone(), finding["status"].clone());
            (code, findings.iter().map(verdict).collect::<Vec<_>>())
        };
        assert_eq!(verdicts(&file), verdicts(host.directory.path()), "{name}");
    }
}

/// It stands where nobody looks for names: in those of volumes, and on the command line.
#[test]
fn the_name_of_the_host_is_taken_out_wherever_it_stands() {
    let host = Host::new("intel-off");
    let root = host.directory.path();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/hostname"), "gandalf77\n").unwrap();
    fs::write(root.join("proc/cmdline"), "root=/dev/mapper/gandalf77--vg-root ip=:::::gandalf77\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.tar.gz");
    assert_eq!(capture(&host, &file, &[]).code, Some(0));
    let (_, document) = answer(&["probe"], &file);
    assert!(!document.contains("gandalf77") && document.contains("--vg-root"), "{document}");
}

#[test]
fn an_existing_file_is_left_alone() {
    let host = Host::new("no-iommu");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.tar.gz");
    fs::write(&file, "precious").unwrap();
    let refused = capture(&host, &file, &[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("exists; name another file"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let host = Host::new("no-iommu");
    let refused = capture(&host, Path::new("/nonexistent/host.tar.gz"), &[]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("cannot write /nonexistent/host.tar.gz"), "{}", refused.stderr);
}

#[test]
fn one_host_gives_one_file_byte_by_byte() {
    let host = Host::new("vtd-igb");
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| directory.path().join(name));
    for file in [&first, &second] {
        assert_eq!(capture(&host, file, &[]).code, Some(0));
    }
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn a_file_that_is_no_capture_is_wrong_usage_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("host.tar.gz");
    let whole = directory.path().join("whole.tar.gz");
    assert_eq!(capture(&Host::new("no-iommu"), &whole, &[]).code, Some(0));
    let whole = fs::read(whole).unwrap();
    for (bytes, why) in [
        (&b""[..], "truncated"),
        (b"#!/bin/sh\necho no archive at all\n", "gzip"),
        (&whole[..whole.len() / 2], "truncated"),
        (&whole[..whole.len() - 1], "truncated"),
    ] {
        fs::write(&file, bytes).unwrap();
        let refused = run(program().args(["probe", "--root"]).arg(&file), b"");
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
        assert!(refused.stderr.contains("host.tar.gz is not a capture"), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{why}: {}", refused.stderr);
    }
    for device in ["/dev/null", "/dev/zero"] {
        let refused = run(program().args(["probe", "--root", device]), b"");
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains("neither a regular file nor a directory"), "{}", refused.stderr);
    }
}

/// `probe --diff BEFORE` of the host at `now`.
fn diff(before: &Path, now: &Host) -> Run {
    let command = &mut program();
    run(command.args(["probe", "--diff"]).arg(before).arg("--root").arg(now.directory.path()), b"")
}

#[test]
fn the_same_host_has_not_changed_redacted_or_not() {
    for options in [&[][..], &["--no-redact"]] {
        for name in ["vtd-igb", "shared-group", "intel-off"] {
            let host = Host::new(name);
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("before.tar.gz");
            assert_eq!(capture(&host, &file, options).code, Some(0));
            let same = diff(&file, &host);
            assert_eq!((same.code, same.stdout.as_str()), (Some(0), "Nothing has changed.\n"), "{name}");
        }
    }
}

#[test]
fn what_has_changed_is_told_and_ends_with_1() {
    let host = Host::new("vtd-igb");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("before.tar.gz");
    assert_eq!(capture(&host, &file, &[]).code, Some(0));
    fs::write(host.directory.path().join("proc/sys/kernel/osrelease"), "6.99.0\n").unwrap();
    let changed = diff(&file, &host);
    assert_eq!((changed.code, changed.stderr.as_str()), (Some(1), ""));
    assert!(changed.stdout.contains("-> 6.99.0"), "{}", changed.stdout);
    assert!(changed.stdout.starts_with("kernel\n"), "{}", changed.stdout);
}
