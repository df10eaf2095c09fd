//! The two 8259A interrupt controllers of a PC as a state machine: no clock, no descriptors, no locks.
//!
//! [`PicPair`] takes levels of its 16 inputs and register accesses, and says whether it asks for the processor
//! ([`PicPair::output`]) and with which vector ([`PicPair::acknowledge`]). What ends an interrupt comes back as a set of
//! inputs, so that the neighbour (the chips in user space) can tell devices that wait for it.
//!
//! Intel 8259A data sheet (231468-003); edge or level is chosen input by input in ELCR as on a PC, so ICW1's LTIM has no
//! effect, like in ICH9 (data sheet 316972-004, 13.4 and 13.7.4).

/// Inputs of both chips together.
pub const INPUTS: u8 = 16;
/// Inputs of one chip.
const CHIP_INPUTS: u8 = 8;
/// The first chip's input to which the second chip's output is wired.
const CASCADE: u8 = 2;
/// Inputs that can be level-triggered: not the timer, the keyboard, the cascade, the clock and the coprocessor
/// (ICH9, 13.7.4 and 13.7.5).
const ELCR_WRITABLE: [u8; 2] = [0xF8, 0xDE];

/// ICW1 (figure 7): told from the others by bit 4 at the even address.
mod icw1 {
    pub(super) const INIT: u8 = 1 << 4;
    /// There is one chip: ICW3 does not follow.
    pub(super) const SINGLE: u8 = 1 << 1;
    /// ICW4 follows.
    pub(super) const IC4: u8 = 1 << 0;
}

/// ICW4 (figure 7).
mod icw4 {
    /// Special fully nested mode: the cascade input does not block while it is in service.
    pub(super) const SFNM: u8 = 1 << 4;
    /// Automatic end of interrupt.
    pub(super) const AEOI: u8 = 1 << 1;
}

/// OCW3 (figure 8): told from OCW2 by bit 3.
mod ocw3 {
    pub(super) const OCW3: u8 = 1 << 3;
    /// The special mask mode bit counts.
    pub(super) const ESMM: u8 = 1 << 6;
    pub(super) const SMM: u8 = 1 << 5;
    pub(super) const POLL: u8 = 1 << 2;
    /// The register select bit counts.
    pub(super) const RR: u8 = 1 << 1;
    /// Reads give the in-service register.
    pub(super) const RIS: u8 = 1 << 0;
}

/// One of the registers of a chip, by its address line A0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// ICW1, OCW2 and OCW3; reads give IRR or ISR.
    Command,
    /// ICW2 to ICW4 and OCW1, the mask.
    Data,
}

/// Which of the two chips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChipSelect {
    /// Inputs 0 to 7; its output goes to the processor.
    First,
    /// Inputs 8 to 15; its output goes to the first chip.
    Second,
}

/// A set of inputs, bit n for input n.
pub type Inputs = u16;

/// Which word is expected at the odd address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expect {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chip {
    /// Levels of the inputs as they are now.
    lines: u8,
    /// Level-triggered inputs.
    elcr: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    /// Bits 7:3 of the vector.
    base: u8,
    /// Input of highest priority; the others follow in a circle.
    first: u8,
    expect: Expect,
    single: bool,
    wants_icw4: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_isr: bool,
    poll: bool,
    /// The cascade input, which follows the other chip's output.
    cascade: u8,
}

const fn bit(input: u8) -> u8 {
    1 << (input % CHIP_INPUTS)
}

impl Chip {
    fn new(cascade: u8, elcr: u8) -> Self {
        Self { cascade, elcr, ..Self::default() }
    }

