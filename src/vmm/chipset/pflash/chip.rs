//! What the flash chip understands: the Intel command set, byte by byte.
//!
//! Common Flash Interface (JEDEC JESD68.01), command set 0001 (Intel AP-646; Intel StrataFlash Memory 28F128J3, 290667,
//! chapter 4). One chip, eight bits wide, without a write buffer. It is never busy: a command is done when it was written.
//!
//! Deviation: programming replaces what a byte holds, where a chip can only clear bits. It is what OVMF was written on.

/// Bytes of a block: what one erase command erases.
pub const BLOCK_BYTES: u64 = 0x1000;

/// Commands.
mod command {
    pub(super) const PROGRAM: u8 = 0x40;
    pub(super) const PROGRAM_ALSO: u8 = 0x10;
    pub(super) const ERASE: u8 = 0x20;
    pub(super) const CONFIRM: u8 = 0xD0;
    pub(super) const CLEAR_STATUS: u8 = 0x50;
    pub(super) const LOCK: u8 = 0x60;
    pub(super) const READ_STATUS: u8 = 0x70;
    pub(super) const READ_IDENTIFIER: u8 = 0x90;
    pub(super) const READ_QUERY: u8 = 0x98;
    pub(super) const SUSPEND: u8 = 0xB0;
    pub(super) const READ_ARRAY: u8 = 0xFF;
    /// What may follow [`LOCK`], beside [`CONFIRM`].
    pub(super) const SET_LOCK: u8 = 0x01;
    pub(super) const SET_LOCK_DOWN: u8 = 0x2F;
    pub(super) const SET_CONFIGURATION: u8 = 0x03;
}

/// Bits of the status register.
mod status {
    pub(super) const READY: u8 = 1 << 7;
    pub(super) const ERASE_FAILED: u8 = 1 << 5;
    pub(super) const PROGRAM_FAILED: u8 = 1 << 4;
    /// Both together: the second byte of a command made no sense.
    pub(super) const SEQUENCE: u8 = ERASE_FAILED | PROGRAM_FAILED;
}

/// What a read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Array,
    Status,
    Identifier,
    Query,
}

/// What the next write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Command,
    Data,
    EraseConfirmation,
    LockConfirmation,
}

/// What a write asks for beyond the chip's own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Put the written byte where it was written.
    Program,
    /// Fill the block that was written to with ones.
    Erase,
}

/// The chip's registers.
#[derive(Debug)]
pub(super) struct Chip {
    mode: Mode,
    expected: Expected,
    status: u8,
}

impl Default for Chip {
    fn default() -> Self {
        Self { mode: Mode::Array, expected: Expected::Command, status: status::READY }
    }
}

impl Chip {
    /// Whether reads show what is stored.
    pub(super) fn shows_array(&self) -> bool {
        self.mode == Mode::Array
    }

    /// A write of one byte.
    pub(super) fn write(&mut self, byte: u8) -> Action {
        match std::mem::replace(&mut self.expected, Expected::Command) {
            Expected::Command => self.command(byte),
            Expected::Data => {
                self.done(0);
                return Action::Program;
            }
            Expected::EraseConfirmation if byte == command::CONFIRM => {
                self.done(0);
                return Action::Erase;
            }
            Expected::LockConfirmation
                if matches!(
                    byte,
                    command::CONFIRM
                        | command::SET_LOCK
                        | command::SET_LOCK_DOWN
                        | command::SET_CONFIGURATION
                ) =>
            {
                self.done(0);
            }
            Expected::EraseConfirmation | Expected::LockConfirmation => self.done(status::SEQUENCE),
        }
        Action::Nothing
    }

    fn command(&mut self, byte: u8) {
        match byte {
            command::PROGRAM | command::PROGRAM_ALSO => self.expected = Expected::Data,
            command::ERASE => self.expected = Expected::EraseConfirmation,
            command::LOCK => self.expected = Expected::LockConfirmation,
            // OVMF tells flash from memory by a status that reads as zero after this.
            command::CLEAR_STATUS => self.status = 0,
            command::READ_STATUS => self.mode = Mode::Status,
            command::READ_IDENTIFIER => self.mode = Mode::Identifier,
            command::READ_QUERY => self.mode = Mode::Query,
            // Nothing is ever under way that could be suspended or resumed.
            command::SUSPEND | command::CONFIRM => {}
            command::READ_ARRAY => self.mode = Mode::Array,
            _ => self.done(status::SEQUENCE),
        }
    }

    fn done(&mut self, failed: u8) {
        self.status |= status::READY | failed;
        self.mode = Mode::Status;
    }

