//! Each command word and mode of the pair, and any order of accesses.

use proptest::prelude::*;

use super::ChipSelect::{First, Second};
use super::Register::{Command, Data};
use super::*;

/// Initialized as a PC does: vectors from 20h and 28h on, nothing masked; `icw4` for both.
fn pair_with(icw4: u8) -> PicPair {
    let mut pair = PicPair::new(0);
    for (chip, base, wiring) in [(First, 0x20, 4), (Second, 0x28, 2)] {
        pair.write(chip, Command, 0x11);
        for word in [base, wiring, icw4, 0] {
            pair.write(chip, Data, word);
        }
    }
    pair
}

fn pair() -> PicPair {
    pair_with(0x01)
}

fn pulse(pair: &mut PicPair, input: u8) {
    pair.set_input(input, true);
    pair.set_input(input, false);
}

fn vector(pair: &mut PicPair) -> u8 {
    assert!(pair.output());
    pair.acknowledge().vector
}

fn eoi(pair: &mut PicPair, chip: ChipSelect) -> Inputs {
    pair.write(chip, Command, 0x20)
}

#[test]
fn an_edge_is_latched_once_and_a_level_holds_until_it_goes() {
    let mut pair = pair();
    pulse(&mut pair, 4);
    assert_eq!(vector(&mut pair), 0x24);
    assert!(!pair.output());
    assert_eq!(eoi(&mut pair, First), 1 << 4);
    assert!(!pair.output());
    pair.set_elcr(First, 1 << 5);
    pair.set_input(5, true);
    assert_eq!(vector(&mut pair), 0x25);
    assert_eq!(eoi(&mut pair, First), 1 << 5);
    assert_eq!(vector(&mut pair), 0x25, "still high");
    pair.set_input(5, false);
    eoi(&mut pair, First);
    assert!(!pair.output());
}

#[test]
fn lower_inputs_come_first_and_wait_for_the_end_of_higher_ones() {
    let mut pair = pair();
    pulse(&mut pair, 3);
    pulse(&mut pair, 1);
    assert_eq!(vector(&mut pair), 0x21);
    assert!(!pair.output(), "3 waits for 1");
    pulse(&mut pair, 0);
    assert_eq!(vector(&mut pair), 0x20, "0 interrupts 1");
    assert_eq!(eoi(&mut pair, First), 1 << 0, "the most urgent in service");
    assert_eq!(eoi(&mut pair, First), 1 << 1);
    assert_eq!(vector(&mut pair), 0x23);
    assert_eq!(eoi(&mut pair, First), 1 << 3);
    assert_eq!(eoi(&mut pair, First), 0, "nothing in service");
}

#[test]
fn the_second_chip_comes_through_input_two_and_needs_two_ends() {
    let mut pair = pair();
    pulse(&mut pair, 2);
    assert!(!pair.output(), "the cascade is no input");
    pulse(&mut pair, 12);
    assert_eq!(vector(&mut pair), 0x2C);
    pulse(&mut pair, 8);
    assert!(!pair.output(), "the cascade is in service");
    assert_eq!(eoi(&mut pair, Second), 1 << 12);
    assert_eq!(eoi(&mut pair, First), 0, "the cascade is no input");
    assert_eq!(vector(&mut pair), 0x28);
    assert_eq!(pair.write(Second, Command, 0x60), 1 << 8);
}

#[test]
fn special_fully_nested_lets_a_more_urgent_input_of_the_second_chip_through() {
    let mut pair = pair_with(0x11);
    pulse(&mut pair, 12);
    assert_eq!(vector(&mut pair), 0x2C);
    pulse(&mut pair, 8);
    assert_eq!(vector(&mut pair), 0x28);
    pulse(&mut pair, 15);
    assert!(!pair.output());
}

#[test]
fn automatic_end_keeps_nothing_in_service_and_says_what_ended() {
    let mut pair = pair_with(0x03);
    pair.set_elcr(Second, 1 << 2);
    pulse(&mut pair, 6);
    pair.set_input(10, true);
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x2A, ended: 1 << 10 });
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x2A, ended: 1 << 10 }, "the level is there still");
    pair.set_input(10, false);
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x26, ended: 1 << 6 });
    assert_eq!((pair.output(), eoi(&mut pair, First)), (false, 0));
}

