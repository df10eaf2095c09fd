//! Keys, by the codes that they have in scan code sets 1 and 2.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller" and "Keyboards
//! (101- and 102-Key)": the table by which the controller translates is the bridge between both sets.

/// A key by its place on the keyboard: its make code in set 1, and whether E0h stands before it. This is what VNC's and
/// other displays' keyboards send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: u8,
    extended: bool,
}

impl Key {
    /// Escape.
    pub const ESCAPE: Self = Self::main(0x01);
    /// The digit 1.
    pub const DIGIT_1: Self = Self::main(0x02);
    /// Tabulator.
    pub const TAB: Self = Self::main(0x0F);
    /// Enter, the large one.
    pub const ENTER: Self = Self::main(0x1C);
    /// Control, the left one.
    pub const LEFT_CONTROL: Self = Self::main(0x1D);
    /// The letter A.
    pub const A: Self = Self::main(0x1E);
    /// Shift, the left one.
    pub const LEFT_SHIFT: Self = Self::main(0x2A);
    /// Alt, the left one.
    pub const LEFT_ALT: Self = Self::main(0x38);
    /// Space bar.
    pub const SPACE: Self = Self::main(0x39);
    /// F1.
    pub const F1: Self = Self::main(0x3B);
    /// F7, which set 2 numbers far from its neighbours.
    pub const F7: Self = Self::main(0x41);
    /// Cursor up.
    pub const UP: Self = Self::extended(0x48);
    /// Delete.
    pub const DELETE: Self = Self::extended(0x53);
    /// Pause, which has no break code.
    pub const PAUSE: Self = Self { code: 0x45, extended: true };

    /// A key without a prefix, by its make code in set 1 (below 80h).
    #[must_use]
    pub const fn main(code: u8) -> Self {
        Self { code: code & 0x7F, extended: false }
    }

    /// A key behind the prefix E0h.
    #[must_use]
    pub const fn extended(code: u8) -> Self {
        Self { code: code & 0x7F, extended: true }
    }
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// It went down, or repeats.
    Press,
    /// It went up.
    Release,
}

/// The set whose codes a keyboard sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CodeSet {
    One,
    #[default]
    Two,
}

/// Set 1's code for each of set 2's below 80h: how the controller translates.
const SET_2_TO_1: [u8; 128] = [
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, //
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, //
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, //
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61, //
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, //
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54, //
];

/// Before a code of an extended key.
const EXTENDED: u8 = 0xE0;
/// Before a code of set 2 whose key went up.
pub(super) const BREAK_2: u8 = 0xF0;
/// Set in a code of set 1 whose key went up.
pub(super) const BREAK_1: u8 = 1 << 7;

/// The code of set 1 that the controller makes of one of set 2.
pub(super) fn translate(code: u8) -> u8 {
    match code {
        0x83 => 0x41,
        0x84 => 0x54,
        _ => SET_2_TO_1.get(usize::from(code)).copied().unwrap_or(code),
    }
}

/// The code of set 2 that translates to `code`, if there is one.
fn set_2(code: u8) -> Option<u8> {
    match code {
        0x41 => Some(0x83),
        0x54 => Some(0x84),
        _ => (1..=0x7Fu8).find(|two| translate(*two) == code),
    }
}

/// The bytes that a keyboard sends for `key`; none for keys that no keyboard has.
pub(super) fn codes(key: Key, stroke: Stroke, set: CodeSet) -> Vec<u8> {
    if key == Key::PAUSE {
        return match (stroke, set) {
            (Stroke::Release, _) => Vec::new(),
            (Stroke::Press, CodeSet::One) => vec![0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5],
            (Stroke::Press, CodeSet::Two) => vec![0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77],
        };
    }
    let Some(two) = set_2(key.code) else { return Vec::new() };
    let mut bytes = Vec::with_capacity(3);
    if key.extended {
        bytes.push(EXTENDED);
    }
    match (set, stroke) {
        (CodeSet::One, Stroke::Press) => bytes.push(key.code),
        (CodeSet::One, Stroke::Release) => bytes.push(key.code | BREAK_1),
        (CodeSet::Two, Stroke::Press) => bytes.push(two),
        (CodeSet::Two, Stroke::Release) => bytes.extend([BREAK_2, two]),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_name_the_same_keys() {
        for (key, one, two) in [
            (Key::A, vec![0x1E], vec![0x1C]),
            (Key::ENTER, vec![0x1C], vec![0x5A]),
            (Key::F7, vec![0x41], vec![0x83]),
            (Key::UP, vec![0xE0, 0x48], vec![0xE0, 0x75]),
            (
                Key::PAUSE,
                vec![0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5],
                vec![0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77],
            ),
        ] {
            assert_eq!(codes(key, Stroke::Press, CodeSet::One), one);
            assert_eq!(codes(key, Stroke::Press, CodeSet::Two), two);
        }
        assert_eq!(codes(Key::UP, Stroke::Release, CodeSet::One), [0xE0, 0xC8]);
        assert_eq!(codes(Key::UP, Stroke::Release, CodeSet::Two), [0xE0, 0xF0, 0x75]);
        assert!(codes(Key::main(0), Stroke::Press, CodeSet::Two).is_empty());
    }

    #[test]
    fn translation_has_no_two_codes_for_one_key() {
        let keys = (1..=0x58u8).filter(|code| !matches!(code, 0x54..=0x56));
        for code in keys {
            assert_eq!(set_2(code).map(translate), Some(code), "{code:#x}");
        }
    }
}
