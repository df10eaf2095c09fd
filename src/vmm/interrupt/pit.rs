//! The programmable interval timer of a PC (8254) and the port 61h beside it as a state machine; time comes in from outside.
//!
//! All times are ticks of the chip's clock, [`FREQUENCY_HZ`], from any fixed moment. Channel 0 interrupts, channel 2 sounds
//! the speaker, whose gate and output software uses as a stopwatch; channel 1 refreshed memory once and counts for nobody.
//! The timer gives it a clock and a wire.
//!
//! Intel 8254 data sheet (231164-005); port 61h: ICH9 (data sheet 316972-004), 13.7.1. Deviations that no guest is known to
//! see: a count is loaded at once rather than at the next tick, and a new count for a running square wave waits for
//! the end of the whole period.

/// Ticks in a second: a third of the colour carrier times four.
pub const FREQUENCY_HZ: u32 = 1_193_182;
/// Channels.
const CHANNELS: usize = 3;
/// Ticks between memory refreshes, as firmware sets channel 1: bit 4 of port 61h toggles with each.
const REFRESH_TICKS: u64 = 18;

/// Bits of port 61h.
mod port61 {
    /// Gate of channel 2.
    pub(super) const GATE_2: u8 = 1 << 0;
    /// Speaker, parity and channel check enables: kept.
    pub(super) const KEPT: u8 = 0b1111;
    pub(super) const REFRESH: u8 = 1 << 4;
    /// Output of channel 2.
    pub(super) const OUT_2: u8 = 1 << 5;
}

/// What a channel does with its count (data sheet, "Mode Definitions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    TerminalCount,
    OneShot,
    Rate,
    Square,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    /// From bits 3:1 of a control word; the two highest numbers are the same modes again.
    fn new(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::TerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::Rate,
            3 | 7 => Self::Square,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::TerminalCount => 0,
            Self::OneShot => 1,
            Self::Rate => 2,
            Self::Square => 3,
            Self::SoftwareStrobe => 4,
            Self::HardwareStrobe => 5,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Self::Rate | Self::Square)
    }

    /// The gate starts the count rather than letting it run.
    fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Which bytes of a count are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Bytes {
    Low,
    High,
    #[default]
    Both,
}

/// When a channel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Counting {
    /// No count, or none yet that was triggered.
    #[default]
    Not,
    /// From the full count since this tick.
    Since(u64),
    /// The gate stopped it after so many ticks.
    Stopped(u64),
}

