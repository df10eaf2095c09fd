//! What stands behind guest RAM: files or private memory, ordinary or huge pages, nodes of the host; taken at once or as the
//! guest touches it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use vm_memory::mmap::{MmapRegion, MmapRegionError};
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap};

use super::config::{HugePages, MemoryConfig};
use super::file::{self, Named, NamedFile};
use super::host::Host;
use super::prefault::{self, Halt, Halted, Watch};
use super::{GuestMemory, MemoryError, Ram, RamRegion};
use crate::spec::units::ByteSize;
use crate::sys::{ram, rlimit};
use crate::vmm::layout;
use crate::vmm::numa::{self, NodeConfig};

/// What RAM shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// How much, and of what.
    pub config: &'a MemoryConfig,
    /// Nodes that it is shared out to.
    pub nodes: &'a [NodeConfig],
    /// Guest-physical addresses where none may be, because devices that are passed through cannot reach it there.
    pub holes: &'a [Range<u64>],
    /// Whether devices that are passed through will hold all of it. It is then taken at once, since by many threads that is
    /// quicker than by the IOMMU's driver.
    pub is_pinned: bool,
    /// Address bits of the machine's processors.
    pub physical_bits: u8,
}

/// What the host makes transparent huge pages of.
const HUGE_BYTES: usize = 2 << 20;

/// Maps RAM where the host can put huge pages behind it and KVM can pass them on: at a multiple of their size, as it is in the
/// guest. The kernel gives out the highest place that is large enough, from 6.7 on with regard for this, before without: what
/// is too much of such a place is held until the next try. Nothing but speed depends on the outcome.
fn map_aligned(place: Option<&FileOffset>, size: usize, flags: i32) -> Result<MmapRegion, MmapRegionError> {
    const TRIES: usize = 64;
    let map = || MmapRegion::build(place.cloned(), size, libc::PROT_READ | libc::PROT_WRITE, flags);
    let mut region = map()?;
    let mut held = Vec::new();
    while held.len() < TRIES && size >= HUGE_BYTES {
        let beyond = region.as_ptr().addr() % HUGE_BYTES;
        if beyond == 0 {
            break;
        }
        drop(region);
        held.push(MmapRegion::<()>::new(beyond));
        region = map()?;
    }
    Ok(region)
}

impl GuestMemory {
    /// RAM as `wanted`; `watch` is told while it is taken from the host, if it is.
    ///
    /// # Errors
    /// [`MemoryError`] names what the host does not have, and the way out.
    pub fn build(wanted: &Wanted<'_>, watch: Watch<'_>) -> Result<Self, MemoryError> {
        let host = Host::live();
        let Wanted { config, nodes, holes, is_pinned, physical_bits } = *wanted;
        let mut memory = Self::map(config, holes, &host)?;
        let end = memory.end();
        if end > 1 << physical_bits.min(63) {
            return Err(MemoryError::TooHigh { end, physical_bits });
        }
        if config.ksm {
            for region in memory.regions() {
                ram::merge(region.host_address, region.size_bytes).map_err(MemoryError::Ksm)?;
            }
            if !host.merges_pages() {
                tracing::warn!(
                    "no pages are merged, because KSM is off; `echo 1 > /sys/kernel/mm/ksm/run` switches it on"
                );
            }
        }
        let bound = memory.bind(nodes, &host)?;
        // Pages are promised by the host, not by a node of it: a guest that touched one too many would end the process.
        let must = bound && memory.is_huge();
        if config.prefault || config.lock || is_pinned || must {
            memory.take(config, &host, watch)?;
        }
        if config.lock {
            memory.lock()?;
        }
        Ok(memory)
    }

