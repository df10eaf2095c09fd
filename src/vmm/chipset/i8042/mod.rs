//! The keyboard controller (8042) with a keyboard and a mouse, at ports 60h and 64h; interrupts 1 and 12.
//!
//! [`controller`] is the chip, [`keyboard`] and [`mouse`] what is plugged in; this joins them with the bus and two interrupt
//! lines, and is where the host's keys and motions come in ([`I8042::strike`], [`I8042::move_by`]). A line is high while a byte
//! of its device stands in the output buffer, and goes low between two, since both are edge-triggered on a PC.

mod controller;
mod key;
mod keyboard;
mod mouse;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Bus, BusDevice, Effects, IoError, RangeError};
use crate::vmm::interrupt::InterruptLine;
use controller::{Asked, Controller};
pub use key::{Key, Stroke};
pub use mouse::{Buttons, Motion};

/// Data port.
pub const DATA_PORT: u16 = 0x60;
/// Command and status port.
pub const COMMAND_PORT: u16 = 0x64;
/// The keyboard's ISA interrupt.
pub const KEYBOARD_GSI: u32 = 1;
/// The mouse's ISA interrupt.
pub const MOUSE_GSI: u32 = 12;

/// The controller.
#[derive(Debug)]
pub struct I8042 {
    /// Order: before the interrupt lines', which are driven under it.
    controller: Mutex<Controller>,
    keyboard: InterruptLine,
    mouse: InterruptLine,
}

impl I8042 {
    /// A controller as firmware leaves it, with these interrupt lines.
    #[must_use]
    pub fn new(keyboard: InterruptLine, mouse: InterruptLine) -> Self {
        Self { controller: Mutex::default(), keyboard, mouse }
    }

    /// Puts both ports on the bus.
    ///
    /// # Errors
    /// [`RangeError`] if something else is there already.
    pub fn insert(self: &Arc<Self>, pio: &Bus) -> Result<(), RangeError> {
        pio.insert(DATA_PORT.into(), 1, Arc::new(DataPort(Arc::clone(self))))?;
        pio.insert(COMMAND_PORT.into(), 1, Arc::new(CommandPort(Arc::clone(self))))
    }

    fn lock(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drive(&self, controller: &Controller) {
        let (keyboard, mouse) = controller.interrupts();
        self.keyboard.set_level(keyboard);
        self.mouse.set_level(mouse);
    }

    fn with<R>(&self, act: impl FnOnce(&mut Controller) -> R) -> R {
        let mut controller = self.lock();
        let result = act(&mut controller);
        // Low between two bytes.
        self.drive(&controller);
        controller.fill();
        self.drive(&controller);
        result
    }

    /// A key of the host's went down or up. Lost where the guest does not take keys for long.
    pub fn strike(&self, key: Key, stroke: Stroke) {
        self.with(|controller| controller.strike(key, stroke));
    }

    /// The host's mouse moved, or a button changed. Motions add up where the guest does not take them.
    pub fn move_by(&self, motion: Motion) {
        self.with(|controller| controller.move_by(motion));
    }

    /// The keyboard's lamps that the guest turned on: scroll lock, num lock, caps lock from bit 0 on.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.lock().keyboard.leds()
    }

    /// Whether the guest listens to the mouse.
    #[must_use]
    pub fn has_mouse_listener(&self) -> bool {
        self.lock().mouse.is_reporting()
    }
}

fn effects(asked: Asked) -> Effects {
    match asked {
        Asked::Nothing => Effects::empty(),
        Asked::Reset => Effects::RESET,
    }
}

#[derive(Debug)]
struct DataPort(Arc<I8042>);

impl BusDevice for DataPort {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(self.0.with(Controller::read_data).into())
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [value, ..] = value.to_le_bytes();
        Ok(effects(self.0.with(|controller| controller.write_data(value))))
    }
}

#[derive(Debug)]
struct CommandPort(Arc<I8042>);

impl BusDevice for CommandPort {
    fn read(&self, _: u64, _: AccessSize) -> Result<u64, IoError> {
        Ok(self.0.lock().status().into())
    }

    fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
        let [value, ..] = value.to_le_bytes();
        Ok(effects(self.0.with(|controller| controller.write_command(value))))
    }
}

impl Lifecycle for I8042 {
    fn reset(&self) {
        self.with(|controller| *controller = Controller::default());
    }
}

#[cfg(test)]
mod tests;
