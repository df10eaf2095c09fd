//! The program from outside: exit codes, which stream takes what, colour, closed pipes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{program, run, thruway};

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    for argument in ["--help", "-h", "--version", "-V"] {
        let run = thruway([argument]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{argument}");
        assert!(!run.stdout.is_empty(), "{argument}");
    }
}

#[test]
fn wrong_usage_goes_to_stderr_and_is_exit_code_2() {
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        &[],
        &["profile"],
        &["profile", "check"],
        &["-q", "-v", "profile", "list"],
    ] {
        let run = thruway(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_profile_is_exit_code_2_and_says_nothing_on_stdout() {
    let run = thruway(["profile", "show", "nonsense"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.starts_with("error: there is no profile called `nonsense`"), "{}", run.stderr);
}

#[test]
fn no_style_leaks_into_pipes_unless_it_is_asked_for() {
    let plain = thruway(["profile", "check", "nonsense"]);
    assert!(!plain.stderr.contains('\u{1b}'), "{:?}", plain.stderr);
    let styled = thruway(["--color", "always", "profile", "check", "nonsense"]);
    assert!(styled.stderr.contains('\u{1b}'), "{:?}", styled.stderr);
    let help = thruway(["--color=always", "--help"]);
    assert!(help.stdout.contains('\u{1b}'), "{:?}", help.stdout);
}

#[test]
fn a_color_option_wins_over_the_environment() {
    let run =
        run(program().env("NO_COLOR", "1").args(["--color=always", "profile", "check", "nonsense"]), b"");
    assert!(run.stderr.contains('\u{1b}'), "{:?}", run.stderr);
}

#[test]
fn a_closed_pipe_is_success() {
    let mut child = program()
        .args(["profile", "show", "sriov-nic"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_full_disk_is_an_error_with_its_cause() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program().args(["profile", "list"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(said.starts_with("error: cannot write to stdout\n  because: No space left on device"), "{said}");
}

#[test]
fn a_reader_that_stops_early_ends_the_program_with_success() {
    let mut child =
        program().args(["generate", "completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn every_document_has_the_same_envelope_in_json_and_yaml() {
    for command in [&["profile", "list"][..], &["profile", "show", "nvme"], &["profile", "check", "minimal"]]
    {
        let json = thruway(command.iter().chain(&["--format", "json"]));
        let yaml = thruway(command.iter().chain(&["--format", "yaml"]));
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let yaml: serde_json::Value = serde_yaml::from_str(&yaml.stdout).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(
            json.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["schema", "schema_version", "tool_version", "data"]
        );
    }
}

#[test]
fn a_check_in_json_reports_each_profile_and_fails_if_one_is_wrong() {
    let run = thruway(["profile", "check", "minimal", "nonsense", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, Some(2));
    assert_eq!(document["data"][0]["valid"], true);
    assert_eq!(document["data"][1]["valid"], false);
    assert!(document["data"][1]["error"].as_str().unwrap().contains("nonsense"));
}