    pub(super) fn map(config: &MemoryConfig, holes: &[Range<u64>], host: &Host) -> Result<Self, MemoryError> {
        let (size_bytes, pages) = (config.bytes(), config.hugepages);
        let (named, file, page_bytes) = match &config.file {
            Some(path) => {
                let Named { guard, file, page_bytes } = NamedFile::make(path, size_bytes)?;
                (Some(Arc::new(guard)), Some(file), page_bytes)
            }
            None if config.is_shared() => (None, Some(file::nameless(size_bytes, pages)?), pages.bytes()),
            None => (None, None, pages.bytes()),
        };
        let huge = page_bytes > HugePages::None.bytes();
        let file = file.map(Arc::new);
        // Without a reservation a guest may be larger than the host's memory. Huge pages are reserved, since there is none to
        // take their place.
        let mut flags = if huge { 0 } else { libc::MAP_NORESERVE };
        flags |= if config.is_shared() { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        flags |= if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
        let mut offset = 0;
        let mut regions = Vec::new();
        for range in layout::ram_ranges(size_bytes, page_bytes, holes) {
            let length = range.end - range.start;
            let error = |source| MemoryError::Map { size_bytes, source };
            let size = usize::try_from(length)
                .map_err(|_| error(MmapRegionError::Mmap(io::ErrorKind::OutOfMemory.into())))?;
            let place = file.as_ref().map(|file| FileOffset::from_arc(Arc::clone(file), offset));
            let region = map_aligned(place.as_ref(), size, flags);
            let region = region.map_err(|source| match (&source, host.free_pages(page_bytes)) {
                (MmapRegionError::Mmap(_), Some(free)) if huge => {
                    MemoryError::HugePages { needed: size_bytes / page_bytes, node: None, free }
                }
                _ => error(source),
            })?;
            if !huge && let Err(error) = ram::prefer_huge_pages(region.as_ptr() as u64, length) {
                tracing::debug!(%error, "the host has no transparent huge pages");
            }
            regions
                .push(GuestRegionMmap::new(region, GuestAddress(range.start)).expect("RAM ends below 2^64"));
            offset += length;
        }
        let ram = Ram::from_regions(regions).expect("the ranges ascend without overlap");
        let has_holes = config.is_shared() && !huge;
        Ok(Self { ram: Arc::new(ram), size_bytes, page_bytes, has_holes, is_locked: false, _file: named })
    }

    /// Binds the memory of `nodes` to nodes of the host, where they are told; whether any is.
    fn bind(&self, nodes: &[NodeConfig], host: &Host) -> Result<bool, MemoryError> {
        let mut bound = false;
        for (node, parts) in nodes.iter().zip(numa::share_out(nodes, &self.ranges())) {
            let Some(number) = node.host_node else { continue };
            bound = true;
            if self.is_huge() {
                let needed = node.memory.bytes() / self.page_bytes;
                let free = host.free_pages(self.page_bytes);
                if let Some(free) = free.filter(|free| free.on(number).is_some_and(|free| free < needed)) {
                    return Err(MemoryError::HugePages { needed, node: Some(number), free });
                }
            }
            for part in parts {
                let Some(address) = self.host_address(part.start) else { continue };
                ram::bind(address, part.end - part.start, number)
                    .map_err(|source| MemoryError::Node { node: number, source })?;
            }
        }
        Ok(bound)
    }

    fn is_huge(&self) -> bool {
        self.page_bytes > HugePages::None.bytes()
    }

    fn host_address(&self, guest_address: u64) -> Option<u64> {
        let region = self.regions().find(|region| {
            (region.guest_address..region.guest_address + region.size_bytes).contains(&guest_address)
        })?;
        Some(region.host_address + (guest_address - region.guest_address))
    }

    /// Takes all of it from the host.
    fn take(&self, config: &MemoryConfig, host: &Host, watch: Watch<'_>) -> Result<(), MemoryError> {
        let needed = config.size;
        let (page_bytes, huge) = (self.page_bytes, self.is_huge());
        if !huge
            && let Some(available) = host.available_bytes().filter(|available| *available < needed.bytes())
        {
            let available = ByteSize::from_bytes(available >> 20 << 20);
            return Err(MemoryError::HostMemory { needed, available });
        }
        let regions: Vec<RamRegion> = self.regions().collect();
        prefault::prefault(&self.ram, &regions, page_bytes, host, watch).map_err(
            |Halted { done_bytes, why }| match (why, host.free_pages(page_bytes)) {
                (Halt::Stopped, _) => MemoryError::Interrupted,
                (Halt::OutOfMemory, Some(free)) if huge => {
                    let (taken, needed) = (done_bytes / page_bytes, needed.bytes() / page_bytes);
                    MemoryError::HugePagesGone { taken, needed, free }
                }
                (Halt::OutOfMemory, _) => {
                    MemoryError::HostMemoryGone { taken: ByteSize::from_bytes(done_bytes), needed }
                }
                (Halt::Refused(error), _) => MemoryError::Prefault(error),
            },
        )
    }

    fn lock(&mut self) -> Result<(), MemoryError> {
        let needed = self.size_bytes;
        let limit = rlimit::raise_memlock(needed).unwrap_or(u64::MAX);
        for region in self.regions() {
            ram::lock(region.host_address, region.size_bytes).map_err(|source| {
                let (needed, limit) = (ByteSize::from_bytes(needed), ByteSize::from_bytes(limit));
                MemoryError::Lock { needed, limit, source }
            })?;
        }
        self.is_locked = true;
        Ok(())
    }
}
