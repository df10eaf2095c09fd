//! Power management: ACPI's PM1a registers and timer.
//!
//! ACPI 6.5, 4.8; the tables in [`acpi`](crate::vmm::acpi) announce them. Soft off is the only sleep state. Three fixed
//! events can happen, each of which raises the SCI while it is enabled: the timer's highest bit changes, the power button is
//! pressed, the real-time clock's alarm comes.
//!
//! Deviation: sleep type 0 powers off as well, for OVMF, which does not ask the tables (edk2: OvmfPkg/Library/ResetSystemLib).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::spec::acpi::{PM_TIMER_BITS, PM_TIMER_HZ, SLP_TYP_S5, block, pm1_control, pm1_event};
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::chipset::clock::{Clock, Now, Timed, Waker};
use crate::vmm::interrupt::InterruptLine;

const ENABLE: u16 = block::PM1A_EVENT + 2;
const NANOSECONDS: u128 = 1_000_000_000;

/// The PM1a blocks and the timer, from the power management base on.
pub struct Power {
    /// Order: before the SCI's line, which is driven under it.
    registers: Mutex<Registers>,
    clock: Arc<dyn Clock>,
    sci: InterruptLine,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Registers {
    status: u16,
    enable: u16,
    control: u16,
    /// Changes of the timer's highest bit until now.
    changes: u128,
}

/// Whether the guest will take note of a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// It has enabled the event.
    Listens,
    /// It has not; it may look at the status later.
    Deaf,
}

impl std::fmt::Debug for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Power").field("sci", &self.sci).finish_non_exhaustive()
    }
}

fn ticks(now: Now) -> u128 {
    now.uptime.as_nanos() * u128::from(PM_TIMER_HZ) / NANOSECONDS
}

/// How often the timer's highest bit has changed after so many ticks.
fn changes(ticks: u128) -> u128 {
    ticks >> (PM_TIMER_BITS - 1)
}

impl Power {
    /// Registers after power-on. `sci` is the line of [`SCI`](crate::spec::acpi::SCI).
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, sci: InterruptLine, waker: Waker) -> Self {
        let registers = Registers { changes: changes(ticks(clock.now())), ..Registers::default() };
        Self { registers: Mutex::new(registers), clock, sci, waker }
    }

    fn timer(&self) -> u64 {
        let mask = (1u64 << PM_TIMER_BITS) - 1;
        u64::try_from(ticks(self.clock.now()) & u128::from(mask)).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the timer's event and the interrupt up to date.
    fn settle(&self, registers: &mut Registers) {
        let changes = changes(ticks(self.clock.now()));
        if changes != registers.changes {
            registers.changes = changes;
            registers.status |= pm1_event::TIMER;
        }
        self.sci.set_level(registers.status & registers.enable & pm1_event::ENABLES != 0);
    }

    fn happens(&self, event: u16) -> Attention {
        let mut registers = self.lock();
        registers.status |= event;
        self.settle(&mut registers);
        if registers.enable & event != 0 { Attention::Listens } else { Attention::Deaf }
    }

    /// Presses the power button, and lets it go. A guest that listens shuts itself down.
    pub fn press_power_button(&self) -> Attention {
        self.happens(pm1_event::POWER_BUTTON)
    }

    /// The real-time clock's alarm came.
    pub fn rtc_alarm(&self) {
        self.happens(pm1_event::RTC);
    }

    /// The registers as the bytes that a read of any width sees.
    fn byte(registers: &Registers, timer: u64, offset: u64) -> Option<u8> {
        let offset = u16::try_from(offset).ok()?;
        let pick = |value: u64, base: u16| value.to_le_bytes().get(usize::from(offset - base)).copied();
        match offset {
            block::PM1A_EVENT..ENABLE => pick(registers.status.into(), block::PM1A_EVENT),
            ENABLE..block::PM1A_CONTROL => pick(registers.enable.into(), ENABLE),
            block::PM1A_CONTROL..block::TIMER => {
                pick((registers.control | pm1_control::SCI_EN).into(), block::PM1A_CONTROL)
            }
            block::TIMER..block::LENGTH => pick(timer, block::TIMER),
            _ => None,
        }
    }
}

