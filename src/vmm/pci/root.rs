//! The PCI root: bus 0, the buses behind its root ports, where BARs begin, and what is reachable at this moment.
//!
//! The machine inserts functions and ports, calls [`PciRoot::place_bars`] once before the guest starts, and [`PciRoot::remap`] whenever
//! an access returned [`Effects::REMAP_BARS`]. The guest reaches configuration space through
//! [`ConfigPorts`](super::access::ConfigPorts) and [`Ecam`](super::access::Ecam).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::spec::pci::{PciAddress, ROM_BAR, header};
use crate::spec::units::ByteSize;
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, Bus, Effects};
use crate::vmm::mapper::{AddressSpace, Mapper};
use crate::vmm::pci::PciFunction;
use crate::vmm::pci::host_bridge::HostBridge;
use crate::vmm::pci::placement::{Placement, Spaces};
use crate::vmm::pci::root_port::RootPort;

/// Set in the header type of function 0 where the device has more functions (PCI 3.0, 6.2.1).
const MULTI_FUNCTION: u32 = 1 << 7;

/// Device and function number.
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
        write!(f, "{:02x}.{}", self.device(), self.function())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a guest addresses a function: by the number that its bus has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Bus number.
    pub bus: u8,
    /// Device and function on it.
    pub slot: Slot,
}

/// Where a function sits, whatever number its bus has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The root port above it; none on bus 0.
    port: Option<Slot>,
    slot: Slot,
}

impl Place {
    /// On bus 0.
    #[must_use]
    pub const fn on_root(slot: Slot) -> Self {
        Self { port: None, slot }
    }

    /// Behind the root port at `port`, where there is room for one device.
    #[must_use]
    pub const fn behind(port: Slot, function: u8) -> Option<Self> {
        match Slot::new(0, function) {
            Some(slot) => Some(Self { port: Some(port), slot }),
            None => None,
        }
    }

    /// The root port above it.
    #[must_use]
    pub const fn port(self) -> Option<Slot> {
        self.port
    }

    /// Device and function on its bus.
    #[must_use]
    pub const fn slot(self) -> Slot {
        self.slot
    }

    /// The address that [`PciRoot::place_bars`] gives it: the bus behind a port has the port's number.
    #[must_use]
    pub const fn address(self) -> PciAddress {
        let bus = match self.port {
            Some(port) => port.device(),
            None => 0,
        };
        PciAddress { domain: 0, bus, device: self.slot.device(), function: self.slot.function() }
    }

    /// The device number on bus 0 whose interrupt pins it raises: its own, or that of the port above it, since the pins of
    /// device 0 behind a bridge are the bridge's (PCI-to-PCI Bridge Architecture Specification 1.2, 9.1).
    #[must_use]
    pub const fn wired_device(self) -> u8 {
        match self.port {
            Some(port) => port.device(),
            None => self.slot.device(),
        }
    }
}

impl fmt::Display for Place {
    /// As a path from bus 0: `00:02.0`, or `00:02.0/00.0` behind a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "00:{port}/{}", self.slot),
            None => write!(f, "00:{}", self.slot),
        }
    }
}

/// All functions.
#[derive(Default, Clone)]
pub(super) struct Functions {
    pub(super) all: BTreeMap<Place, Arc<dyn PciFunction>>,
    /// Those of them that are root ports, by their place on bus 0.
    ports: BTreeMap<Slot, Arc<RootPort>>,
}

impl Functions {
    /// Whether what `place` decodes at `start..end` gets there.
    pub(super) fn forwards(&self, place: Place, space: AddressSpace, start: u64, end: u64) -> bool {
        match place.port {
            Some(port) => {
                self.ports.get(&port).is_some_and(|port| port.is_up() && port.forwards(space, start, end))
            }
            None => true,
        }
    }

    /// The place that has this address at the moment. Behind a port, only device 0 answers.
    fn place(&self, address: Address) -> Option<Place> {
        let Address { bus, slot } = address;
        if bus == 0 {
            return Some(Place::on_root(slot));
        }
        let (above, port) = self.ports.iter().find(|(_, port)| port.secondary_bus() == bus)?;
        (slot.device() == 0 && port.is_up()).then_some(Place { port: Some(*above), slot })
    }

