//! PCI and PCI Express as the guest sees them: functions, their BARs, and the root that places them.
//!
//! A [`PciFunction`] owns its configuration space and says what lies behind each BAR; [`root`](self) reads BARs and
//! decode bits back through `config_read` and maps, traps or unmaps what they ask for. Placement is thus a pure
//! function of the registers, and a function never maps anything by itself.

pub mod access;
pub mod capability;
pub mod config_space;
pub mod express;
pub mod host_bridge;
pub mod hotplug;
pub mod lpc_bridge;
pub mod msi;
pub mod msix;
pub mod on_pci;
mod placement;
pub mod rom;
pub mod root;
pub mod root_port;
pub mod vector;

use std::fmt;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::{Command, header};
use crate::sys::mmap::Mapping;
use crate::vmm::Lifecycle;
use crate::vmm::bus::{AccessSize, BusDevice, Effects};
use crate::vmm::interrupt::{InterruptLine, MsiSink};
use crate::vmm::memory::GuestMemory;
use crate::vmm::pci::rom::Rom;

/// One function on the machine's PCI bus.
///
/// Configuration accesses come from any vCPU thread; the root aligns them (an access never crosses a doubleword) and
/// passes offsets below 0x1000.
pub trait PciFunction: Lifecycle + Send + Sync {
    /// Name for messages: `virtio-block(disk.img)`, `vfio(0000:01:10.0)`.
    fn label(&self) -> &str;

    /// The register at byte `offset`, in the low bits; unimplemented registers read as 0.
    fn config_read(&self, offset: u16, size: AccessSize) -> u32;

    /// Writes a register. Returns [`Effects::REMAP_BARS`] whenever a BAR, a decode bit or the power state changed.
    fn config_write(&self, offset: u16, size: AccessSize, value: u32) -> Effects;

    /// What lies behind BAR `index` (0 to 5; a 64-bit BAR answers at its lower index), or in the expansion ROM
    /// ([`ROM_BAR`](crate::spec::pci::ROM_BAR)). Constant over the function's life: sizes and contents do not change, only
    /// where the guest puts them.
    fn bar(&self, index: usize) -> Option<Bar>;

    /// Where the guest put BAR `index`: the last address that it wrote, sizing probes left aside; 0 if nowhere. See
    /// [`ConfigSpace::bar_address`](config_space::ConfigSpace::bar_address).
    fn bar_address(&self, index: usize) -> u64;

    /// Which spaces the function decodes at this moment: the command register, unless power state or reset say less.
    fn decode(&self) -> Command {
        let bits = self.config_read(header::COMMAND, AccessSize::Word).to_le_bytes();
        Command::from_bits_truncate(u16::from_le_bytes([bits[0], bits[1]])) & (Command::IO | Command::MEMORY)
    }
}

/// Address space and width of a BAR (PCI 3.0, 6.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Port I/O.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; takes two registers.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// The shape of one BAR: its kind, its size (a power of two, bytes) and what answers where inside it. What no segment
/// covers reads as ones.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Address space and width.
    pub kind: BarKind,
    /// Size in bytes, a power of two.
    pub size: u64,
    /// Parts, in ascending order without overlap. [`Backing::Notify`] may lie inside a trapped part.
    pub segments: Vec<Segment>,
}

/// A part of a BAR.
#[derive(Debug, Clone)]
pub struct Segment {
    /// First byte, from the start of the BAR.
    pub offset: u64,
    /// Length in bytes; a multiple of the page size for memory of the host.
    pub size: u64,
    /// What answers.
    pub backing: Backing,
}

/// What answers an access to a part of a BAR.
#[derive(Clone)]
pub enum Backing {
    /// Each access exits to this device; offsets count from the start of the segment.
    Trap(Arc<dyn BusDevice>),
    /// The guest reaches this host memory without an exit (VFIO regions, frame buffers).
    Map(Arc<Mapping>),
    /// The guest reads this host memory without an exit, and what it writes there has no effect (expansion ROMs).
    ReadOnly(Arc<Mapping>),
    /// Any write at the segment's first byte signals the eventfd without an exit to userspace (ioeventfd).
    Notify(Arc<EventFd>),
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap(_) => "Trap",
            Self::Map(_) => "Map",
            Self::ReadOnly(_) => "ReadOnly",
            Self::Notify(_) => "Notify",
        })
    }
}

/// What the machine hands to a function when it is built.
pub struct FunctionContext {
    /// Guest RAM.
    pub memory: Arc<GuestMemory>,
    /// Where the function's messages go.
    pub msi: Arc<dyn MsiSink>,
    /// The function's INTx line.
    pub intx: InterruptLine,
    /// Its expansion ROM.
    pub rom: Rom,
}

impl fmt::Debug for FunctionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionContext").field("intx", &self.intx).finish_non_exhaustive()
    }
}
