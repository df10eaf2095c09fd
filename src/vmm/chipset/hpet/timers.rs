//! The block of timers: a state machine without clock, lock or interrupt line.
//!
//! IA-PC HPET Specification 1.0a, 2.3. Time comes in as ticks since the machine was built; matches that lie in the past are
//! found by [`Timers::sync`], which comes before every access.

/// Timers, the fewest that a PC has (2.3.4).
pub(super) const COUNT: usize = 3;
/// Length of a tick in femtoseconds, and ticks in a second.
pub(super) const PERIOD_FS: u32 = 100_000_000;
pub(super) const FREQUENCY_HZ: u64 = 10_000_000;

/// Registers of 64 bits by offset (table 2).
mod register {
    pub(super) const CAPABILITIES: u64 = 0x000;
    pub(super) const CONFIGURATION: u64 = 0x010;
    pub(super) const STATUS: u64 = 0x020;
    pub(super) const COUNTER: u64 = 0x0F0;
    pub(super) const TIMERS: u64 = 0x100;
    /// Bytes of one timer: configuration, comparator, FSB route, nothing.
    pub(super) const TIMER: u64 = 0x20;
}

/// General configuration (2.3.5).
mod general {
    pub(super) const ENABLE: u64 = 1 << 0;
    pub(super) const LEGACY: u64 = 1 << 1;
}

/// Timer configuration and capabilities (2.3.8).
mod timer {
    pub(super) const LEVEL: u64 = 1 << 1;
    pub(super) const INTERRUPT: u64 = 1 << 2;
    pub(super) const PERIODIC: u64 = 1 << 3;
    pub(super) const PERIODIC_CAPABLE: u64 = 1 << 4;
    pub(super) const SIZE_64: u64 = 1 << 5;
    pub(super) const SET_VALUE: u64 = 1 << 6;
    pub(super) const MODE_32: u64 = 1 << 8;
    pub(super) const ROUTE_SHIFT: u32 = 9;
    pub(super) const ROUTE: u64 = 0x1F << ROUTE_SHIFT;
    /// What a write changes. SET_VALUE is kept apart: it reads as zero.
    pub(super) const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | MODE_32 | ROUTE;
}

/// Inputs of the I/O APIC that a timer can be routed to: those of the legacy timers, and what PCI pins share.
pub(super) const ROUTES: u32 = 1 << 2 | 1 << 8 | 0xF << 20;

/// What a timer does to its interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// High and low again.
    Edge,
    /// High until its status bit is cleared.
    Level,
}

/// A match: which timer, and where it interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fired {
    pub(super) input: u8,
    pub(super) signal: Signal,
}

/// How far behind the counter a comparator that was just written still counts as missed, in ticks.
const MISSED: u64 = 1 << 32;

#[derive(Debug, Clone, Copy)]
struct Timer {
    configuration: u64,
    comparator: u64,
    period: u64,
    set_value: bool,
    /// The comparator was written and its match has not come yet.
    armed: bool,
    /// The first match of a rate, as long as the rate itself was not written.
    first: Option<u64>,
}

impl Default for Timer {
    /// As after power-on (2.3.9.2).
    fn default() -> Self {
        Self {
            configuration: 0,
            comparator: u64::MAX,
            period: 0,
            set_value: false,
            armed: false,
            first: None,
        }
    }
}

impl Timer {
    fn is(self, bit: u64) -> bool {
        self.configuration & bit != 0
    }

    /// The bits in which counter and comparator are compared.
    fn mask(self) -> u64 {
        if self.is(timer::MODE_32) { u32::MAX.into() } else { u64::MAX }
    }

    /// Moves a rate's comparator from `from` to its first match ahead of `counter`.
    fn advance(&mut self, from: u64, counter: u64) {
        let late = counter.wrapping_sub(from) & self.mask();
        if let Some(periods) = late.checked_div(self.period) {
            // As many periods as passed; interrupts that came too late are one.
            let on = self.period.wrapping_mul(periods.wrapping_add(1));
            self.comparator = from.wrapping_add(on) & self.mask();
        }
    }

