//! The emulated host as a process: status, streams, limits, and that nothing of it stays behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thruway::rehearse::{Ending, Hardware, Options};

use super::Lab;
use crate::support::PROGRAM;

#[test]
fn streams_status_and_files_come_back_as_the_command_left_them() {
    let Some(lab) = Lab::open() else { return };
    let options = Options { files: vec![("greeting".to_owned(), b"hello".to_vec())], ..Options::default() };

    let run = lab.run_with(
        "no-iommu",
        options,
        r#"
        cat "$LAB_IN/greeting"
        printf 'no line end' >&2
        seq -f 'line %.0f' 0 19999 >"$LAB_OUT/many"
        cat "$LAB_OUT/many"
        printf '\000\377\r\n\004'
        command -v thruway >/dev/null || exit 1
        touch /usr/written || exit 2
        exit 77
        "#,
    );

    assert_eq!(run.status(), 77);
    assert_eq!(run.stderr(), "no line end");
    let lines: String = (0..20000).map(|line| format!("line {line}\n")).collect();
    assert_eq!(run.file("many"), lines);
    let expected = [b"hello", lines.as_bytes(), b"\x00\xff\r\n\x04"].concat();
    assert!(run.outcome.stdout == expected, "{} bytes, not {}", run.outcome.stdout.len(), expected.len());
    assert!(!fs::exists("/usr/written").unwrap(), "the machine's own files are never written");
}

#[test]
fn a_command_that_does_not_end_is_told_from_a_host_that_died() {
    let Some(lab) = Lab::open() else { return };
    let options = Options { limit: Some(Duration::from_secs(1)), ..Options::default() };

    let late = lab.run_with("no-iommu", options, "echo begun; sleep 600");
    let died = lab.run(
        "no-iommu",
        "echo begun; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 600",
    );

    assert_eq!(late.outcome.ending, Ending::TimedOut(Duration::from_secs(1)));
    assert_eq!(late.stdout(), "begun\n");
    assert!(matches!(died.outcome.ending, Ending::Died(_)), "{:?}", died.outcome.ending);
    assert!(died.outcome.console.contains("sysrq triggered crash"), "{}", died.outcome.console);
    assert!(died.outcome.status().unwrap_err().to_string().contains("died without a status"));
}

/// The emulators among the children of process `parent`.
fn emulators(parent: u32) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let (name, rest) = stat(*pid).unwrap_or_default();
        name.starts_with("qemu") && rest.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}

/// Name of a process, and the fields of its `stat` behind it: state, parent, ..
fn stat(pid: i32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), rest.to_owned()))
}

/// Whether a process runs; one that ended and was not reaped yet does not.
fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn killing_the_tool_leaves_no_emulator_behind() {
    let Some(lab) = Lab::open() else { return };
    let _room = lab.room(&Hardware::load("no-iommu").unwrap());
    let mut tool = Command::new(PROGRAM)
        .args(["rehearse", "--hardware", "no-iommu", "--", "sh", "-c", "echo up; sleep 600"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(tool.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let found = emulators(tool.id());

    tool.kill().unwrap();
    tool.wait().unwrap();

    assert_eq!((first.as_str(), found.len()), ("up\n", 1), "it ran, with one emulator");
    // The kernel sends the signal at once; to free its memory takes the process a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while runs(found[0]) {
        assert!(Instant::now() < deadline, "the emulator {} is still there", found[0]);
        std::thread::sleep(Duration::from_millis(20));
    }
}
