//! fw_cfg: how firmware learns of the machine, by ports 510h to 51Bh. What it can ask for is gathered as [`Items`].
//!
//! QEMU: docs/specs/fw_cfg.rst. A selector at 510h, data byte by byte at 511h, and at 514h the address of a request, after
//! which the device itself copies an item to guest memory. Nothing can be written.

mod items;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use items::{Content, Items, key};

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::memory::GuestMemory;

/// First of its ports.
pub const PORT: u16 = 0x510;
/// How many it has.
pub const PORTS: u64 = 12;

/// Offsets of the registers.
mod register {
    pub(super) const SELECTOR: u64 = 0;
    pub(super) const DATA: u64 = 1;
    pub(super) const DMA_HIGH: u64 = 4;
    pub(super) const DMA_LOW: u64 = 8;
    pub(super) const END: u64 = 12;
}

/// What the DMA register reads as, first byte first.
const SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// Bits of a request's control word.
mod control {
    pub(super) const ERROR: u32 = 1 << 0;
    pub(super) const READ: u32 = 1 << 1;
    pub(super) const SKIP: u32 = 1 << 2;
    pub(super) const SELECT: u32 = 1 << 3;
    pub(super) const WRITE: u32 = 1 << 4;
}

/// How much is copied at once.
const CHUNK_BYTES: usize = 1 << 16;

#[derive(Debug, Default)]
struct State {
    selector: u16,
    /// Next byte of the selected item.
    offset: u64,
    /// Bits 63:32 of the next request's address.
    dma_high: u32,
}

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    items: BTreeMap<u16, Content>,
    memory: Arc<GuestMemory>,
    state: Mutex<State>,
}

impl FwCfg {
    /// A device that offers `items` and copies to `memory`.
    #[must_use]
    pub fn new(items: Items, memory: Arc<GuestMemory>) -> Self {
        Self { items: items.finish(), memory, state: Mutex::default() }
    }

    fn next_byte(&self, state: &mut State) -> u8 {
        let mut byte = [0];
        if let Some(content) = self.items.get(&state.selector)
            && state.offset < content.length()
        {
            // A file that cannot be read any more reads as zeros.
            drop(content.read(state.offset, &mut byte));
            state.offset += 1;
        }
        byte[0]
    }

    /// Carries out the request at guest-physical `address` and says there how it went.
    fn carry_out(&self, state: &mut State, address: u64) {
        let mut request = [0; 16];
        if self.memory.read(address, &mut request).is_err() {
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, target @ ..] = request;
        let (control, length) = (u32::from_be_bytes([c0, c1, c2, c3]), u32::from_be_bytes([l0, l1, l2, l3]));
        if control & control::SELECT != 0 {
            let [high, low, ..] = control.to_be_bytes();
            *state = State { selector: u16::from_be_bytes([high, low]), offset: 0, dma_high: state.dma_high };
        }
        let done = if control & control::READ != 0 {
            self.copy(state, u64::from_be_bytes(target), length)
        } else if control & control::WRITE != 0 {
            None
        } else {
            let skips = control & control::SKIP != 0;
            let length = self.items.get(&state.selector).map_or(0, Content::length);
            let skipped = state.offset.saturating_add(if skips { length_of(&request) } else { 0 });
            state.offset = skipped.min(length.max(state.offset));
            Some(())
        };
        let answer = if done.is_some() { 0 } else { control::ERROR };
        // The request was RAM a moment ago.
        drop(self.memory.write(address, &answer.to_be_bytes()));
    }

    /// Copies the next `length` bytes of the selected item to guest memory; what lies behind its end is zeros.
    fn copy(&self, state: &mut State, mut target: u64, length: u32) -> Option<()> {
        let nothing = Content::Bytes(Vec::new());
        let content = self.items.get(&state.selector).unwrap_or(&nothing);
        let mut left = usize::try_from(length).ok()?;
        let mut buffer = vec![0; left.min(CHUNK_BYTES)];
        while left > 0 {
            let count = left.min(buffer.len());
            let part = buffer.get_mut(..count)?;
            content.read(state.offset, part).ok()?;
            self.memory.write(target, part).ok()?;
            state.offset = state.offset.saturating_add(count as u64).min(content.length().max(state.offset));
            target = target.checked_add(count as u64)?;
            left -= count;
        }
        Some(())
    }
}

/// The length that a request names.
fn length_of(request: &[u8; 16]) -> u64 {
    let [_, _, _, _, a, b, c, d, ..] = *request;
    u32::from_be_bytes([a, b, c, d]).into()
}

impl BusDevice for FwCfg {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        match (offset, size) {
            (register::DATA, AccessSize::Byte) => {
                Ok(self.next_byte(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner)).into())
            }
            (register::DMA_HIGH..register::END, _) => {
                let skip = usize::try_from(offset - register::DMA_HIGH).unwrap_or(usize::MAX);
                let mut bytes = [0; 8];
                for (byte, source) in bytes.iter_mut().zip(SIGNATURE.iter().skip(skip).take(size.bytes())) {
                    *byte = *source;
                }
                Ok(u64::from_le_bytes(bytes))
            }
            _ => Err(IoError::InvalidRegister),
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let [a, b, c, d, ..] = value.to_le_bytes();
        match (offset, size) {
            (register::SELECTOR, AccessSize::Word) => {
                (state.selector, state.offset) = (u16::from_le_bytes([a, b]), 0);
            }
            // The address is big endian.
            (register::DMA_HIGH, AccessSize::Dword) => state.dma_high = u32::from_be_bytes([a, b, c, d]),
            (register::DMA_LOW, AccessSize::Dword) => {
                let high = std::mem::take(&mut state.dma_high);
                let address = u64::from(high) << 32 | u64::from(u32::from_be_bytes([a, b, c, d]));
                self.carry_out(&mut state, address);
            }
            (register::DMA_HIGH, AccessSize::Qword) => {
                self.carry_out(&mut state, u64::from_be_bytes(value.to_le_bytes()));
            }
            _ => return Err(IoError::InvalidRegister),
        }
        Ok(Effects::empty())
    }
}

impl Lifecycle for FwCfg {
    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests;
