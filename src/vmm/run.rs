//! The thread that runs the machine: signals, console and what the guest asks for, until the machine ends.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{event, mmap};
use crate::vmm::config::OnReboot;
use crate::vmm::console::Typed;
use crate::vmm::events::{Order, Request};
use crate::vmm::machine::Machine;
use crate::vmm::stats::{MachineStats, Occasion};
use crate::vmm::vcpu::{Coalesced, placement};

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reboot and the configuration says to end then.
    Reboot,
    /// The guest's kernel panicked.
    Panic,
    /// The machine could not go on; why.
    Fault(String),
    /// A signal or the user at the console ended it.
    Interrupted,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reboot => f.write_str("the guest asked for a reboot"),
            Self::Panic => f.write_str("the guest's kernel panicked"),
            Self::Fault(why) => write!(f, "the machine failed: {why}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Which descriptors of the event loop are ready.
#[derive(Debug, Default)]
struct Ready {
    signal: bool,
    request: bool,
    output: bool,
    input: bool,
    input_room: bool,
    question: bool,
}

impl Machine {
    /// Whether the console is a terminal, which is raw since the machine was built.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.console.is_terminal()
    }

    /// Runs the guest until the machine ends, then stops everything and gives everything back.
    #[must_use]
    pub fn run(self) -> ExitReason {
        self.run_reporting(&mut |_, _| ())
    }

    /// Like [`Self::run`]; `report` is told what the machine did: whenever SIGUSR1 asks, and at the end.
    #[must_use]
    pub fn run_reporting(mut self, report: &mut dyn FnMut(Occasion, &MachineStats)) -> ExitReason {
        let reason = self.start().map_or_else(
            |error| ExitReason::Fault(format!("cannot start the vCPUs: {error}")),
            |()| self.event_loop(report),
        );
        tracing::debug!(machine = self.name, %reason, "stopping");
        // No vCPU prints any more when the rest of the output is written.
        self.stop();
        self.console.flush();
        report(Occasion::End, &self.stats.read(&self.name));
        reason
    }

    fn start(&mut self) -> io::Result<()> {
        self.shared.control.set_kickers(self.cpus.iter().map(|cpu| cpu.kicker()).collect());
        // Building a machine takes far more code than running one. Not where a debugger's breakpoints may lie in the pages.
        if !cfg!(debug_assertions)
            && let Err(error) = mmap::release_startup_memory()
        {
            tracing::debug!(%error, "start-up's memory stays resident");
        }
        for cpu in self.cpus.drain(..) {
            self.threads.push(cpu.start(Arc::clone(&self.shared))?);
        }
        placement::go_before(self.priority).map_err(io::Error::other)?;
        self.shared.control.tell(Order::Run);
        Ok(())
    }

    fn event_loop(&mut self, report: &mut dyn FnMut(Occasion, &MachineStats)) -> ExitReason {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => return ExitReason::Fault(format!("poll: {error}")),
            };
            self.look_after_coalesced();
            if ready.output {
                self.console.write_out();
            }
            if ready.input_room {
                drop(self.serial.input_empty().read());
                self.console.feed(&self.serial);
            }
            if ready.input && self.console.read_in(&self.serial) == Typed::Leave {
                return ExitReason::Interrupted;
            }
            if ready.signal
                && let Some(number) = self.signals.take()
            {
                tracing::info!(signal = number, "ending the machine");
                return ExitReason::Interrupted;
            }
            if ready.question && self.question.take() {
                report(Occasion::Asked, &self.stats.read(&self.name));
            }
            if ready.request
                && let Some(request) = self.shared.control.take_request()
                && let Some(reason) = self.answer(request)
            {
                return reason;
            }
        }
    }

    /// Does what was asked for; a reason if the machine ends by it.
    fn answer(&self, request: Request) -> Option<ExitReason> {
        match request {
            Request::PowerOff => Some(ExitReason::PowerOff),
            Request::Panic => Some(ExitReason::Panic),
            Request::Fault(why) => Some(ExitReason::Fault(why)),
            Request::Reset if self.on_reboot == OnReboot::Exit => Some(ExitReason::Reboot),
            Request::Reset => {
                tracing::info!(machine = self.name, "resetting");
                let error = self.reset().err()?;
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Some(ExitReason::Fault(format!("{error}: {cause}")))
            }
        }
    }

    /// Waits until something is ready, or until collected writes have to be looked after.
    fn wait(&self) -> io::Result<Ready> {
        let console = &self.console;
        let input_room = event::borrow(self.serial.input_empty());
        let (input, blocked) = (console.wanted_input(), console.blocked_output());
        // While standard output is blocked, more output is no news.
        let output = match blocked {
            Some(stdout) => PollFd::new(stdout, PollFlags::POLLOUT),
            None => PollFd::new(event::borrow(console.output_ready()), PollFlags::POLLIN),
        };
        let request = event::borrow(self.shared.control.requested());
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(request, PollFlags::POLLIN),
            output,
            PollFd::new(input_room, PollFlags::POLLIN),
            PollFd::new(self.question.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(input.map(|stdin| PollFd::new(stdin, PollFlags::POLLIN)));
        let timeout = match self.coalesces_until {
            Some(_) => PollTimeout::try_from(Coalesced::PERIOD).unwrap_or(PollTimeout::NONE),
            None => PollTimeout::NONE,
        };
        loop {
            match poll(&mut fds, timeout) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // An error or hang-up is readiness too: the read or write that follows finds out.
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            signal: next(),
            request: next(),
            output: next(),
            input_room: next(),
            question: next(),
            input: next(),
        })
    }
}
