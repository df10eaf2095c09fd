//! The keyboard behind the controller: commands, and keys that go down and up.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)", commands from the system.
//! The host repeats held keys itself, so typematic rates are taken and not used. Set 3 is answered as a keyboard does that
//! does not have it.

use std::collections::VecDeque;

use super::key::{CodeSet, Key, Stroke, codes};

const ACKNOWLEDGE: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0xAA;
/// Bytes that wait for the controller at most; keys that find no room are lost, whole.
pub(super) const CAPACITY: usize = 64;
/// Room that keys leave for answers to commands.
const RESERVED: usize = 4;

/// A command that waits for its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Leds,
    CodeSet,
    /// Typematic rate, and those of set 3 about one key.
    Ignored,
}

/// The keyboard.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    queue: VecDeque<u8>,
    pending: Option<Pending>,
    set: CodeSet,
    disabled: bool,
    leds: u8,
    last: u8,
}

impl Keyboard {
    /// The lamps that are on: scroll lock, num lock, caps lock from bit 0 on.
    pub(super) fn leds(&self) -> u8 {
        self.leds
    }

    /// A key of the host's went down or up.
    pub(super) fn strike(&mut self, key: Key, stroke: Stroke) {
        let bytes = codes(key, stroke, self.set);
        if !self.disabled && self.queue.len() + bytes.len() + RESERVED <= CAPACITY {
            self.queue.extend(bytes);
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.queue.len() < CAPACITY {
                self.queue.push_back(*byte);
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn set_defaults(&mut self) {
        self.set = CodeSet::default();
        self.queue.clear();
    }

    /// A byte from the system.
    pub(super) fn command(&mut self, byte: u8) {
        // A command in the place of an argument ends the one that waits for it.
        match self.pending.take() {
            Some(pending) if byte < 0xED => self.argument(pending, byte),
            _ => self.begin(byte),
        }
    }

    fn argument(&mut self, pending: Pending, byte: u8) {
        match (pending, byte) {
            (Pending::Leds, _) => {
                self.leds = byte & 0b111;
                self.answer(&[ACKNOWLEDGE]);
            }
            (Pending::CodeSet, 0) => {
                let number = match self.set {
                    CodeSet::One => 1,
                    CodeSet::Two => 2,
                };
                self.answer(&[ACKNOWLEDGE, number]);
            }
            (Pending::CodeSet, 1) => {
                self.set = CodeSet::One;
                self.answer(&[ACKNOWLEDGE]);
            }
            (Pending::CodeSet, 2) => {
                self.set = CodeSet::Two;
                self.answer(&[ACKNOWLEDGE]);
            }
            (Pending::CodeSet, _) => self.answer(&[RESEND]),
            (Pending::Ignored, _) => self.answer(&[ACKNOWLEDGE]),
        }
    }

    fn begin(&mut self, byte: u8) {
        match byte {
            0xED => self.expect(Pending::Leds),
            // Echo
            0xEE => self.answer(&[0xEE]),
            0xF0 => self.expect(Pending::CodeSet),
            // Identify
            0xF2 => self.answer(&[ACKNOWLEDGE, 0xAB, 0x83]),
            0xF3 | 0xFB..=0xFD => self.expect(Pending::Ignored),
            0xF4 => {
                self.queue.clear();
                self.disabled = false;
                self.answer(&[ACKNOWLEDGE]);
            }
            0xF5 => {
                self.set_defaults();
                self.disabled = true;
                self.answer(&[ACKNOWLEDGE]);
            }
            0xF6 => {
                self.set_defaults();
                self.answer(&[ACKNOWLEDGE]);
            }
            // All keys of set 3: taken, without effect in the other sets
            0xF7..=0xFA => self.answer(&[ACKNOWLEDGE]),
            0xFE => self.answer(&[self.last]),
            0xFF => {
                *self = Self::default();
                self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn expect(&mut self, pending: Pending) {
        self.pending = Some(pending);
        self.answer(&[ACKNOWLEDGE]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            keyboard.command(*byte);
        }
        std::iter::from_fn(|| keyboard.next()).collect()
    }

    #[test]
    fn commands_are_answered() {
        let mut keyboard = Keyboard::default();
        for (bytes, expected) in [
            (&[0xFF][..], &[0xFA, 0xAA][..]),
            (&[0xF2], &[0xFA, 0xAB, 0x83]),
            (&[0xED, 0x07], &[0xFA, 0xFA]),
            (&[0xEE], &[0xEE]),
            (&[0xF0, 0], &[0xFA, 0xFA, 2]),
            (&[0xF0, 1], &[0xFA, 0xFA]),
            (&[0xF0, 0], &[0xFA, 0xFA, 1]),
            (&[0xF0, 3], &[0xFA, 0xFE]),
            (&[0xF6, 0xF0, 0], &[0xFA, 0xFA, 0xFA, 2]),
            (&[0xF3, 0x20], &[0xFA, 0xFA]),
            (&[0xED, 0xF2], &[0xFA, 0xFA, 0xAB, 0x83]),
            (&[0x12], &[0xFE]),
        ] {
            assert_eq!(answers(&mut keyboard, bytes), expected, "{bytes:x?}");
        }
        assert_eq!(keyboard.leds(), 7);
        assert_eq!(answers(&mut keyboard, &[0xFE]), [0xFE], "the last byte again");
    }

    #[test]
    fn keys_are_sent_while_scanning_and_lost_whole_where_there_is_no_room() {
        let mut keyboard = Keyboard::default();
        for _ in 0..100 {
            keyboard.strike(Key::PAUSE, Stroke::Press);
        }
        let sent: Vec<u8> = std::iter::from_fn(|| keyboard.next()).collect();
        assert_eq!((sent.len(), sent.len() % 8), (56, 0));
        assert_eq!(answers(&mut keyboard, &[0xF5]), [0xFA]);
        keyboard.strike(Key::A, Stroke::Press);
        assert_eq!(keyboard.next(), None);
        assert_eq!(answers(&mut keyboard, &[0xF4]), [0xFA]);
        keyboard.strike(Key::A, Stroke::Release);
        assert_eq!(answers(&mut keyboard, &[]), [0xF0, 0x1C]);
    }
}
