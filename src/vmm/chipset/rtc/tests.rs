//! The clock by its ports, with time that stands still until it is moved.

use proptest::prelude::*;

use super::*;
use crate::vmm::chipset::clock::testing::{Recorder, SetClock};

/// 2026-11-22 13:45:59 UTC, a Sunday.
const SUNDAY: u64 = 1_795_355_159;

struct Bench {
    rtc: Arc<Rtc>,
    clock: Arc<SetClock>,
    lines: Arc<Recorder>,
    alarms: Arc<Mutex<u32>>,
}

fn bench() -> Bench {
    let (clock, lines) = (SetClock::at(SUNDAY), Arc::new(Recorder::default()));
    let alarms = Arc::<Mutex<u32>>::default();
    let on_alarm = {
        let alarms = Arc::clone(&alarms);
        Box::new(move || *alarms.lock().unwrap() += 1)
    };
    let rtc = Rtc::new(Arc::clone(&clock) as _, lines.line(GSI), Waker::default(), on_alarm);
    Bench { rtc: Arc::new(rtc), clock, lines, alarms }
}

impl Bench {
    fn read(&self, index: u8) -> u8 {
        let _ = self.rtc.write(0, AccessSize::Byte, index.into());
        u8::try_from(self.rtc.read(1, AccessSize::Byte).unwrap()).unwrap()
    }

    fn write(&self, index: u8, value: u8) {
        let _ = self.rtc.write(0, AccessSize::Word, u64::from(index) | u64::from(value) << 8);
    }

