//! Registers, both triggers, ends of interrupts, and any order of accesses.

use proptest::prelude::*;

use super::*;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;

/// The chip and what it sent.
#[derive(Default)]
struct Bench {
    chip: Ioapic,
    sent: Vec<MsiMessage>,
    deaf: bool,
}

impl Bench {
    fn with<R>(&mut self, act: impl FnOnce(&mut Ioapic, Deliver<'_>) -> R) -> R {
        let (sent, deaf) = (&mut self.sent, self.deaf);
        act(&mut self.chip, &mut |message| {
            sent.push(message);
            !deaf
        })
    }
    fn write(&mut self, index: u8, value: u32) -> Option<u8> {
        self.write_select(index);
        self.write_raw(0x10, value)
    }
    fn read(&mut self, index: u8) -> u32 {
        self.write_select(index);
        self.chip.read(0x10).unwrap()
    }
    fn write_select(&mut self, index: u8) {
        self.write_raw(0, index.into());
    }
    fn write_raw(&mut self, offset: u64, value: u32) -> Option<u8> {
        let changed = self.chip.write(offset, value)?;
        self.with(|chip, deliver| chip.serve(changed, deliver));
        Some(changed)
    }
    fn entry(&mut self, input: u8, low: u32, high: u32) {
        assert_eq!(self.write(0x11 + 2 * input, high), Some(input));
        assert_eq!(self.write(0x10 + 2 * input, low), Some(input));
    }
    fn level(&mut self, input: u8, high: bool) {
        self.with(|chip, deliver| chip.set_input(input, high, deliver));
    }
    fn end(&mut self, vector: u8) -> Vec<u8> {
        let inputs = self.chip.inputs_of(vector);
        for input in &inputs {
            self.with(|chip, deliver| chip.end(*input, deliver));
        }
        inputs
    }
    fn data(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.sent).into_iter().map(|message| message.data).collect()
    }
}

#[test]
fn registers_hold_what_the_data_sheet_lets_them_hold() {
    let mut bench = Bench::default();
    assert_eq!(bench.read(1), 0x0017_0020, "24 entries");
    assert_eq!(bench.read(0x10), MASKED);
    assert_eq!(bench.write(0, u32::MAX), None);
    assert_eq!((bench.read(0), bench.read(2)), (0x0F00_0000, 0x0F00_0000));
    bench.entry(3, u32::MAX, u32::MAX);
    assert_eq!((bench.read(0x16), bench.read(0x17)), (0x0001_AFFF, 0xFF00_0000));
    for index in [1, 3, 0x0F, 0x40, 0xFF] {
        assert_eq!(bench.write(index, u32::MAX), None);
    }
    assert_eq!((bench.read(1), bench.read(0x40), bench.read(0xFF)), (0x0017_0020, 0, 0));
    assert_eq!((bench.chip.read(4), bench.chip.read(0x40)), (None, None));
}

#[test]
fn an_entry_is_the_message_that_it_describes() {
    let mut bench = Bench::default();
    // Lowest priority, logical, to 5.
    bench.entry(4, 1 << 11 | 1 << 8 | 0x31, 5 << 24);
    bench.level(4, true);
    assert_eq!(bench.sent, [MsiMessage { address: 0xFEE0_5004, data: 0x4131 }]);
}

#[test]
fn an_edge_is_sent_once_and_lost_while_masked() {
    let mut bench = Bench::default();
    bench.entry(4, 0x31, 0);
    for high in [true, true, false, false, true] {
        bench.level(4, high);
    }
    assert_eq!(bench.data(), [0x4031, 0x4031]);
    bench.entry(4, 0x31 | MASKED, 0);
    bench.level(4, false);
    bench.level(4, true);
    bench.entry(4, 0x31, 0);
    assert_eq!(bench.data(), [0u32; 0]);
    assert_eq!(bench.end(0x31), [0u8; 0], "an edge has no end");
}

#[test]
fn a_level_is_sent_again_after_each_end_until_it_goes() {
    let mut bench = Bench::default();
    bench.entry(16, 0x40 | LEVEL, 0);
    bench.level(16, true);
    bench.level(16, false);
    bench.level(16, true);
    assert_eq!(bench.data(), [0xC040], "remote IRR holds the next one back");
    assert_eq!(bench.read(0x30), 0x40 | LEVEL | REMOTE_IRR);
    assert_eq!(bench.end(0x41), [0u8; 0]);
    assert_eq!(bench.end(0x40), [16]);
    assert_eq!(bench.data(), [0xC040]);
    bench.level(16, false);
    assert_eq!(bench.end(0x40), [16]);
    assert_eq!((bench.data(), bench.read(0x30)), (vec![], 0x40 | LEVEL));
}

