//! Buses: which device answers a port or a physical address, and what an access may ask for in return.
//!
//! A device takes `&self` and answers any offset in any size; a bad access is the guest's fault and is answered as
//! hardware would (reads as ones, writes ignored). What a write *causes* beyond the device itself (a reset, BARs that
//! moved) is returned as [`Effects`] and carried out by the dispatcher after the call, so devices never call upwards.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

bitflags::bitflags! {
    /// What a register access asks the dispatcher to do once it returned.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[must_use]
    pub struct Effects: u32 {
        /// A BAR or a decode bit changed: place the BARs of this function's root again.
        const REMAP_BARS = 1 << 0;
        /// Reset the machine.
        const RESET = 1 << 1;
        /// Power the machine off.
        const SHUTDOWN = 1 << 2;
        /// The guest reports that its kernel panicked.
        const PANIC = 1 << 3;
        /// End the machine with the result that the guest wrote.
        const DEBUG_EXIT = 1 << 4;
    }
}

/// Width of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessSize {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl AccessSize {
    /// The size of an access of `bytes` bytes, if there is one.
    #[must_use]
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// Bytes moved by the access.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// A value of this width with all bits set: what a read that nobody answers returns.
    #[must_use]
    pub const fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// Why a device did not take an access: always the guest's fault, never an error of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// There is no register at this offset, or it is read-only.
    #[error("no such register")]
    InvalidRegister,
    /// The register does not take this width.
    #[error("access size not allowed")]
    InvalidAccessSize,
    /// The access is not naturally aligned.
    #[error("unaligned access")]
    Unaligned,
}

/// A device as its bus sees it: registers at offsets from 0.
///
/// Called from any vCPU thread, concurrently. An implementation holds its lock only for its own state and never while it
/// calls out. Values are little endian numbers in the low bits; higher bits of a read are ignored by the bus.
pub trait BusDevice: Send + Sync {
    /// The register at `offset`.
    ///
    /// # Errors
    /// The bus answers ones for any [`IoError`].
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError>;

    /// Stores `value` (only its low `size` bytes are set) in the register at `offset`.
    ///
    /// # Errors
    /// The bus ignores the write for any [`IoError`].
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError>;
}

/// Two devices at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{start:#x}+{length:#x} overlaps the range at {other:#x}, or is empty or wraps")]
pub struct RangeError {
    /// First address of the range that was refused.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Start of the range that it runs into.
    pub other: u64,
}

#[derive(Clone)]
struct Range {
    length: u64,
    device: Arc<dyn BusDevice>,
}

/// An address space of devices: port I/O or memory-mapped I/O.
///
/// Look-ups clone the device's handle and release the lock before the device runs, so a device's write may lead to a
/// change of the bus itself.
#[derive(Default)]
pub struct Bus {
    ranges: RwLock<BTreeMap<u64, Range>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(ranges.iter().map(|(start, range)| (start, range.length))).finish()
    }
}

