//! The timers by their registers, with time that stands still until it is moved.

use proptest::prelude::*;

use super::*;
use crate::vmm::chipset::clock::testing::{Recorder, SetClock};

struct Bench {
    hpet: HighPrecisionTimers,
    clock: Arc<SetClock>,
    lines: Arc<Recorder>,
    legacy: Arc<Mutex<Vec<bool>>>,
}

fn bench() -> Bench {
    let (clock, lines) = (SetClock::at(0), Arc::new(Recorder::default()));
    let legacy = Arc::<Mutex<Vec<bool>>>::default();
    let on_legacy = Box::new({
        let legacy = Arc::clone(&legacy);
        move |on| legacy.lock().unwrap().push(on)
    });
    let line = |input: u8| lines.line(input.into());
    let hpet = HighPrecisionTimers::new(Arc::clone(&clock) as _, line, Waker::default(), on_legacy);
    Bench { hpet, clock, lines, legacy }
}

impl Bench {
    fn read(&self, offset: u64) -> u64 {
        self.hpet.read(offset, AccessSize::Qword).unwrap()
    }

    fn write(&self, offset: u64, value: u64) {
        let _ = self.hpet.write(offset, AccessSize::Qword, value);
    }

    /// Lets time pass, and the thread come as it said it would.
    fn pass(&self, time: Duration) -> Option<Duration> {
        self.clock.pass(time);
        self.hpet.expire()
    }
}

const MS: Duration = Duration::from_millis(1);
/// Ticks of a millisecond.
const TICKS: u64 = 10_000;

#[test]
fn the_capabilities_are_those_of_the_table() {
    let bench = bench();
    assert_eq!(bench.read(0), 100_000_000 << 32 | u64::from(BLOCK_ID));
    assert_eq!(bench.hpet.read(4, AccessSize::Dword), Ok(100_000_000));
    assert_eq!(bench.read(0x100), 0x00F0_0104_0000_0030);
    assert_eq!(bench.read(0x160), 0, "there is no fourth timer");
}

#[test]
fn the_counter_runs_while_it_is_enabled_and_can_be_set_while_it_stands() {
    let bench = bench();
    bench.clock.pass(MS);
    assert_eq!(bench.read(0xF0), 0);
    bench.write(0xF0, 0xFFFF_FFFF);
    bench.write(0x10, 1);
    bench.clock.pass(MS);
    assert_eq!(bench.read(0xF0), 0xFFFF_FFFF + TICKS);
    assert_eq!(bench.hpet.read(0xF4, AccessSize::Dword), Ok(1));
    bench.write(0xF0, 5);
    bench.write(0x10, 0);
    bench.clock.pass(MS);
    assert_eq!(bench.read(0xF0), 0xFFFF_FFFF + TICKS);
}

#[test]
fn legacy_replacement_has_the_interrupts_of_the_pit_and_of_the_clock() {
    let bench = bench();
    bench.write(0x10, 3);
    assert_eq!(*bench.legacy.lock().unwrap(), [true]);
    for timer in [0x100, 0x120] {
        bench.write(timer, 1 << 2);
        bench.write(timer + 8, TICKS);
    }
    assert_eq!(bench.hpet.expire(), Some(MS));
    bench.pass(MS);
    assert_eq!(bench.lines.take(), [(2, true), (2, false), (8, true), (8, false)]);
    bench.pass(MS * 100);
    assert_eq!(bench.lines.take(), [], "once");
    bench.hpet.reset();
    assert_eq!(*bench.legacy.lock().unwrap(), [true, false]);
}

#[test]
fn a_periodic_timer_is_set_as_linux_does_and_keeps_its_rate() {
    let bench = bench();
    bench.write(0x10, 1);
    // Interrupts at input 20, edges; first match, then period
    bench.write(0x100, 1 << 2 | 1 << 3 | 1 << 6 | 20 << 9);
    bench.write(0x108, 5 * TICKS);
    bench.write(0x108, 2 * TICKS);
    assert_eq!(bench.hpet.expire(), Some(MS * 5));
    for _ in 0..3 {
        let wait = bench.hpet.expire().unwrap();
        bench.pass(wait);
        assert_eq!(bench.lines.take(), [(20, true), (20, false)]);
    }
    assert_eq!(bench.read(0xF0), 9 * TICKS);
    bench.pass(MS * 7);
    assert_eq!(bench.lines.take(), [(20, true), (20, false)], "three that came late are one");
    assert_eq!(bench.read(0x108), 17 * TICKS);
}