impl Timed for Power {
    fn expire(&self) -> Option<Duration> {
        let mut registers = self.lock();
        self.settle(&mut registers);
        if registers.enable & !registers.status & pm1_event::TIMER == 0 {
            return None;
        }
        let next = (registers.changes + 1) << (PM_TIMER_BITS - 1);
        let nanoseconds = (next * NANOSECONDS).div_ceil(u128::from(PM_TIMER_HZ));
        let due = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        Some(due.saturating_sub(self.clock.now().uptime))
    }
}

impl BusDevice for Power {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        // The timer comes first: guests read it in loops.
        if offset == u64::from(block::TIMER) && size == AccessSize::Dword {
            return Ok(self.timer());
        }
        let mut registers = self.lock();
        self.settle(&mut registers);
        let timer = self.timer();
        let mut bytes = [0; 8];
        for (byte, index) in bytes.iter_mut().take(size.bytes()).zip(0..) {
            let at = offset.checked_add(index).ok_or(IoError::InvalidRegister)?;
            *byte = Self::byte(&registers, timer, at).ok_or(IoError::InvalidRegister)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut registers = self.lock();
        self.settle(&mut registers);
        let mut effects = Effects::empty();
        let offset = u16::try_from(offset).map_err(|_| IoError::InvalidRegister)?;
        for (byte, index) in value.to_le_bytes().into_iter().take(size.bytes()).zip(0u16..) {
            let at = offset.saturating_add(index);
            match at {
                // Ones clear.
                block::PM1A_EVENT..ENABLE => {
                    registers.status &= !replace(0, at - block::PM1A_EVENT, byte);
                }
                ENABLE..block::PM1A_CONTROL => {
                    registers.enable = replace(registers.enable, at - ENABLE, byte) & pm1_event::ENABLES;
                }
                block::PM1A_CONTROL..block::TIMER => {
                    let written = replace(registers.control, at - block::PM1A_CONTROL, byte);
                    registers.control = written & pm1_control::STORED;
                    let sleep = written >> pm1_control::SLP_TYP_SHIFT & pm1_control::SLP_TYP_MASK;
                    if written & pm1_control::SLP_EN != 0 && (sleep == u16::from(SLP_TYP_S5) || sleep == 0) {
                        effects |= Effects::SHUTDOWN;
                    }
                }
                // The timer is read-only.
                _ => {}
            }
        }
        self.settle(&mut registers);
        if registers.enable & !registers.status & pm1_event::TIMER != 0 {
            self.waker.wake();
        }
        Ok(effects)
    }
}

/// `register` with its byte `index` replaced; other indexes change nothing.
fn replace(register: u16, index: u16, byte: u8) -> u16 {
    let [low, high] = register.to_le_bytes();
    match index {
        0 => u16::from_le_bytes([byte, high]),
        1 => u16::from_le_bytes([low, byte]),
        _ => register,
    }
}