#[test]
fn several_edges_of_the_second_chip_all_arrive_with_automatic_end() {
    let mut pair = pair_with(0x03);
    for input in [9, 11, 14] {
        pulse(&mut pair, input);
    }
    assert_eq!([(); 3].map(|()| vector(&mut pair)), [0x29, 0x2B, 0x2E]);
    assert!(!pair.output());
}

#[test]
fn the_mask_holds_back_and_keeps_edges() {
    let mut pair = pair();
    pair.write(First, Data, 0xFF);
    pulse(&mut pair, 1);
    assert!(!pair.output());
    assert_eq!(pair.read(First, Data).0, 0xFF);
    assert_eq!(pair.read(First, Command).0, 1 << 1, "IRR");
    pair.write(First, Data, 0xFD);
    assert_eq!(vector(&mut pair), 0x21);
    pair.write(First, Command, 0x0B);
    assert_eq!(pair.read(First, Command).0, 1 << 1, "ISR");
    pair.write(First, Command, 0x0A);
    assert_eq!(pair.read(First, Command).0, 0, "IRR");
}

#[test]
fn priorities_rotate_by_every_command_that_rotates() {
    // (command, what it ends with 2 and 5 in service, most urgent input afterwards)
    for (command, ended, most_urgent) in [
        (0xA0, 1 << 1, 2), // rotate on non-specific end
        (0xE5, 1 << 5, 6), // rotate on specific end
        (0xC3, 0, 4),      // set priority
        (0x40, 0, 0),      // no operation
        (0x65, 1 << 5, 0), // specific end
        (0x66, 0, 0),      // specific end of what is not in service
    ] {
        let mut pair = pair();
        pulse(&mut pair, 5);
        vector(&mut pair);
        pulse(&mut pair, 1);
        vector(&mut pair);
        assert_eq!(pair.write(First, Command, command), ended, "{command:#x}");
        for input in [1, 5] {
            pair.write(First, Command, 0x60 | input);
        }
        for input in [0, 1, 3, 4, 5, 6, 7] {
            pulse(&mut pair, input);
        }
        let expected = if most_urgent == 2 { 3 } else { most_urgent };
        assert_eq!(vector(&mut pair), 0x20 | expected, "{command:#x}");
    }
}

#[test]
fn rotation_in_automatic_end_goes_round() {
    let mut pair = pair_with(0x03);
    pair.write(First, Command, 0x80);
    pair.set_elcr(First, 0x30);
    pair.set_input(4, true);
    pair.set_input(5, true);
    assert_eq!([(); 4].map(|()| vector(&mut pair)), [0x24, 0x25, 0x24, 0x25]);
    pair.write(First, Command, 0x00);
    assert_eq!([(); 2].map(|()| vector(&mut pair)), [0x24, 0x24], "as it was left, and no further");
}

#[test]
fn special_mask_mode_lets_everything_but_the_masked_through() {
    let mut pair = pair();
    pulse(&mut pair, 1);
    assert_eq!(vector(&mut pair), 0x21);
    pulse(&mut pair, 6);
    assert!(!pair.output());
    pair.write(First, Data, 1 << 1);
    pair.write(First, Command, 0x68);
    assert_eq!(vector(&mut pair), 0x26, "less urgent, and 1 in service is masked");
    assert_eq!(eoi(&mut pair, First), 1 << 6, "a masked input is not reached");
    assert_eq!(eoi(&mut pair, First), 0);
    pair.write(First, Command, 0x48);
    assert_eq!(eoi(&mut pair, First), 1 << 1);
}

#[test]
fn a_poll_acknowledges_at_the_next_read_of_either_register() {
    let mut pair = pair();
    for register in [Command, Data] {
        pulse(&mut pair, 3);
        pair.write(First, Command, 0x0C);
        assert_eq!(pair.read(First, register), (0x83, 0));
        assert!(!pair.output());
        assert_eq!(eoi(&mut pair, First), 1 << 3, "it was in service");
        pair.write(First, Command, 0x0C);
        assert_eq!(pair.read(First, register).0, 0, "nothing asks");
        assert_eq!(pair.read(First, Data).0, 0, "one poll, one read");
    }
    pulse(&mut pair, 9);
    for (chip, answer) in [(First, 0x82), (Second, 0x81)] {
        pair.write(chip, Command, 0x0C);
        assert_eq!(pair.read(chip, Command).0, answer);
    }
}

