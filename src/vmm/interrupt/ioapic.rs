//! An I/O APIC as a state machine: no descriptors, no locks.
//!
//! [`Ioapic`] takes levels of its 24 inputs, register accesses and the ends of interrupts; what it sends goes to a
//! [`Deliver`] that its neighbour (the chips in user space) hands in.
//!
//! Intel 82093AA data sheet (290566-001) with the EOI register of ICH9 (data sheet 316972-004, 13.5): where the local APICs
//! are KVM's and this chip is not, KVM offers guests to keep ends of interrupts from the chip, who then write them to
//! that register (Linux: arch/x86/kvm/lapic.c, `kvm_apic_set_version`). Deviations are KVM's, which guests know: an
//! entry that is made edge-triggered loses its remote IRR, and nothing is ever "send pending".

use crate::vmm::interrupt::MsiMessage;

/// Number of inputs.
pub const INPUTS: u8 = 24;
/// Length of the register window in bytes (3.0: two registers, the second at 10h).
pub const LENGTH: u64 = 0x100;

/// Registers of the window (3.1).
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// A write of a vector ends its interrupts (ICH9, 13.5.4): the owner of the chip sees to it, as for any other end.
pub const END: u64 = 0x40;

/// Registers behind the window (3.2).
mod index {
    pub(super) const ID: u8 = 0x00;
    pub(super) const VERSION: u8 = 0x01;
    pub(super) const ARBITRATION: u8 = 0x02;
    /// Two for each input: low and high half.
    pub(super) const TABLE: u8 = 0x10;
}

/// Version 20h, that of chips with an EOI register, and the last entry in bits 23:16 (3.2.2; ICH9, 13.5.6).
const VERSION: u32 = 0x20 | (INPUTS as u32 - 1) << 16;
/// Bits 27:24 of the ID register (3.2.1).
const ID_MASK: u32 = 0xF << 24;

/// A redirection table entry (3.2.4).
mod entry {
    pub(super) const VECTOR: u64 = 0xFF;
    pub(super) const DELIVERY_MODE: u64 = 0b111 << 8;
    pub(super) const LOGICAL: u64 = 1 << 11;
    pub(super) const REMOTE_IRR: u64 = 1 << 14;
    pub(super) const LEVEL: u64 = 1 << 15;
    pub(super) const MASKED: u64 = 1 << 16;
    pub(super) const DESTINATION_SHIFT: u32 = 56;
    /// Vector, modes, polarity, trigger, mask and destination; delivery status and remote IRR are the chip's.
    pub(super) const WRITABLE: u64 =
        VECTOR | DELIVERY_MODE | LOGICAL | 1 << 13 | LEVEL | MASKED | 0xFF << DESTINATION_SHIFT;
}

/// Takes a message to the local APICs; true if one took it.
pub type Deliver<'a> = &'a mut dyn FnMut(MsiMessage) -> bool;

/// The chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ioapic {
    select: u8,
    id: u32,
    entries: [u64; INPUTS as usize],
    /// Levels of the inputs, asserted or not; which voltage that is (polarity) has no meaning here.
    lines: u32,
}

impl Default for Ioapic {
    fn default() -> Self {
        Self { select: 0, id: 0, entries: [entry::MASKED; INPUTS as usize], lines: 0 }
    }
}

/// The message of a redirection table entry (Intel SDM vol. 3, 11.11.1 and 11.11.2).
fn message(entry: u64) -> MsiMessage {
    const ADDRESS: u64 = 0xFEE0_0000;
    const ASSERT: u64 = 1 << 14;
    let destination = entry >> entry::DESTINATION_SHIFT;
    let logical = u64::from(entry & entry::LOGICAL != 0);
    let data = entry & (entry::VECTOR | entry::DELIVERY_MODE | entry::LEVEL) | ASSERT;
    MsiMessage {
        address: ADDRESS | destination << 12 | logical << 2,
        data: u32::try_from(data).unwrap_or_default(),
    }
}

impl Ioapic {
    fn entry(&self, input: u8) -> u64 {
        self.entries.get(usize::from(input)).copied().unwrap_or(entry::MASKED)
    }

    fn is_high(&self, input: u8) -> bool {
        self.lines & 1u32.checked_shl(input.into()).unwrap_or(0) != 0
    }