#[test]
fn a_level_stays_until_its_status_is_cleared() {
    let bench = bench();
    bench.write(0x10, 1);
    bench.write(0x140, 1 << 1 | 1 << 2 | 21 << 9);
    bench.write(0x148, TICKS);
    bench.pass(MS);
    assert_eq!((bench.lines.take(), bench.read(0x20)), (vec![(21, true)], 4));
    assert_eq!(bench.hpet.expire(), None);
    bench.write(0x20, 1);
    assert_eq!(bench.lines.take(), []);
    bench.write(0x20, 4);
    assert_eq!((bench.lines.take(), bench.read(0x20)), (vec![(21, false)], 0));
}

#[test]
fn in_32_bits_a_match_comes_again_and_an_input_that_is_not_offered_stays_quiet() {
    let bench = bench();
    bench.write(0xF0, 0xFFFF_F000);
    bench.write(0x10, 1);
    bench.write(0x100, 1 << 2 | 1 << 8 | 20 << 9);
    bench.write(0x108, 0x1000);
    let wait = bench.hpet.expire().unwrap();
    assert_eq!(wait, Duration::from_nanos(0x2000 * 100));
    bench.pass(wait);
    assert_eq!(bench.lines.take(), [(20, true), (20, false)]);
    bench.write(0x120, 1 << 2 | 5 << 9);
    bench.write(0x128, bench.read(0xF0) + 1);
    bench.pass(MS);
    assert_eq!(bench.lines.take(), []);
}

#[test]
fn a_match_that_was_missed_while_it_was_written_comes_at_once() {
    let bench = bench();
    bench.write(0x10, 3);
    // Linux writes the comparator, then enables; meanwhile the counter passes by.
    bench.write(0x128, TICKS);
    bench.pass(MS * 30);
    assert_eq!(bench.lines.take(), []);
    bench.write(0x120, 1 << 2 | 1 << 8);
    assert_eq!(bench.lines.take(), [(8, true), (8, false)]);
    bench.pass(MS * 30);
    assert_eq!(bench.lines.take(), [], "once");
    bench.write(0x128, 70 * TICKS);
    bench.pass(MS * 5);
    assert_eq!(bench.lines.take(), []);
    bench.pass(MS * 5);
    assert_eq!(bench.lines.take(), [(8, true), (8, false)]);
    // And a rate whose first match is over goes on.
    bench.write(0x100, 1 << 2 | 1 << 3 | 1 << 6);
    bench.write(0x108, 60 * TICKS);
    bench.write(0x108, 4 * TICKS);
    assert_eq!(bench.lines.take(), [(2, true), (2, false)]);
    assert!(bench.hpet.expire().unwrap() <= MS * 4);
}

#[test]
fn the_shortest_period_is_no_flood() {
    let bench = bench();
    bench.write(0x10, 1);
    bench.write(0x100, 1 << 2 | 1 << 3 | 1 << 6 | 20 << 9);
    bench.write(0x108, 1);
    bench.pass(MS);
    assert_eq!(bench.hpet.expire(), Some(MIN_INTERVAL));
    assert_eq!(bench.lines.take(), [(20, true), (20, false)]);
}

proptest! {
    #[test]
    fn any_access_is_answered(
        accesses in proptest::collection::vec((0u64..0x200, 0usize..4, any::<u64>(), any::<bool>(), any::<u64>()), 1..300)
    ) {
        let bench = bench();
        for (offset, size, value, write, nanoseconds) in accesses {
            let size = AccessSize::from_bytes(1 << size).unwrap();
            if write {
                let _ = bench.hpet.write(offset, size, value);
            } else {
                let _ = bench.hpet.read(offset, size);
            }
            bench.pass(Duration::from_nanos(nanoseconds >> (value % 64)));
        }
        prop_assert!(bench.hpet.read(u64::MAX - 7, AccessSize::Qword).is_ok());
    }
}

#[test]
fn a_rate_slower_than_half_of_32_bits_comes_once_a_period() {
    let bench = bench();
    bench.write(0x10, 1);
    bench.write(0x100, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 8 | 20 << 9);
    bench.write(0x108, TICKS);
    bench.write(0x108, 0xC000_0000);
    bench.pass(MS);
    assert_eq!(bench.lines.take(), [(20, true), (20, false)]);
    bench.pass(MS);
    assert_eq!(bench.lines.take(), []);
}
