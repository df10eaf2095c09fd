//! Devices come into the slots of a running Linux guest and go again: a virtio disk that is let go, a virtual function that is
//! torn out or let go, in slots with and without a power controller; and nothing of them stays in the process.
//!
//! Two rounds; with `THRUWAY_TEST_SOAK=1` (`tests/run --soak`) a hundred and five.

use std::time::Duration;

use thruway::rehearse::Options;

use super::Lab;

const GUEST: &str = include_str!("guest.sh");
const HOST: &str = include_str!("host.sh");

#[test]
fn devices_come_and_go_by_presence_by_the_button_and_by_surprise() {
    let Some(lab) = Lab::open() else { return };
    let (rounds, button) = if std::env::var_os("THRUWAY_TEST_SOAK").is_some() { (105, 5) } else { (2, 1) };
    let limit = Some(Duration::from_secs(800 + 60 * rounds));
    let files = vec![("guest".to_owned(), lab.guest_initrd(GUEST))];
    let script = format!("{}\nROUNDS={rounds} BUTTON={button}\n{HOST}", super::vfio::SHELL);
    let run = lab.run_with("vtd-igb", Options { files, limit, ..Options::default() }, &script);
    run.succeeded();
    for (power, rounds) in [("always", rounds), ("switched", 1)] {
        let console = run.file(power).replace('\r', "");
        for round in 1..=rounds {
            for line in [
                format!("\ndisk {round} a disk that came"),
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
        let slots = &run.json(&format!("{power}.json"))["data"]["slots"];
        assert_eq!(slots[0]["devices"][0], "virtio-block(/tmp/boot.img)", "{slots}");
        assert_eq!(
            (&slots[1]["devices"][0], slots[1]["leaving"].as_bool()),
            (&serde_json::Value::Null, Some(false))
        );
    }
    let text = run.stdout();
    let held: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("always "))
        .filter_map(|line| line.split_once(" descriptors "))
        .map(|(_, held)| held)
        .collect();
    assert_eq!(held.len(), usize::try_from(rounds).unwrap());
    assert_eq!(held.first(), held.last(), "{held:?}");
    assert_eq!(text.matches("refused 3\n").count(), 5, "{text}");
    let refused = run.file("refused");
    for reason in [
        "no machine answers at /tmp/vm.sock",
        "no slot is free",
        "virtio-console cannot be plugged in",
        "the guest does not listen to the button of slot 1",
        "there is no slot 9",
    ] {
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
}