/// One of the three counters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    mode: Mode,
    bytes: Bytes,
    bcd: bool,
    /// Ticks of the count in force, 1 to 65536.
    count: u32,
    counting: Counting,
    /// A count that waits: for a trigger, or for this tick.
    next: Option<(u32, u64)>,
    gate: bool,
    /// The low byte that was written first.
    low: Option<u8>,
    /// The next byte that is read is the high one.
    high_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    fn new(gate: bool) -> Self {
        Self {
            mode: Mode::default(),
            bytes: Bytes::default(),
            bcd: false,
            count: 1 << 16,
            counting: Counting::Not,
            next: None,
            gate,
            low: None,
            high_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// Ticks from one zero of the counter to the next.
    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 1 << 16 }
    }

    fn period(&self) -> u64 {
        // A periodic count of 1 is not allowed and must do no harm.
        u64::from(if self.mode.is_periodic() { self.count.max(2) } else { self.count.max(1) })
    }

    /// Ticks since the count was loaded.
    fn elapsed(&self, now: u64) -> Option<u64> {
        match self.counting {
            Counting::Not => None,
            Counting::Since(start) => Some(now.saturating_sub(start)),
            Counting::Stopped(elapsed) => Some(elapsed),
        }
    }

    /// Takes over a count whose time has come.
    fn settle(&mut self, now: u64) {
        if let (Some((count, at)), Counting::Since(_)) = (self.next, self.counting)
            && self.mode.is_periodic()
            && at <= now
        {
            self.count = count;
            self.counting = Counting::Since(at);
            self.next = None;
        }
    }

    fn output(&self, now: u64) -> bool {
        let period = self.period();
        let Some(elapsed) = self.elapsed(now) else { return self.mode != Mode::TerminalCount };
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => elapsed >= period,
            Mode::Rate => !self.gate || elapsed % period != period - 1,
            Mode::Square => !self.gate || elapsed % period < period.div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != period,
        }
    }

    /// The first tick behind `after` at which the output rises.
    fn next_rise(&self, after: u64) -> Option<u64> {
        let Counting::Since(start) = self.counting else { return None };
        let period = self.period();
        let rise = match self.mode {
            Mode::TerminalCount | Mode::OneShot => start.saturating_add(period),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => start.saturating_add(period + 1),
            Mode::Rate | Mode::Square => {
                let done = after.saturating_sub(start) / period;
                start.saturating_add(done.saturating_add(1).saturating_mul(period))
            }
        };
        (rise > after).then_some(rise)
    }

    /// The counter as it is read.
    fn value(&self, now: u64) -> u16 {
        let (period, modulus) = (self.period(), u64::from(self.modulus()));
        let elapsed = self.elapsed(now).unwrap_or(0);
        let value = match self.mode {
            Mode::Rate => period - elapsed % period,
            // It counts by two, with even numbers, twice in a period.
            Mode::Square => {
                let even = period & !1;
                even - elapsed % period * 2 % even
            }
            _ => period + modulus - elapsed % modulus,
        };
        let value = u16::try_from(value % modulus).unwrap_or(0);
        if self.bcd { to_bcd(value) } else { value }
    }

    fn status(&self, now: u64) -> u8 {
        let bytes = match self.bytes {
            Bytes::Low => 1,
            Bytes::High => 2,
            Bytes::Both => 3,
        };
        let null = self.counting == Counting::Not || self.next.is_some();
        u8::from(self.output(now)) << 7
            | u8::from(null) << 6
            | bytes << 4
            | self.mode.number() << 1
            | u8::from(self.bcd)
    }

    fn control(&mut self, word: u8) {
        let bytes = match word >> 4 & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        *self = Self { mode: Mode::new(word >> 1), bytes, bcd: word & 1 != 0, ..Self::new(self.gate) };
    }

    fn latch_count(&mut self, now: u64) {
        let value = self.value(now);
        self.latched_count.get_or_insert(value);
    }

    fn latch_status(&mut self, now: u64) {
        let status = self.status(now);
        self.latched_status.get_or_insert(status);
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.value(now)).to_le_bytes();
        let takes_high = match self.bytes {
            Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => self.high_next,
        };
        self.high_next = self.bytes == Bytes::Both && !takes_high;
        if !self.high_next {
            self.latched_count = None;
        }
        if takes_high { high } else { low }
    }

    fn write(&mut self, value: u8, now: u64) {
        let count = match (self.bytes, self.low.take()) {
            (Bytes::Low, _) => [value, 0],
            (Bytes::High, _) => [0, value],
            (Bytes::Both, Some(low)) => [low, value],
            (Bytes::Both, None) => {
                self.low = Some(value);
                // The first byte stops the count (mode 0).
                if self.mode == Mode::TerminalCount {
                    self.counting = Counting::Not;
                }
                return;
            }
        };
        let count = u16::from_le_bytes(count);
        let count = u32::from(if self.bcd { from_bcd(count) } else { count });
        self.load(if count == 0 { self.modulus() } else { count }, now);
    }

    fn load(&mut self, count: u32, now: u64) {
        if self.mode.is_triggered() {
            self.next = Some((count, u64::MAX));
        } else if self.mode.is_periodic() && self.counting != Counting::Not {
            let end = self.next_rise(now).unwrap_or(u64::MAX);
            self.next = Some((count, end));
        } else {
            self.count = count;
            self.counting = if self.gate { Counting::Since(now) } else { Counting::Stopped(0) };
        }
    }

    fn set_gate(&mut self, gate: bool, now: u64) {
        if std::mem::replace(&mut self.gate, gate) == gate {
            return;
        }
        if gate && (self.mode.is_triggered() || self.mode.is_periodic()) {
            // The count begins anew.
            if let Some((count, _)) = self.next.take() {
                self.count = count;
            } else if self.counting == Counting::Not {
                return;
            }
            self.counting = Counting::Since(now);
        } else if gate && let Counting::Stopped(elapsed) = self.counting {
            self.counting = Counting::Since(now.saturating_sub(elapsed));
        } else if !gate
            && !self.mode.is_triggered()
            && let Counting::Since(start) = self.counting
        {
            self.counting = Counting::Stopped(now.saturating_sub(start));
        }
    }
}

