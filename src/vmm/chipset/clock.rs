//! Time for the devices of the chipset: what they read, and a thread that wakes them when something of theirs is due.
//!
//! A device keeps no thread: it says when it wants to be woken, does what is due when it is, and calls [`Waker::wake`]
//! where a register access made something due earlier. Time comes in by [`Now`], so that tests make their own.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const STACK_BYTES: usize = 64 << 10;
/// Longest sleep while something is to come: the host's calendar can be set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Least time between two wake-ups of a device's own choice: a guest cannot keep the host busy by a short period.
pub const MIN_INTERVAL: Duration = Duration::from_micros(100);

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since the machine was built; never goes back.
    pub uptime: Duration,
    /// Since 1970-01-01 00:00 UTC, by the host's calendar, which can be set.
    pub calendar: Duration,
}

/// Where a device gets its time from.
pub trait Clock: Send + Sync {
    /// The moment of the call.
    fn now(&self) -> Now;
}

/// The host's clocks.
#[derive(Debug)]
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> Now {
        let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { uptime: self.0.elapsed(), calendar }
    }
}

/// A device in which things become due.
pub trait Timed: Send + Sync {
    /// Does what is due. How long it is from now to what comes next; none if nothing will by itself. Called from the
    /// thread of [`Alarms`], which holds no lock.
    fn expire(&self) -> Option<Duration>;
}

#[derive(Default)]
struct State {
    devices: Vec<Weak<dyn Timed>>,
    woken: bool,
    paused: bool,
    quit: bool,
}

#[derive(Default)]
struct Shared {
    /// Innermost lock.
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut sleep = None;
        loop {
            let state = self.lock();
            let idle = |state: &mut State| !state.quit && (state.paused || !state.woken);
            let mut state = match sleep {
                Some(sleep) => {
                    let (state, _) = self
                        .changed
                        .wait_timeout_while(state, sleep, idle)
                        .unwrap_or_else(PoisonError::into_inner);
                    // A pause has no end of its own.
                    self.changed.wait_while(state, |state| state.paused && !state.quit)
                }
                None => self.changed.wait_while(state, idle),
            }
            .unwrap_or_else(PoisonError::into_inner);
            if state.quit {
                return;
            }
            state.woken = false;
            let devices: Vec<_> = state.devices.iter().filter_map(Weak::upgrade).collect();
            drop(state);
            let next = devices.iter().filter_map(|device| device.expire()).min();
            sleep = next.map(|next| next.clamp(MIN_INTERVAL, MAX_SLEEP));
        }
    }
}

/// Has the thread ask every device again what is due.
#[derive(Clone, Default)]
pub struct Waker(Arc<Shared>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Waker {
    /// Something is due earlier than was said. May be called under a device's lock.
    pub fn wake(&self) {
        self.0.lock().woken = true;
        self.0.changed.notify_all();
    }
}

/// The thread. It ends when this value is dropped.
#[derive(Debug)]
pub struct Alarms {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Alarms {
    /// A thread that has no device yet.
    ///
    /// # Errors
    /// What the kernel answered to the creation of a thread.
    pub fn new() -> io::Result<Self> {
        let waker = Waker::default();
        let thread = thread::Builder::new().name("clock".to_owned()).stack_size(STACK_BYTES).spawn({
            let shared = Arc::clone(&waker.0);
            move || shared.run()
        })?;
        Ok(Self { waker, thread: Some(thread) })
    }

    /// For a device to be built with.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Wakes `device` from now on, as long as somebody else holds it.
    pub fn add<D: Timed + 'static>(&self, device: &Arc<D>) {
        let weak = Arc::downgrade(device);
        self.waker.0.lock().devices.push(weak);
        self.waker.wake();
    }
}

impl crate::vmm::Lifecycle for Alarms {
    /// Devices are reset by themselves.
    fn reset(&self) {}

    fn pause(&self) {
        self.waker.0.lock().paused = true;
    }

    fn resume(&self) {
        self.waker.0.lock().paused = false;
        self.waker.wake();
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        self.waker.0.lock().quit = true;
        self.waker.0.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            drop(thread.join());
        }
    }
}