    /// Sends the interrupt of a level-triggered `input` if it is due: after its level or its table entry changed.
    pub fn serve(&mut self, input: u8, deliver: Deliver<'_>) {
        let entry = self.entry(input);
        let due = entry & (entry::LEVEL | entry::MASKED | entry::REMOTE_IRR) == entry::LEVEL;
        // Nobody would end what nobody took: without remote IRR it is tried again.
        if due
            && self.is_high(input)
            && deliver(message(entry))
            && let Some(entry) = self.entries.get_mut(usize::from(input))
        {
            *entry |= entry::REMOTE_IRR;
        }
    }

    /// Sets the level of `input`; those from [`INPUTS`] on are none.
    pub fn set_input(&mut self, input: u8, high: bool, deliver: Deliver<'_>) {
        if input >= INPUTS {
            return;
        }
        let rose = high && !self.is_high(input);
        let bit = 1 << input;
        if high {
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
        let entry = self.entry(input);
        if entry & entry::LEVEL != 0 {
            self.serve(input, deliver);
        } else if rose && entry & entry::MASKED == 0 {
            // An edge at a masked input is lost (3.2.4, interrupt mask).
            deliver(message(entry));
        }
    }

    /// The level-triggered inputs whose interrupt the end of `vector` ends.
    #[must_use]
    pub fn inputs_of(&self, vector: u8) -> Vec<u8> {
        const WAITING: u64 = entry::LEVEL | entry::REMOTE_IRR;
        let waits = |entry: u64| entry & WAITING == WAITING && entry & entry::VECTOR == u64::from(vector);
        (0..INPUTS).filter(|input| waits(self.entry(*input))).collect()
    }

    /// The end of the interrupt of `input`; if its level is there still, it begins again.
    pub fn end(&mut self, input: u8, deliver: Deliver<'_>) {
        if let Some(entry) = self.entries.get_mut(usize::from(input)) {
            *entry &= !entry::REMOTE_IRR;
        }
        self.serve(input, deliver);
    }

    /// The message of `input` if it is level-triggered: the local APIC has to tell of its end.
    #[must_use]
    pub fn wants_end(&self, input: u8) -> Option<MsiMessage> {
        let entry = self.entry(input);
        (entry & entry::LEVEL != 0).then(|| message(entry))
    }

    /// The register at `offset` of the window; `None` if there is none.
    #[must_use]
    pub fn read(&self, offset: u64) -> Option<u32> {
        match offset {
            SELECT => Some(self.select.into()),
            WINDOW => Some(self.indexed()),
            _ => None,
        }
    }

    fn indexed(&self) -> u32 {
        match self.select {
            index::ID | index::ARBITRATION => self.id,
            index::VERSION => VERSION,
            select => match halves(select) {
                Some((input, Half::Low)) => truncated(self.entry(input)),
                Some((input, Half::High)) => truncated(self.entry(input) >> 32),
                None => 0,
            },
        }
    }

    /// Writes the register at `offset` of the window; the input whose table entry changed, which is to be
    /// [served](Self::serve) then.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        match offset {
            SELECT => {
                [self.select, ..] = value.to_le_bytes();
                None
            }
            WINDOW if self.select == index::ID => {
                self.id = value & ID_MASK;
                None
            }
            WINDOW => {
                let (input, half) = halves(self.select)?;
                let entry = self.entries.get_mut(usize::from(input))?;
                let (shift, mask) = match half {
                    Half::Low => (0, entry::WRITABLE & 0xFFFF_FFFF),
                    Half::High => (32, entry::WRITABLE & !0xFFFF_FFFF),
                };
                *entry = *entry & !mask | u64::from(value) << shift & mask;
                if *entry & entry::LEVEL == 0 {
                    *entry &= !entry::REMOTE_IRR;
                }
                Some(input)
            }
            _ => None,
        }
    }

    /// Back to power-on. The inputs keep their levels.
    pub fn reset(&mut self) {
        *self = Self { lines: self.lines, ..Self::default() };
    }
}

/// Half of a redirection table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

/// Which half of which entry the register index `select` names.
fn halves(select: u8) -> Option<(u8, Half)> {
    let number = select.checked_sub(index::TABLE)?;
    let half = if number % 2 == 0 { Half::Low } else { Half::High };
    (number / 2 < INPUTS).then_some((number / 2, half))
}

fn truncated(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