impl Bus {
    /// Places `device` at `start..start + length` (bytes).
    ///
    /// # Errors
    /// [`RangeError`] if the range is empty, wraps or overlaps another; the bus is unchanged then.
    pub fn insert(&self, start: u64, length: u64, device: Arc<dyn BusDevice>) -> Result<(), RangeError> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let error = |other| RangeError { start, length, other };
        let last = length.checked_sub(1).and_then(|l| start.checked_add(l)).ok_or_else(|| error(start))?;
        if let Some((&other, range)) = ranges.range(..=last).next_back()
            && other + (range.length - 1) >= start
        {
            return Err(error(other));
        }
        ranges.insert(start, Range { length, device });
        Ok(())
    }

    /// Takes away the range that begins at `start`; true if there was one.
    pub fn remove(&self, start: u64) -> bool {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).remove(&start).is_some()
    }

    /// Takes away everything. A bus and a device that changes it refer to each other; this ends it.
    pub fn clear(&self) {
        let ranges = std::mem::take(&mut *self.ranges.write().unwrap_or_else(PoisonError::into_inner));
        drop(ranges);
    }

    fn find(&self, address: u64, size: AccessSize) -> Option<(u64, Arc<dyn BusDevice>)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (start, range) = ranges.range(..=address).next_back()?;
        let offset = address - start;
        let end = offset.checked_add(size.bytes() as u64)?;
        (end <= range.length).then(|| (offset, Arc::clone(&range.device)))
    }

    /// Reads `data.len()` bytes at `address`; what nobody answers reads as ones. Lengths other than 1, 2, 4 and 8 (KVM
    /// splits accesses at page borders) are done byte by byte.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        let Some(size) = AccessSize::from_bytes(data.len()) else {
            for (i, byte) in data.iter_mut().enumerate() {
                self.read(address.wrapping_add(i as u64), std::slice::from_mut(byte));
            }
            return;
        };
        let value = self
            .find(address, size)
            .and_then(|(offset, device)| device.read(offset, size).ok())
            .unwrap_or_else(|| size.ones());
        for (byte, source) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = source;
        }
    }

    /// Writes `data` at `address`; what nobody answers is ignored.
    pub fn write(&self, address: u64, data: &[u8]) -> Effects {
        let Some(size) = AccessSize::from_bytes(data.len()) else {
            return data.iter().enumerate().fold(Effects::empty(), |effects, (i, byte)| {
                effects | self.write(address.wrapping_add(i as u64), std::slice::from_ref(byte))
            });
        };
        let mut bytes = [0; 8];
        for (byte, source) in bytes.iter_mut().zip(data) {
            *byte = *source;
        }
        self.find(address, size)
            .and_then(|(offset, device)| device.write(offset, size, u64::from_le_bytes(bytes)).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl BusDevice for Echo {
        fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
            if size == AccessSize::Qword { Err(IoError::InvalidAccessSize) } else { Ok(offset) }
        }
        fn write(&self, _: u64, _: AccessSize, value: u64) -> Result<Effects, IoError> {
            Ok(if value == 0xFE { Effects::RESET } else { Effects::empty() })
        }
    }

    fn bus() -> Bus {
        let bus = Bus::default();
        bus.insert(0x1000, 0x10, Arc::new(Echo)).unwrap();
        bus
    }

    #[test]
    fn overlaps_empty_and_wrapping_ranges_are_refused() {
        let bus = bus();
        for (start, length) in
            [(0x100F, 1), (0xFFF, 2), (0x0, 0x2000), (0x1004, 4), (0x2000, 0), (u64::MAX, 2)]
        {
            assert!(bus.insert(start, length, Arc::new(Echo)).is_err(), "{start:#x}+{length:#x}");
        }
        assert!(bus.insert(0x1010, 0x10, Arc::new(Echo)).is_ok());
        assert!(bus.insert(u64::MAX, 1, Arc::new(Echo)).is_ok());
    }

    #[test]
    fn unanswered_reads_are_ones_in_every_length() {
        let bus = bus();
        for (address, length) in [(0x0, 4), (0x100F, 2), (0x1008, 8), (u64::MAX, 8), (0x2000, 3)] {
            let mut data = vec![0; length];
            bus.read(address, &mut data);
            assert!(data.iter().all(|b| *b == 0xFF), "{address:#x} {length}");
        }
    }

    #[test]
    fn odd_lengths_are_done_byte_by_byte() {
        let mut data = [0; 3];
        bus().read(0x100E, &mut data);
        assert_eq!(data, [0x0E, 0x0F, 0xFF]);
    }

    #[test]
    fn effects_come_back_to_the_caller() {
        assert_eq!(bus().write(0x1000, &[0xFE]), Effects::RESET);
        assert_eq!(bus().write(0x0, &[0xFE]), Effects::empty());
    }
}