    /// What [`Action`] asked for could not be done.
    pub(super) fn failed(&mut self, action: Action) {
        self.status |= match action {
            Action::Nothing => 0,
            Action::Program => status::PROGRAM_FAILED,
            Action::Erase => status::ERASE_FAILED,
        };
    }

    /// What a read of one byte shows of a chip of `size_bytes`; `None` where it is what is stored.
    pub(super) fn read(&self, offset: u64, size_bytes: u64) -> Option<u8> {
        match self.mode {
            Mode::Array => None,
            Mode::Status => Some(self.status),
            Mode::Identifier => Some(match offset % BLOCK_BYTES {
                // Intel; 128 Mbit. Blocks are not locked.
                0 => 0x89,
                1 => 0x18,
                _ => 0,
            }),
            Mode::Query => Some(query(offset % BLOCK_BYTES, size_bytes)),
        }
    }
}

/// The query structure (JESD68.01, 4): identification, timing, geometry, and the vendor's table at 31h.
fn query(offset: u64, size_bytes: u64) -> u8 {
    let blocks = (size_bytes / BLOCK_BYTES).saturating_sub(1).to_le_bytes();
    let block_size = (BLOCK_BYTES / 256).to_le_bytes();
    let log2 = u64::from(size_bytes.next_power_of_two().trailing_zeros()).to_le_bytes();
    match offset {
        0x10 => b'Q',
        0x11 => b'R',
        0x12 => b'Y',
        // Command set 0001, its table.
        0x13 => 1,
        0x15 => 0x31,
        // 4.5 to 5.5 V; no programming voltage.
        0x1B => 0x45,
        0x1C => 0x55,
        // 2^7 us for a byte, 2^10 ms for a block; at most 2^4 times that.
        0x1F => 7,
        0x21 => 10,
        0x23 | 0x25 => 4,
        0x27 => log2[0],
        // Eight bits wide, no write buffer, one kind of block.
        0x2C => 1,
        0x2D => blocks[0],
        0x2E => blocks[1],
        0x2F => block_size[0],
        0x30 => block_size[1],
        0x31 => b'P',
        0x32 => b'R',
        0x33 => b'I',
        0x34 => b'1',
        0x35 => b'0',
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(bytes: &[u8]) -> (Chip, Vec<Action>) {
        let mut chip = Chip::default();
        let actions = bytes.iter().map(|byte| chip.write(*byte)).collect();
        (chip, actions)
    }

    #[test]
    fn firmware_finds_flash_by_a_cleared_status() {
        let (mut chip, actions) = after(&[0x50, 0x70]);
        assert_eq!(actions, [Action::Nothing; 2]);
        assert_eq!(chip.read(0x10, 0x8_4000), Some(0));
        chip.write(0xFF);
        assert!(chip.shows_array());
    }

    #[test]
    fn programming_takes_the_next_byte_whatever_it_is_and_shows_the_status() {
        for data in [0xFF, 0x10, 0x70, 0x50] {
            let (chip, actions) = after(&[0x50, 0x10, data]);
            assert_eq!(actions[2], Action::Program);
            assert_eq!(chip.read(0, 0x1000), Some(0x80));
        }
    }

    #[test]
    fn erasing_needs_its_confirmation() {
        let (_, actions) = after(&[0x20, 0xD0]);
        assert_eq!(actions[1], Action::Erase);
        let (chip, actions) = after(&[0x20, 0xFF]);
        assert_eq!((actions[1], chip.read(0, 0x1000)), (Action::Nothing, Some(0xB0)));
        let (chip, _) = after(&[0x60, 0xD0]);
        assert_eq!(chip.read(0, 0x1000), Some(0x80));
    }

    #[test]
    fn failures_stand_in_the_status_until_it_is_cleared() {
        let (mut chip, _) = after(&[0x40, 0]);
        chip.failed(Action::Program);
        assert_eq!(chip.read(0, 0x1000), Some(0x90));
        chip.failed(Action::Erase);
        chip.write(0x50);
        assert_eq!(chip.read(0, 0x1000), Some(0));
    }

    #[test]
    fn the_query_tells_the_geometry() {
        let (chip, _) = after(&[0x98]);
        let read = |offset| chip.read(offset, 0x8_4000).unwrap();
        assert_eq!([0x10, 0x11, 0x12].map(read), *b"QRY");
        assert_eq!([0x27, 0x2C, 0x2D, 0x2E, 0x2F, 0x30].map(read), [20, 1, 0x83, 0, 0x10, 0]);
        let (chip, _) = after(&[0x90]);
        assert_eq!([0, 1, 2].map(|at| chip.read(at, 0x1000)), [Some(0x89), Some(0x18), Some(0)]);
    }
}
