//! The controller: a state machine without lock or interrupt line.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller"; port and bit
//! names are its own. One byte at a time stands in the output buffer; the next one comes when it was read.

use std::collections::VecDeque;

use super::key::{BREAK_1, BREAK_2, Key, Stroke, translate};
use super::keyboard::Keyboard;
use super::mouse::{Motion, Mouse};

/// The status register.
mod status {
    pub(super) const OUTPUT_FULL: u8 = 1 << 0;
    pub(super) const SYSTEM: u8 = 1 << 2;
    pub(super) const COMMAND: u8 = 1 << 3;
    /// The keyboard is not locked.
    pub(super) const UNLOCKED: u8 = 1 << 4;
    pub(super) const AUXILIARY: u8 = 1 << 5;
}

/// The command byte, the first of the controller's memory.
mod mode {
    pub(super) const KEYBOARD_INTERRUPT: u8 = 1 << 0;
    pub(super) const AUXILIARY_INTERRUPT: u8 = 1 << 1;
    pub(super) const SYSTEM: u8 = 1 << 2;
    pub(super) const KEYBOARD_OFF: u8 = 1 << 4;
    pub(super) const AUXILIARY_OFF: u8 = 1 << 5;
    pub(super) const TRANSLATE: u8 = 1 << 6;
    /// As firmware leaves it: the keyboard interrupts and speaks set 1, the mouse is off.
    pub(super) const FIRMWARE: u8 = KEYBOARD_INTERRUPT | SYSTEM | AUXILIARY_OFF | TRANSLATE;
}

/// The output port: the processor's reset line (not asserted) and A20.
mod output_port {
    pub(super) const NO_RESET: u8 = 1 << 0;
    pub(super) const A20: u8 = 1 << 1;
    /// As both devices' interrupt requests, by place.
    pub(super) const KEYBOARD_REQUEST: u8 = 1 << 4;
    pub(super) const AUXILIARY_REQUEST: u8 = 1 << 5;
    /// Clock and data of the keyboard, which idle high.
    pub(super) const IDLE: u8 = 0b11 << 6;
}

/// Answers that wait at most; more than a guest leaves unread lose the oldest.
const CAPACITY: usize = 16;
const MEMORY: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Keyboard,
    Auxiliary,
}

/// A command that waits for its byte at the data port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Memory(usize),
    OutputPort,
    AsKeyboard,
    AsAuxiliary,
    ToAuxiliary,
}

/// What a write asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Asked {
    Nothing,
    Reset,
}

/// The controller and what is plugged in.
#[derive(Debug)]
pub(super) struct Controller {
    memory: [u8; MEMORY],
    buffer: Option<(From, u8)>,
    /// What was read last; the buffer keeps it.
    last: u8,
    answers: VecDeque<(From, u8)>,
    pending: Option<Pending>,
    last_was_command: bool,
    /// The break prefix of set 2 came; it is part of the next code in set 1.
    breaking: bool,
    a20: bool,
    pub(super) keyboard: Keyboard,
    pub(super) mouse: Mouse,
}