    /// The functions behind a port.
    fn behind(&self, port: Slot) -> impl Iterator<Item = &Arc<dyn PciFunction>> {
        self.all.iter().filter(move |(place, _)| place.port == Some(port)).map(|(_, function)| function)
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
    pub(super) place: Place,
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
    #[error("{label} cannot be at {place}: {other} is there")]
    PlaceTaken {
        /// The place.
        place: Place,
        /// The function that was refused.
        label: String,
        /// The function that is there.
        other: String,
    },
    /// A function behind something that is no root port.
    #[error("{label} cannot be at {place}: there is no root port above it")]
    NoPort {
        /// The place.
        place: Place,
        /// The function that was refused.
        label: String,
    },
    /// The windows are too small for all BARs.
    #[error(
        "no room for {} ({}) of {label}: what must lie where it must takes {} in all, each at a multiple of its size, and {} is \
         there for that; leave a device out, or let it ask for less",
        bar_name(*bar), ByteSize::from_bytes(*size), ByteSize::from_bytes(*wanted), range_names(windows)
    )]
    NoRoom {
        /// Where the function is.
        place: Place,
        /// The function.
        label: String,
        /// Its BAR.
        bar: usize,
        /// Size of the BAR in bytes.
        size: u64,
        /// What all BARs that may lie in the same windows take, in bytes.
        wanted: u64,
        /// The windows in which it could have been.
        windows: Vec<Range<u64>>,
    },
}

fn bar_name(index: usize) -> String {
    if index == ROM_BAR { "the expansion ROM".to_owned() } else { format!("BAR {index}") }
}

fn range_names(ranges: &[Range<u64>]) -> String {
    let names = ranges.iter().map(|range| format!("{:#x} to {:#x}", range.start, range.end));
    names.collect::<Vec<_>>().join(" and ")
}

/// Bus 0, and what is behind it.
pub struct PciRoot {
    /// Outermost lock of the room: functions, buses and the mapper are called under it, so that two vCPUs' changes of BARs
    /// are applied one after the other and the last one sees the registers of both. Dropped first: a host device can be
    /// closed once nothing of it is mapped.
    placement: Mutex<Placement>,
    windows: Windows,
    spaces: Spaces,
    functions: RwLock<Functions>,
}

impl fmt::Debug for PciRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map()
            .entries(functions.all.iter().map(|(place, function)| (place, function.label())))
            .finish()
    }
}

impl PciRoot {
    /// A bus with nothing but the host bridge at 00:00.0. BARs become reachable on `mmio`, `pio` and through `mapper`.
    #[must_use]
    pub fn new(windows: Windows, mmio: Arc<Bus>, pio: Arc<Bus>, mapper: Arc<dyn Mapper>) -> Arc<Self> {
        let bridge: Arc<dyn PciFunction> = Arc::new(HostBridge::new());
        let all = BTreeMap::from([(Place::on_root(Slot::from_bits(0)), bridge)]);
        Arc::new(Self {
            windows,
            spaces: Spaces { mmio, pio, mapper },
            functions: RwLock::new(Functions { all, ports: BTreeMap::new() }),
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
    /// [`PciRootError::PlaceTaken`], [`PciRootError::NoPort`].
    pub fn insert(&self, place: Place, function: Arc<dyn PciFunction>) -> Result<(), PciRootError> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let label = function.label().to_owned();
        if let Some(other) = functions.all.get(&place) {
            return Err(PciRootError::PlaceTaken { place, label, other: other.label().to_owned() });
        }
        if place.port.is_some_and(|port| !functions.ports.contains_key(&port)) {
            return Err(PciRootError::NoPort { place, label });
        }
        functions.all.insert(place, function);
        Ok(())
    }

    /// Adds a root port on bus 0.
    ///
    /// # Errors
    /// [`PciRootError::PlaceTaken`].
    pub fn insert_port(&self, slot: Slot, port: &Arc<RootPort>) -> Result<(), PciRootError> {
        self.insert(Place::on_root(slot), Arc::clone(port) as _)?;
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.ports.insert(slot, Arc::clone(port));
        Ok(())
    }

    /// Puts a function into the slot of the port above `place`, while the guest runs; the guest is told.
    ///
    /// # Errors
    /// [`PciRootError::PlaceTaken`], [`PciRootError::NoPort`].
    pub fn plug(&self, place: Place, function: Arc<dyn PciFunction>) -> Result<(), PciRootError> {
        self.insert(place, function)?;
        if let Some(port) = self.port_above(place) {
            port.set_presence(true);
        }
        Ok(())
    }

    /// Takes out what is behind the port at `slot`, whether or not the guest let it go; the guest is told. What was taken out
    /// is unreachable on return, and gone once the last access to it ends.
    pub fn unplug(&self, slot: Slot) {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let port = functions.ports.get(&slot).cloned();
        let places: Vec<_> = functions.all.keys().copied().filter(|place| place.port == Some(slot)).collect();
        let leaving: Vec<_> = places.iter().filter_map(|place| functions.all.remove(place)).collect();
        drop(functions);
        self.remap();
        if let Some(port) = port {
            port.set_presence(false);
        }
        drop(leaving);
    }

    fn port_above(&self, place: Place) -> Option<Arc<RootPort>> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.ports.get(&place.port?).cloned()
    }

    /// Device numbers of the root ports, ascending.
    #[must_use]
    pub fn ports(&self) -> Vec<u8> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.ports.keys().map(|port| port.device()).collect()
    }

