//! What a terminal, a narrow one and a pipe see of every command that reads a host.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};

use crate::hosts::Host;
use crate::support::{program, run};

/// Commands that read a host and print what they find.
const READING: [&[&str]; 9] = [
    &["probe"],
    &["probe", "pci", "iommu"],
    &["probe", "--format", "json"],
    &["doctor"],
    &["doctor", "-v"],
    &["topology"],
    &["topology", "--format", "svg"],
    &["topology", "--format", "dot"],
    &["report", "--html", "-"],
];

fn command(host: &Host, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).arg("--root").arg(host.directory.path());
    command
}

/// A terminal of 80 columns: the end of who looks at it, and the end of the program.
fn terminal() -> (File, OwnedFd) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    (File::from(pty.master), pty.slave)
}

/// All that was written to the terminal by `child`, which has its other end to itself.
fn seen(mut master: File, mut child: Child) -> String {
    let mut bytes = Vec::new();
    // Linux answers EIO once nobody has the other end, after all that was written has been read.
    let _ = master.read_to_end(&mut bytes);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    String::from_utf8(bytes).unwrap()
}

/// What a command whose stdout is a terminal writes there.
fn on_a_terminal(host: &Host, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let (master, slave) = terminal();
    let mut command = command(host, arguments);
    let child =
        command.env("TERM", "xterm-256color").envs(variables.iter().copied()).stdout(slave).spawn().unwrap();
    drop(command); // it holds the other end too
    seen(master, child)
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let host = Host::new("shared-group");
    for arguments in READING {
        let mut child =
            command(&host, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stderr, b"", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_terminal_gets_colour_unless_it_or_its_user_wants_none() {
    let host = Host::new("vtd-igb");
    for arguments in [&["probe"][..], &["doctor"], &["topology"]] {
        assert!(on_a_terminal(&host, arguments, &[]).contains('\x1b'), "{arguments:?}");
        for none in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let text = on_a_terminal(&host, arguments, &[none]);
            assert!(!text.contains('\x1b') && !text.is_empty(), "{arguments:?} with {none:?}: {text:?}");
        }
    }
}

#[test]
fn a_terminal_is_not_overrun() {
    let host = Host::new("shared-group");
    for arguments in [&["probe"][..], &["topology"]] {
        for line in on_a_terminal(&host, arguments, &[("NO_COLOR", "1")]).lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn trees_and_differences_fit_narrow_and_wide() {
    let host = Host::new("shared-group");
    let directory = tempfile::tempdir().unwrap();
    let before = directory.path().join("before.tar.gz");
    let captured = run(command(&host, &["capture"]).arg("-o").arg(&before), b"");
    assert_eq!(captured.code, Some(0), "{}", captured.stderr);
    std::fs::write(host.directory.path().join("proc/cmdline"), "quiet splash ".repeat(40)).unwrap();
    for width in [80, 200] {
        let diff = host.ask(width, &["probe", "--diff", before.to_str().unwrap()]);
        assert_eq!(diff.code, Some(1), "{}", diff.stderr);
        for line in host.ask(width, &["topology"]).stdout.lines().chain(diff.stdout.lines()) {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
}

/// Whether a line of progress was shown depends on how fast this machine is; that it is gone does not.
#[test]
fn no_progress_is_left_on_a_terminal_and_none_comes_where_there_is_no_terminal() {
    let host = Host::new("vtd-igb");
    for arguments in READING {
        let (master, slave) = terminal();
        let mut on_terminal = command(&host, arguments);
        let child = on_terminal.env("TERM", "xterm").stdout(Stdio::null()).stderr(slave).spawn().unwrap();
        drop(on_terminal);
        let said = seen(master, child);
        let left = said.rsplit("\x1b[2K").next().unwrap_or_default();
        assert_eq!(left.trim(), "", "{arguments:?}: {said:?}");
        assert_eq!(run(&mut command(&host, arguments), b"").stderr, "", "{arguments:?}");
    }
}
