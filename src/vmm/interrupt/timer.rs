//! The timer of a PC in user space: the 8254 model ([`pit`](super::pit)) with a clock, the timer's interrupt line, and ports
//! 40h to 43h and 61h.
//!
//! A thread sleeps until channel 0 is due. The times are computed from the moment at which the count was loaded, so that
//! they do not drift; a thread that is late interrupts once and goes on in time. Interrupts are no closer together than
//! [`MIN_INTERVAL`], so that a guest cannot keep the host busy by a count of 1.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Bus, BusDevice, Effects, IoError, RangeError};
use crate::vmm::interrupt::InterruptLine;
use crate::vmm::interrupt::pit::{FREQUENCY_HZ, Pit};
use crate::vmm::interrupt::ports::{bytes_of, each_byte};

/// The timer's ISA interrupt.
pub const GSI: u32 = 0;
/// Least time between two interrupts: the shortest period that a guest gets.
pub const MIN_INTERVAL: Duration = Duration::from_micros(100);

/// Ports (ICH9, 316972-004, 13.3 and 13.7.1).
const COUNTERS: u16 = 0x40;
const PORT_61: u16 = 0x61;

const STACK_BYTES: usize = 64 << 10;
const NANOSECONDS: u128 = 1_000_000_000;

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(FREQUENCY_HZ) / NANOSECONDS).unwrap_or(u64::MAX)
}