    /// Whether `counter` passed `value` not long ago.
    fn is_behind(&self, value: u64, counter: u64) -> bool {
        counter.wrapping_sub(value) & self.mask() <= MISSED.min(self.mask() / 2)
    }

    /// Ticks from `counter` to the next match; none where the comparator was missed while it was written. A real timer would
    /// come again when the counter wraps; but guests write a comparator a few ticks ahead (Linux: hpet_rtc_timer_init and
    /// hpet_set_periodic in arch/x86/kernel/hpet.c), and here a vCPU can stand still for longer than that in between.
    fn distance(self, counter: u64) -> u64 {
        if self.armed && self.is_behind(self.comparator, counter) {
            return 0;
        }
        let distance = self.comparator.wrapping_sub(counter) & self.mask();
        // An equal value was met when the counter came to it; 2^64 ticks are as good as one less.
        if distance == 0 { self.mask() } else { distance }
    }

    /// 2.3.9.2.2: in periodic mode the value is the period; with SET_VALUE it is the next match as well.
    fn write_comparator(&mut self, value: u64, mask: u64, counter: u64) {
        let merged = |old: u64| (old & !mask | value & mask) & self.mask();
        let (comparator, period) = (merged(self.comparator), merged(self.period));
        if !self.is(timer::PERIODIC) || self.set_value {
            self.comparator = comparator;
            self.armed = true;
        }
        if self.is(timer::PERIODIC) {
            self.period = period;
            if self.set_value {
                self.first = Some(comparator);
            } else if let Some(first) = self.first.take().filter(|first| self.is_behind(*first, counter)) {
                self.advance(first, counter);
            }
        }
        // The upper half of a value that is written in two comes with the lower one.
        if mask >> 32 != 0 || self.is(timer::MODE_32) || mask & 0xFFFF_FFFF == 0xFFFF_FFFF {
            self.set_value = false;
        }
    }
}

/// The block.
#[derive(Debug, Default)]
pub(super) struct Timers {
    configuration: u64,
    status: u64,
    timers: [Timer; COUNT],
    /// The counter while it stands; while it runs, less the ticks at which it was started (wrapping).
    base: u64,
    /// The counter up to which matches were found.
    seen: u64,
}

impl Timers {
    fn is_running(&self) -> bool {
        self.configuration & general::ENABLE != 0
    }

    /// Whether timers 0 and 1 stand in for the PIT and the real-time clock.
    pub(super) fn is_legacy(&self) -> bool {
        self.configuration & general::LEGACY != 0
    }

    fn counter(&self, ticks: u64) -> u64 {
        if self.is_running() { self.base.wrapping_add(ticks) } else { self.base }
    }

    /// The I/O APIC input at which timer `index` interrupts (2.3.5: 2 and 8 for the first two in legacy mode).
    fn input(&self, index: usize, timer: Timer) -> u8 {
        match (self.is_legacy(), index) {
            (true, 0) => 2,
            (true, 1) => 8,
            _ => {
                let route = (timer.configuration & timer::ROUTE) >> timer::ROUTE_SHIFT;
                u8::try_from(route).unwrap_or(0)
            }
        }
    }

    /// Inputs that are held high now.
    pub(super) fn levels(&self) -> impl Iterator<Item = u8> {
        let held = self.timers.iter().enumerate().filter(|(index, timer)| {
            self.is_running()
                && timer.is(timer::LEVEL)
                && timer.is(timer::INTERRUPT)
                && self.status & 1 << index != 0
        });
        held.map(|(index, timer)| self.input(index, *timer))
    }

