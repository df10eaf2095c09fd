//! The mouse behind the controller: the PS/2 mouse, and Microsoft's extensions of it with a wheel and with five buttons.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Mouse"; the knock that turns the wheel on (sample rates
//! 200, 100, 80) and the packet with four bytes: Microsoft, "Windows and the 5-Button Wheel Mouse", and Linux:
//! drivers/input/mouse/psmouse-base.c.

use std::collections::VecDeque;

const ACKNOWLEDGE: u8 = 0xFA;
const RESEND: u8 = 0xFE;
const SELF_TEST_PASSED: u8 = 0xAA;
/// Bytes that wait for the controller at most. Motion that finds no room waits as a sum.
pub(super) const CAPACITY: usize = 16;
/// Farthest that one packet tells of: nine bits with sign.
const STEP: i32 = 255;
/// Farthest that the wheel turns in one packet: four bits with sign.
const WHEEL_STEP: i32 = 7;

bitflags::bitflags! {
    /// Buttons that are down.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Buttons: u8 {
        /// The left one.
        const LEFT = 1 << 0;
        /// The right one.
        const RIGHT = 1 << 1;
        /// The middle one.
        const MIDDLE = 1 << 2;
        /// The fourth.
        const SIDE = 1 << 3;
        /// The fifth.
        const EXTRA = 1 << 4;
    }
}

/// What the host's mouse did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Motion {
    /// To the right, in counts.
    pub right: i32,
    /// Down, in counts, as displays count.
    pub down: i32,
    /// The wheel, in notches towards the user.
    pub wheel: i32,
    /// All buttons that are down now.
    pub buttons: Buttons,
}

/// What a guest knows the mouse as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Protocol {
    #[default]
    Standard,
    Wheel,
    FiveButtons,
}

impl Protocol {
    fn identity(self) -> u8 {
        match self {
            Self::Standard => 0,
            Self::Wheel => 3,
            Self::FiveButtons => 4,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Stream,
    Remote,
    Wrap,
}

/// A command that waits for its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Resolution,
    SampleRate,
}

/// The mouse.
#[derive(Debug)]
pub(super) struct Mouse {
    queue: VecDeque<u8>,
    pending: Option<Pending>,
    protocol: Protocol,
    mode: Mode,
    reporting: bool,
    double: bool,
    resolution: u8,
    rate: u8,
    /// The last three sample rates.
    knock: [u8; 3],
    moved: Motion,
    changed: bool,
    last: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            pending: None,
            protocol: Protocol::Standard,
            mode: Mode::Stream,
            reporting: false,
            double: false,
            resolution: 2,
            rate: 100,
            knock: [0; 3],
            moved: Motion::default(),
            changed: false,
            last: 0,
        }
    }
}

impl Mouse {
    /// Whether the guest listens.
    pub(super) fn is_reporting(&self) -> bool {
        self.reporting && self.mode == Mode::Stream
    }

    /// The host's mouse moved, or a button changed.
    pub(super) fn move_by(&mut self, motion: Motion) {
        self.changed |= motion.buttons != self.moved.buttons;
        self.moved = Motion {
            right: self.moved.right.saturating_add(motion.right),
            down: self.moved.down.saturating_add(motion.down),
            wheel: self.moved.wheel.saturating_add(motion.wheel),
            buttons: motion.buttons,
        };
        self.report();
    }

    /// Puts packets into the queue as long as there is something to tell and room for it.
    fn report(&mut self) {
        if !self.is_reporting() {
            // Nobody listens: what was missed is not told later.
            (self.moved.right, self.moved.down, self.moved.wheel, self.changed) = (0, 0, 0, false);
            return;
        }
        let wheel = |mouse: &Self| mouse.protocol != Protocol::Standard && mouse.moved.wheel != 0;
        while (self.changed || self.moved.right != 0 || self.moved.down != 0 || wheel(self))
            && self.queue.len() + 4 <= CAPACITY
        {
            self.packet();
        }
    }

