//! The real-time clock with its CMOS memory (Motorola MC146818A), at ports 70h and 71h.
//!
//! Tells the host's time in UTC; BCD and 24 hours, as firmware leaves it. It has no interrupt: alarms can be written and
//! never ring. Setting the clock is ignored: guests keep their own time once they run.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};

/// Index port; the data port follows.
pub const INDEX_PORT: u16 = 0x70;

/// Registers (MC146818A, figures 11 and 14); the century is where PCs keep it.
mod register {
    pub(super) const SECONDS: u8 = 0x00;
    pub(super) const MINUTES: u8 = 0x02;
    pub(super) const HOURS: u8 = 0x04;
    pub(super) const WEEKDAY: u8 = 0x06;
    pub(super) const DAY: u8 = 0x07;
    pub(super) const MONTH: u8 = 0x08;
    pub(super) const YEAR: u8 = 0x09;
    pub(super) const A: u8 = 0x0A;
    pub(super) const B: u8 = 0x0B;
    pub(super) const C: u8 = 0x0C;
    pub(super) const D: u8 = 0x0D;
    pub(super) const CENTURY: u8 = 0x32;
}

/// Register A: 32.768 kHz time base, 976.5625 µs periodic rate; never "update in progress".
const A: u8 = 0x26;
/// Register B: 24-hour mode; BCD since the binary bit is clear.
const B_24_HOURS: u8 = 1 << 1;
/// Register D: memory and time are valid.
const D_VALID: u8 = 1 << 7;

/// The clock.
#[derive(Debug)]
pub struct Rtc {
    cmos: Mutex<Cmos>,
    now: fn() -> SystemTime,
}

#[derive(Debug)]
struct Cmos {
    index: u8,
    memory: [u8; 128],
}

impl Default for Cmos {
    fn default() -> Self {
        Self { index: 0, memory: [0; 128] }
    }
}

impl Default for Rtc {
    fn default() -> Self {
        Self { cmos: Mutex::default(), now: SystemTime::now }
    }
}

/// A civil date and time.
#[derive(Debug, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    /// 1 is Sunday.
    weekday: u64,
}

impl Civil {
    /// Proleptic Gregorian calendar, from seconds since 1970.
    fn from_unix(seconds: u64) -> Self {
        const DAY: u64 = 86_400;
        /// Days of 400 years, and of the time from 0000-03-01 to 1970-01-01.
        const ERA: u64 = 146_097;
        const EPOCH: u64 = 719_468;
        let days = seconds / DAY;
        let time = seconds % DAY;
        let shifted = days + EPOCH;
        let (era, day_of_era) = (shifted / ERA, shifted % ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months counted from March, so that the leap day is the last of the year.
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            weekday: (days + 4) % 7 + 1,
        }
    }
}

fn bcd(value: u64) -> u8 {
    let value = u8::try_from(value % 100).unwrap_or(0);
    ((value / 10) << 4) | (value % 10)
}

impl Rtc {
    fn register(&self, cmos: &Cmos) -> u8 {
        let index = cmos.index;
        let now = (self.now)().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let civil = Civil::from_unix(now);
        match index {
            register::SECONDS => bcd(civil.second),
            register::MINUTES => bcd(civil.minute),
            register::HOURS => bcd(civil.hour),
            register::WEEKDAY => bcd(civil.weekday),
            register::DAY => bcd(civil.day),
            register::MONTH => bcd(civil.month),
            register::YEAR => bcd(civil.year),
            register::CENTURY => bcd(civil.year / 100),
            register::A => A,
            register::B => B_24_HOURS,
            register::C => 0,
            register::D => D_VALID,
            _ => cmos.memory.get(usize::from(index)).copied().unwrap_or(0),
        }
    }
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, _: AccessSize) -> Result<u64, IoError> {
        let cmos = self.cmos.lock().unwrap_or_else(PoisonError::into_inner);
        match offset {
            0 => Ok(cmos.index.into()),
            1 => Ok(self.register(&cmos).into()),
            _ => Err(IoError::InvalidRegister),
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut cmos = self.cmos.lock().unwrap_or_else(PoisonError::into_inner);
        // A word write sets index and data at once.
        for (byte, index) in value.to_le_bytes().into_iter().take(size.bytes()).zip(0..) {
            match offset.saturating_add(index) {
                // Bit 7 masks NMIs on a PC.
                0 => cmos.index = byte & 0x7F,
                1 => {
                    let index = usize::from(cmos.index);
                    if let Some(cell) = cmos.memory.get_mut(index) {
                        *cell = byte;
                    }
                }
                _ => {}
            }
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for Rtc {
    /// The memory keeps its content, as a battery would see to it.
    fn reset(&self) {
        self.cmos.lock().unwrap_or_else(PoisonError::into_inner).index = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        let date = |seconds| {
            let civil = Civil::from_unix(seconds);
            (civil.year, civil.month, civil.day, civil.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 5));
        assert_eq!(date(951_782_400), (2000, 2, 29, 3));
        assert_eq!(date(4_107_542_400), (2100, 3, 1, 2), "2100 is no leap year");
        assert_eq!(date(253_402_300_799), (9999, 12, 31, 6));
    }

    #[test]
    fn the_time_reads_as_bcd_and_writes_do_not_change_it() {
        // 2026-11-22 13:45:59 UTC, a Sunday.
        let now = || UNIX_EPOCH + Duration::from_secs(1_795_355_159);
        let rtc = Rtc { cmos: Mutex::default(), now };
        let read = |index: u64| {
            let _ = rtc.write(0, AccessSize::Byte, index);
            rtc.read(1, AccessSize::Byte).unwrap()
        };
        let _ = rtc.write(0, AccessSize::Word, 0x9900);
        assert_eq!([0, 2, 4, 6, 7, 8, 9, 0x32].map(read), [0x59, 0x45, 0x13, 1, 0x22, 0x11, 0x26, 0x20]);
        assert_eq!([0x0A, 0x0B, 0x0D].map(read), [0x26, 0x02, 0x80]);
    }

    #[test]
    fn memory_keeps_what_was_written_and_every_access_is_answered() {
        let rtc = Rtc::default();
        let _ = rtc.write(0, AccessSize::Word, 0xA50F);
        assert_eq!(rtc.read(1, AccessSize::Byte), Ok(0xA5));
        for offset in 0..4 {
            for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                let _ = rtc.write(offset, size, u64::MAX);
                let _ = rtc.read(offset, size);
            }
        }
    }
}