    /// Finds matches until now.
    pub(super) fn sync(&mut self, ticks: u64) -> Vec<Fired> {
        if !self.is_running() {
            return Vec::new();
        }
        let counter = self.counter(ticks);
        let passed = counter.wrapping_sub(self.seen);
        let mut fired = Vec::new();
        for index in 0..COUNT {
            let Some(timer) = self.timers.get(index).copied() else { continue };
            let distance = timer.distance(self.seen);
            if distance > passed {
                continue;
            }
            if let Some(timer) = self.timers.get_mut(index) {
                if timer.is(timer::PERIODIC) && timer.period > 0 {
                    timer.advance(timer.comparator, counter);
                } else if timer.is(timer::INTERRUPT) {
                    // One that is written before its interrupt is enabled comes when it is.
                    timer.armed = false;
                }
            }
            let signal = if timer.is(timer::LEVEL) { Signal::Level } else { Signal::Edge };
            if signal == Signal::Level {
                self.status |= 1 << index;
            }
            let input = self.input(index, timer);
            let routed = self.is_legacy() && index < 2 || ROUTES & 1 << input != 0;
            if timer.is(timer::INTERRUPT) && routed {
                fired.push(Fired { input, signal });
            }
        }
        self.seen = counter;
        fired
    }

    /// Ticks until the next match that interrupts.
    pub(super) fn due(&self) -> Option<u64> {
        if !self.is_running() {
            return None;
        }
        let enabled = self.timers.iter().enumerate().filter(|(index, timer)| {
            // One that holds its line already interrupts nobody.
            let held = timer.is(timer::LEVEL) && self.status & 1 << index != 0;
            timer.is(timer::INTERRUPT) && !held
        });
        enabled.map(|(_, timer)| timer.distance(self.seen)).min()
    }

    /// The 64-bit register at `offset`, a multiple of eight.
    pub(super) fn read(&self, offset: u64, ticks: u64) -> u64 {
        match offset {
            register::CAPABILITIES => {
                const REVISION: u64 = 1;
                const COUNTER_64: u64 = 1 << 13;
                const LEGACY: u64 = 1 << 15;
                const VENDOR: u64 = 0x8086 << 16;
                u64::from(PERIOD_FS) << 32 | VENDOR | LEGACY | COUNTER_64 | (COUNT as u64 - 1) << 8 | REVISION
            }
            register::CONFIGURATION => self.configuration,
            register::STATUS => self.status,
            register::COUNTER => self.counter(ticks),
            _ => {
                let Some((timer, part)) = self.timer_at(offset) else { return 0 };
                match part {
                    0 => {
                        u64::from(ROUTES) << 32
                            | timer.configuration
                            | timer::PERIODIC_CAPABLE
                            | timer::SIZE_64
                    }
                    8 => timer.comparator,
                    _ => 0,
                }
            }
        }
    }

    fn timer_index(offset: u64) -> Option<(usize, u64)> {
        let relative = offset.checked_sub(register::TIMERS)?;
        Some((usize::try_from(relative / register::TIMER).ok()?, relative % register::TIMER))
    }

    fn timer_at(&self, offset: u64) -> Option<(Timer, u64)> {
        let (index, part) = Self::timer_index(offset)?;
        Some((*self.timers.get(index)?, part))
    }

    /// Writes the bytes of `value` that `mask` has to the 64-bit register at `offset`.
    pub(super) fn write(&mut self, offset: u64, value: u64, mask: u64, ticks: u64) {
        let merged = |old: u64| old & !mask | value & mask;
        match offset {
            register::CONFIGURATION => {
                let new = merged(self.configuration) & (general::ENABLE | general::LEGACY);
                let counter = self.counter(ticks);
                self.configuration = new;
                self.base = if self.is_running() { counter.wrapping_sub(ticks) } else { counter };
                self.seen = counter;
            }
            // Ones clear.
            register::STATUS => self.status &= !(value & mask),
            register::COUNTER if !self.is_running() => {
                self.base = merged(self.base);
                self.seen = self.base;
            }
            _ => {
                let Some((index, part)) = Self::timer_index(offset) else { return };
                let Some(timer) = self.timers.get_mut(index) else { return };
                match part {
                    0 => {
                        timer.configuration = merged(timer.configuration) & timer::WRITABLE;
                        if value & mask & timer::SET_VALUE != 0 {
                            timer.set_value = true;
                        }
                        if timer.is(timer::MODE_32) {
                            timer.comparator &= timer.mask();
                            timer.period &= timer.mask();
                        }
                        if !timer.is(timer::LEVEL) {
                            self.status &= !(1 << index);
                        }
                    }
                    8 => timer.write_comparator(value, mask, self.seen),
                    _ => {}
                }
            }
        }
    }
}
