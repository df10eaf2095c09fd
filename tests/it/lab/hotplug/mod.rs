//! Devices come into the slots of a running Linux guest and go again: a virtio disk that is let go, a virtual function that is
//! torn out or let go, with messages and with a line; and nothing of them stays in the process.
//!
//! Two rounds; with `THRUWAY_TEST_SOAK=1` (`tests/run --soak`) a hundred and five.

use thruway::rehearse::Options;

use super::{Lab, Run};

const GUEST: &str = include_str!("guest.sh");
const HOST: &str = include_str!("host.sh");

/// `rounds` rounds, the last `button` of them by the attention button, in a guest with `cmdline`, in slots with `power`.
fn run(rounds: usize, button: usize, cmdline: &str, power: &str) -> Option<Run> {
    let lab = Lab::open()?;
    let guest = lab.guest_initrd(&format!("ROUNDS={rounds}\n{GUEST}"));
    let options = Options { files: vec![("guest".to_owned(), guest)], ..Options::default() };
    let variables = format!("ROUNDS={rounds} BUTTON={button} CMDLINE='{cmdline}' POWER={power}");
    let script = format!("{}\n{variables}\n{HOST}", super::vfio::SHELL);
    let run = lab.run_with("vtd-igb", options, &script);
    run.succeeded();
    Some(run)
}

fn assert_rounds(run: &Run, rounds: usize) {
    let console = run.file("console").replace('\r', "");
    for round in 1..=rounds {
        for line in [
            format!("\ndisk {round} a disk that came\n"),
            format!("\nno disk {round}\n"),
            format!("\ncard {round} "),
            format!("\nno card {round}\n"),
        ] {
            assert!(console.contains(&line), "{line}{console}");
        }
    }
    for sign in ["Oops", "BUG", "WARNING", "no space", "failed to assign"] {
        assert!(!console.contains(sign), "{sign}: {console}");
    }
    assert!(console.contains("thruway-guest: status 0 "), "{console}");
    // What the first round leaves (the file of the VFIO container, caches) is all that is left.
    let held: Vec<_> = run
        .stdout()
        .lines()
        .filter_map(|line| line.split_once(" descriptors "))
        .map(|(_, held)| held.to_owned())
        .collect();
    assert_eq!(held.len(), rounds);
    assert_eq!(held.first(), held.last(), "{held:?}");
}

#[test]
fn devices_come_and_go_by_surprise_and_by_the_button() {
    let (rounds, button) = if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { (105, 5) } else { (2, 1) };
    let Some(run) = run(rounds, button, "", "always") else { return };
    assert_rounds(&run, rounds);
}

#[test]
fn devices_come_and_go_where_slots_have_power_controllers_and_no_messages() {
    let Some(run) = run(1, 1, "pci=nomsi", "switched") else { return };
    assert_rounds(&run, 1);
}
