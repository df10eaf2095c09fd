//! The flash chip that keeps the firmware's variables: [`Chip`](chip) says what its commands mean, [`Image`] holds what is
//! stored.
//!
//! While it shows what is stored, the guest reads it without an exit, from a read-only memory slot, and only writes come
//! here. While it shows its status instead, the slot is gone and reads come here as well.

mod chip;
mod image;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use chip::BLOCK_BYTES;
pub use image::Image;

use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::mapper::{Mapped, Mapper};
use crate::vmm::rate_limit::RateLimit;
use chip::{Action, Chip};

/// What is written reaches the disk at the latest so long after the guest reads the flash again, if it still writes.
const SYNC_PERIOD: Duration = Duration::from_secs(1);
static FAILURES: RateLimit = RateLimit::new();

/// The chip in its place.
pub struct Flash {
    /// Held while the slot is placed or taken away, so that what reads see and where they go agree.
    state: Mutex<State>,
    image: Image,
    address: u64,
    mapper: Arc<dyn Mapper>,
}

struct State {
    chip: Chip,
    /// The slot, while the chip shows what is stored. Without one, for want of slots, reads come here.
    slot: Option<Mapped>,
    /// Something was written since it reached the disk.
    is_dirty: bool,
    synced: Instant,
}

impl std::fmt::Debug for Flash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flash")
            .field("address", &self.address)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl Flash {
    /// A chip at guest-physical `address` that holds `image`.
    ///
    /// # Errors
    /// The slot cannot be placed.
    pub fn new(image: Image, address: u64, mapper: Arc<dyn Mapper>) -> io::Result<Self> {
        let slot = Some(mapper.map_read_only(address, image.memory(), image.size_bytes())?);
        let state = State { chip: Chip::default(), slot, is_dirty: false, synced: Instant::now() };
        Ok(Self { state: Mutex::new(state), image, address, mapper })
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// What it holds.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Length in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    /// Brings the slot in line with what the chip shows.
    fn place(&self, state: &mut State) {
        if !state.chip.shows_array() {
            state.slot = None;
        } else if state.slot.is_none() {
            let slot = self.mapper.map_read_only(self.address, self.image.memory(), self.image.size_bytes());
            state.slot = slot.inspect_err(|error| failed("show the flash without exits", error)).ok();
            if state.is_dirty && state.synced.elapsed() >= SYNC_PERIOD {
                self.sync(state);
            }
        }
    }

    fn sync(&self, state: &mut State) {
        if state.is_dirty {
            state.is_dirty = false;
            state.synced = Instant::now();
            if let Err(error) = self.image.sync() {
                failed("write the firmware's variables to their disk", &error);
            }
        }
    }

    fn carry_out(&self, state: &mut State, action: Action, offset: u64, byte: u8) {
        const ERASED: [u8; 0x1000] = [0xFF; 0x1000];
        let done = match action {
            Action::Nothing => return,
            Action::Program => self.image.write(offset, &[byte]),
            Action::Erase => self.image.write(offset - offset % BLOCK_BYTES, &ERASED),
        };
        state.is_dirty = true;
        if let Err(error) = done {
            state.chip.failed(action);
            failed("write the firmware's variables to their file", &error);
        }
    }
}

/// The guest may cause it again and again.
fn failed(what: &str, error: &io::Error) {
    if FAILURES.allow().is_some() {
        tracing::warn!(%error, "cannot {what}");
    }
}

impl BusDevice for Flash {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 8];
        let data = bytes.get_mut(..size.bytes()).unwrap_or_default();
        if state.chip.shows_array() {
            self.image.read(offset, data).map_err(|_| IoError::InvalidRegister)?;
        } else {
            for (byte, index) in data.iter_mut().zip(0..) {
                let at = offset.checked_add(index).ok_or(IoError::InvalidRegister)?;
                *byte = state.chip.read(at, self.image.size_bytes()).unwrap_or(0xFF);
            }
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        // A chip of eight bits sees a command in the lowest byte, and a wider store of data as that many bytes.
        let [command, ..] = value.to_le_bytes();
        let action = state.chip.write(command);
        let bytes = if action == Action::Program { size.bytes() } else { 1 };
        for (byte, index) in value.to_le_bytes().into_iter().take(bytes).zip(0..) {
            let at = offset.checked_add(index).ok_or(IoError::InvalidRegister)?;
            self.carry_out(state, action, at, byte);
        }
        self.place(state);
        Ok(Effects::empty())
    }
}

impl Lifecycle for Flash {
    fn reset(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.chip = Chip::default();
        self.place(&mut state);
        self.sync(&mut state);
    }

    fn pause(&self) {
        self.sync(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Flash {
    fn drop(&mut self) {
        self.pause();
    }
}

#[cfg(test)]
mod tests;