/// The moment at which `ticks` have passed, not before.
fn duration(ticks: u64) -> Duration {
    let nanoseconds = (u128::from(ticks) * NANOSECONDS).div_ceil(u128::from(FREQUENCY_HZ));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[derive(Debug)]
struct State {
    pit: Pit,
    /// No interrupt before this time since the start.
    not_before: Duration,
    /// Another timer has its interrupt.
    silent: bool,
    paused: bool,
    quit: bool,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    line: InterruptLine,
    /// Order: before the line's, which is driven under it, so that nothing interrupts any more once the timer is paused.
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts if it is time to. How long it is to the next time; none if nothing counts.
    fn interrupt(&self, state: &mut State) -> Option<Duration> {
        let now = self.start.elapsed();
        if state.paused {
            return None;
        }
        if now >= state.not_before && state.pit.expire(ticks(now)) {
            if !state.silent {
                self.line.set_level(true);
                self.line.set_level(false);
            }
            state.not_before = now + MIN_INTERVAL;
        }
        let due = duration(state.pit.edge()?).max(state.not_before);
        Some(due.saturating_sub(now))
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.quit {
            let wait = self.interrupt(&mut state);
            state = match wait {
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Does something with the chip as it is at this moment.
    fn with<R>(&self, act: impl FnOnce(&mut Pit, u64) -> R) -> R {
        let mut state = self.lock();
        // What is due comes first: the access may take it away.
        self.interrupt(&mut state);
        let before = state.pit.edge();
        let result = act(&mut state.pit, ticks(self.start.elapsed()));
        if state.pit.edge() != before {
            self.changed.notify_all();
        }
        result
    }
}

/// The timer. Its thread ends when it is dropped.
#[derive(Debug)]
pub struct Timer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    /// A timer after power-on that interrupts by `line`.
    ///
    /// # Errors
    /// What the kernel answered to the creation of a thread.
    pub fn new(line: InterruptLine) -> io::Result<Self> {
        let state = State {
            pit: Pit::default(),
            not_before: Duration::ZERO,
            silent: false,
            paused: false,
            quit: false,
        };
        let shared = Arc::new(Shared {
            start: Instant::now(),
            line,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("timer".to_owned()).stack_size(STACK_BYTES).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has it keep quiet while another timer has its interrupt, or go on.
    pub fn silence(&self, silent: bool) {
        self.shared.lock().silent = silent;
    }

    /// Puts the registers on the bus of ports.
    ///
    /// # Errors
    /// [`RangeError`] if something else is there already.
    pub fn insert(&self, pio: &Bus) -> Result<(), RangeError> {
        pio.insert(COUNTERS.into(), 4, Arc::new(Counters(Arc::clone(&self.shared))))?;
        pio.insert(PORT_61.into(), 1, Arc::new(Port61(Arc::clone(&self.shared))))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            drop(thread.join());
        }
    }
}

impl Lifecycle for Timer {
    fn reset(&self) {
        self.shared.lock().pit = Pit::default();
        self.shared.changed.notify_all();
    }

    fn pause(&self) {
        self.shared.lock().paused = true;
    }

    fn resume(&self) {
        self.shared.lock().paused = false;
        self.shared.changed.notify_all();
    }
}

/// The three counters and their control register.
#[derive(Debug)]
struct Counters(Arc<Shared>);

impl BusDevice for Counters {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        Ok(bytes_of(offset, size, |at| {
            let at = u8::try_from(at).ok().filter(|at| *at < 4)?;
            Some(self.0.with(|pit, now| pit.read(at, now)))
        }))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        each_byte(offset, size, value, |at, byte| {
            if let Some(at) = u8::try_from(at).ok().filter(|at| *at < 4) {
                self.0.with(|pit, now| pit.write(at, byte, now));
            }
        });
        Ok(Effects::empty())
    }
}

/// The port of the speaker.
#[derive(Debug)]
struct Port61(Arc<Shared>);

impl BusDevice for Port61 {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(self.0.with(Pit::read_port61).into())
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [value, ..] = value.to_le_bytes();
        self.0.with(|pit, now| pit.write_port61(value, now));
        Ok(Effects::empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::vmm::Unsupported;
    use crate::vmm::interrupt::{Connection, LineController};

    struct Edges(Mutex<Sender<Instant>>);

    impl LineController for Edges {
        fn set_level(&self, _: u32, high: bool) -> io::Result<()> {
            if high {
                let _ = self.0.lock().unwrap().send(Instant::now());
            }
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    fn bench() -> (Timer, Bus, std::sync::mpsc::Receiver<Instant>) {
        let (sender, receiver) = channel();
        let timer = Timer::new(InterruptLine::new(GSI, Arc::new(Edges(Mutex::new(sender))))).unwrap();
        let bus = Bus::default();
        timer.insert(&bus).unwrap();
        (timer, bus, receiver)
    }

    fn out(bus: &Bus, port: u16, value: u8) {
        let _ = bus.write(port.into(), &[value]);
    }

    #[test]
    fn moments_and_ticks_agree() {
        for tick in [1, 2, 1000, 65536, 1 << 40] {
            assert_eq!(ticks(duration(tick)), tick);
            assert_eq!(ticks(duration(tick) - Duration::from_nanos(1)), tick - 1);
        }
    }

    #[test]
    fn a_rate_never_comes_early_however_late_each_interrupt_is() {
        let (_timer, bus, edges) = bench();
        let start = Instant::now();
        // 11932 ticks are 10 ms.
        for (port, value) in [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)] {
            out(&bus, port, value);
        }
        for number in 1..=10 {
            let edge = edges.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(edge - start >= Duration::from_millis(10) * number, "{number}: {:?}", edge - start);
        }
    }

    #[test]
    fn the_shortest_period_is_no_flood_and_a_reset_ends_it() {
        let (timer, bus, edges) = bench();
        for (port, value) in [(0x43, 0x14), (0x40, 1)] {
            out(&bus, port, value);
        }
        let first = edges.recv_timeout(Duration::from_secs(10)).unwrap();
        let mut last = first;
        for _ in 0..20 {
            last = edges.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(last - first >= 19 * MIN_INTERVAL, "{:?}", last - first);
        timer.pause();
        while edges.try_recv().is_ok() {}
        assert!(edges.recv_timeout(Duration::from_millis(20)).is_err(), "paused");
        timer.resume();
        edges.recv_timeout(Duration::from_secs(10)).unwrap();
        timer.reset();
        while edges.try_recv().is_ok() {}
        assert!(edges.recv_timeout(Duration::from_millis(20)).is_err(), "reset");
    }

    #[test]
    fn a_silent_timer_counts_and_does_not_interrupt() {
        let (timer, bus, edges) = bench();
        timer.silence(true);
        for (port, value) in [(0x43, 0x34), (0x40, 0xA9), (0x40, 0x04)] {
            out(&bus, port, value);
        }
        assert!(edges.recv_timeout(Duration::from_millis(20)).is_err());
        timer.silence(false);
        edges.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn port_61_tells_when_channel_2_is_done() {
        let (_timer, bus, _edges) = bench();
        let start = Instant::now();
        // 1193 ticks are 1 ms.
        for (port, value) in [(0x61, 1), (0x43, 0xB0), (0x42, 0xA9), (0x42, 0x04)] {
            out(&bus, port, value);
        }
        let done = || {
            let mut byte = [0];
            bus.read(0x61, &mut byte);
            byte[0] & 0x20 != 0
        };
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert!(start.elapsed() >= Duration::from_micros(999));
    }

    #[test]
    fn any_port_and_width_is_answered() {
        let (_timer, bus, _edges) = bench();
        for port in 0x40..0x44u64 {
            for length in [1, 2, 4, 8] {
                for value in [0, 0x30, 0x55, 0xFF] {
                    let _ = bus.write(port, &vec![value; length]);
                    bus.read(port, &mut vec![0; length]);
                }
            }
        }
    }
}
