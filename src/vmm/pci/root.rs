//! The PCI root: bus 0 with its functions, where their BARs begin, and what is reachable at this moment.
//!
//! The machine inserts functions, calls [`PciRoot::place_bars`] once before the guest starts, and [`PciRoot::remap`] whenever
//! an access returned [`Effects::REMAP_BARS`]. The guest reaches configuration space through
//! [`ConfigPorts`](super::access::ConfigPorts) and [`Ecam`](super::access::Ecam).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::spec::pci::{BAR_COUNT, header};
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Bus, Effects};
use crate::vmm::mapper::{AddressSpace, Mapper};
use crate::vmm::pci::host_bridge::HostBridge;
use crate::vmm::pci::placement::{Placement, Spaces};
use crate::vmm::pci::{BarKind, PciFunction};

/// Set in the header type of function 0 where the device has more functions (PCI 3.0, 6.2.1).
const MULTI_FUNCTION: u32 = 1 << 7;

/// Device and function number on bus 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Device 0 to 31, function 0 to 7.
    #[must_use]
    pub const fn new(device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 { Some(Self(device << 3 | function)) } else { None }
    }

    /// From the encoding of routing IDs: device in bits 7:3, function in bits 2:0.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Device number, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Function number, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00:{:02x}.{}", self.device(), self.function())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where BARs may lie. The guest learns of the same ranges from ACPI; a BAR outside of them is not reachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Port I/O.
    pub pio: Range<u64>,
    /// Memory below 4 GiB.
    pub mmio32: Range<u64>,
    /// Memory above 4 GiB; may be empty.
    pub mmio64: Range<u64>,
}

impl Windows {
    /// Whether `start..end` lies in one window of `space`.
    #[must_use]
    pub fn contains(&self, space: AddressSpace, start: u64, end: u64) -> bool {
        let inside = |window: &Range<u64>| window.start <= start && end <= window.end;
        match space {
            AddressSpace::Port => inside(&self.pio),
            AddressSpace::Memory => inside(&self.mmio32) || inside(&self.mmio64),
        }
    }
}

/// Addresses that a BAR asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PciRange {
    pub(super) slot: Slot,
    pub(super) space: AddressSpace,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl PciRange {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.space == other.space && self.start < other.end && other.start < self.end
    }
}

/// Why the bus cannot be built like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PciRootError {
    /// Two functions at one place.
    #[error("{label} cannot be at {slot}: {other} is there")]
    SlotTaken {
        /// The place.
        slot: Slot,
        /// The function that was refused.
        label: String,
        /// The function that is there.
        other: String,
    },
    /// The windows are too small for all BARs.
    #[error("no room for BAR {bar} of {label}: {size:#x} bytes do not fit into {window:#x?}")]
    NoRoom {
        /// The function.
        label: String,
        /// Its BAR.
        bar: usize,
        /// Size of the BAR in bytes.
        size: u64,
        /// The window in which it had to lie.
        window: Range<u64>,
    },
}

/// Bus 0.
pub struct PciRoot {
    /// Outermost lock of the room: functions, buses and the mapper are called under it, so that two vCPUs' changes of BARs
    /// are applied one after the other and the last one sees the registers of both. Dropped first: a host device can be
    /// closed once nothing of it is mapped.
    placement: Mutex<Placement>,
    windows: Windows,
    spaces: Spaces,
    functions: RwLock<BTreeMap<Slot, Arc<dyn PciFunction>>>,
}

impl fmt::Debug for PciRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map().entries(functions.iter().map(|(slot, function)| (slot, function.label()))).finish()
    }
}

impl PciRoot {
    /// A bus with nothing but the host bridge at 00:00.0. BARs become reachable on `mmio`, `pio` and through `mapper`.
    #[must_use]
    pub fn new(windows: Windows, mmio: Arc<Bus>, pio: Arc<Bus>, mapper: Arc<dyn Mapper>) -> Arc<Self> {
        let bridge: Arc<dyn PciFunction> = Arc::new(HostBridge::new());
        Arc::new(Self {
            windows,
            spaces: Spaces { mmio, pio, mapper },
            functions: RwLock::new(BTreeMap::from([(Slot::from_bits(0), bridge)])),
            placement: Mutex::default(),
        })
    }

