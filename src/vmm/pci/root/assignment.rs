//! Numbers for buses, windows for ports and addresses for BARs: what firmware does on a PC, once before the guest starts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::spec::pci::{BAR_COUNT, Command, header};
use crate::vmm::bus::AccessSize;
use crate::vmm::pci::root::{Functions, PciRootError, Slot, Windows};
use crate::vmm::pci::root_port::{Forwarded, IO_STEP, MEMORY_STEP};
use crate::vmm::pci::{BarKind, PciFunction};

/// Writes all of it into the registers of `functions`. Ports are numbered in their order; the largest pieces of `windows` are
/// given out first.
///
/// # Errors
/// [`PciRootError::NoRoom`].
pub(super) fn assign(functions: &Functions, windows: &Windows) -> Result<(), PciRootError> {
    let mut requests: Vec<Request> = Vec::new();
    for (place, function) in &functions.all {
        if place.port.is_none() {
            requests.extend(bars(function).map(Request::Bar));
        }
    }
    let mut forwarded: BTreeMap<Slot, Forwarded> = BTreeMap::new();
    for (slot, port) in &functions.ports {
        forwarded.insert(*slot, Forwarded::default());
        let reserves = |kind: WindowKind| if port.is_hot_plug() { kind.reserve(windows) } else { 0 };
        let mut behind: Vec<WantedBar> = functions.behind(*slot).flat_map(bars).collect();
        behind.sort_by_key(|bar| std::cmp::Reverse(bar.size));
        for kind in [WindowKind::Io, WindowKind::Memory, WindowKind::Prefetchable] {
            let bars: Vec<_> = behind.iter().filter(|bar| bar.window() == kind).cloned().collect();
            let reserve = reserves(kind);
            if !bars.is_empty() || reserve > 0 {
                requests.push(Request::Window { port: *slot, kind, bars, reserve });
            }
        }
    }
    requests.sort_by_key(|request| std::cmp::Reverse((request.alignment(), request.size())));
    let mut next = windows.clone();
    for request in &mut requests {
        let mut start = request.take_from(&mut next, windows);
        if start.is_err() && request.forgo_reserve() {
            start = request.take_from(&mut next, windows);
        }
        match (start, &*request) {
            // What is put into the slot later finds no room.
            (_, Request::Window { bars, reserve: 0, .. }) if bars.is_empty() => {}
            (Ok(start), Request::Bar(bar)) => bar.write(start),
            (Ok(start), Request::Window { port, kind, bars, .. }) => {
                let mut address = start;
                for bar in bars {
                    bar.write(address);
                    address += bar.size;
                }
                let window = start..start + request.size();
                if let Some(forwarded) = forwarded.get_mut(port) {
                    *kind.of(forwarded) = window;
                }
            }
            // There are few I/O windows, and no function of our time needs one.
            (Err(error), Request::Window { kind: WindowKind::Io, .. }) => {
                tracing::info!(%error, "ports of a function stay unreachable");
            }
            (Err(error), _) => return Err(error),
        }
    }
    for ((slot, port), bus) in functions.ports.iter().zip(1..) {
        port.program(bus, &forwarded.remove(slot).unwrap_or_default());
        // As firmware leaves a bridge: what is behind it decides.
        let on = (Command::IO | Command::MEMORY | Command::BUS_MASTER).bits();
        let _ = port.config_write(header::COMMAND, AccessSize::Word, on.into());
    }
    Ok(())
}

/// A BAR that needs an address.
#[derive(Clone)]
struct WantedBar {
    function: Arc<dyn PciFunction>,
    index: usize,
    kind: BarKind,
    size: u64,
}

/// The BARs of a function.
fn bars(function: &Arc<dyn PciFunction>) -> impl Iterator<Item = WantedBar> {
    (0..BAR_COUNT).filter_map(|index| {
        let bar = function.bar(index)?;
        Some(WantedBar { function: Arc::clone(function), index, kind: bar.kind, size: bar.size })
    })
}

impl WantedBar {
    /// The window of a bridge that it may lie in (PCIe 6.0, 7.5.1.3.9).
    fn window(&self) -> WindowKind {
        match self.kind {
            BarKind::Io => WindowKind::Io,
            BarKind::Memory64 { prefetchable: true } => WindowKind::Prefetchable,
            BarKind::Memory32 { .. } | BarKind::Memory64 { .. } => WindowKind::Memory,
        }
    }

