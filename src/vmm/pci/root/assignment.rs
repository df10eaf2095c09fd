//! Numbers for buses, windows for ports and addresses for BARs: what firmware does on a PC, once before the guest starts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::spec::pci::{Command, ROM_BAR, header};
use crate::vmm::bus::AccessSize;
use crate::vmm::pci::root::{Functions, PciRootError, Place, Slot, Windows};
use crate::vmm::pci::root_port::{Forwarded, IO_STEP, MEMORY_STEP};
use crate::vmm::pci::{BarKind, PciFunction};

/// Writes all of it into the registers of `functions`. The bus behind a port has the port's number; the largest pieces of
/// `windows` are given out first.
///
/// # Errors
/// [`PciRootError::NoRoom`].
pub(super) fn assign(functions: &Functions, windows: &Windows) -> Result<(), PciRootError> {
    // What is there goes before what may come.
    let reserving = assign_with(functions, windows, |kind| kind.reserve(windows));
    reserving.or_else(|_| assign_with(functions, windows, |_| 0))
}

/// Does it with windows of at least `reserve` bytes for ports whose device can be another one later.
fn assign_with(
    functions: &Functions,
    windows: &Windows,
    reserve: impl Fn(WindowKind) -> u64,
) -> Result<(), PciRootError> {
    let mut requests: Vec<Request> = Vec::new();
    for (place, function) in functions.all.iter().filter(|(place, _)| place.port.is_none()) {
        requests.extend(bars(*place, function).map(Request::Bar));
    }
    let mut forwarded: BTreeMap<Slot, Forwarded> = BTreeMap::new();
    for (slot, port) in &functions.ports {
        forwarded.insert(*slot, Forwarded::default());
        let behind = functions.all.iter().filter(|(place, _)| place.port == Some(*slot));
        let mut behind: Vec<WantedBar> =
            behind.flat_map(|(place, function)| bars(*place, function)).collect();
        behind.sort_by_key(|bar| std::cmp::Reverse(bar.size));
        for kind in [WindowKind::Io, WindowKind::Memory, WindowKind::Prefetchable] {
            let bars: Vec<_> = behind.iter().filter(|bar| bar.window() == kind).cloned().collect();
            let reserve = if port.is_hot_plug() { reserve(kind) } else { 0 };
            if !bars.is_empty() || reserve > 0 {
                requests.push(Request::Window { port: *slot, kind, bars, reserve });
            }
        }
    }
    requests.sort_by_key(|request| std::cmp::Reverse((request.alignment(), request.size())));
    let mut left = Left::new(windows);
    for request in &requests {
        let start = left.take(request).ok_or_else(|| no_room(request, &requests, windows));
        match (start, request) {
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
    for (slot, port) in &functions.ports {
        port.program(slot.device(), &forwarded.remove(slot).unwrap_or_default());
        // As firmware leaves a bridge: what is behind it decides.
        let on = (Command::IO | Command::MEMORY | Command::BUS_MASTER).bits();
        let _ = port.config_write(header::COMMAND, AccessSize::Word, on.into());
    }
    Ok(())
}

/// A BAR that needs an address.
#[derive(Clone)]
struct WantedBar {
    place: Place,
    function: Arc<dyn PciFunction>,
    index: usize,
    kind: BarKind,
    size: u64,
}

/// The BARs of a function.
fn bars(place: Place, function: &Arc<dyn PciFunction>) -> impl Iterator<Item = WantedBar> {
    (0..=ROM_BAR).filter_map(move |index| {
        let bar = function.bar(index)?;
        Some(WantedBar { place, function: Arc::clone(function), index, kind: bar.kind, size: bar.size })
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
        // Only endpoints have BARs here.
        let register = match self.index {
            ROM_BAR => header::ROM,
            index => header::BAR0 + 4 * u16::try_from(index).unwrap_or(0),
        };
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

    /// Place, name and index of its largest BAR, and the bytes of it, or of all where it is reserve.
    fn first(&self) -> (Place, String, usize, u64) {
        let of = |bar: &WantedBar| (bar.place, bar.function.label().to_owned(), bar.index, bar.size);
        match self {
            Self::Bar(bar) => of(bar),
            Self::Window { bars, port, reserve, .. } => bars.first().map_or_else(
                || (Place::on_root(*port), "what may come into a slot".to_owned(), 0, *reserve),
                of,
            ),
        }
    }

    /// Where it may lie: ports, or memory below 4 GiB alone, or above 4 GiB, too.
    fn reach(&self) -> Reach {
        match self {
            Self::Bar(WantedBar { kind: BarKind::Io, .. }) | Self::Window { kind: WindowKind::Io, .. } => {
                Reach::Ports
            }
            Self::Bar(WantedBar { kind: BarKind::Memory64 { .. }, .. })
            | Self::Window { kind: WindowKind::Prefetchable, .. } => Reach::High,
            _ => Reach::Low,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Ports,
    Low,
    High,
}

/// What of the root's windows is not given out, each as pieces in ascending order.
struct Left {
    pio: Vec<Range<u64>>,
    mmio32: Vec<Range<u64>>,
    mmio64: Vec<Range<u64>>,
}

impl Left {
    fn new(windows: &Windows) -> Self {
        let Windows { pio, mmio32, mmio64 } = windows;
        Self { pio: vec![pio.clone()], mmio32: vec![mmio32.clone()], mmio64: vec![mmio64.clone()] }
    }

    /// Cuts out the lowest place that `request` fits into, above 4 GiB first where it may lie there.
    fn take(&mut self, request: &Request) -> Option<u64> {
        let (size, alignment) = (request.size(), request.alignment());
        match request.reach() {
            Reach::Ports => take(&mut self.pio, size, alignment),
            Reach::Low => take(&mut self.mmio32, size, alignment),
            Reach::High => {
                take(&mut self.mmio64, size, alignment).or_else(|| take(&mut self.mmio32, size, alignment))
            }
        }
    }
}

/// Cuts `size` bytes at a multiple of `alignment` (a power of two) out of `pieces`.
fn take(pieces: &mut Vec<Range<u64>>, size: u64, alignment: u64) -> Option<u64> {
    let fit = |piece: &Range<u64>| {
        let start = piece.start.checked_next_multiple_of(alignment)?;
        let end = start.checked_add(size).filter(|end| *end <= piece.end)?;
        Some(start..end)
    };
    let (index, taken) = pieces.iter().enumerate().find_map(|(index, piece)| Some((index, fit(piece)?)))?;
    let piece = pieces.remove(index);
    let rest = [piece.start..taken.start, taken.end..piece.end];
    pieces.splice(index..index, rest.into_iter().filter(|piece| !piece.is_empty()));
    Some(taken.start)
}

fn no_room(request: &Request, requests: &[Request], windows: &Windows) -> PciRootError {
    let Windows { pio, mmio32, mmio64 } = windows;
    let (place, label, bar, size) = request.first();
    let all = requests.iter().filter(|other| other.reach() == request.reach());
    let windows = match request.reach() {
        Reach::Ports => vec![pio],
        Reach::Low => vec![mmio32],
        Reach::High => vec![mmio64, mmio32],
    };
    PciRootError::NoRoom {
        place,
        label,
        bar,
        size,
        wanted: all.fold(0, |sum, other| sum.saturating_add(other.size())),
        windows: windows.into_iter().filter(|window| !window.is_empty()).cloned().collect(),
    }
}