    fn packet(&mut self) {
        let right = self.moved.right.clamp(-STEP, STEP);
        let down = self.moved.down.clamp(-STEP, STEP);
        let wheel = match self.protocol {
            Protocol::Standard => self.moved.wheel,
            _ => self.moved.wheel.clamp(-WHEEL_STEP, WHEEL_STEP),
        };
        self.moved.right -= right;
        self.moved.down -= down;
        self.moved.wheel -= wheel;
        self.changed = false;
        // The mouse counts upwards.
        let up = -down;
        let [right_low, ..] = right.to_le_bytes();
        let [up_low, ..] = up.to_le_bytes();
        let signs = u8::from(right < 0) << 4 | u8::from(up < 0) << 5;
        let buttons = self.moved.buttons.bits();
        self.answer(&[buttons & 0b111 | 1 << 3 | signs, right_low, up_low]);
        let [wheel, ..] = wheel.to_le_bytes();
        match self.protocol {
            Protocol::Standard => {}
            Protocol::Wheel => self.answer(&[wheel]),
            Protocol::FiveButtons => self.answer(&[wheel & 0xF | buttons >> 3 << 4]),
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
        if self.queue.is_empty() {
            self.report();
        }
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn set_defaults(&mut self) {
        (self.reporting, self.double, self.resolution, self.rate) = (false, false, 2, 100);
        self.mode = Mode::Stream;
    }

    /// A byte from the system.
    pub(super) fn command(&mut self, byte: u8) {
        if self.mode == Mode::Wrap && !matches!(byte, 0xEC | 0xFF) {
            self.answer(&[byte]);
            return;
        }
        if let Some(pending) = self.pending.take() {
            self.argument(pending, byte);
            return;
        }
        // A command ends what the mouse is sending.
        if byte != 0xFE {
            self.queue.clear();
        }
        match byte {
            0xE6 | 0xE7 => self.acknowledge(|mouse| mouse.double = byte == 0xE7),
            0xE8 => self.acknowledge(|mouse| mouse.pending = Some(Pending::Resolution)),
            0xE9 => {
                let buttons = self.moved.buttons;
                let down = |button, bit: u8| if buttons.contains(button) { bit } else { 0 };
                let status = u8::from(self.mode == Mode::Remote) << 6
                    | u8::from(self.reporting) << 5
                    | u8::from(self.double) << 4
                    | down(Buttons::LEFT, 1 << 2)
                    | down(Buttons::MIDDLE, 1 << 1)
                    | down(Buttons::RIGHT, 1 << 0);
                self.answer(&[ACKNOWLEDGE, status, self.resolution, self.rate]);
            }
            0xEA => self.acknowledge(|mouse| mouse.mode = Mode::Stream),
            0xEB => {
                self.answer(&[ACKNOWLEDGE]);
                self.packet();
            }
            0xEC => self.acknowledge(|mouse| mouse.mode = Mode::Stream),
            0xEE => self.acknowledge(|mouse| mouse.mode = Mode::Wrap),
            0xF0 => self.acknowledge(|mouse| mouse.mode = Mode::Remote),
            0xF2 => self.answer(&[ACKNOWLEDGE, self.protocol.identity()]),
            0xF3 => self.acknowledge(|mouse| mouse.pending = Some(Pending::SampleRate)),
            0xF4 => self.acknowledge(|mouse| mouse.reporting = true),
            0xF5 => self.acknowledge(|mouse| mouse.reporting = false),
            0xF6 => self.acknowledge(Self::set_defaults),
            0xFE => self.answer(&[self.last]),
            0xFF => {
                let buttons = self.moved.buttons;
                *self = Self { moved: Motion { buttons, ..Motion::default() }, ..Self::default() };
                self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED, self.protocol.identity()]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn acknowledge(&mut self, act: impl FnOnce(&mut Self)) {
        act(self);
        self.answer(&[ACKNOWLEDGE]);
    }

    fn argument(&mut self, pending: Pending, byte: u8) {
        match pending {
            Pending::Resolution => self.acknowledge(|mouse| mouse.resolution = byte & 0b11),
            Pending::SampleRate => {
                let [_, second, third] = self.knock;
                self.knock = [second, third, byte];
                match self.knock {
                    [200, 100, 80] => self.protocol = Protocol::Wheel,
                    [200, 200, 80] if self.protocol != Protocol::Standard => {
                        self.protocol = Protocol::FiveButtons;
                    }
                    _ => {}
                }
                self.acknowledge(|mouse| mouse.rate = byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for byte in bytes {
            mouse.command(*byte);
            all.extend(std::iter::from_fn(|| mouse.next()));
        }
        all.extend(std::iter::from_fn(|| mouse.next()));
        all
    }

    fn motion(right: i32, down: i32, wheel: i32) -> Motion {
        Motion { right, down, wheel, ..Motion::default() }
    }

    #[test]
    fn commands_are_answered() {
        let mut mouse = Mouse::default();
        for (bytes, expected) in [
            (&[0xFF][..], &[0xFA, 0xAA, 0][..]),
            (&[0xF2], &[0xFA, 0]),
            (&[0xE8, 3, 0xE7, 0xF3, 60], &[0xFA; 5]),
            (&[0xF4, 0xE9], &[0xFA, 0xFA, 0x30, 3, 60]),
            (&[0xEE, 0x12, 0xF2, 0xEC], &[0xFA, 0x12, 0xF2, 0xFA]),
            (&[0xF6, 0xE9], &[0xFA, 0xFA, 0, 2, 100]),
            (&[0x01], &[0xFE]),
        ] {
            assert_eq!(answers(&mut mouse, bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn the_knock_turns_the_wheel_on_and_a_reset_turns_it_off() {
        let mut mouse = Mouse::default();
        assert_eq!(answers(&mut mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2]).last(), Some(&3));
        assert_eq!(answers(&mut mouse, &[0xF4]), [0xFA]);
        mouse.move_by(Motion { buttons: Buttons::LEFT | Buttons::SIDE, ..motion(3, -2, -1) });
        assert_eq!(answers(&mut mouse, &[]), [0x09, 3, 2, 0xFF]);
        assert_eq!(answers(&mut mouse, &[0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2]).last(), Some(&4));
        mouse.move_by(Motion { buttons: Buttons::SIDE, ..motion(-1, 0, 1) });
        assert_eq!(answers(&mut mouse, &[]), [0x18, 0xFF, 0, 0x11]);
        assert_eq!(answers(&mut mouse, &[0xFF]).last(), Some(&0));
    }

    #[test]
    fn far_motion_takes_several_packets_and_never_more_than_the_queue_holds() {
        let mut mouse = Mouse::default();
        answers(&mut mouse, &[0xF4]);
        mouse.move_by(motion(600, 300, 0));
        let packets = answers(&mut mouse, &[]);
        assert_eq!(packets, [0x28, 255, 1, 0x28, 255, 0xD3, 0x08, 90, 0]);
        for _ in 0..1000 {
            mouse.move_by(motion(i32::MAX, i32::MIN, 1));
        }
        assert!(mouse.waiting() <= CAPACITY);
        assert_eq!(answers(&mut mouse, &[0xF5])[0], 0xFA, "a command ends it");
    }

    #[test]
    fn nothing_is_told_before_the_guest_listens() {
        let mut mouse = Mouse::default();
        mouse.move_by(motion(5, 5, 5));
        assert_eq!(answers(&mut mouse, &[0xF4]), [0xFA]);
        assert_eq!(answers(&mut mouse, &[0xF0, 0xEB]), [0xFA, 0xFA, 0x08, 0, 0]);
    }
}