impl Default for Controller {
    fn default() -> Self {
        let mut memory = [0; MEMORY];
        if let Some(first) = memory.first_mut() {
            *first = mode::FIRMWARE;
        }
        Self {
            memory,
            buffer: None,
            last: 0,
            answers: VecDeque::new(),
            pending: None,
            last_was_command: false,
            breaking: false,
            a20: true,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

impl Controller {
    fn mode(&self) -> u8 {
        self.memory.first().copied().unwrap_or_default()
    }

    fn change_mode(&mut self, set: u8, clear: u8) {
        if let Some(first) = self.memory.first_mut() {
            *first = *first & !clear | set;
        }
    }

    /// Levels of the keyboard's and of the mouse's interrupt.
    pub(super) fn interrupts(&self) -> (bool, bool) {
        let is = |from, bit| self.buffer.is_some_and(|(source, _)| source == from) && self.mode() & bit != 0;
        (is(From::Keyboard, mode::KEYBOARD_INTERRUPT), is(From::Auxiliary, mode::AUXILIARY_INTERRUPT))
    }

    /// Puts the next byte into an empty output buffer.
    pub(super) fn fill(&mut self) {
        while self.buffer.is_none() {
            if let Some(answer) = self.answers.pop_front() {
                self.buffer = Some(answer);
            } else if self.mode() & mode::KEYBOARD_OFF == 0
                && let Some(code) = self.keyboard.next()
            {
                self.buffer = self.translated(code).map(|code| (From::Keyboard, code));
            } else if self.mode() & mode::AUXILIARY_OFF == 0
                && let Some(byte) = self.mouse.next()
            {
                self.buffer = Some((From::Auxiliary, byte));
            } else {
                return;
            }
        }
    }

    /// A byte of the keyboard's as the system sees it; none where it only changes the next one.
    fn translated(&mut self, code: u8) -> Option<u8> {
        if self.mode() & mode::TRANSLATE == 0 {
            self.breaking = false;
            return Some(code);
        }
        if code == BREAK_2 {
            self.breaking = true;
            return None;
        }
        let translated = translate(code);
        // A prefix keeps the break for the code behind it.
        let breaks = if matches!(code, 0xE0 | 0xE1) { false } else { std::mem::take(&mut self.breaking) };
        Some(if breaks { translated | BREAK_1 } else { translated })
    }

    pub(super) fn status(&self) -> u8 {
        let mut bits = status::UNLOCKED | self.mode() & mode::SYSTEM;
        const { assert!(mode::SYSTEM == status::SYSTEM, "the bits have one place") };
        match self.buffer {
            Some((From::Keyboard, _)) => bits |= status::OUTPUT_FULL,
            Some((From::Auxiliary, _)) => bits |= status::OUTPUT_FULL | status::AUXILIARY,
            None => {}
        }
        if self.last_was_command {
            bits |= status::COMMAND;
        }
        bits
    }

    /// Takes the byte out of the output buffer, which [`Self::fill`] fills again.
    pub(super) fn read_data(&mut self) -> u8 {
        if let Some((_, byte)) = self.buffer.take() {
            self.last = byte;
        }
        self.last
    }

    fn answer(&mut self, from: From, byte: u8) {
        if self.answers.len() >= CAPACITY {
            self.answers.pop_front();
        }
        self.answers.push_back((from, byte));
    }

    pub(super) fn write_command(&mut self, command: u8) -> Asked {
        self.last_was_command = true;
        self.pending = None;
        match command {
            0x20..=0x3F => {
                let cell = self.memory.get(usize::from(command & 0x1F)).copied().unwrap_or(0);
                self.answer(From::Keyboard, cell);
            }
            0x60..=0x7F => self.pending = Some(Pending::Memory(usize::from(command & 0x1F))),
            0xA7 => self.change_mode(mode::AUXILIARY_OFF, 0),
            0xA8 => self.change_mode(0, mode::AUXILIARY_OFF),
            // Tests of the ports' wires: no fault
            0xA9 | 0xAB => self.answer(From::Keyboard, 0),
            0xAA => {
                self.change_mode(mode::SYSTEM, 0);
                self.answer(From::Keyboard, 0x55);
            }
            0xAD => self.change_mode(mode::KEYBOARD_OFF, 0),
            0xAE => self.change_mode(0, mode::KEYBOARD_OFF),
            // Input port: the keyboard is not locked
            0xC0 => self.answer(From::Keyboard, 1 << 7),
            0xD0 => {
                let port = self.output_port();
                self.answer(From::Keyboard, port);
            }
            0xD1 => self.pending = Some(Pending::OutputPort),
            0xD2 => self.pending = Some(Pending::AsKeyboard),
            0xD3 => self.pending = Some(Pending::AsAuxiliary),
            0xD4 => self.pending = Some(Pending::ToAuxiliary),
            0xDD => self.a20 = false,
            0xDF => self.a20 = true,
            // Test inputs: both clocks idle
            0xE0 => self.answer(From::Keyboard, 0),
            // Pulses the lines of the output port whose bits are clear; the lowest is the processor's reset.
            0xF0..=0xFF if command & output_port::NO_RESET == 0 => return Asked::Reset,
            _ => {}
        }
        Asked::Nothing
    }

    fn output_port(&self) -> u8 {
        let (keyboard, auxiliary) = self.interrupts();
        output_port::NO_RESET
            | output_port::IDLE
            | if self.a20 { output_port::A20 } else { 0 }
            | if keyboard { output_port::KEYBOARD_REQUEST } else { 0 }
            | if auxiliary { output_port::AUXILIARY_REQUEST } else { 0 }
    }

    pub(super) fn write_data(&mut self, byte: u8) -> Asked {
        self.last_was_command = false;
        match self.pending.take() {
            None => {
                // What goes to a device turns its port on.
                self.change_mode(0, mode::KEYBOARD_OFF);
                self.keyboard.command(byte);
            }
            Some(Pending::Memory(index)) => {
                if let Some(cell) = self.memory.get_mut(index) {
                    *cell = byte;
                }
            }
            Some(Pending::OutputPort) => {
                self.a20 = byte & output_port::A20 != 0;
                if byte & output_port::NO_RESET == 0 {
                    return Asked::Reset;
                }
            }
            Some(Pending::AsKeyboard) => self.answer(From::Keyboard, byte),
            Some(Pending::AsAuxiliary) => self.answer(From::Auxiliary, byte),
            Some(Pending::ToAuxiliary) => {
                self.change_mode(0, mode::AUXILIARY_OFF);
                self.mouse.command(byte);
            }
        }
        Asked::Nothing
    }

    pub(super) fn strike(&mut self, key: Key, stroke: Stroke) {
        self.keyboard.strike(key, stroke);
    }

    pub(super) fn move_by(&mut self, motion: Motion) {
        self.mouse.move_by(motion);
    }
}