    fn time(&self) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.read(index))
    }

    /// Lets time pass, and the thread come as it said it would.
    fn pass(&self, time: Duration) {
        self.clock.pass(time);
        let _ = self.rtc.expire();
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_hosts_time_is_told_in_both_formats_and_passes() {
    let bench = bench();
    assert_eq!(bench.time(), [0x20, 0x26, 0x11, 0x22, 1, 0x13, 0x45, 0x59]);
    assert_eq!([0x0A, 0x0B, 0x0D].map(|index| bench.read(index)), [0x26, 0x02, 0x80]);
    bench.clock.pass(SECOND);
    assert_eq!(bench.time(), [0x20, 0x26, 0x11, 0x22, 1, 0x13, 0x46, 0x00]);
    bench.write(0x0B, 0x04);
    assert_eq!(bench.time(), [20, 26, 11, 22, 1, 0x81, 46, 0], "binary, 12 hours, afternoon");
    bench.clock.pass(SECOND * 3600 * 11);
    assert_eq!(bench.time(), [20, 26, 11, 23, 2, 12, 46, 0], "midnight is 12 in the morning");
}

#[test]
fn time_stands_while_it_is_set_and_goes_on_from_what_was_set() {
    let bench = bench();
    bench.write(0x0B, 0x82);
    bench.clock.pass(SECOND * 5);
    assert_eq!(bench.time(), [0x20, 0x26, 0x11, 0x22, 1, 0x13, 0x45, 0x59]);
    for (index, value) in
        [(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (6, 6), (4, 0x23), (2, 0x59), (0, 0x58)]
    {
        bench.write(index, value);
    }
    bench.write(0x0B, 0x02);
    bench.clock.pass(SECOND);
    assert_eq!(bench.time(), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
    bench.clock.pass(SECOND);
    assert_eq!(bench.time(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
}

#[test]
fn the_first_update_after_a_reset_of_the_divider_comes_half_a_second_later() {
    let bench = bench();
    for (index, value) in [(0x0B, 0x82), (0x0A, 0x76), (0, 0x10), (0x0B, 0x02), (0x0A, 0x26)] {
        bench.write(index, value);
    }
    bench.clock.pass(Duration::from_millis(499));
    assert_eq!(bench.read(0), 0x10);
    bench.clock.pass(Duration::from_millis(1));
    assert_eq!(bench.read(0), 0x11);
}

#[test]
fn a_register_that_is_written_without_stopping_time_takes_effect() {
    let bench = bench();
    bench.write(4, 0x07);
    bench.clock.pass(SECOND);
    assert_eq!([4, 2, 0].map(|index| bench.read(index)), [0x07, 0x46, 0x00]);
}

#[test]
fn an_update_is_announced_and_interrupts_once_for_each_time_that_it_is_taken_note_of() {
    let bench = bench();
    bench.clock.pass(Duration::from_micros(999_800));
    assert_eq!(bench.read(0x0A), 0xA6, "in progress");
    bench.read(0x0C);
    bench.write(0x0B, 0x12);
    assert_eq!(bench.rtc.expire(), Some(Duration::from_micros(200)));
    bench.pass(Duration::from_micros(200));
    assert_eq!(bench.lines.take(), [(8, true)]);
    assert_eq!(bench.rtc.expire(), None, "nothing more until it is read");
    bench.pass(SECOND * 3);
    assert_eq!((bench.read(0x0A), bench.lines.take()), (0x26, vec![]));
    assert_eq!(bench.read(0x0C) & 0x90, 0x90);
    assert_eq!((bench.read(0x0C), bench.lines.take()), (0, vec![(8, false)]));
    bench.pass(SECOND);
    assert_eq!(bench.lines.take(), [(8, true)]);
    bench.write(0x0B, 0x92);
    assert_eq!((bench.read(0x0B), bench.lines.take()), (0x82, vec![(8, false)]), "SET clears the enable");
}

#[test]
fn the_periodic_rate_interrupts_as_often_as_it_says() {
    for (rate, micros) in [(0x3u8, 123u64), (0x6, 977), (0xF, 500_000), (1, 3907), (2, 7813)] {
        let bench = bench();
        bench.write(0x0A, 0x20 | rate);
        bench.write(0x0B, 0x42);
        bench.read(0x0C);
        bench.lines.take();
        let wait = bench.rtc.expire().unwrap();
        assert!(wait <= Duration::from_micros(micros), "{rate} {wait:?}");
        for _ in 0..3 {
            bench.pass(bench.rtc.expire().unwrap());
            assert_eq!((bench.lines.take(), bench.read(0x0C) & 0xC0), (vec![(8, true)], 0xC0), "{rate}");
            bench.lines.take();
        }
    }
    let bench = bench();
    bench.write(0x0A, 0x20);
    bench.write(0x0B, 0x42);
    assert_eq!(bench.rtc.expire(), None, "no rate");
}

#[test]
fn an_alarm_comes_at_its_time_of_day_and_wakes() {
    let bench = bench();
    for (index, value) in [(5, 0x13), (3, 0x46), (1, 0x10), (0x0B, 0x22)] {
        bench.write(index, value);
    }
    assert_eq!(bench.rtc.expire(), Some(SECOND * 11));
    bench.pass(SECOND * 10);
    assert_eq!((bench.lines.take(), *bench.alarms.lock().unwrap()), (vec![], 0));
    bench.pass(SECOND);
    assert_eq!((bench.lines.take(), *bench.alarms.lock().unwrap()), (vec![(8, true)], 1));
    assert_eq!(bench.read(0x0C), 0xB0 | 0x40);
    bench.pass(SECOND * 86_400);
    assert_eq!(bench.lines.take(), [(8, false), (8, true)], "the next day again");

    bench.read(0x0C);
    for (index, value) in [(5, 0xC0), (3, 0xFF), (1, 0x30)] {
        bench.write(index, value);
    }
    assert_eq!(bench.rtc.expire(), Some(SECOND * 20), "every minute");
    bench.write(1, 0x77);
    assert_eq!(bench.rtc.expire(), None, "never");
}

#[test]
fn a_reset_takes_interrupts_away_and_leaves_memory_and_time() {
    let bench = bench();
    bench.write(0x40, 0xA5);
    bench.write(0x0B, 0x52);
    bench.pass(SECOND * 2);
    assert_eq!(bench.lines.take(), [(8, true)]);
    bench.rtc.reset();
    assert_eq!(bench.lines.take(), [(8, false)]);
    assert_eq!([0x40, 0x0B, 0x0C, 0].map(|index| bench.read(index)), [0xA5, 0x02, 0, 0x01]);
}

#[test]
fn another_timer_has_the_line_while_the_clock_is_disconnected() {
    let bench = bench();
    bench.rtc.disconnect(true);
    bench.write(0x0B, 0x12);
    bench.pass(SECOND);
    assert_eq!(bench.lines.take(), []);
    bench.rtc.disconnect(false);
    assert_eq!(bench.lines.take(), [(8, true)]);
}

proptest! {
    /// Whatever a guest does, the clock answers, and soon.
    #[test]
    fn any_access_is_answered(
        accesses in proptest::collection::vec((0u64..4, any::<u64>(), 0usize..4, any::<bool>(), 0u64..100_000_000_000), 1..200)
    ) {
        let bench = bench();
        for (offset, value, size, write, nanoseconds) in accesses {
            let size = AccessSize::from_bytes(1 << size).unwrap();
            if write {
                let _ = bench.rtc.write(offset, size, value);
            } else {
                let _ = bench.rtc.read(offset, size);
            }
            bench.pass(Duration::from_nanos(nanoseconds));
        }
        prop_assert!(bench.rtc.read(u64::MAX, AccessSize::Qword).is_err());
    }
}
