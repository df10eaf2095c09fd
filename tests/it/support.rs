//! What the tests share: running the program, comparing with committed files, saying that a test was skipped.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_thruway");

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program in an environment that holds nothing but `PATH` and a home without settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs the program.
pub(crate) fn thruway<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    run(program().args(arguments), b"")
}

/// Runs `command` with `input` on stdin.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input))); // it may have seen enough
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asserts that `actual` is what the committed file `path` (from the root) holds. With `UPDATE_GOLDEN=1` in the
/// environment the file is rewritten instead: look at the diff before you commit it.
pub(crate) fn assert_golden(path: impl AsRef<Path>, actual: &str) {
    let path: PathBuf = root().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; UPDATE_GOLDEN=1 cargo test rewrites it\n{}",
        path.display(),
        first_difference(&expected, actual)
    );
}

fn first_difference(expected: &str, actual: &str) -> String {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), actual.next()) {
            (None, None) => return "only the ends of lines differ".to_owned(),
            (old, new) if old == new => {}
            (old, new) => {
                let shown = |line: Option<&str>| line.map_or("(end of file)".to_owned(), str::to_owned);
                return format!("line {number}\n  committed: {}\n  now:       {}", shown(old), shown(new));
            }
        }
    }
}

/// Says that the rest of a test needs what this machine lacks. Under the README's test command, which brings what is
/// missing (`THRUWAY_TEST_LAB=required`), that is a failure.
pub(crate) fn skip(why: &str) {
    let required = std::env::var_os("THRUWAY_TEST_LAB").is_some_and(|value| value == "required");
    assert!(!required, "{why}, and THRUWAY_TEST_LAB=required");
    println!("SKIP: {why}");
}