    fn set_input(&mut self, input: u8, high: bool) {
        let bit = bit(input);
        let rose = high && self.lines & bit == 0;
        if high {
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
        if (self.elcr | self.cascade) & bit != 0 {
            self.irr = self.irr & !bit | self.lines & bit;
        } else if rose {
            self.irr |= bit;
        }
    }

    /// How far `set`'s most urgent input is from the highest priority; [`CHIP_INPUTS`] for none.
    fn rank(&self, set: u8) -> u8 {
        (0..CHIP_INPUTS).find(|rank| set & bit(self.first + rank) != 0).unwrap_or(CHIP_INPUTS)
    }

    fn at_rank(&self, rank: u8) -> u8 {
        (self.first + rank) % CHIP_INPUTS
    }

    /// The input that asks for service now.
    fn pending(&self) -> Option<u8> {
        let mut serviced = self.isr;
        if self.special_mask {
            serviced &= !self.imr;
        }
        if self.special_fully_nested {
            serviced &= !self.cascade;
        }
        let rank = self.rank(self.irr & !self.imr);
        (rank < self.rank(serviced)).then(|| self.at_rank(rank))
    }

    /// Takes `input` into service as an acknowledge cycle does; true if that was its end as well.
    fn take(&mut self, input: u8) -> bool {
        let bit = bit(input);
        if (self.elcr | self.cascade) & bit == 0 {
            self.irr &= !bit;
        }
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.first = (input + 1) % CHIP_INPUTS;
            }
        } else {
            self.isr |= bit;
        }
        self.auto_eoi
    }

    /// What OCW2 ends, as a set.
    fn command(&mut self, value: u8) -> u8 {
        let level = value & 7;
        // In special mask mode a masked input in service is not reached by a non-specific end (data sheet, "Special Mask Mode").
        let reachable = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let rank = self.rank(reachable);
        let most_urgent = (rank < CHIP_INPUTS).then(|| self.at_rank(rank));
        let (ended, rotate_to) = match value >> 5 {
            0b000 => {
                self.rotate_on_auto_eoi = false;
                (None, None)
            }
            0b001 => (most_urgent, None),
            0b011 => (Some(level), None),
            0b100 => {
                self.rotate_on_auto_eoi = true;
                (None, None)
            }
            0b101 => (most_urgent, most_urgent),
            0b110 => (None, Some(level)),
            0b111 => (Some(level), Some(level)),
            _ => (None, None),
        };
        if let Some(lowest) = rotate_to {
            self.first = (lowest + 1) % CHIP_INPUTS;
        }
        let ended = ended.map_or(0, bit) & self.isr;
        self.isr &= !ended;
        ended
    }

    /// ICW1: what it ends, as a set.
    fn initialize(&mut self, value: u8) -> u8 {
        let ended = self.isr;
        // The edge sense circuit is reset; a level that is still there is seen again.
        let irr = self.lines & (self.elcr | self.cascade);
        let keep = Self { lines: self.lines, elcr: self.elcr, cascade: self.cascade, ..Self::default() };
        *self = Self {
            irr,
            base: self.base,
            expect: Expect::Icw2,
            single: value & icw1::SINGLE != 0,
            wants_icw4: value & icw1::IC4 != 0,
            ..keep
        };
        ended
    }

    fn write(&mut self, register: Register, value: u8) -> u8 {
        match (register, self.expect) {
            (Register::Command, _) if value & icw1::INIT != 0 => return self.initialize(value),
            (Register::Command, _) if value & ocw3::OCW3 == 0 => return self.command(value),
            (Register::Command, _) => {
                self.poll = value & ocw3::POLL != 0;
                if value & ocw3::RR != 0 {
                    self.read_isr = value & ocw3::RIS != 0;
                }
                if value & ocw3::ESMM != 0 {
                    self.special_mask = value & ocw3::SMM != 0;
                }
            }
            (Register::Data, Expect::Mask) => self.imr = value,
            (Register::Data, Expect::Icw2) => {
                self.base = value & 0xF8;
                self.expect = match (self.single, self.wants_icw4) {
                    (false, _) => Expect::Icw3,
                    (true, true) => Expect::Icw4,
                    (true, false) => Expect::Mask,
                };
            }
            // The wiring is fixed: what it says about the cascade changes nothing.
            (Register::Data, Expect::Icw3) => {
                self.expect = if self.wants_icw4 { Expect::Icw4 } else { Expect::Mask };
            }
            (Register::Data, Expect::Icw4) => {
                self.special_fully_nested = value & icw4::SFNM != 0;
                self.auto_eoi = value & icw4::AEOI != 0;
                self.expect = Expect::Mask;
            }
        }
        0
    }

    /// The register, and what the read ended: a poll takes the place of an acknowledge cycle.
    fn read(&mut self, register: Register) -> (u8, u8) {
        if std::mem::take(&mut self.poll) {
            return match self.pending() {
                Some(input) => {
                    let ended = if self.take(input) { bit(input) } else { 0 };
                    (0x80 | input, ended)
                }
                None => (0, 0),
            };
        }
        let value = match register {
            Register::Data => self.imr,
            Register::Command if self.read_isr => self.isr,
            Register::Command => self.irr,
        };
        (value, 0)
    }

    fn set_elcr(&mut self, elcr: u8) {
        let now_level = elcr & !self.elcr;
        let now_edge = self.elcr & !elcr;
        self.elcr = elcr;
        // A request that was only a level is none for an edge-triggered input, and the other way round.
        self.irr = self.irr & !(now_level | now_edge) | self.lines & now_level;
    }
}