#[test]
fn a_request_that_went_away_is_answered_with_input_seven() {
    let mut pair = pair();
    pair.set_elcr(First, 1 << 5);
    pair.set_input(5, true);
    assert!(pair.output());
    pair.set_input(5, false);
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x27, ended: 0 });
    pair.write(First, Command, 0x0B);
    assert_eq!(pair.read(First, Command).0, 0, "nothing is in service");
}

#[test]
fn initialization_clears_all_but_levels_and_counts_its_words() {
    let mut pair = pair();
    pair.set_elcr(First, 1 << 7);
    for input in [7, 3, 4] {
        pair.set_input(input, true);
    }
    pair.write(First, Data, 0x10);
    assert_eq!(vector(&mut pair), 0x23);
    assert_eq!(pair.write(First, Command, 0x1A), 1 << 3, "single, no ICW4: what was in service ended");
    pair.write(First, Data, 0x47);
    pair.write(First, Data, 0x55);
    assert_eq!(pair.read(First, Data).0, 0x55, "the second word is the mask already");
    assert_eq!(vector(&mut pair), 0x47, "base in bits 7:3; only the level is left");
    pair.set_input(3, false);
    pair.set_input(3, true);
    assert_eq!(vector(&mut pair), 0x43, "a new edge");
}

#[test]
fn only_wired_inputs_can_be_level_triggered() {
    let mut pair = PicPair::new(0xFFFF);
    assert_eq!((pair.elcr(First), pair.elcr(Second)), (0xF8, 0xDE));
    pair.set_elcr(First, 0x0F);
    pair.set_elcr(Second, 0xFF);
    assert_eq!((pair.elcr(First), pair.elcr(Second)), (0x08, 0xDE));
    for input in [2, 16, 255] {
        pair.set_input(input, true);
    }
    assert!(!pair.output());
}

#[derive(Debug, Clone)]
enum Access {
    Write(bool, bool, u8),
    Read(bool, bool),
    Elcr(bool, u8),
    Input(u8, bool),
    Acknowledge,
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        (any::<bool>(), any::<bool>(), any::<u8>()).prop_map(|(c, r, v)| Access::Write(c, r, v)),
        (any::<bool>(), any::<bool>()).prop_map(|(c, r)| Access::Read(c, r)),
        (any::<bool>(), any::<u8>()).prop_map(|(c, v)| Access::Elcr(c, v)),
        (any::<u8>(), any::<bool>()).prop_map(|(i, l)| Access::Input(i, l)),
        Just(Access::Acknowledge),
    ]
}

proptest! {
    #[test]
    fn any_order_of_accesses_keeps_the_rules(accesses in proptest::collection::vec(access(), 0..200)) {
        let chip = |second| if second { Second } else { First };
        let register = |data| if data { Data } else { Command };
        let mut pair = PicPair::new(0);
        for access in accesses {
            let before = pair.clone();
            let ended = match access {
                Access::Write(c, r, value) => pair.write(chip(c), register(r), value),
                Access::Read(c, r) => pair.read(chip(c), register(r)).1,
                Access::Elcr(c, value) => { pair.set_elcr(chip(c), value); 0 }
                Access::Input(input, level) => { pair.set_input(input, level); 0 }
                Access::Acknowledge => {
                    let asked = pair.output();
                    let answer = pair.acknowledge();
                    prop_assert!(asked || answer.ended == 0);
                    answer.ended
                }
            };
            prop_assert_eq!(ended & 1 << CASCADE, 0);
            // What ended was in service before, or was taken just now.
            let known = Inputs::from(before.first.isr | before.first.irr | before.first.lines)
                | Inputs::from(before.second.isr | before.second.irr | before.second.lines) << 8;
            prop_assert_eq!(ended & !known, 0);
            // The second chip's output and the first one's input agree at all times.
            prop_assert_eq!(pair.first.irr & 1 << CASCADE != 0, pair.second.pending().is_some());
        }
    }
}
