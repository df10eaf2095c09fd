//! `thruway groups --root` on the hosts in `tests/hosts`.

use serde_json::{Value, json};

use crate::hosts::Host;

fn why(host: &Host, addresses: &[&str]) -> Value {
    let run = host.ask(100, &[&["groups", "--format", "json", "--why"], addresses].concat());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    serde_json::from_str::<Value>(&run.stdout).unwrap()
}

#[test]
fn a_shared_group_is_explained_by_its_ports_and_their_slot() {
    let document = why(&Host::new("shared-group"), &["01:00.0"]);
    assert_eq!(document["schema"], "thruway.group");
    let causes: Vec<_> = document["data"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| json!([cause["kind"], cause["function"]]))
        .collect();
    assert_eq!(
        causes,
        [
            json!(["port_lacks_acs", "0000:00:02.0"]),
            json!(["port_lacks_acs", "0000:00:02.1"]),
            json!(["port_lacks_acs", "0000:00:02.2"]),
            json!(["functions_share_slot", "0000:00:02.0"]),
        ]
    );
    assert_eq!(document["data"]["path"], json!(["0000:00:02.0", "0000:01:00.0"]));
}

#[test]
fn two_functions_are_in_one_group_or_in_two() {
    let host = Host::new("shared-group");
    assert_eq!(why(&host, &["01:00.0", "03:00.0"])["data"]["together"], true);
    let apart = why(&host, &["01:00.0", "06:01.0"]);
    assert_eq!((&apart["schema"], &apart["data"]["together"]), (&json!("thruway.group_pair"), &json!(false)));
}

#[test]
fn without_privilege_no_port_is_said_to_lack_anything() {
    let run = Host::new("container").ask(100, &["groups", "--format", "json"]);
    assert_eq!(run.code, Some(0));
    assert!(!run.stdout.contains("port_lacks_acs"), "{}", run.stdout);
}

#[test]
fn a_function_that_is_not_there_is_wrong_usage() {
    for arguments in [&["groups", "--why", "ff:00.0"][..], &["groups", "--why", "slot 1"]] {
        let run = Host::new("vtd-igb").ask(100, arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[test]
fn lines_fit_the_terminal() {
    for (name, address) in [("shared-group", "06:01.0"), ("vtd-igb", "01:10.0"), ("malformed", "00:00.0")] {
        let host = Host::new(name);
        for arguments in [&["groups"][..], &["groups", "--why", address]] {
            for line in host.ask(80, arguments).stdout.lines() {
                assert!(line.chars().count() <= 80, "{name}, {arguments:?}: {line}");
            }
        }
    }
}
