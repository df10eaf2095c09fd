//! The thread that runs the machine: signals, console and what the guest asks for, until the machine ends.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::signal::UserSignal;
use crate::sys::{event, mmap};
use crate::vmm::chipset::power::Attention;
use crate::vmm::config::OnReboot;
use crate::vmm::console::{Port, PortEvent, Readiness, Typed};
use crate::vmm::control::Ask;
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
    /// The guest ended it by its test port, with this exit code.
    DebugExit(u8),
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
            Self::DebugExit(code) => write!(f, "the guest ended the machine with code {code}"),
            Self::Fault(why) => write!(f, "the machine failed: {why}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// What the event loop wakes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Signal,
    Request,
    User,
    /// Something was asked from outside.
    Asked,
    /// The guest let a device go.
    LetGo,
    /// Of the console at this position.
    Port(usize, PortEvent),
}

impl Machine {
    /// Whether the console is a terminal, which is raw since the machine was built.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.ports.iter().any(Port::is_terminal)
    }

    /// What the user has to know to use the machine's consoles.
    pub fn console_notes(&self) -> impl Iterator<Item = String> {
        self.ports.iter().filter_map(Port::note)
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
        for port in &mut self.ports {
            port.flush();
        }
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
            for event in ready {
                if let Some(reason) = self.handle(event, report) {
                    return reason;
                }
            }
        }
    }

    /// Does what `event` asks for; a reason if the machine ends by it.
    fn handle(
        &mut self,
        event: Event,
        report: &mut dyn FnMut(Occasion, &MachineStats),
    ) -> Option<ExitReason> {
        match event {
            Event::Port(index, event) => match self.ports.get_mut(index)?.handle(event) {
                Typed::Input => {}
                Typed::Leave => return Some(ExitReason::Interrupted),
                Typed::PowerButton => self.press_power_button(),
            },
            Event::Signal => {
                let number = self.signals.take()?;
                tracing::info!(signal = number, "ending the machine");
                return Some(ExitReason::Interrupted);
            }
            Event::User => match self.user_signals.take()? {
                UserSignal::Report => report(Occasion::Asked, &self.stats.read(&self.name)),
                UserSignal::PowerButton => self.press_power_button(),
            },
            Event::Asked => {
                for (ask, reply) in self.inbox.take() {
                    match ask {
                        Ask::Slots => reply.slots(self.slots.list()),
                        Ask::Attach(device) => match self.slots.attach(*device) {
                            Ok(slot) => reply.slot(slot),
                            Err(error) => reply.refuse(error),
                        },
                        Ask::Detach { slot, departure } => self.slots.detach(slot, departure, reply),
                    }
                }
            }
            Event::LetGo => self.slots.settle(),
            Event::Request => {
                let request = self.shared.control.take_request()?;
                return self.answer(request);
            }
        }
        None
    }

    fn press_power_button(&self) {
        match self.power.press_power_button() {
            Attention::Listens => tracing::info!(machine = self.name, "power button pressed"),
            Attention::Deaf => {
                tracing::warn!(machine = self.name, "power button pressed; the guest does not listen to it");
            }
        }
    }

    /// Does what was asked for; a reason if the machine ends by it.
    fn answer(&mut self, request: Request) -> Option<ExitReason> {
        match request {
            Request::PowerOff => Some(ExitReason::PowerOff),
            Request::Panic => Some(ExitReason::Panic),
            Request::DebugExit => {
                Some(ExitReason::DebugExit(self.debug_exit.as_ref().map_or(1, |port| port.code())))
            }
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
    fn wait(&self) -> io::Result<Vec<Event>> {
        let request = event::borrow(self.shared.control.requested());
        let mut events = vec![Event::Signal, Event::Request, Event::User, Event::Asked];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(request, PollFlags::POLLIN),
            PollFd::new(self.user_signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inbox.bell(), PollFlags::POLLIN),
        ];
        if let Some(let_go) = self.slots.let_go() {
            events.push(Event::LetGo);
            fds.push(PollFd::new(let_go, PollFlags::POLLIN));
        }
        for (index, port) in self.ports.iter().enumerate() {
            for (event, fd, readiness) in port.events() {
                events.push(Event::Port(index, event));
                fds.push(PollFd::new(
                    fd,
                    match readiness {
                        Readiness::Read => PollFlags::POLLIN,
                        Readiness::Write => PollFlags::POLLOUT,
                    },
                ));
            }
        }
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
        let ready = events.into_iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(true));
        // What the guest printed comes out before the machine ends by its request.
        let mut ready: Vec<Event> = ready.map(|(event, _)| event).collect();
        ready.sort_by_key(|event| !matches!(event, Event::Port(..)));
        Ok(ready)
    }
}
