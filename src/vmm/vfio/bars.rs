//! What lies behind the BARs of a host function: its memory mapped into the guest, except for the pages of the MSI-X table
//! and pending bit array, which are ours, and for what cannot be mapped.

use std::ops::Range;
use std::sync::Arc;

use crate::spec::pci::{BAR_COUNT, msix};
use crate::vmm::bus::{AccessSize, BusDevice, Effects, IoError};
use crate::vmm::pci::msix::{MsixPlace, MsixTable};
use crate::vmm::pci::{Backing, Bar, BarKind, Segment};
use crate::vmm::vfio::config::BarRegister;
use crate::vmm::vfio::device::HostFunction;

/// Mappings begin and end at these.
const PAGE_SIZE: u64 = 4096;

/// A part of a BAR that something of ours answers instead of the device.
#[derive(Clone)]
pub(super) struct Overlay {
    /// BAR, 0 to 5.
    pub bar: usize,
    /// Bytes of the BAR.
    pub range: Range<u64>,
    /// What answers; offsets count from the start of `range`.
    pub device: Arc<dyn BusDevice>,
}

/// The overlays of an MSI-X table and its pending bits; `None` unless both lie within the device's BARs, apart from each
/// other.
pub(super) fn msix_overlays(
    table: &Arc<MsixTable>,
    place: MsixPlace,
    bars: &[BarRegister],
) -> Option<Vec<Overlay>> {
    let overlay = |bar: u8, offset: u32, size: u64, device: Arc<dyn BusDevice>| {
        let bar = usize::from(bar);
        let range = u64::from(offset)..u64::from(offset) + size;
        let inside = |register: &BarRegister| {
            register.index == bar && register.kind != BarKind::Io && range.end <= register.size
        };
        bars.iter().any(inside).then_some(Overlay { bar, range: range.clone(), device })
    };
    let vectors = table.vectors();
    let pba = table.pba();
    let table =
        overlay(place.table_bar, place.table_offset, msix::table_size(vectors), Arc::clone(table) as _)?;
    let pending = overlay(place.pba_bar, place.pba_offset, msix::pba_size(vectors), pba)?;
    let apart = table.bar != pending.bar
        || table.range.end <= pending.range.start
        || pending.range.end <= table.range.start;
    apart.then(|| vec![table, pending])
}

/// Builds all BARs of `host`.
pub(super) fn build(
    host: &Arc<dyn HostFunction>,
    registers: &[BarRegister],
    overlays: &[Overlay],
) -> [Option<Bar>; BAR_COUNT] {
    let mut bars = [const { None }; BAR_COUNT];
    for register in registers {
        if let Some(slot) = bars.get_mut(register.index) {
            let own: Vec<Overlay> = overlays.iter().filter(|o| o.bar == register.index).cloned().collect();
            *slot = Some(Bar {
                kind: register.kind,
                size: register.size,
                segments: segments(host, *register, &own),
            });
        }
    }
    bars
}

/// Whole pages of the region that the kernel lets us map and no overlay touches, ascending.
fn mappable(areas: &[(u64, u64)], size: u64, overlays: &[Overlay]) -> Vec<Range<u64>> {
    let mut free: Vec<Range<u64>> = areas
        .iter()
        .map(|(start, length)| {
            let end = start.saturating_add(*length).min(size);
            start.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end)..end / PAGE_SIZE * PAGE_SIZE
        })
        .collect();
    for overlay in overlays {
        let start = overlay.range.start / PAGE_SIZE * PAGE_SIZE;
        let end = overlay.range.end.next_multiple_of(PAGE_SIZE);
        free = free
            .into_iter()
            .flat_map(|range| [range.start..range.end.min(start), range.start.max(end)..range.end])
            .collect();
    }
    free.retain(|range| range.start < range.end);
    free.sort_by_key(|range| range.start);
    free
}

