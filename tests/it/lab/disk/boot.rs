//! One boot from a disk: watched from QEMU's start to its end, and what came of it.
//!
//! The agent in the host (`agent.sh`) writes to the share what this waits for: `up`, marks of the script, `status`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thruway::sys::process::TiedChild;

/// Until the script begins. On two processors it takes 20 s.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// From then until it ends, or says the mark.
const SCRIPT_LIMIT: Duration = Duration::from_secs(900);
/// From then until the machine is off: the limit of one unit's stop (90 s), and as much again.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(180);
/// How often the share is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// When the power goes.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    mark: String,
    after: Duration,
}

impl Cut {
    /// As soon as the script says `mark NAME`.
    pub(crate) fn at(mark: &str) -> Self {
        Self { mark: mark.to_owned(), after: Duration::ZERO }
    }

    /// That much later than it would.
    pub(crate) fn later(self, by: Duration) -> Self {
        Self { after: self.after + by, ..self }
    }
}

/// What came of one boot.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The script's status; `None` when the power was cut.
    pub(crate) status: Option<i32>,
    /// From QEMU's start until the script began.
    pub(crate) up: Duration,
    /// From QEMU's start to its end.
    pub(crate) elapsed: Duration,
    share: PathBuf,
}

impl Boot {
    /// Panics with all output unless the script's status is 0.
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.status, Some(0), "{}", self.output());
        self
    }

    pub(crate) fn stdout(&self) -> String {
        text(&self.share.join("stdout"))
    }

    pub(crate) fn stderr(&self) -> String {
        text(&self.share.join("stderr"))
    }

    /// What stands behind `name` on the line of the output that begins with it.
    pub(crate) fn said(&self, name: &str) -> String {
        self.stdout()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
            .unwrap_or_else(|| panic!("nothing is said of {name}\n{}", self.output()))
    }

    /// A file that the script left in `$LAB_OUT`.
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.share.join("out").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.output()))
    }

    /// What firmware, loader and kernel wrote to the serial port.
    pub(crate) fn console(&self) -> String {
        text(&self.share.join("console"))
    }

    fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }
}

/// Watches one boot.
pub(super) struct Watch {
    share: PathBuf,
    started: Instant,
}

impl Watch {
    /// Begins now; `share` is the boot's own.
    pub(super) fn new(share: &Path) -> Self {
        Self { share: share.to_owned(), started: Instant::now() }
    }

    /// Follows the boot to the end of its shutdown, or to the `cut`.
    pub(super) fn until_the_end(&mut self, qemu: &TiedChild, cut: Option<&Cut>) -> Boot {
        self.wait(qemu, &["up"], BOOT_LIMIT, "the script had not begun");
        let up = self.started.elapsed();
        let status = match cut {
            None => {
                self.wait(qemu, &["status"], SCRIPT_LIMIT, "the script had not ended");
                let ended = qemu.wait_for(SHUTDOWN_LIMIT).unwrap();
                assert!(ended.is_some(), "{}", self.report("not off", SHUTDOWN_LIMIT));
                Some(text(&self.share.join("status")).trim().parse().unwrap())
            }
            Some(cut) => {
                let mark = format!("mark.{}", cut.mark);
                let came = self.wait(qemu, &[&mark, "status"], SCRIPT_LIMIT, "the mark had not come");
                assert_eq!(came, mark, "{}", self.report("the script ended without the mark", SCRIPT_LIMIT));
                std::thread::sleep(cut.after);
                qemu.kill();
                assert!(qemu.wait_for(SHUTDOWN_LIMIT).unwrap().is_some(), "QEMU cannot be killed");
                None
            }
        };
        Boot { status, up, elapsed: self.started.elapsed(), share: self.share.clone() }
    }

    /// Waits until one of `names` is on the share, and returns it.
    fn wait<'a>(&self, qemu: &TiedChild, names: &[&'a str], limit: Duration, else_why: &str) -> &'a str {
        let deadline = Instant::now() + limit;
        loop {
            // Before the look: what was there at QEMU's end is seen.
            let ended = qemu.wait_for(LOOK).unwrap();
            if let Some(name) = names.iter().find(|name| self.share.join(name).exists()) {
                return name;
            }
            if let Some(status) = ended {
                panic!("{}", self.report(&format!("{else_why} when QEMU ended ({status})"), limit));
            }
            assert!(Instant::now() < deadline, "{}", self.report(else_why, limit));
        }
    }

    fn report(&self, what: &str, limit: Duration) -> String {
        let console = text(&self.share.join("console"));
        let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        format!(
            "{what} (limit {} s, {} s after the start); the end of the console:\n{}\n--- stdout\n{}\n--- stderr\n{}\n--- QEMU\n{}",
            limit.as_secs(),
            self.started.elapsed().as_secs(),
            lines[lines.len().saturating_sub(30)..].join("\n"),
            text(&self.share.join("stdout")),
            text(&self.share.join("stderr")),
            text(&self.share.join("qemu.log"))
        )
    }
}

/// What a file of the share holds; nothing when it is not there.
fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
