//! Placement of BARs: what should be reachable where, as a pure function of the registers, and the difference between
//! that and what is reachable now.
//!
//! A [`Placement`] holds everything that is in force and takes it away when it is dropped. [`Placement::update`] leaves
//! alone what stays, removes what went and adds what is new, so a moving BAR never disturbs its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::spec::pci::{Command, ROM_BAR};
use crate::vmm::bus::Bus;
use crate::vmm::mapper::{AddressSpace, Mapped, Mapper};
use crate::vmm::pci::root::{Functions, PciRange, Place, Windows};
use crate::vmm::pci::{Backing, BarKind, PciFunction, Segment};

/// A part of a BAR at an address. What makes two of them the same is where they come from and where they lie: the
/// contents of a BAR never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    place: Place,
    bar: usize,
    segment: usize,
    address: u64,
}

struct Piece {
    space: AddressSpace,
    segment: Segment,
}

/// Keeps one piece in force.
enum Held {
    Trapped { bus: Arc<Bus>, address: u64 },
    Mapped(#[expect(dead_code, reason = "held for its Drop")] Mapped),
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Trapped { bus, address } = self {
            bus.remove(*address);
        }
    }
}

/// What the pieces are placed on.
#[derive(Clone)]
pub(super) struct Spaces {
    pub(super) mmio: Arc<Bus>,
    pub(super) pio: Arc<Bus>,
    pub(super) mapper: Arc<dyn Mapper>,
}

/// Everything that is reachable now.
#[derive(Default)]
pub(super) struct Placement {
    present: BTreeMap<Key, Held>,
}

/// BAR ranges that one function asks for at this moment: inside a window, decoded, not at 0, forwarded by the port above it.
fn ranges(
    place: Place,
    function: &dyn PciFunction,
    functions: &Functions,
    windows: &Windows,
) -> Vec<(PciRange, usize, Vec<Segment>)> {
    let decode = function.decode();
    let mut found = Vec::new();
    for index in 0..=ROM_BAR {
        let Some(bar) = function.bar(index) else { continue };
        let (bit, space) = match bar.kind {
            BarKind::Io => (Command::IO, AddressSpace::Port),
            _ => (Command::MEMORY, AddressSpace::Memory),
        };
        let start = function.bar_address(index);
        let Some(end) = start.checked_add(bar.size) else { continue };
        if !decode.contains(bit) || start == 0 {
            continue;
        }
        if windows.contains(space, start, end) && functions.forwards(place, space, start, end) {
            found.push((PciRange { place, space, start, end }, index, bar.segments));
        } else {
            tracing::debug!(
                function = function.label(),
                bar = index,
                start,
                "BAR outside of all windows, or not forwarded"
            );
        }
    }
    found
}

impl Placement {
    /// Brings what is reachable in line with the registers of `functions`. Of two BARs that overlap, the one at the lower
    /// place and index is placed.
    pub(super) fn update(&mut self, functions: &Functions, windows: &Windows, spaces: &Spaces) {
        let mut taken: Vec<PciRange> = Vec::new();
        let mut wanted = BTreeMap::new();
        for (place, function) in &functions.all {
            for (range, bar, segments) in ranges(*place, &**function, functions, windows) {
                if let Some(other) = taken.iter().find(|other| other.overlaps(&range)) {
                    tracing::debug!(function = function.label(), bar, ?other, "BAR overlaps another");
                    continue;
                }
                let (space, start) = (range.space, range.start);
                taken.push(range);
                for (index, segment) in segments.into_iter().enumerate() {
                    let Some(address) = start.checked_add(segment.offset) else { continue };
                    wanted.insert(
                        Key { place: *place, bar, segment: index, address },
                        Piece { space, segment },
                    );
                }
            }
        }
        self.present.retain(|key, _| wanted.contains_key(key));
        for (key, piece) in wanted {
            if !self.present.contains_key(&key)
                && let Some(held) = place(key.address, &piece, spaces)
            {
                self.present.insert(key, held);
            }
        }
    }
}

/// Puts one piece in force. A failure is the guest's placement at fault or a kernel without slots: the piece stays away and
/// is tried again at the next change.
fn place(address: u64, piece: &Piece, spaces: &Spaces) -> Option<Held> {
    let result = match &piece.segment.backing {
        Backing::Trap(device) => {
            let bus = match piece.space {
                AddressSpace::Memory => &spaces.mmio,
                AddressSpace::Port => &spaces.pio,
            };
            bus.insert(address, piece.segment.size, Arc::clone(device))
                .map(|()| Held::Trapped { bus: Arc::clone(bus), address })
                .map_err(std::io::Error::other)
        }
        Backing::Map(memory) => spaces.mapper.map(address, memory, piece.segment.size).map(Held::Mapped),
        Backing::ReadOnly(memory) => {
            spaces.mapper.map_read_only(address, memory, piece.segment.size).map(Held::Mapped)
        }
        Backing::Notify(event) => spaces.mapper.notify(piece.space, address, event).map(Held::Mapped),
    };
    result.inspect_err(|error| tracing::warn!(%error, "cannot place part of a BAR at {address:#x}")).ok()
}
