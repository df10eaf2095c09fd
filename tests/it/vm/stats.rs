//! What a machine tells of what it did.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Guest, Lab};

#[test]
fn exits_are_counted_by_reason_and_vcpu_and_told_at_the_end() {
    // Six bytes on the serial port, three reads of ports
    let guest =
        Guest::default().print("counts").in8(0x1234).in8(0x1234).in8(0x1234).load(0xFD00_0000).power_off();
    let Some(lab) = Lab::new(&guest) else { return };
    let path = lab.path("stats.json");
    let run = lab.run(&["--cpus", "2", "--stats", path.to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "counts"), "{}", run.stderr);
    let document: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        (&document["schema"], &document["schema_version"]),
        (&"thruway.machine-stats".into(), &1.into())
    );
    let vcpus = document["data"]["vcpus"].as_array().unwrap();
    assert_eq!(vcpus.len(), 2);
    let exits = &vcpus[0]["exits"];
    assert!(exits["port_write"].as_u64().unwrap() >= 7, "{exits:#}");
    assert_eq!((&exits["port_read"], &exits["mmio_read"]), (&3.into(), &1.into()), "{exits:#}");
    assert_eq!(vcpus[1]["exits"]["port_write"], 0);
    // Null where KVM has no counters, as in software.
    let kvm = &vcpus[0]["kvm"];
    assert!(kvm.is_null() || kvm["exits"].as_u64().unwrap() >= 10, "{kvm:#}");
}

#[test]
fn a_signal_asks_and_the_machine_goes_on() {
    let Some(lab) = Lab::new(&Guest::default().print("up").hang()) else { return };
    let path = lab.path("stats.json");
    for stats in [&["--stats", path.to_str().unwrap()][..], &[]] {
        let mut child = lab.spawn(stats);
        let mut seen = [0; 2];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut seen).unwrap();
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(process, Signal::SIGUSR1).unwrap();
        if !stats.is_empty() {
            let start = Instant::now();
            let told = || serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).is_ok();
            while !told() {
                assert!(start.elapsed() < Duration::from_secs(10), "nothing is told");
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(child.try_wait().unwrap().is_none(), "it goes on");
        }
        // The question was taken before what came after it, or is asked for nothing.
        std::thread::sleep(Duration::from_millis(200));
        kill(process, Signal::SIGTERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(log.contains("thruway.machine-stats"), stats.is_empty(), "{log}");
    }
    let refused = lab.run(&["--stats", "/nonexistent/stats.json"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
}