/// An acknowledge cycle's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The vector. Of a request that went away in between it is that of input 7 of the chip (data sheet, "Interrupt Sequence").
    pub vector: u8,
    /// Inputs whose interrupt ended with it (automatic end of interrupt).
    pub ended: Inputs,
}

/// Both chips, wired as in a PC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PicPair {
    first: Chip,
    second: Chip,
}

impl PicPair {
    /// Both chips after power-on, with `level_triggered` inputs as firmware leaves them.
    #[must_use]
    pub fn new(level_triggered: Inputs) -> Self {
        let [low, high] = level_triggered.to_le_bytes();
        let [low_mask, high_mask] = ELCR_WRITABLE;
        Self { first: Chip::new(bit(CASCADE), low & low_mask), second: Chip::new(0, high & high_mask) }
    }

    fn chip(&mut self, select: ChipSelect) -> &mut Chip {
        match select {
            ChipSelect::First => &mut self.first,
            ChipSelect::Second => &mut self.second,
        }
    }

    /// The second chip's output goes to the first one's input.
    fn cascade(&mut self) {
        let high = self.second.pending().is_some();
        self.first.set_input(CASCADE, high);
    }

    /// Sets the level of `input`. Input 2 is the cascade and no input of the pair; neither are those from [`INPUTS`] on.
    pub fn set_input(&mut self, input: u8, high: bool) {
        match input {
            CASCADE => {}
            0..CHIP_INPUTS => self.first.set_input(input, high),
            CHIP_INPUTS..INPUTS => {
                self.second.set_input(input - CHIP_INPUTS, high);
                self.cascade();
            }
            _ => {}
        }
    }

    /// Whether the pair asks for the processor.
    #[must_use]
    pub fn output(&self) -> bool {
        self.first.pending().is_some()
    }

    /// The processor's acknowledge cycle.
    pub fn acknowledge(&mut self) -> Acknowledged {
        const SPURIOUS: u8 = 7;
        let mut ended = 0;
        let Some(input) = self.first.pending() else {
            return Acknowledged { vector: self.first.base | SPURIOUS, ended };
        };
        if self.first.take(input) && input != CASCADE {
            ended |= Inputs::from(bit(input));
        }
        if input != CASCADE {
            return Acknowledged { vector: self.first.base | input, ended };
        }
        let second = match self.second.pending() {
            Some(second) => {
                if self.second.take(second) {
                    ended |= Inputs::from(bit(second)) << CHIP_INPUTS;
                }
                second
            }
            None => SPURIOUS,
        };
        let vector = self.second.base | second;
        self.cascade();
        Acknowledged { vector, ended }
    }

    /// A register write; the inputs whose interrupt it ended.
    pub fn write(&mut self, select: ChipSelect, register: Register, value: u8) -> Inputs {
        let ended = self.chip(select).write(register, value);
        self.cascade();
        inputs(select, ended)
    }

    /// A register read, and the inputs whose interrupt it ended.
    pub fn read(&mut self, select: ChipSelect, register: Register) -> (u8, Inputs) {
        let (value, ended) = self.chip(select).read(register);
        self.cascade();
        (value, inputs(select, ended))
    }

    /// The edge/level register of a chip.
    #[must_use]
    pub fn elcr(&self, select: ChipSelect) -> u8 {
        match select {
            ChipSelect::First => self.first.elcr,
            ChipSelect::Second => self.second.elcr,
        }
    }

    /// Writes the edge/level register of a chip.
    pub fn set_elcr(&mut self, select: ChipSelect, value: u8) {
        let [first, second] = ELCR_WRITABLE;
        let writable = if select == ChipSelect::First { first } else { second };
        self.chip(select).set_elcr(value & writable);
        self.cascade();
    }
}

fn inputs(select: ChipSelect, set: u8) -> Inputs {
    match select {
        // The cascade is no input of the pair.
        ChipSelect::First => Inputs::from(set & !bit(CASCADE)),
        ChipSelect::Second => Inputs::from(set) << CHIP_INPUTS,
    }
}

#[cfg(test)]
mod tests;
