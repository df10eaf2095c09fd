//! The clock chip: a state machine without clock, lock or interrupt line.
//!
//! Motorola MC146818A data sheet; ICH9 (316972-004), 13.6 for what differs on a PC: 24-hour and BCD at power-on, the
//! century in memory byte 32h. Time passes by itself; flags that it sets are brought up to date by [`Mc146818::sync`], which
//! comes before every access.

use std::time::Duration;

use super::calendar::{Civil, weekday};
use crate::vmm::chipset::clock::Now;

/// Where PCs keep the century.
pub(super) const CENTURY: u8 = 0x32;

/// Registers (MC146818A, figures 11 and 14); the century is where PCs keep it.
mod register {
    pub(super) const SECONDS: u8 = 0x00;
    pub(super) const SECONDS_ALARM: u8 = 0x01;
    pub(super) const MINUTES: u8 = 0x02;
    pub(super) const MINUTES_ALARM: u8 = 0x03;
    pub(super) const HOURS: u8 = 0x04;
    pub(super) const HOURS_ALARM: u8 = 0x05;
    pub(super) const WEEKDAY: u8 = 0x06;
    pub(super) const DAY: u8 = 0x07;
    pub(super) const MONTH: u8 = 0x08;
    pub(super) const YEAR: u8 = 0x09;
    pub(super) const A: u8 = 0x0A;
    pub(super) const B: u8 = 0x0B;
    pub(super) const C: u8 = 0x0C;
    pub(super) const D: u8 = 0x0D;
    pub(super) const CENTURY: u8 = super::CENTURY;
}

/// Register A.
mod a {
    pub(super) const UPDATE_IN_PROGRESS: u8 = 1 << 7;
    pub(super) const RATE: u8 = 0x0F;
    /// Both upper bits of the divider: it is held in reset.
    pub(super) const DIVIDER_RESET: u8 = 0b110 << 4;
    /// 32.768 kHz time base, 976.5625 µs periodic rate.
    pub(super) const POWER_ON: u8 = 0x26;
}

/// Register B.
mod b {
    pub(super) const SET: u8 = 1 << 7;
    pub(super) const UPDATE_INTERRUPT: u8 = 1 << 4;
    pub(super) const SQUARE_WAVE: u8 = 1 << 3;
    pub(super) const BINARY: u8 = 1 << 2;
    pub(super) const HOURS_24: u8 = 1 << 1;
    /// Enables of the flags of register C, which have the same places.
    pub(super) const INTERRUPTS: u8 = 0x70;
}

/// Register C.
mod c {
    pub(super) const REQUEST: u8 = 1 << 7;
    pub(super) const PERIODIC: u8 = 1 << 6;
    pub(super) const ALARM: u8 = 1 << 5;
    pub(super) const UPDATE: u8 = 1 << 4;
}

/// Register D: memory and time are valid.
const D_VALID: u8 = 1 << 7;
/// Afternoon in 12-hour mode.
const PM: u8 = 1 << 7;
/// Alarm bytes with both of these match everything.
const ANY: u8 = 0xC0;
const TIME_REGISTERS: [u8; 8] = [
    register::SECONDS,
    register::MINUTES,
    register::HOURS,
    register::WEEKDAY,
    register::DAY,
    register::MONTH,
    register::YEAR,
    register::CENTURY,
];

const SECOND: i128 = 1_000_000_000;
/// An update begins so long after "update in progress" is seen (MC146818A, figure 16).
const UPDATE_NOTICE: i128 = 244_000;
const TIME_BASE_HZ: u128 = 32_768;

/// The chip.
#[derive(Debug, Clone)]
pub(super) struct Mc146818 {
    memory: [u8; 128],
    a: u8,
    b: u8,
    c: u8,
    /// Nanoseconds that the guest's time is ahead of the host's calendar.
    ahead: i128,
    /// Days that its day of the week is ahead of its date's.
    weekday_ahead: i64,
    /// The guest's time up to which flags are set, in seconds; also the time that stands while time is stopped.
    seen: i64,
    /// The next moment that the alarm bytes name behind `seen`, in seconds.
    alarm: Option<i64>,
    /// Periods of the periodic rate up to which its flag is set.
    periods: u128,
}

/// What became of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Nothing that wakes a machine.
    No,
    /// The alarm came, and its interrupt is enabled.
    Alarm,
}

impl Mc146818 {
    /// A chip whose battery never ran out: it has the host's time.
    pub(super) fn new(now: Now) -> Self {
        let mut chip = Self {
            memory: [0; 128],
            a: a::POWER_ON,
            b: b::HOURS_24,
            c: 0,
            ahead: 0,
            weekday_ahead: 0,
            seen: 0,
            alarm: None,
            periods: 0,
        };
        chip.seen = chip.seconds(now);
        chip.alarm = chip.next_alarm();
        chip
    }

    /// The chip's reset input: no interrupts; memory and time stay (MC146818A, "RESET").
    pub(super) fn reset(&mut self) {
        self.b &= !(b::INTERRUPTS | b::SQUARE_WAVE);
        self.c = 0;
    }

