//! Each mode by its output and its counter, each command, and any order of accesses.

use proptest::prelude::*;

use super::*;

/// Sets `channel` to `mode` with both bytes of `count`.
fn program(pit: &mut Pit, channel: u8, mode: u8, count: u16, now: u64) {
    let [low, high] = count.to_le_bytes();
    pit.write(3, channel << 6 | 0x30 | mode << 1, now);
    pit.write(channel, low, now);
    pit.write(channel, high, now);
}

fn counter(pit: &mut Pit, channel: u8, now: u64) -> u16 {
    pit.write(3, channel << 6, now);
    u16::from_le_bytes([pit.read(channel, now), pit.read(channel, now)])
}

/// Whether channel 2's output is high at each of `times`.
fn outputs<const N: usize>(pit: &mut Pit, times: [u64; N]) -> [bool; N] {
    times.map(|now| pit.read_port61(now) & port61::OUT_2 != 0)
}

/// The interrupts until `end`, by somebody who is always in time.
fn edges(pit: &mut Pit, end: u64) -> Vec<u64> {
    let mut edges = Vec::new();
    while let Some(edge) = pit.edge().filter(|edge| *edge <= end) {
        assert!(pit.expire(edge));
        edges.push(edge);
    }
    edges
}

#[test]
fn mode_0_interrupts_once_at_the_terminal_count() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 0, 100, 1000);
    assert_eq!(edges(&mut pit, 1 << 20), [1100]);
    assert_eq!((counter(&mut pit, 0, 1001), counter(&mut pit, 0, 1100)), (99, 0));
    assert_eq!(counter(&mut pit, 0, 1101), 0xFFFF, "it counts on");
}

#[test]
fn mode_0_is_a_stopwatch_behind_the_gate_of_port_61() {
    let mut pit = Pit::default();
    pit.write_port61(1, 0);
    program(&mut pit, 2, 0, 10, 0);
    assert_eq!(outputs(&mut pit, [0, 9, 10, 11]), [false, false, true, true]);
    program(&mut pit, 2, 0, 10, 100);
    pit.write_port61(0, 104);
    assert_eq!(outputs(&mut pit, [120]), [false], "stopped");
    assert_eq!(counter(&mut pit, 2, 120), 6);
    pit.write_port61(1, 200);
    assert_eq!(outputs(&mut pit, [205, 206]), [false, true]);
    pit.write(2, 5, 300);
    assert_eq!(outputs(&mut pit, [300]), [false], "the first byte stops it");
}

#[test]
fn mode_1_waits_for_the_gate_and_is_triggered_again_by_it() {
    let mut pit = Pit::default();
    program(&mut pit, 2, 1, 10, 0);
    assert_eq!(outputs(&mut pit, [0, 50]), [true, true]);
    pit.write_port61(1, 100);
    assert_eq!(outputs(&mut pit, [100, 109, 110]), [false, false, true]);
    pit.write_port61(0, 200);
    pit.write_port61(1, 201);
    pit.write_port61(0, 205);
    pit.write_port61(1, 206);
    assert_eq!(outputs(&mut pit, [215, 216]), [false, true]);
}

#[test]
fn mode_2_is_low_for_the_last_tick_of_each_period_and_never_drifts() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 100, 7);
    assert_eq!(edges(&mut pit, 450), [107, 207, 307, 407]);
    program(&mut pit, 2, 2, 10, 0);
    assert_eq!(outputs(&mut pit, [9]), [true], "the gate is closed");
    pit.write_port61(1, 100);
    assert_eq!(outputs(&mut pit, [100, 108, 109, 110, 119]), [true, true, false, true, false]);
    assert_eq!((counter(&mut pit, 2, 100), counter(&mut pit, 2, 109)), (10, 1));
}

#[test]
fn who_is_late_gets_one_interrupt_and_the_next_one_in_time() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 100, 0);
    assert!(pit.expire(1050));
    assert!(!pit.expire(1099));
    assert_eq!(pit.edge(), Some(1100));
}

#[test]
fn mode_3_is_a_square_wave_that_counts_by_two() {
    let mut pit = Pit::default();
    pit.write_port61(1, 0);
    program(&mut pit, 2, 3, 9, 0);
    assert_eq!(outputs(&mut pit, [0, 4, 5, 8, 9]), [true, true, false, false, true]);
    program(&mut pit, 2, 3, 8, 0);
    assert_eq!([0, 1, 3, 4, 7].map(|now| counter(&mut pit, 2, now)), [8, 6, 2, 8, 2]);
    pit.write_port61(0, 5);
    assert_eq!(outputs(&mut pit, [6]), [true]);
    program(&mut pit, 0, 3, 100, 0);
    assert_eq!(edges(&mut pit, 250), [100, 200]);
}