#[test]
fn two_inputs_with_one_vector_both_end() {
    let mut bench = Bench::default();
    for input in [16, 17, 18] {
        bench.entry(input, 0x50 | LEVEL, 0);
    }
    bench.level(16, true);
    bench.level(18, true);
    assert_eq!(bench.end(0x50), [16, 18]);
}

#[test]
fn a_level_waits_behind_the_mask_and_behind_its_end() {
    let mut bench = Bench::default();
    bench.entry(16, 0x40 | LEVEL | MASKED, 0);
    bench.level(16, true);
    assert_eq!(bench.data(), [0u32; 0]);
    bench.entry(16, 0x40 | LEVEL, 0);
    assert_eq!(bench.data(), [0xC040]);
    bench.entry(16, 0x40 | LEVEL | MASKED, 0);
    assert_eq!(bench.end(0x40), [16], "masked meanwhile");
    assert_eq!(bench.data(), [0u32; 0]);
    bench.entry(16, 0x40 | LEVEL, 0);
    assert_eq!(bench.data(), [0xC040]);
}

#[test]
fn an_entry_made_edge_triggered_forgets_that_it_waits() {
    let mut bench = Bench::default();
    bench.entry(16, 0x40 | LEVEL, 0);
    bench.level(16, true);
    bench.entry(16, 0x40 | MASKED, 0);
    bench.entry(16, 0x40 | LEVEL, 0);
    assert_eq!(bench.data(), [0xC040, 0xC040]);
}

#[test]
fn what_no_local_apic_takes_is_tried_again_and_has_no_end() {
    let mut bench = Bench { deaf: true, ..Bench::default() };
    bench.entry(16, 0x40 | LEVEL, 0);
    bench.level(16, true);
    assert_eq!((bench.data(), bench.end(0x40)), (vec![0xC040], vec![]));
    bench.deaf = false;
    bench.write(0x30, 0x41 | LEVEL);
    assert_eq!((bench.data(), bench.end(0x41)), (vec![0xC041], vec![16]));
}

#[test]
fn only_level_triggered_inputs_want_to_hear_of_their_end() {
    let mut bench = Bench::default();
    bench.entry(9, 0x39 | LEVEL | MASKED, 0);
    bench.entry(10, 0x3A, 0);
    let wants: Vec<u8> = (0..=255).filter(|input| bench.chip.wants_end(*input).is_some()).collect();
    assert_eq!(wants, [9]);
}

#[test]
fn a_reset_masks_all_and_keeps_levels() {
    let mut bench = Bench::default();
    bench.level(16, true);
    bench.write(0, u32::MAX);
    bench.chip.reset();
    assert_eq!((bench.read(0), bench.read(0x30)), (0, MASKED));
    bench.entry(16, 0x40 | LEVEL, 0);
    assert_eq!(bench.data(), [0xC040]);
}

proptest! {
    #[test]
    fn any_order_of_accesses_sends_at_most_once_each(
        accesses in proptest::collection::vec((0u8..5, any::<u8>(), any::<u32>(), any::<bool>()), 0..300)
    ) {
        let mut bench = Bench::default();
        for (kind, small, value, flag) in accesses {
            bench.deaf = flag && value & 1 != 0;
            match kind {
                0 => bench.level(small, flag),
                1 => { bench.write(small % 0x44, value); }
                2 => { bench.write_raw(small.into(), value); }
                3 => { bench.end(small); }
                _ => { let _ = bench.chip.read(small.into()); }
            }
            // An end serves each of 24 inputs at most.
            prop_assert!(bench.sent.len() <= 24);
            prop_assert!(bench.sent.iter().all(|message| message.address >> 20 == 0xFEE));
            bench.sent.clear();
            for input in 0..24 {
                let entry = bench.chip.entry(input);
                prop_assert!(entry & entry::REMOTE_IRR == 0 || entry & entry::LEVEL != 0);
            }
        }
    }
}