/// Time that a test sets, and interrupt lines that it reads.
#[cfg(test)]
pub(super) mod testing {
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::vmm::Unsupported;
    use crate::vmm::interrupt::{Connection, InterruptLine, LineController};

    /// Stands still until it is moved.
    #[derive(Debug, Default)]
    pub(in crate::vmm::chipset) struct SetClock(Mutex<Now>);

    impl SetClock {
        /// A clock that shows `seconds` since 1970.
        pub(in crate::vmm::chipset) fn at(seconds: u64) -> Arc<Self> {
            let now = Now { uptime: Duration::ZERO, calendar: Duration::from_secs(seconds) };
            Arc::new(Self(Mutex::new(now)))
        }

        pub(in crate::vmm::chipset) fn pass(&self, time: Duration) {
            let mut now = self.0.lock().unwrap();
            now.uptime += time;
            now.calendar += time;
        }
    }

    impl Clock for SetClock {
        fn now(&self) -> Now {
            *self.0.lock().unwrap()
        }
    }

    /// Every change of every line.
    #[derive(Debug, Default)]
    pub(in crate::vmm::chipset) struct Recorder(Mutex<Vec<(u32, bool)>>);

    impl Recorder {
        pub(in crate::vmm::chipset) fn line(self: &Arc<Self>, gsi: u32) -> InterruptLine {
            InterruptLine::new(gsi, Arc::clone(self) as Arc<dyn LineController>)
        }

        /// What changed since the last call.
        pub(in crate::vmm::chipset) fn take(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl LineController for Recorder {
        fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
            self.0.lock().unwrap().push((gsi, high));
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::vmm::Lifecycle;

    struct Bell {
        rung: Mutex<Sender<Instant>>,
        again: Mutex<Option<Duration>>,
    }

    impl Timed for Bell {
        fn expire(&self) -> Option<Duration> {
            let _ = self.rung.lock().unwrap().send(Instant::now());
            *self.again.lock().unwrap()
        }
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn devices_are_woken_when_they_said_or_when_they_ask_and_not_while_paused() {
        let (sender, rung) = channel();
        let alarms = Alarms::new().unwrap();
        let bell = Arc::new(Bell { rung: Mutex::new(sender), again: Mutex::new(None) });
        alarms.add(&bell);
        rung.recv_timeout(LONG).unwrap();
        assert!(rung.recv_timeout(Duration::from_millis(20)).is_err(), "nothing to come");

        *bell.again.lock().unwrap() = Some(Duration::from_millis(5));
        alarms.waker().wake();
        let first = rung.recv_timeout(LONG).unwrap();
        assert!(rung.recv_timeout(LONG).unwrap() - first >= Duration::from_millis(5));

        alarms.pause();
        thread::sleep(Duration::from_millis(20));
        while rung.try_recv().is_ok() {}
        alarms.waker().wake();
        assert!(rung.recv_timeout(Duration::from_millis(20)).is_err(), "paused");
        alarms.resume();
        rung.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn a_device_that_is_always_due_is_no_flood_and_one_that_is_gone_is_not_woken() {
        let (sender, rung) = channel();
        let alarms = Alarms::new().unwrap();
        let bell = Arc::new(Bell { rung: Mutex::new(sender), again: Mutex::new(Some(Duration::ZERO)) });
        alarms.add(&bell);
        let first = rung.recv_timeout(LONG).unwrap();
        let last = (0..20).map(|_| rung.recv_timeout(LONG).unwrap()).fold(first, |_, rung| rung);
        assert!(last - first >= 19 * MIN_INTERVAL);
        drop(bell);
        while rung.recv_timeout(Duration::from_millis(50)).is_ok() {}
    }
}
