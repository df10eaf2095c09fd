//! The real-time clock with its memory at ports 70h and 71h: the chip ([`mc146818`]) with the host's time and interrupt 8.
//!
//! It starts with the host's time in UTC. A guest that sets it has its own time from then on, for as long as the machine
//! runs; nothing of the host is set by it.

mod calendar;
mod mc146818;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::chipset::clock::{Clock, Timed, Waker};
use crate::vmm::interrupt::InterruptLine;
use mc146818::{Mc146818, Rung};

/// Index port; the data port follows.
pub const INDEX_PORT: u16 = 0x70;
/// Its ISA interrupt.
pub const GSI: u32 = 8;

/// Memory byte with the century.
pub const CENTURY: u8 = mc146818::CENTURY;

/// Told when the alarm interrupts, under the clock's lock.
pub type OnAlarm = Box<dyn Fn() + Send + Sync>;

struct State {
    chip: Mc146818,
    index: u8,
    /// Another timer has taken over its interrupt (IA-PC HPET 1.0a, 2.3.5).
    disconnected: bool,
}

/// The clock.
pub struct Rtc {
    /// Order: before the interrupt line's, which is driven under it.
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    line: InterruptLine,
    waker: Waker,
    on_alarm: OnAlarm,
}

impl std::fmt::Debug for Rtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rtc").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Rtc {
    /// A clock that interrupts by `line`. It has to be given to the thread of `waker`, too.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, line: InterruptLine, waker: Waker, on_alarm: OnAlarm) -> Self {
        let chip = Mc146818::new(clock.now());
        let state = Mutex::new(State { chip, index: 0, disconnected: false });
        Self { state, clock, line, waker, on_alarm }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a byte into the memory behind the clock (index 0Eh to 7Fh), where firmware looks for it.
    pub fn store(&self, index: u8, value: u8) {
        self.lock().chip.store(index, value);
    }

    /// Takes its interrupt off the line while another timer has it.
    pub fn disconnect(&self, disconnected: bool) {
        let mut state = self.lock();
        state.disconnected = disconnected;
        self.settle(&mut state);
    }

    /// Brings flags and line up to date.
    fn settle(&self, state: &mut State) {
        if state.chip.sync(self.clock.now()) == Rung::Alarm {
            (self.on_alarm)();
        }
        self.line.set_level(state.chip.interrupts() && !state.disconnected);
    }
}

impl Timed for Rtc {
    fn expire(&self) -> Option<Duration> {
        let mut state = self.lock();
        self.settle(&mut state);
        state.chip.due(self.clock.now())
    }
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, _: AccessSize) -> Result<u64, IoError> {
        let mut state = self.lock();
        match offset {
            0 => Ok(state.index.into()),
            1 => {
                self.settle(&mut state);
                let before = state.chip.due(self.clock.now());
                let index = state.index;
                let value = state.chip.read(index, self.clock.now());
                self.settle(&mut state);
                // Flags that were taken away can come again.
                let after = state.chip.due(self.clock.now());
                if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
                    self.waker.wake();
                }
                Ok(value.into())
            }
            _ => Err(IoError::InvalidRegister),
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut state = self.lock();
        // A word write sets index and data at once.
        for (byte, index) in value.to_le_bytes().into_iter().take(size.bytes()).zip(0..) {
            match offset.saturating_add(index) {
                // Bit 7 masks NMIs on a PC.
                0 => state.index = byte & 0x7F,
                1 => {
                    self.settle(&mut state);
                    let index = state.index;
                    state.chip.write(index, byte, self.clock.now());
                    self.settle(&mut state);
                    if state.chip.due(self.clock.now()).is_some() {
                        self.waker.wake();
                    }
                }
                _ => {}
            }
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for Rtc {
    /// Memory and time stay, as a battery would see to it.
    fn reset(&self) {
        let mut state = self.lock();
        state.index = 0;
        state.disconnected = false;
        state.chip.reset();
        self.settle(&mut state);
    }

    fn resume(&self) {
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests;
