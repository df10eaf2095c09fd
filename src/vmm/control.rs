//! What is asked of a machine from outside while it runs: a handle for other threads, and the machine's end of it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::{fmt, io};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event;
use crate::vmm::config::DeviceConfig;
use crate::vmm::slots::{Departure, SlotError, SlotState};

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// What is in which slot.
    Slots,
    /// Put a device into a free slot.
    Attach(Box<DeviceConfig>),
    /// Take the device out of a slot.
    Detach {
        /// The number of the slot.
        slot: u8,
        /// How it leaves.
        departure: Departure,
    },
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// All slots.
    Slots(Vec<SlotState>),
    /// The slot that was filled or emptied.
    Slot(u8),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It could not be.
    #[error(transparent)]
    Refused(#[from] SlotError),
    /// The machine ended before it answered.
    #[error("the machine ended")]
    Ended,
}

/// Where an answer goes. Dropped without one, it says that the machine ended.
pub struct Reply(Sender<Result<Answer, SlotError>>);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl Reply {
    /// Who asked may be gone.
    fn send(self, answer: Result<Answer, SlotError>) {
        drop(self.0.send(answer));
    }

    pub(super) fn slot(self, number: u8) {
        self.send(Ok(Answer::Slot(number)));
    }

    pub(super) fn slots(self, slots: Vec<SlotState>) {
        self.send(Ok(Answer::Slots(slots)));
    }

    pub(super) fn refuse(self, error: SlotError) {
        self.send(Err(error));
    }
}

/// A handle to a machine, for any thread.
#[derive(Debug, Clone)]
pub struct Remote {
    asks: Sender<(Ask, Reply)>,
    bell: Arc<EventFd>,
}

impl Remote {
    /// Asks, and waits for the answer: as long as the guest takes, where it has to agree.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn ask(&self, ask: Ask) -> Result<Answer, ControlError> {
        let (reply, answer) = mpsc::channel();
        self.asks.send((ask, Reply(reply))).map_err(|_| ControlError::Ended)?;
        // A full counter is as good as another ring.
        drop(self.bell.write(1));
        Ok(answer.recv().map_err(|_| ControlError::Ended)??)
    }
}

/// The machine's end.
#[derive(Debug)]
pub(super) struct Inbox {
    asks: Receiver<(Ask, Reply)>,
    remote: Remote,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, asks) = mpsc::channel();
        let bell = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        Ok(Self { asks, remote: Remote { asks: sender, bell } })
    }

    pub(super) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Readable when something was asked.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        event::borrow(&self.remote.bell)
    }

    /// What was asked since the last time.
    pub(super) fn take(&self) -> Vec<(Ask, Reply)> {
        drop(self.remote.bell.read());
        self.asks.try_iter().collect()
    }
}
