//! What goes wrong at a write to the host for tests.

use std::io;
use std::time::Duration;

use super::{FakeKernel, errno};
use crate::setup::control::ControlError;

/// What happens at one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::setup) enum Fault {
    /// Refused with this errno.
    Errno(i32),
    /// Carried out, and an error all the same.
    DoneThenErrno(i32),
    /// Reported as a success, and nothing happens.
    Ignored,
    /// It did not return and was given up.
    GivenUp,
    /// It does not return, and the kernel never carries it out.
    HangsUndone,
    /// It does not return, and the kernel carries it out.
    HangsDone,
    /// We are killed right before it.
    KilledBefore,
    /// We are killed right after it.
    KilledAfter,
}

/// From which write on, and for how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::setup) struct Trouble {
    pub(in crate::setup) at: usize,
    pub(in crate::setup) fault: Fault,
    pub(in crate::setup) for_good: bool,
}

/// What a test is killed with.
#[derive(Debug)]
pub(in crate::setup) struct Killed;

impl FakeKernel {
    /// One write, with what was arranged for it.
    pub(super) fn attempt(
        &self,
        what: &str,
        effect: impl FnOnce() -> io::Result<()>,
        failed: impl Fn(io::Error) -> ControlError,
    ) -> Result<(), ControlError> {
        let fault = {
            let mut inner = self.inner.lock().unwrap();
            let number = inner.writes;
            inner.writes += 1;
            inner.log.push(what.to_owned());
            inner
                .trouble
                .filter(|trouble| number == trouble.at || (trouble.for_good && number > trouble.at))
                .map(|trouble| trouble.fault)
        };
        let hangs =
            |limit| ControlError::Pending { path: what.to_owned(), value: String::new(), limit, pid: 4712 };
        match fault {
            None => effect().map_err(failed),
            Some(Fault::Errno(number)) => Err(failed(errno(number))),
            Some(Fault::DoneThenErrno(number)) => {
                let _ = effect();
                Err(failed(errno(number)))
            }
            Some(Fault::Ignored) => Ok(()),
            Some(Fault::GivenUp) => Err(failed(io::ErrorKind::TimedOut.into())),
            Some(Fault::HangsUndone) => Err(hangs(Duration::from_secs(10))),
            Some(Fault::HangsDone) => {
                let _ = effect();
                Err(hangs(Duration::from_secs(10)))
            }
            Some(Fault::KilledBefore) => std::panic::panic_any(Killed),
            Some(Fault::KilledAfter) => {
                let _ = effect();
                std::panic::panic_any(Killed)
            }
        }
    }
}
