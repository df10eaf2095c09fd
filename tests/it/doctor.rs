//! `thruway doctor --root` on the hosts in `tests/hosts`: what is printed, to the letter, and what it means.

use serde_json::Value;

use crate::hosts::{self, Host};
use crate::support::{assert_golden, thruway};

fn document(host: &Host, arguments: &[&str]) -> Value {
    let run = host.ask(100, &[&["doctor", "--format", "json"], arguments].concat());
    assert_eq!(run.stderr, "");
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn everything_about_each_host() {
    for name in hosts::all() {
        let run = Host::new(name).ask(100, &["doctor"]);
        assert_eq!(run.stderr, "", "{name}");
        assert_golden(format!("tests/golden/doctor/{name}.txt"), &run.stdout);
    }
}

#[test]
fn one_function_of_each_kind() {
    for (host, address) in [
        ("vtd-igb", "0000:01:00.0"),
        ("vtd-igb", "0000:03:00.0"),
        ("vtd-igb", "0000:00:1f.2"),
        ("vtd-reserved-memory", "0000:01:00.0"),
        ("shared-group", "0000:02:00.0"),
        ("intel-off", "0000:01:00.0"),
        ("container", "0000:01:00.0"),
    ] {
        let run = Host::new(host).ask(100, &["doctor", "--for", address]);
        assert_eq!(run.stderr, "", "{host} {address}");
        let file = address.replace(':', "-");
        assert_golden(format!("tests/golden/doctor/{host}-for-{file}.txt"), &run.stdout);
    }
}

#[test]
fn the_code_is_1_exactly_when_something_failed() {
    for name in hosts::all() {
        let host = Host::new(name);
        let failed = document(&host, &[])["data"]["counts"]["fail"].as_u64().unwrap();
        assert_eq!(host.ask(100, &["doctor"]).code, Some(i32::from(failed > 0)), "{name}: {failed} failed");
    }
}

#[test]
fn the_document_counts_what_it_lists_and_every_finding_is_whole() {
    for name in hosts::all() {
        let document = document(&Host::new(name), &[]);
        assert_eq!((&document["schema"], &document["schema_version"]), (&"thruway.doctor".into(), &1.into()));
        let findings = document["data"]["findings"].as_array().unwrap();
        for status in ["pass", "warn", "fail", "unknown", "not_applicable"] {
            let listed = findings.iter().filter(|finding| finding["status"] == status).count();
            assert_eq!(document["data"]["counts"][status], listed, "{name}: {status}");
        }
        for finding in findings {
            assert!(finding["id"].is_string() && finding["summary"].is_string(), "{name}: {finding}");
            for evidence in finding["evidence"].as_array().unwrap() {
                assert!(evidence["source"].is_string() && evidence["value"].is_string(), "{name}: {finding}");
            }
            assert!(finding["remedy"].is_array(), "{name}: {finding}");
        }
        for verdict in ["kvm", "iommu"] {
            let verdict = &document["data"]["verdicts"][verdict];
            assert!(verdict["usable"].is_boolean() || verdict["usable"].is_null(), "{name}: {verdict}");
            assert!(verdict["reason"].is_string(), "{name}: {verdict}");
        }
    }
}

#[test]
fn what_passing_a_function_through_costs_stands_in_the_document() {
    let host = Host::new("shared-group");
    let assignment = &document(&host, &["--for", "02:00.0"])["data"]["assignment"];
    assert_eq!(assignment["iommu_group"], 1);
    let along: Vec<_> = assignment["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|member| member["role"] == "goes_along")
        .map(|member| member["device"].as_str().unwrap())
        .collect();
    assert_eq!(along, ["0000:01:00.0", "0000:03:00.0"]);
}

#[test]
fn tables_fit_their_terminal() {
    for name in hosts::all() {
        let host = Host::new(name);
        for width in [80, 200] {
            for line in host.ask(width, &["doctor"]).stdout.lines() {
                // A path, an option and a command are never broken.
                let breakable = line.trim_start().split(' ').all(|word| word.chars().count() < 60);
                let fits = line.chars().count() <= usize::from(width);
                assert!(fits || !breakable, "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn colour_comes_only_when_asked_for() {
    let host = Host::new("intel-off");
    assert!(!host.ask(100, &["doctor"]).stdout.contains('\x1b'));
    assert!(host.ask(100, &["--color", "always", "doctor"]).stdout.contains('\x1b'));
}

#[test]
fn a_function_that_is_not_there_is_wrong_usage() {
    let run = Host::new("vtd-igb").ask(100, &["doctor", "--for", "0000:ff:00.0"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("0000:ff:00.0"), "{}", run.stderr);
}

#[test]
fn a_purpose_that_is_none_is_wrong_usage_and_names_those_that_are() {
    let run = thruway(["doctor", "--for", "gpu"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("kvm, vfio, sriov, performance"), "{}", run.stderr);
}

#[test]
fn a_check_that_is_not_there_is_wrong_usage() {
    let run = thruway(["doctor", "--explain", "nonsense"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("`nonsense`") && run.stderr.contains("--list"), "{}", run.stderr);
}

#[test]
fn the_list_and_each_explanation_name_every_check() {
    let run = thruway(["doctor", "--list", "--format", "json"]);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let host = Host::new("vtd-igb");
    for check in document["data"]["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        let explained = host.ask(100, &["doctor", "--explain", id]);
        assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""), "{id}");
        assert!(explained.stdout.starts_with(&format!("{id}: ")), "{}", explained.stdout);
    }
}
