//! `thruway probe --root` on the hosts in `tests/hosts`: what is printed, to the letter, and what it means.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::hosts::{self, Host};
use crate::support::{assert_golden, program, root, run};

/// Hosts whose whole document is committed, too: those with most in them.
const DOCUMENTS: [&str; 4] = ["vtd-igb", "intel-off", "container", "malformed"];

#[test]
fn what_is_said_of_each_host() {
    for name in hosts::all() {
        assert_golden(format!("tests/golden/probe/{name}.txt"), &Host::new(name).probe(100, "table").stdout);
    }
    for name in DOCUMENTS {
        let document =
            Host::new(name).probe(100, "json").stdout.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert_golden(format!("tests/golden/probe/{name}.json"), &document);
    }
}

#[test]
fn every_host_is_in_the_lists() {
    let mut files: Vec<_> = fs::read_dir(root().join("tests/hosts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut listed: Vec<_> = hosts::CAPTURED.iter().map(|name| format!("{name}.tar.gz")).collect();
    listed.extend(hosts::WRITTEN.iter().map(|name| format!("{name}.tree")));
    listed.sort();
    assert_eq!(files, listed);
}

#[test]
fn what_cannot_be_read_is_null_and_listed_with_a_pointer_that_resolves() {
    let document = Host::new("container").document();
    let unread = document.pointer("/data/unread").unwrap().as_array().unwrap();
    assert!(!unread.is_empty());
    for entry in unread {
        let pointer = entry["pointer"].as_str().unwrap();
        assert_eq!(document.pointer(pointer), Some(&Value::Null), "{pointer}");
        assert!(entry["reason"].is_string() && entry["source"].is_string());
    }
    let denied = |pointer: &str| unread.iter().any(|entry| entry["pointer"] == pointer);
    for pointer in [
        "/data/kvm/usable",
        "/data/iommu/interrupt_remapping",
        "/data/iommu/acpi_tables",
        "/data/iommu/groups/1/viable",
        "/data/pci/devices/0/extended_capabilities",
        "/data/pci/devices/0/usage/vfio_users",
        "/data/pci/devices/1/vendor_id",
    ] {
        assert!(denied(pointer), "{pointer} is not listed");
    }
}

#[test]
fn a_member_with_a_driver_of_its_own_keeps_its_group_from_being_viable() {
    let host = Host::new("shared-group");
    let group = host.fact("/iommu/groups/1");
    assert_eq!(group["viable"], false);
    let blockers: Vec<_> =
        group["blockers"].as_array().unwrap().iter().map(|blocker| &blocker["device"]).collect();
    assert_eq!(blockers, ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]);
    assert_eq!(host.fact("/iommu/groups/3/viable"), true);
}

#[test]
fn uses_are_followed_from_uppers_and_holders_down_to_the_function() {
    let host = Host::new("intel-off");
    let bonded = host.fact("/pci/devices/2/usage/interfaces/0");
    assert_eq!(
        (&bonded["default_route"], &bonded["uppers"]),
        (&true.into(), &serde_json::json!(["bond0", "br0"]))
    );
    assert_eq!(host.fact("/pci/devices/3/usage/interfaces/0/default_route"), false);
    let uses = host.fact("/pci/devices/1/usage/disks/0/uses");
    for expected in [
        serde_json::json!({"kind": "mounted", "device": "dm-0", "at": "/"}),
        serde_json::json!({"kind": "mounted", "device": "dm-0", "at": "/media/my disk"}),
        serde_json::json!({"kind": "swap", "device": "dm-1"}),
        serde_json::json!({"kind": "held", "device": "nvme0n1p2", "by": "dm-0"}),
    ] {
        assert!(uses.as_array().unwrap().contains(&expected), "{expected} is not in {uses}");
    }
}

#[test]
fn yaml_says_what_json_says() {
    let host = Host::new("vtd-igb");
    let yaml: Value = serde_yaml::from_str(&host.probe(100, "yaml").stdout).unwrap();
    assert_eq!(yaml, host.document());
}

#[test]
fn tables_fit_their_terminal() {
    for name in hosts::all() {
        let host = Host::new(name);
        for width in [80, 200] {
            for line in host.probe(width, "table").stdout.lines() {
                assert!(line.chars().count() <= usize::from(width), "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn an_area_alone_is_its_sections_and_its_keys() {
    let host = Host::new("vtd-igb");
    let probe = |arguments: &[&str]| {
        run(program().arg("probe").args(arguments).arg("--root").arg(host.directory.path()), b"").stdout
    };
    let text = probe(&["sriov", "iommu"]);
    assert!(text.starts_with("SR-IOV\n") && text.contains("\nIOMMU groups"), "{text}");
    assert!(!text.contains("Processor") && !text.contains("PCI functions"), "{text}");
    let document: Value = serde_json::from_str(&probe(&["usage", "--format", "json"])).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&document["data"]), ["verdicts", "pci", "unread"]);
    assert_eq!(keys(&document["data"]["pci"]["devices"][0]), ["address", "driver", "usage"]);
}

#[test]
fn an_area_that_is_none_is_named_with_those_that_are() {
    let run = run(program().args(["probe", "gpu"]), b"");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(
        run.stderr.contains("'gpu'") && run.stderr.contains("cpu, firmware, kernel, kvm"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_an_area_does_not_have_is_said() {
    let host = Host::new("software-kvm");
    let run = run(program().args(["probe", "sriov", "--root"]).arg(host.directory.path()), b"");
    assert!(run.stdout.starts_with("SR-IOV\n  nothing of this kind here\n"), "{}", run.stdout);
}

#[test]
fn colour_comes_only_when_asked_for() {
    let host = Host::new("intel-off");
    let table = |color: &str| {
        run(program().args(["--color", color, "probe", "--root"]).arg(host.directory.path()), b"").stdout
    };
    assert!(!table("auto").contains('\x1b'));
    assert!(table("always").contains('\x1b'));
    assert!(!table("never").contains('\x1b'));
}

#[test]
fn names_from_a_hostile_tree_do_not_steer_the_terminal() {
    let host = Host::new("malformed");
    let text =
        run(program().args(["--color", "never", "probe", "--root"]).arg(host.directory.path()), b"").stdout;
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn a_closed_pipe_is_success() {
    let host = Host::new("vtd-igb");
    let mut child = program()
        .args(["probe", "--format", "json", "--root"])
        .arg(host.directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_root_that_is_no_host_is_wrong_usage() {
    let run = run(program().args(["probe", "--root", "/nonexistent/host"]), b"");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("/nonexistent/host"), "{}", run.stderr);
}

#[test]
fn measuring_another_host_is_wrong_usage() {
    let run = Host::new("software-kvm").ask(80, &["probe", "kvm", "--measure"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("--measure runs a guest on this host"), "{}", run.stderr);
}

#[test]
fn an_empty_root_is_unknown_and_not_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let run = run(program().args(["probe", "--format", "json", "--root"]).arg(directory.path()), b"");
    assert_eq!(run.code, Some(0));
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    for pointer in [
        "/data/pci/devices",
        "/data/iommu/groups",
        "/data/iommu/units",
        "/data/kvm/usable",
        "/data/cpu/vendor",
    ] {
        assert_eq!(document.pointer(pointer), Some(&Value::Null), "{pointer}");
        assert!(
            document["data"]["unread"].as_array().unwrap().iter().any(|entry| entry["pointer"] == pointer),
            "{pointer}"
        );
    }
}

/// This host, whatever it is: the document is whole and the same user may ask.
#[test]
fn the_live_host_answers_without_privilege() {
    let mut command = Command::new("setpriv");
    let unprivileged =
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(env!("CARGO_BIN_EXE_thruway"));
    let may_drop =
        nix::unistd::geteuid().is_root() && readable_by_all(Path::new(env!("CARGO_BIN_EXE_thruway")));
    let mut plain = program();
    let command = if may_drop { unprivileged } else { &mut plain };
    let run = run(command.args(["probe", "--format", "json"]), b"");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["schema"], "thruway.probe");
}

/// Whether somebody else may execute the file at `path`, by the modes of it and of the directories above.
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors()
        .all(|place| fs::metadata(place).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0))
        && Command::new("setpriv").arg("--version").stdout(Stdio::null()).status().is_ok()
}