impl Lifecycle for Power {
    fn reset(&self) {
        let mut registers = self.lock();
        let changes = registers.changes;
        *registers = Registers { changes, ..Registers::default() };
        self.settle(&mut registers);
        // A change until now was of the time before.
        registers.status = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vmm::chipset::clock::testing::{Recorder, SetClock};

    fn bench() -> (Power, Arc<SetClock>, Arc<Recorder>) {
        let (clock, lines) = (SetClock::at(0), Arc::new(Recorder::default()));
        (Power::new(Arc::clone(&clock) as _, lines.line(9), Waker::default()), clock, lines)
    }

    fn word(power: &Power, offset: u64) -> u64 {
        power.read(offset, AccessSize::Word).unwrap()
    }

    #[test]
    fn soft_off_takes_the_type_and_the_enable_bit_in_any_width() {
        let (power, ..) = bench();
        let off = (5 << 10 | 1 << 13) | 1;
        assert_eq!(power.write(4, AccessSize::Word, 5 << 10), Ok(Effects::empty()));
        assert_eq!(power.write(4, AccessSize::Word, 4 << 10 | 1 << 13), Ok(Effects::empty()));
        assert_eq!(power.write(4, AccessSize::Word, off), Ok(Effects::SHUTDOWN));
        assert_eq!(power.write(4, AccessSize::Word, 1 << 13), Ok(Effects::SHUTDOWN), "what OVMF writes");
        assert_eq!(power.write(5, AccessSize::Byte, off >> 8), Ok(Effects::SHUTDOWN));
        assert_eq!(word(&power, 4), 5 << 10 | 1, "SLP_EN reads as zero, SCI_EN as one");
        power.reset();
        assert_eq!(word(&power, 4), 1);
    }

    #[test]
    fn the_timer_counts_up_in_24_bits_and_cannot_be_written() {
        let (power, clock, _) = bench();
        clock.pass(Duration::from_secs(1));
        assert_eq!(power.write(8, AccessSize::Dword, u64::MAX), Ok(Effects::empty()));
        assert_eq!(power.read(8, AccessSize::Dword), Ok(3_579_545));
        clock.pass(Duration::from_secs(4));
        assert_eq!(power.read(8, AccessSize::Dword), Ok(5 * 3_579_545 - (1 << 24)));
    }

    #[test]
    fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
        let (power, _, lines) = bench();
        assert_eq!(power.press_power_button(), Attention::Deaf);
        assert_eq!((word(&power, 0), lines.take()), (1 << 8, vec![]));
        let _ = power.write(2, AccessSize::Word, 1 << 8);
        assert_eq!(lines.take(), [(9, true)], "pending when it is enabled");
        let _ = power.write(0, AccessSize::Word, 1 << 10);
        assert_eq!(lines.take(), [], "another bit");
        let _ = power.write(1, AccessSize::Byte, 1);
        assert_eq!((word(&power, 0), lines.take()), (0, vec![(9, false)]));
        assert_eq!(power.press_power_button(), Attention::Listens);
        assert_eq!(lines.take(), [(9, true)]);
        power.reset();
        assert_eq!((word(&power, 0), word(&power, 2), lines.take()), (0, 0, vec![(9, false)]));
    }

    #[test]
    fn the_clocks_alarm_is_told_of_and_wakes_only_where_it_is_enabled() {
        let (power, _, lines) = bench();
        power.rtc_alarm();
        assert_eq!((word(&power, 0), lines.take()), (1 << 10, vec![]));
        let _ = power.write(0, AccessSize::Dword, 1 << 10 | 1 << 26);
        power.rtc_alarm();
        assert_eq!((word(&power, 2), lines.take()), (1 << 10, vec![(9, true)]));
    }

    #[test]
    fn the_timers_highest_bit_is_an_event() {
        let (power, clock, lines) = bench();
        assert_eq!(power.expire(), None);
        let _ = power.write(2, AccessSize::Word, 1);
        let due = power.expire().unwrap();
        assert_eq!(due.as_micros(), 2_343_484);
        clock.pass(due);
        assert_eq!((power.expire(), lines.take()), (None, vec![(9, true)]), "not again before it is cleared");
        let _ = power.write(0, AccessSize::Word, 1);
        assert_eq!(lines.take(), [(9, false)]);
        assert_eq!(power.expire().unwrap().as_micros(), 2_343_484);
    }

    proptest! {
        #[test]
        fn any_access_is_answered(
            accesses in proptest::collection::vec((any::<u8>(), 0usize..4, any::<u64>(), any::<bool>(), any::<u32>()), 1..200)
        ) {
            let (power, clock, _) = bench();
            for (offset, size, value, write, nanoseconds) in accesses {
                let size = AccessSize::from_bytes(1 << size).unwrap();
                if write {
                    let _ = power.write(offset.into(), size, value);
                } else {
                    let _ = power.read((offset % 16).into(), size);
                }
                clock.pass(Duration::from_nanos(nanoseconds.into()));
                let _ = power.expire();
            }
            prop_assert!(power.read(u64::MAX, AccessSize::Qword).is_err());
        }
    }
}