/// Four decimal digits; what is no digit counts as nine.
fn from_bcd(value: u16) -> u16 {
    [12, 8, 4, 0].into_iter().fold(0, |sum, shift| sum * 10 + (value >> shift & 0xF).min(9))
}

fn to_bcd(value: u16) -> u16 {
    let digit = |power: u16| value / power % 10;
    digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
}

/// The chip with port 61h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pit {
    channels: [Channel; CHANNELS],
    /// When channel 0 interrupts next.
    edge: Option<u64>,
    port61: u8,
}

impl Default for Pit {
    /// After power-on: nothing counts, and the gate of channel 2 is closed.
    fn default() -> Self {
        Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            edge: None,
            port61: 0,
        }
    }
}

impl Pit {
    fn settle(&mut self, now: u64) {
        for channel in &mut self.channels {
            channel.settle(now);
        }
    }

    fn channel(&mut self, number: u8) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))
    }

    /// Looks for the next interrupt after channel 0 was changed.
    fn find_edge(&mut self, now: u64) {
        self.edge = self.channels.first().and_then(|channel| channel.next_rise(now));
    }

    /// The register at `offset` from port 40h.
    pub fn read(&mut self, offset: u8, now: u64) -> u8 {
        self.settle(now);
        // The control register cannot be read.
        self.channel(offset).map_or(0, |channel| channel.read(now))
    }

    /// Writes the register at `offset` from port 40h. What is due by `now` must have been taken with [`Self::expire`].
    pub fn write(&mut self, offset: u8, value: u8, now: u64) {
        self.settle(now);
        match offset {
            3 if value >> 6 == 3 => self.read_back(value, now),
            3 => {
                let Some(channel) = self.channel(value >> 6) else { return };
                if value & 0b11_0000 == 0 {
                    channel.latch_count(now);
                } else {
                    channel.control(value);
                }
            }
            _ => {
                if let Some(channel) = self.channel(offset) {
                    channel.write(value, now);
                }
            }
        }
        self.find_edge(now);
    }

    /// The read-back command: bits 5 and 4 clear ask for count and status, bits 3:1 name channels.
    fn read_back(&mut self, command: u8, now: u64) {
        for (channel, number) in self.channels.iter_mut().zip(1u8..) {
            if command >> number & 1 == 0 {
                continue;
            }
            if command & 1 << 5 == 0 {
                channel.latch_count(now);
            }
            if command & 1 << 4 == 0 {
                channel.latch_status(now);
            }
        }
    }

    /// Port 61h.
    pub fn read_port61(&mut self, now: u64) -> u8 {
        self.settle(now);
        let refresh = if now / REFRESH_TICKS % 2 == 1 { port61::REFRESH } else { 0 };
        let out = self.channels.last().is_some_and(|channel| channel.output(now));
        self.port61 | refresh | if out { port61::OUT_2 } else { 0 }
    }

    /// Writes port 61h.
    pub fn write_port61(&mut self, value: u8, now: u64) {
        self.settle(now);
        self.port61 = value & port61::KEPT;
        if let Some(channel) = self.channels.last_mut() {
            channel.set_gate(value & port61::GATE_2 != 0, now);
        }
    }

    /// When channel 0 interrupts next.
    #[must_use]
    pub fn edge(&self) -> Option<u64> {
        self.edge
    }

    /// Whether channel 0 interrupted since the last call, by `now`. However many times it did, it is once: who was late
    /// does not catch up, and the next interrupt comes when it would have come anyway.
    pub fn expire(&mut self, now: u64) -> bool {
        if self.edge.is_none_or(|edge| edge > now) {
            return false;
        }
        self.settle(now);
        self.find_edge(now);
        true
    }
}

#[cfg(test)]
mod tests;
