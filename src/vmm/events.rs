//! How vCPU threads and the thread that runs the machine talk: requests one way, orders the other.
//!
//! A vCPU whose guest asked for a reset, or that failed, leaves a [`Request`] and waits; the machine's thread picks it up and
//! gives an [`Order`] to all vCPUs. An order is carried out by each vCPU thread for its own vCPU.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::kvm::Kicker;
use crate::vmm::boot::Entry;

/// What the guest asks of the machine, or what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Power off.
    PowerOff,
    /// Reset; a triple fault counts as that.
    Reset,
    /// The guest's kernel panicked.
    Panic,
    /// End with the result that the guest wrote to its test port.
    DebugExit,
    /// The machine cannot go on; why.
    Fault(String),
}

/// What all vCPUs shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run the guest.
    Run,
    /// Stay out of the guest.
    Park,
    /// Go back to the power-on state; the first vCPU to this entry point. Then stay out of the guest.
    Reset(Entry),
    /// End the thread.
    Quit,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Counts orders, so that a thread knows which it has carried out.
    number: u64,
    /// Threads that have carried out the current order.
    done: usize,
    request: Option<Request>,
}

/// The place where both sides meet.
#[derive(Debug)]
pub struct Control {
    /// Innermost lock.
    state: Mutex<State>,
    changed: Condvar,
    /// Signalled when a request is left.
    requested: EventFd,
    kickers: OnceLock<Vec<Kicker>>,
}

/// Not every vCPU answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only {done} of {count} vCPUs stopped within {seconds} s")]
pub struct Unresponsive {
    /// Threads that did.
    pub done: usize,
    /// All threads.
    pub count: usize,
    /// How long was waited, in seconds.
    pub seconds: u64,
}

/// A vCPU thread's own memory of what it has carried out.
#[derive(Debug, Default)]
pub struct Obeyed(u64);

impl Control {
    /// Nothing asked, nothing ordered but to park.
    ///
    /// # Errors
    /// What eventfd(2) answered.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State { order: Order::Park, number: 0, done: 0, request: None }),
            changed: Condvar::new(),
            requested: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            kickers: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to get each vCPU out of guest mode. Given once, before the first order.
    pub fn set_kickers(&self, kickers: Vec<Kicker>) {
        drop(self.kickers.set(kickers));
    }

    /// Leaves a request. The first one counts until it is taken.
    pub fn request(&self, request: Request) {
        self.lock().request.get_or_insert(request);
        drop(self.requested.write(1));
    }

    /// Readable when a request waits.
    #[must_use]
    pub fn requested(&self) -> &EventFd {
        &self.requested
    }

    /// Takes the request that waits.
    #[must_use]
    pub fn take_request(&self) -> Option<Request> {
        drop(self.requested.read());
        self.lock().request.take()
    }

    fn kickers(&self) -> &[Kicker] {
        self.kickers.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Gives an order and waits for nobody: [`Order::Run`], [`Order::Quit`].
    pub fn tell(&self, order: Order) {
        let mut state = self.lock();
        state.order = order;
        state.number += 1;
        state.done = 0;
        drop(state);
        self.changed.notify_all();
        for kicker in self.kickers() {
            kicker.kick();
        }
    }

    /// Gives an order and waits until all vCPUs have carried it out: [`Order::Park`], [`Order::Reset`].
    ///
    /// # Errors
    /// [`Unresponsive`] after ten seconds.
    pub fn order(&self, order: Order) -> Result<(), Unresponsive> {
        const LIMIT: Duration = Duration::from_secs(10);
        self.tell(order);
        let kickers = self.kickers();
        let mut state = self.lock();
        let end = Instant::now() + LIMIT;
        while state.done < kickers.len() {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                let (done, count) = (state.done, kickers.len());
                return Err(Unresponsive { done, count, seconds: LIMIT.as_secs() });
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Waits on a vCPU's thread for an order that it has not carried out, then says which. `Run` comes back at once if that
    /// is the standing order and `waiting` is not asked for.
    pub fn next_order(&self, obeyed: &mut Obeyed, wait: Wait) -> Order {
        let mut state = self.lock();
        while obeyed.0 == state.number && (wait == Wait::ForNew || state.order != Order::Run) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        obeyed.0 = state.number;
        state.order
    }

    /// Wakes the first vCPU, in guest mode or halted: an interrupt waits for it. Any thread may call it; nothing happens where
    /// that thread is the vCPU's own.
    pub fn wake_first(&self) {
        // Under the lock, so that a vCPU that is about to halt sees the interrupt or this.
        drop(self.lock());
        self.changed.notify_all();
        if let Some(first) = self.kickers().first() {
            first.kick_from_elsewhere();
        }
    }

    /// Waits on a vCPU's thread for an order that it has not carried out, or until `awake`: the guest halted.
    /// [`Self::wake_first`] has `awake` asked again; it must take no lock.
    pub fn halt(&self, obeyed: &Obeyed, awake: impl Fn() -> bool) {
        let mut state = self.lock();
        while obeyed.0 == state.number && !awake() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that the calling vCPU thread has carried out the order that it got last.
    pub fn carried_out(&self) {
        self.lock().done += 1;
        self.changed.notify_all();
    }
}

/// Whether a vCPU thread goes on under the standing order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A standing order to run is good enough.
    ForRun,
    /// Only a new order counts: this thread left a request.
    ForNew,
    /// The guest halted: an interrupt is good enough, see [`Control::halt`].
    ForInterrupt,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_first_request_counts_until_it_is_taken() {
        let control = Control::new().unwrap();
        control.request(Request::Panic);
        control.request(Request::Reset);
        assert_eq!(control.take_request(), Some(Request::Panic));
        assert_eq!(control.take_request(), None);
    }

    #[test]
    fn a_thread_that_asked_waits_for_a_new_order_and_others_go_on() {
        let control = Arc::new(Control::new().unwrap());
        control.tell(Order::Run);
        let mut obeyed = Obeyed::default();
        assert_eq!(control.next_order(&mut obeyed, Wait::ForRun), Order::Run);
        assert_eq!(control.next_order(&mut obeyed, Wait::ForRun), Order::Run, "stands");
        let waiting = std::thread::spawn({
            let control = Arc::clone(&control);
            move || control.next_order(&mut obeyed, Wait::ForNew)
        });
        control.tell(Order::Quit);
        assert_eq!(waiting.join().unwrap(), Order::Quit);
    }
}