#[test]
fn modes_4_and_5_strobe_once_after_software_or_the_gate() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 4, 100, 0);
    assert_eq!(edges(&mut pit, 1 << 20), [101]);
    pit.write_port61(1, 0);
    program(&mut pit, 2, 4, 10, 0);
    assert_eq!(outputs(&mut pit, [9, 10, 11]), [true, false, true]);
    program(&mut pit, 2, 5, 10, 20);
    assert_eq!(outputs(&mut pit, [30]), [true], "no trigger yet");
    pit.write_port61(0, 40);
    pit.write_port61(1, 50);
    assert_eq!(outputs(&mut pit, [59, 60, 61]), [true, false, true]);
    program(&mut pit, 0, 5, 10, 0);
    assert_eq!(pit.edge(), None, "the gate of channel 0 never rises");
}

#[test]
fn a_new_count_for_a_running_wave_waits_for_the_end_of_the_period() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 100, 0);
    for byte in [50, 0] {
        pit.write(0, byte, 30);
    }
    assert_eq!(edges(&mut pit, 250), [100, 150, 200, 250]);
    assert_eq!(counter(&mut pit, 0, 260), 40);
}

#[test]
fn zero_is_the_longest_count() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 0, 0);
    assert_eq!(pit.edge(), Some(65536));
    assert_eq!((counter(&mut pit, 0, 0), counter(&mut pit, 0, 1)), (0, 0xFFFF));
}

#[test]
fn decimal_counts_have_four_digits() {
    let mut pit = Pit::default();
    pit.write(3, 0x35, 0);
    for byte in [0x00, 0x10] {
        pit.write(0, byte, 0);
    }
    assert_eq!(pit.edge(), Some(1000));
    assert_eq!(counter(&mut pit, 0, 1), 0x0999);
    pit.write(3, 0x31, 0);
    for byte in [0, 0] {
        pit.write(0, byte, 0);
    }
    assert_eq!(pit.edge(), Some(10_000));
    for byte in [0xFF, 0xFF] {
        pit.write(0, byte, 0);
    }
    assert_eq!(pit.edge(), Some(9999));
}

#[test]
fn single_bytes_are_read_and_written_alone() {
    let mut pit = Pit::default();
    pit.write(3, 0x14, 0);
    pit.write(0, 0x80, 0);
    assert_eq!((pit.edge(), pit.read(0, 1), pit.read(0, 2)), (Some(0x80), 0x7F, 0x7E));
    pit.write(3, 0x24, 0);
    pit.write(0, 0x80, 0);
    assert_eq!((pit.edge(), pit.read(0, 1)), (Some(0x8000), 0x7F));
}

#[test]
fn a_latched_count_stays_until_it_is_read_whole() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 0x1234, 0);
    pit.write(3, 0, 4);
    pit.write(3, 0, 9);
    assert_eq!([100, 101].map(|now| pit.read(0, now)), [0x30, 0x12], "the first latch counts");
    assert_eq!([4, 4].map(|now| pit.read(0, now)), [0x30, 0x12], "live again, low byte first");
}

#[test]
fn read_back_latches_status_and_count_of_several_channels() {
    let mut pit = Pit::default();
    program(&mut pit, 0, 2, 0x1234, 0);
    pit.write(3, 0xB6, 0);
    pit.write(3, 0b1100_1010, 4);
    assert_eq!([(); 3].map(|()| pit.read(0, 50)), [0xB4, 0x30, 0x12]);
    assert_eq!(pit.read(2, 50), 0xF6, "square wave, no count yet");
    program(&mut pit, 0, 0, 10, 0);
    pit.write(3, 0b1110_0010, 5);
    pit.write(3, 0b1110_0010, 10);
    assert_eq!(pit.read(0, 10), 0x30, "low, as it was at the first latch");
    pit.write(3, 0b1110_0010, 10);
    assert_eq!(pit.read(0, 10), 0xB0);
}

#[test]
fn port_61_keeps_its_enables_and_shows_the_refresh() {
    let mut pit = Pit::default();
    pit.write_port61(0xFF, 0);
    assert_eq!(pit.read_port61(0), 0x0F);
    assert_eq!(pit.read_port61(18), 0x1F);
    assert_eq!(pit.read(3, 0), 0, "the control register cannot be read");
}

proptest! {
    #[test]
    fn any_order_of_accesses_ends_and_stays_in_time(
        accesses in proptest::collection::vec((0u8..8, any::<u8>(), any::<u32>()), 0..300)
    ) {
        let mut pit = Pit::default();
        let mut now = 0u64;
        for (kind, value, step) in accesses {
            now += u64::from(step) << (value & 7);
            if kind == 7 {
                // Somebody may look at any time, or never.
                pit.expire(now);
            }
            match kind {
                0..4 => pit.write(kind, value, now),
                4 => { let _ = pit.read(value & 3, now); }
                5 => pit.write_port61(value, now),
                6 => { let _ = pit.read_port61(now); }
                _ => prop_assert!(pit.edge().is_none_or(|edge| edge > now && edge - now <= 65537)),
            }
        }
        for _ in 0..4 {
            pit.write(0, 0xFF, u64::MAX);
            let _ = (pit.read(0, u64::MAX), pit.read_port61(u64::MAX), pit.expire(u64::MAX));
        }
    }
}
