//! High Precision Event Timers: three timers at a fixed address (IA-PC HPET Specification 1.0a).
//!
//! [`timers`] is the block; this joins it with the clock's thread, with interrupt lines and with the two devices whose
//! interrupts it takes over in legacy replacement mode: the PIT's and the real-time clock's. Messages (FSB) are not offered.

mod timers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::chipset::clock::{Clock, MIN_INTERVAL, Timed, Waker};
use crate::vmm::interrupt::InterruptLine;
use timers::{FREQUENCY_HZ, Fired, Signal, Timers};

/// Guest-physical address of the registers (2.3: the first of the places that a PC has them at).
pub const BASE: u64 = 0xFED0_0000;
/// Bytes of registers.
pub const LENGTH: u64 = 0x400;
/// Identity for the ACPI table: what a read of the low half of the capabilities gives (3.2.4).
pub const BLOCK_ID: u32 = 0x8086_A201;
/// Shortest period that does not lose interrupts, in ticks (3.2.4).
pub const MINIMUM_TICKS: u16 = 1000;

/// Whether the machine has these timers. Guests with better clocks, KVM's and their processors', still look at them, which
/// takes a tenth of a boot's time where exits are slow; so a machine has them only if it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hpet {
    /// It has.
    Present,
    /// It does not: guests use their processors' timers.
    #[default]
    Absent,
}

/// Told whether legacy replacement is on, under the timers' lock: whom it is taken from keeps quiet meanwhile.
pub type OnLegacy = Box<dyn Fn(bool) + Send + Sync>;

struct State {
    timers: Timers,
    /// Inputs held high, one bit each.
    held: u32,
    not_before: Duration,
}

/// The timers.
pub struct HighPrecisionTimers {
    /// Order: before that of whoever is told of legacy mode, and before interrupt lines', which are driven under it.
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Each input that a timer can be routed to, with its line.
    lines: Vec<(u8, InterruptLine)>,
    waker: Waker,
    on_legacy: OnLegacy,
}

impl std::fmt::Debug for HighPrecisionTimers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HighPrecisionTimers").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl HighPrecisionTimers {
    /// Timers after power-on; `line` gives the line of an I/O APIC input.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        line: impl Fn(u8) -> InterruptLine,
        waker: Waker,
        on_legacy: OnLegacy,
    ) -> Self {
        let inputs = (0..32u8).filter(|input| timers::ROUTES & 1 << input != 0);
        let lines = inputs.map(|input| (input, line(input))).collect();
        let state = State { timers: Timers::default(), held: 0, not_before: Duration::ZERO };
        Self { state: Mutex::new(state), clock, lines, waker, on_legacy }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticks(&self) -> u64 {
        let ticks = self.clock.now().uptime.as_nanos() * u128::from(FREQUENCY_HZ) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn line(&self, input: u8) -> Option<&InterruptLine> {
        self.lines.iter().find(|(at, _)| *at == input).map(|(_, line)| line)
    }

    /// Interrupts for what happened until now.
    fn settle(&self, state: &mut State) {
        let fired = state.timers.sync(self.ticks());
        for Fired { input, signal } in &fired {
            if *signal == Signal::Edge
                && let Some(line) = self.line(*input)
            {
                line.set_level(true);
                line.set_level(false);
            }
        }
        if !fired.is_empty() {
            state.not_before = self.clock.now().uptime + MIN_INTERVAL;
        }
        self.drive(state);
    }

    /// Lines of level-triggered timers.
    fn drive(&self, state: &mut State) {
        let held =
            state.timers.levels().fold(0, |held, input| held | 1u32.checked_shl(input.into()).unwrap_or(0));
        if held != state.held {
            for (input, line) in &self.lines {
                line.set_level(held & 1 << input != 0);
            }
            state.held = held;
        }
    }

    /// How long it is to the next interrupt.
    fn due(&self, state: &State) -> Option<Duration> {
        let nanoseconds = u128::from(state.timers.due()?) * 1_000_000_000 / u128::from(FREQUENCY_HZ);
        let due = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        Some(due.max(state.not_before.saturating_sub(self.clock.now().uptime)))
    }
}

impl Timed for HighPrecisionTimers {
    fn expire(&self) -> Option<Duration> {
        let mut state = self.lock();
        if self.clock.now().uptime >= state.not_before {
            self.settle(&mut state);
        }
        self.due(&state)
    }
}

/// The register of eight bytes that an access lies in, and the bit at which it begins.
fn register(offset: u64, size: AccessSize) -> Result<(u64, u32), IoError> {
    let within = offset % 8;
    if !within.is_multiple_of(size.bytes() as u64) {
        return Err(IoError::Unaligned);
    }
    Ok((offset - within, u32::try_from(8 * within).unwrap_or(0)))
}

impl BusDevice for HighPrecisionTimers {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let (at, shift) = register(offset, size)?;
        let mut state = self.lock();
        self.settle(&mut state);
        Ok(state.timers.read(at, self.ticks()) >> shift)
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        if matches!(size, AccessSize::Byte | AccessSize::Word) {
            return Err(IoError::InvalidAccessSize);
        }
        let (at, shift) = register(offset, size)?;
        let mut state = self.lock();
        self.settle(&mut state);
        let (before, was_legacy) = (self.due(&state), state.timers.is_legacy());
        state.timers.write(at, value << shift, size.ones() << shift, self.ticks());
        if state.timers.is_legacy() != was_legacy {
            (self.on_legacy)(!was_legacy);
        }
        self.settle(&mut state);
        let after = self.due(&state);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.waker.wake();
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for HighPrecisionTimers {
    fn reset(&self) {
        let mut state = self.lock();
        if state.timers.is_legacy() {
            (self.on_legacy)(false);
        }
        state.timers = Timers::default();
        self.drive(&mut state);
    }

    fn resume(&self) {
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests;