    /// Whether it asks for an interrupt.
    pub(super) fn interrupts(&self) -> bool {
        self.c & c::REQUEST != 0
    }

    /// Puts a byte into the memory behind the clock, as firmware would.
    pub(super) fn store(&mut self, index: u8, value: u8) {
        if let Some(cell) = self.memory.get_mut(usize::from(index)) {
            *cell = value;
        }
    }

    fn byte(&self, index: u8) -> u8 {
        self.memory.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The guest's time in nanoseconds since 1970, if time passes.
    fn time(&self, now: Now) -> i128 {
        i128::try_from(now.calendar.as_nanos()).unwrap_or(0) + self.ahead
    }

    fn seconds(&self, now: Now) -> i64 {
        i64::try_from(self.time(now).div_euclid(SECOND)).unwrap_or(0)
    }

    fn is_stopped(&self) -> bool {
        self.b & b::SET != 0 || self.a & a::DIVIDER_RESET == a::DIVIDER_RESET
    }

    /// Ticks of the time base in one period, if there is a periodic rate (MC146818A, table 5).
    fn period_ticks(&self) -> Option<u128> {
        match self.a & a::RATE {
            0 => None,
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Whole periods since the machine was built.
    fn periods(&self, now: Now) -> Option<u128> {
        if self.a & a::DIVIDER_RESET == a::DIVIDER_RESET {
            return None;
        }
        Some(now.uptime.as_nanos() * TIME_BASE_HZ / 1_000_000_000 / self.period_ticks()?)
    }

    /// Sets the flags of what happened until `now`.
    pub(super) fn sync(&mut self, now: Now) -> Rung {
        let mut rung = Rung::No;
        if let Some(periods) = self.periods(now) {
            if periods > self.periods {
                self.c |= c::PERIODIC;
            }
            self.periods = periods;
        }
        if !self.is_stopped() {
            let seconds = self.seconds(now);
            if seconds > self.seen {
                self.c |= c::UPDATE;
                if self.alarm.is_some_and(|alarm| alarm <= seconds) {
                    self.c |= c::ALARM;
                    if self.b & c::ALARM != 0 {
                        rung = Rung::Alarm;
                    }
                }
            }
            if seconds != self.seen {
                self.seen = seconds;
                self.alarm = self.next_alarm();
            }
        }
        self.set_request();
        rung
    }

    fn set_request(&mut self) {
        self.c &= !c::REQUEST;
        if self.b & self.c & b::INTERRUPTS != 0 {
            self.c |= c::REQUEST;
        }
    }

    /// How long it is until an interrupt that is enabled and not asked for yet.
    pub(super) fn due(&self, now: Now) -> Option<Duration> {
        let missing = self.b & !self.c & b::INTERRUPTS;
        let periodic = || {
            let ticks = self.periods(now)?.checked_add(1)?.checked_mul(self.period_ticks()?)?;
            let nanoseconds = u64::try_from((ticks * 1_000_000_000).div_ceil(TIME_BASE_HZ)).ok()?;
            Some(Duration::from_nanos(nanoseconds).saturating_sub(now.uptime))
        };
        let second = |second: i64| {
            let left = (i128::from(second) * SECOND - self.time(now)).max(0);
            Some(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)))
        };
        let runs = !self.is_stopped();
        let all = [
            (missing & c::PERIODIC != 0).then(periodic).flatten(),
            (runs && missing & c::UPDATE != 0).then(|| second(self.seen + 1)).flatten(),
            (runs && missing & c::ALARM != 0).then(|| self.alarm.and_then(second)).flatten(),
        ];
        all.into_iter().flatten().min()
    }

    pub(super) fn read(&mut self, index: u8, now: Now) -> u8 {
        match index {
            register::A => {
                let left = SECOND - self.time(now).rem_euclid(SECOND);
                let updating = !self.is_stopped() && left <= UPDATE_NOTICE;
                if updating { self.a | a::UPDATE_IN_PROGRESS } else { self.a }
            }
            register::B => self.b,
            // Reading takes all flags away.
            register::C => std::mem::take(&mut self.c),
            register::D => D_VALID,
            time if TIME_REGISTERS.contains(&time) && !self.is_stopped() => self.time_register(time),
            other => self.byte(other),
        }
    }

    pub(super) fn write(&mut self, index: u8, value: u8, now: Now) {
        match index {
            register::A => self.change(value & !a::UPDATE_IN_PROGRESS, self.b, now),
            register::B => {
                // Setting SET takes the update interrupt away.
                let cleared = if value & b::SET != 0 { b::UPDATE_INTERRUPT } else { 0 };
                self.change(self.a, value & !cleared, now);
            }
            register::C | register::D => {}
            time if TIME_REGISTERS.contains(&time) && !self.is_stopped() => {
                self.stop();
                self.store(time, value);
                self.start(now, self.time(now).rem_euclid(SECOND));
            }
            other => {
                self.store(other, value);
                if matches!(other, register::SECONDS_ALARM | register::MINUTES_ALARM | register::HOURS_ALARM)
                {
                    self.alarm = self.next_alarm();
                }
            }
        }
        self.set_request();
    }

    /// New values of the control registers; time may stop or go on by them.
    fn change(&mut self, new_a: u8, new_b: u8, now: Now) {
        let (was_stopped, was_reset) = (self.is_stopped(), self.a & a::DIVIDER_RESET == a::DIVIDER_RESET);
        let before = (self.a & a::RATE, was_reset);
        let next = Self { a: new_a, b: new_b, ..self.clone() };
        match (was_stopped, next.is_stopped()) {
            // In the format that the guest goes on to read.
            (false, true) => {
                self.b = new_b & !b::SET | self.b & b::SET;
                self.stop();
                (self.a, self.b) = (new_a, new_b);
            }
            (true, false) => {
                (self.a, self.b) = (new_a, new_b);
                // The first update comes half a second after the divider's reset ends.
                let part = if was_reset { SECOND / 2 } else { self.time(now).rem_euclid(SECOND) };
                self.start(now, part);
            }
            _ => (self.a, self.b) = (new_a, new_b),
        }
        if before != (self.a & a::RATE, self.a & a::DIVIDER_RESET == a::DIVIDER_RESET) {
            self.periods = self.periods(now).unwrap_or(0);
        }
        self.alarm = self.next_alarm();
    }

    /// Puts the time into memory, where it stands still.
    fn stop(&mut self) {
        for index in TIME_REGISTERS {
            let value = self.time_register(index);
            self.store(index, value);
        }
    }

    /// Goes on from the time in memory, `part` nanoseconds into its second.
    fn start(&mut self, now: Now, part: i128) {
        let number = |index| i64::from(self.decode(self.byte(index)));
        let civil = Civil {
            year: 100 * number(register::CENTURY) + number(register::YEAR),
            month: number(register::MONTH),
            day: number(register::DAY),
            hour: i64::from(self.decode_hour(self.byte(register::HOURS)).unwrap_or(0)),
            minute: number(register::MINUTES),
            second: number(register::SECONDS),
        };
        let seconds = civil.to_unix();
        self.weekday_ahead = (number(register::WEEKDAY) - 1 - weekday(seconds)).rem_euclid(7);
        self.ahead = 0;
        self.ahead = i128::from(seconds) * SECOND + part - self.time(now);
        self.seen = seconds;
        self.alarm = self.next_alarm();
    }

    fn encode(&self, value: i64) -> u8 {
        let value = u8::try_from(value.rem_euclid(100)).unwrap_or(0);
        if self.b & b::BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.b & b::BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xF) }
    }

    /// An hour of either mode, 0 to 23; none if it is no hour.
    fn decode_hour(&self, value: u8) -> Option<u8> {
        if self.b & b::HOURS_24 != 0 {
            return Some(self.decode(value)).filter(|hour| *hour < 24);
        }
        let hour = self.decode(value & !PM);
        (1..=12).contains(&hour).then_some(hour % 12 + if value & PM != 0 { 12 } else { 0 })
    }

    /// A register of the time that `seen` is.
    fn time_register(&self, index: u8) -> u8 {
        let civil = Civil::from_unix(self.seen);
        match index {
            register::SECONDS => self.encode(civil.second),
            register::MINUTES => self.encode(civil.minute),
            register::HOURS if self.b & b::HOURS_24 != 0 => self.encode(civil.hour),
            register::HOURS => {
                let half = if civil.hour >= 12 { PM } else { 0 };
                self.encode((civil.hour + 11) % 12 + 1) | half
            }
            register::WEEKDAY => self.encode((weekday(self.seen) + self.weekday_ahead) % 7 + 1),
            register::DAY => self.encode(civil.day),
            register::MONTH => self.encode(civil.month),
            register::YEAR => self.encode(civil.year),
            register::CENTURY => self.encode(civil.year.div_euclid(100)),
            _ => 0,
        }
    }

    /// The first second behind `seen` that the alarm bytes name; none if they name no time of day.
    fn next_alarm(&self) -> Option<i64> {
        const DAY: i64 = 86_400;
        let bytes = [register::HOURS_ALARM, register::MINUTES_ALARM, register::SECONDS_ALARM];
        let [hour, minute, second] = bytes.map(|index| self.byte(index));
        let is_any = |value: u8| value & ANY == ANY;
        let decode = |value, end: i64| {
            if is_any(value) {
                Some(None)
            } else {
                Some(Some(i64::from(self.decode(value)))).filter(|v| v.is_none_or(|v| v < end))
            }
        };
        let hour = if is_any(hour) { None } else { Some(i64::from(self.decode_hour(hour)?)) };
        let (minute, second) = (decode(minute, 60)?, decode(second, 60)?);
        // Whole hours, minutes and seconds are stepped over where they do not match, so that a day takes few steps.
        let (mut at, end) = (self.seen.checked_add(1)?, self.seen.checked_add(DAY + 1)?);
        while at < end {
            let of_day = at.rem_euclid(DAY);
            if hour.is_some_and(|hour| hour != of_day / 3600) {
                at += 3600 - of_day % 3600;
            } else if minute.is_some_and(|minute| minute != of_day / 60 % 60) {
                at += 60 - of_day % 60;
            } else if second.is_some_and(|second| second != of_day % 60) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }
}