    /// The windows in which BARs lie.
    #[must_use]
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Adds a function. Call [`Self::place_bars`] when all are there.
    ///
    /// # Errors
    /// [`PciRootError::SlotTaken`].
    pub fn insert(&self, slot: Slot, function: Arc<dyn PciFunction>) -> Result<(), PciRootError> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = functions.get(&slot) {
            let (label, other) = (function.label().to_owned(), other.label().to_owned());
            return Err(PciRootError::SlotTaken { slot, label, other });
        }
        functions.insert(slot, function);
        Ok(())
    }

    /// All functions with their places, in ascending order.
    #[must_use]
    pub fn functions(&self) -> Vec<(Slot, Arc<dyn PciFunction>)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.iter().map(|(slot, function)| (*slot, Arc::clone(function))).collect()
    }

    fn function(&self, slot: Slot) -> Option<(Arc<dyn PciFunction>, bool)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let function = Arc::clone(functions.get(&slot)?);
        let last = Slot(slot.0 | 7);
        let more = slot.function() == 0 && functions.range(slot..=last).nth(1).is_some();
        Some((function, more))
    }

    /// The register at byte `offset` of the function at `slot`; all ones if there is none. The access must not leave its
    /// doubleword.
    #[must_use]
    pub fn config_read(&self, slot: Slot, offset: u16, size: AccessSize) -> u32 {
        let Some((function, more)) = self.function(slot) else { return u32::MAX };
        let mut value = function.config_read(offset, size);
        let start = header::HEADER_TYPE;
        if more && offset <= start && usize::from(start - offset) < size.bytes() {
            value |= MULTI_FUNCTION << (8 * (start - offset));
        }
        value
    }

    /// Writes a register of the function at `slot`, if there is one. The access must not leave its doubleword.
    pub fn config_write(&self, slot: Slot, offset: u16, size: AccessSize, value: u32) -> Effects {
        self.function(slot)
            .map_or_else(Effects::empty, |(function, _)| function.config_write(offset, size, value))
    }

    /// Writes an address into every BAR register, as firmware would: 64-bit BARs above 4 GiB where that window has room,
    /// the largest first. Decoding stays as it is (off after reset).
    ///
    /// # Errors
    /// [`PciRootError::NoRoom`].
    pub fn place_bars(&self) -> Result<(), PciRootError> {
        let mut bars = Vec::new();
        for (_, function) in self.functions() {
            for index in 0..BAR_COUNT {
                if let Some(bar) = function.bar(index) {
                    bars.push((bar.kind, bar.size, index, Arc::clone(&function)));
                }
            }
        }
        bars.sort_by_key(|(_, size, ..)| std::cmp::Reverse(*size));
        let mut next = [&self.windows.pio, &self.windows.mmio32, &self.windows.mmio64].map(Range::clone);
        let [pio, mmio32, mmio64] = &mut next;
        for (kind, size, index, function) in bars {
            let address = match kind {
                BarKind::Io => take(pio, size),
                BarKind::Memory32 { .. } => take(mmio32, size),
                BarKind::Memory64 { .. } => take(mmio64, size).or_else(|| take(mmio32, size)),
            };
            let address = address.ok_or_else(|| PciRootError::NoRoom {
                label: function.label().to_owned(),
                bar: index,
                size,
                window: match kind {
                    BarKind::Io => self.windows.pio.clone(),
                    _ => self.windows.mmio32.clone(),
                },
            })?;
            let register = header::BAR0 + 4 * u16::try_from(index).unwrap_or(0);
            let [a, b, c, d, high @ ..] = address.to_le_bytes();
            let _ = function.config_write(register, AccessSize::Dword, u32::from_le_bytes([a, b, c, d]));
            if matches!(kind, BarKind::Memory64 { .. }) {
                let _ = function.config_write(register + 4, AccessSize::Dword, u32::from_le_bytes(high));
            }
        }
        self.remap();
        Ok(())
    }

    /// Brings what is reachable in line with the BARs and decode bits of all functions. Does nothing where they agree.
    pub fn remap(&self) {
        let mut placement = self.placement.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner).clone();
        placement.update(&functions, &self.windows, &self.spaces);
    }
}

/// Cuts a naturally aligned piece of `size` bytes (a power of two) off the front of `window`.
fn take(window: &mut Range<u64>, size: u64) -> Option<u64> {
    let start = window.start.checked_next_multiple_of(size)?;
    let end = start.checked_add(size).filter(|end| *end <= window.end)?;
    window.start = end;
    Some(start)
}

impl Lifecycle for PciRoot {
    /// Resets every function, then places the BARs again as before.
    fn reset(&self) {
        for (_, function) in self.functions() {
            function.reset();
        }
        if let Err(error) = self.place_bars() {
            tracing::error!(%error, "BARs that had room do not fit after a reset");
        }
    }

    fn pause(&self) {
        for (_, function) in self.functions() {
            function.pause();
        }
    }

    fn resume(&self) {
        for (_, function) in self.functions() {
            function.resume();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