fn segments(host: &Arc<dyn HostFunction>, register: BarRegister, overlays: &[Overlay]) -> Vec<Segment> {
    let region = host.region(register.index);
    let size = register.size.min(region.size);
    let trap = |range: Range<u64>| Segment {
        offset: range.start,
        size: range.end - range.start,
        backing: Backing::Trap(Arc::new(Trapped {
            host: Arc::clone(host),
            bar: register.index,
            start: range.start,
            overlays: overlays.to_vec(),
        })),
    };
    let mut segments = Vec::new();
    let mut done = 0;
    let free =
        if register.kind == BarKind::Io { Vec::new() } else { mappable(&region.mappable, size, overlays) };
    for range in free {
        let length = range.end - range.start;
        let mapping = usize::try_from(length)
            .map_err(std::io::Error::other)
            .and_then(|length| host.map(register.index, range.start, length));
        match mapping {
            // Areas that overlap are a fault of the driver; what was mapped first stays.
            Ok(mapping) if range.start >= done => {
                if range.start > done {
                    segments.push(trap(done..range.start));
                }
                let backing = Backing::Map(Arc::new(mapping));
                segments.push(Segment { offset: range.start, size: length, backing });
                done = range.end;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(bar = register.index, ?range, %error, "part of a BAR cannot be mapped; it will be slow");
            }
        }
    }
    if done < size {
        segments.push(trap(done..size));
    }
    segments
}

/// Part of a BAR whose accesses exit: overlays answer theirs, the device the rest.
struct Trapped {
    host: Arc<dyn HostFunction>,
    bar: usize,
    /// Where the part begins in its BAR.
    start: u64,
    overlays: Vec<Overlay>,
}

/// Who answers an access.
enum Target<'a> {
    Overlay(&'a Overlay, u64),
    Device(u64),
    /// It spans a border: each byte on its own.
    Split,
}

impl Trapped {
    fn target(&self, offset: u64, size: AccessSize) -> Result<Target<'_>, IoError> {
        let at = self.start.checked_add(offset).ok_or(IoError::InvalidRegister)?;
        let end = at.checked_add(size.bytes() as u64).ok_or(IoError::InvalidRegister)?;
        let touched =
            self.overlays.iter().find(|overlay| at < overlay.range.end && overlay.range.start < end);
        Ok(match touched {
            None => Target::Device(at),
            Some(overlay) if overlay.range.start <= at && end <= overlay.range.end => {
                Target::Overlay(overlay, at - overlay.range.start)
            }
            Some(_) => Target::Split,
        })
    }
}

impl BusDevice for Trapped {
    fn read(&self, offset: u64, size: AccessSize) -> Result<u64, IoError> {
        match self.target(offset, size)? {
            Target::Overlay(overlay, at) => overlay.device.read(at, size),
            Target::Device(at) => {
                let mut data = [0; 8];
                let part = data.get_mut(..size.bytes()).unwrap_or_default();
                self.host.read(self.bar, at, part).map_err(|_| IoError::InvalidRegister)?;
                Ok(u64::from_le_bytes(data))
            }
            Target::Split => (0..size.bytes() as u64).try_fold(0, |value, i| {
                let byte = self.read(offset + i, AccessSize::Byte).unwrap_or(0xFF);
                Ok(value | (byte & 0xFF) << (8 * i))
            }),
        }
    }

    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Result<Effects, IoError> {
        match self.target(offset, size)? {
            Target::Overlay(overlay, at) => overlay.device.write(at, size, value),
            Target::Device(at) => {
                let data = value.to_le_bytes();
                let part = data.get(..size.bytes()).unwrap_or_default();
                self.host.write(self.bar, at, part).map_err(|_| IoError::InvalidRegister)?;
                Ok(Effects::empty())
            }
            Target::Split => {
                let mut effects = Effects::empty();
                for (i, byte) in (0..size.bytes() as u64).zip(value.to_le_bytes()) {
                    effects |= self.write(offset + i, AccessSize::Byte, u64::from(byte)).unwrap_or_default();
                }
                Ok(effects)
            }
        }
    }
}