    fn write(&self, address: u64) {
        let register = header::BAR0 + 4 * u16::try_from(self.index).unwrap_or(0);
        let [a, b, c, d, high @ ..] = address.to_le_bytes();
        let _ = self.function.config_write(register, AccessSize::Dword, u32::from_le_bytes([a, b, c, d]));
        if matches!(self.kind, BarKind::Memory64 { .. }) {
            let _ = self.function.config_write(register + 4, AccessSize::Dword, u32::from_le_bytes(high));
        }
    }
}

/// The windows of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowKind {
    Io,
    Memory,
    Prefetchable,
}

impl WindowKind {
    fn of(self, forwarded: &mut Forwarded) -> &mut Range<u64> {
        match self {
            Self::Io => &mut forwarded.io,
            Self::Memory => &mut forwarded.memory,
            Self::Prefetchable => &mut forwarded.prefetchable,
        }
    }

    fn step(self) -> u64 {
        match self {
            Self::Io => IO_STEP,
            Self::Memory | Self::Prefetchable => MEMORY_STEP,
        }
    }

    /// What is kept for a device that comes later. Above 4 GiB each of the 31 ports of a bus can have as much.
    fn reserve(self, windows: &Windows) -> u64 {
        const MOST: u64 = 64 << 30;
        let Range { start, end } = windows.mmio64;
        match self {
            Self::Io => 0,
            Self::Memory => 2 * MEMORY_STEP,
            Self::Prefetchable => {
                let share = end.saturating_sub(start) / 64;
                if share < MEMORY_STEP { 0 } else { (1 << share.ilog2()).min(MOST) }
            }
        }
    }
}

/// What needs a piece of the root's windows: a BAR on bus 0, or a window of a port with the BARs behind it, largest first.
enum Request {
    Bar(WantedBar),
    Window { port: Slot, kind: WindowKind, bars: Vec<WantedBar>, reserve: u64 },
}

impl Request {
    fn size(&self) -> u64 {
        match self {
            Self::Bar(bar) => bar.size,
            Self::Window { kind, bars, reserve, .. } => {
                let sum = bars.iter().fold(0u64, |sum, bar| sum.saturating_add(bar.size)).max(*reserve);
                sum.checked_next_multiple_of(kind.step()).unwrap_or(u64::MAX)
            }
        }
    }

    fn alignment(&self) -> u64 {
        match self {
            Self::Bar(bar) => bar.size,
            Self::Window { kind, bars, reserve, .. } => {
                // The largest BAR that the reserve could hold has its size.
                let largest = bars.first().map_or(0, |bar| bar.size).max(*reserve);
                largest.max(kind.step())
            }
        }
    }

    /// Asks for no more than what is there needs; whether it asked for more before.
    fn forgo_reserve(&mut self) -> bool {
        match self {
            Self::Bar(_) => false,
            Self::Window { reserve, .. } => std::mem::take(reserve) > 0,
        }
    }

    /// Cuts its piece off the front of what is left of `windows`.
    fn take_from(&self, left: &mut Windows, windows: &Windows) -> Result<u64, PciRootError> {
        let (size, alignment) = (self.size(), self.alignment());
        let (first, kind, may_be_high) = match self {
            Self::Bar(bar) => (Some(bar), bar.window(), matches!(bar.kind, BarKind::Memory64 { .. })),
            Self::Window { kind, bars, .. } => (bars.first(), *kind, *kind == WindowKind::Prefetchable),
        };
        let Windows { pio, mmio32, mmio64 } = left;
        let taken = match kind {
            WindowKind::Io => take(pio, size, alignment),
            _ if may_be_high => take(mmio64, size, alignment).or_else(|| take(mmio32, size, alignment)),
            _ => take(mmio32, size, alignment),
        };
        taken.ok_or_else(|| PciRootError::NoRoom {
            label: first.map(|bar| bar.function.label().to_owned()).unwrap_or_default(),
            bar: first.map_or(0, |bar| bar.index),
            size,
            window: if kind == WindowKind::Io { windows.pio.clone() } else { windows.mmio32.clone() },
        })
    }
}

/// Cuts a piece of `size` bytes at a multiple of `alignment` (a power of two) off the front of `window`.
fn take(window: &mut Range<u64>, size: u64, alignment: u64) -> Option<u64> {
    let start = window.start.checked_next_multiple_of(alignment)?;
    let end = start.checked_add(size).filter(|end| *end <= window.end)?;
    window.start = end;
    Some(start)
}