    /// The highest number of a bus, as [`Self::place_bars`] numbers them.
    #[must_use]
    pub fn last_bus(&self) -> u8 {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.ports.keys().next_back().map_or(0, |port| port.device())
    }

    /// All functions with their places, in ascending order.
    #[must_use]
    pub fn functions(&self) -> Vec<(Place, Arc<dyn PciFunction>)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.all.iter().map(|(place, function)| (*place, Arc::clone(function))).collect()
    }

    /// The function at an address, its place, and whether its device has more.
    fn function(&self, address: Address) -> Option<(Place, Arc<dyn PciFunction>, bool)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let place = functions.place(address)?;
        let function = Arc::clone(functions.all.get(&place)?);
        let last = Place { slot: Slot(place.slot.0 | 7), ..place };
        let more = place.slot.function() == 0 && functions.all.range(place..=last).nth(1).is_some();
        Some((place, function, more))
    }

    /// The register at byte `offset` of the function at `address`; all ones if there is none. The access must not leave its
    /// doubleword.
    #[must_use]
    pub fn config_read(&self, address: Address, offset: u16, size: AccessSize) -> u32 {
        let Some((_, function, more)) = self.function(address) else { return u32::MAX };
        let mut value = function.config_read(offset, size);
        let start = header::HEADER_TYPE;
        if more && offset <= start && usize::from(start - offset) < size.bytes() {
            value |= MULTI_FUNCTION << (8 * (start - offset));
        }
        value
    }

    /// Writes a register of the function at `address`, if there is one. The access must not leave its doubleword.
    pub fn config_write(&self, address: Address, offset: u16, size: AccessSize, value: u32) -> Effects {
        let Some((place, function, _)) = self.function(address) else { return Effects::empty() };
        let port = || {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            functions.ports.get(&place.slot).filter(|_| place.port.is_none()).cloned()
        };
        let Some(port) = port() else { return function.config_write(offset, size, value) };
        let (held, up) = (port.holds_in_reset(), port.is_up());
        let effects = port.config_write(offset, size, value);
        if !held && port.holds_in_reset() || up && !port.is_up() {
            self.reset_behind(place.slot);
        }
        effects
    }

    /// A reset of the bus behind a port, or its loss of power.
    fn reset_behind(&self, port: Slot) {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let behind: Vec<_> = functions.behind(port).cloned().collect();
        drop(functions);
        for function in behind {
            function.reset();
        }
    }

    /// Numbers the buses by their ports, sets what each port forwards, and writes an address into every BAR register, as firmware would:
    /// 64-bit BARs above 4 GiB where that window has room, the largest first. Decoding stays as it is (off after reset).
    ///
    /// # Errors
    /// [`PciRootError::NoRoom`].
    pub fn place_bars(&self) -> Result<(), PciRootError> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner).clone();
        assignment::assign(&functions, &self.windows)?;
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

mod assignment;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
