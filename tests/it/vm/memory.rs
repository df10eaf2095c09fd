//! What a profile says of memory and nodes, on this machine's KVM.

use super::{Guest, Lab, profile_of};
use crate::support::{Run, program, run, skip};

/// Runs a guest that prints `up` in the machine of `lines`, where a later `memory` goes over the first.
fn machine(lab: &Lab, lines: &str) -> Run {
    let path = profile_of(lab, lines);
    let text = std::fs::read_to_string(&path).unwrap().replacen("  memory: 16MiB\n", "", 1);
    std::fs::write(&path, text).unwrap();
    run(program().arg("run").arg(path), b"")
}

fn lab() -> Option<Lab> {
    Lab::new(&Guest::default().print("up").power_off())
}

#[test]
fn guests_run_in_memory_of_every_kind() {
    let Some(lab) = lab() else { return };
    for memory in [
        "{size: 16MiB, shared: true}",
        "{size: 64MiB, prefault: true}",
        "{size: 16MiB, file: ram}",
        "{size: 16MiB, ksm: true}",
        "{size: 16MiB, lock: true}",
    ] {
        let outcome = machine(&lab, &format!("  memory: {memory}\n"));
        let locks = memory.contains("lock") && !nix::unistd::geteuid().is_root();
        if locks || outcome.stderr.contains("has no KSM") {
            skip("the host lets this user not lock memory, or merges none");
            continue;
        }
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "up"), "{memory} {}", outcome.stderr);
        assert!(!lab.path("ram").exists(), "it is gone at the end");
    }
}

#[test]
fn a_guest_may_be_larger_than_the_host_until_all_of_it_is_wanted() {
    let Some(lab) = lab() else { return };
    let larger = machine(&lab, "  memory: 256GiB\n");
    assert_eq!((larger.code, larger.stdout.as_str()), (Some(0), "up"), "{}", larger.stderr);
    let wanted = machine(&lab, "  memory: {size: 256GiB, prefault: true}\n");
    assert_eq!(wanted.code, Some(3), "{}", wanted.stderr);
    assert!(wanted.stderr.contains("guest RAM of 256GiB does not fit"), "{}", wanted.stderr);
}

#[test]
fn huge_pages_that_nobody_reserved_are_an_error_of_the_host() {
    let Some(lab) = lab() else { return };
    let outcome = machine(&lab, "  memory: {size: 256GiB, hugepages: 2MiB}\n");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("huge pages"), "{}", outcome.stderr);
}

#[test]
fn a_limit_that_is_too_low_for_locked_memory_is_told_with_both_numbers() {
    let Some(lab) = lab() else { return };
    if !nix::unistd::geteuid().is_root() {
        skip("not root: cannot take the right to lock memory away");
        return;
    }
    let path = profile_of(&lab, "  on_reboot: exit\n");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("memory: 16MiB", "memory: {size: 16MiB, lock: true}", 1)).unwrap();
    let mut command = std::process::Command::new("prlimit");
    command.args(["--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock,-sys_resource"]);
    command.args([crate::support::PROGRAM, "run"]).arg(path);
    let outcome = run(&mut command, b"");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("`lock` needs 16MiB of locked memory, but this process may lock only 64KiB"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_file_with_content_is_never_overwritten() {
    let Some(lab) = lab() else { return };
    std::fs::write(lab.path("ram"), "precious").unwrap();
    let outcome = machine(&lab, "  memory: {size: 16MiB, file: ram}\n");
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("is there already and is not an empty file"), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(lab.path("ram")).unwrap(), "precious");
}

#[test]
fn nodes_that_add_up_run_and_those_that_do_not_are_told_at_their_place() {
    let Some(lab) = lab() else { return };
    let nodes = |second: &str| {
        format!(
            "  memory: 32MiB\n  cpus: 4\n  numa:\n  - {{cpus: 0-1, memory: 16MiB, host_node: 0}}\n  - {second}\n"
        )
    };
    let sound = machine(&lab, &nodes("{cpus: 2-3, memory: 16MiB, distances: [20, 10]}"));
    if sound.stderr.contains("has no NUMA node 0") {
        skip("this host's kernel has no NUMA");
    } else {
        assert_eq!((sound.code, sound.stdout.as_str()), (Some(0), "up"), "{}", sound.stderr);
    }
    let wrong = machine(&lab, &nodes("{cpus: 3, memory: 8MiB}"));
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("vCPU 2 is in no node"), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("24MiB of memory together, and the machine has 32MiB"), "{}", wrong.stderr);
}

#[test]
fn a_machine_that_is_ended_while_it_takes_memory_ends_at_once() {
    let Some(lab) = Lab::new(&Guest::default().hang()) else { return };
    let path = profile_of(&lab, "  on_reboot: exit\n");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("memory: 16MiB", "memory: {size: 1GiB, prefault: true}", 1)).unwrap();
    let (input, nowhere) = (std::process::Stdio::piped(), std::process::Stdio::null());
    let mut child = program().arg("run").arg(path).stdin(input).stderr(nowhere).spawn().unwrap();
    // Signals are the machine's from its first threads on; before, they end the process as ever.
    while std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
