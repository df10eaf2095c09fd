//! Guest RAM before the guest runs: all of it taken from the host, by several threads, so that a host that has not enough
//! says so now instead of killing the machine later.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::host::Host;
use super::{Ram, RamRegion};
use crate::sys::ram;

/// What is populated by one call: few enough calls, often enough an end.
const CHUNK_BYTES: u64 = 64 << 20;
/// Most threads: beyond these the host's memory is what takes time.
const MAX_THREADS: usize = 16;
/// What is left to the host.
const MARGIN_BYTES: u64 = 32 << 20;
/// How often it is told how far it is.
const PERIOD: Duration = Duration::from_millis(50);

/// How somebody looks on while RAM is taken. Both are called now and then by the thread that builds the machine.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Bytes done, and bytes in all.
    pub progress: &'a dyn Fn(u64, u64),
    /// Whether to give up.
    pub stop: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// Why it is not all there.
#[derive(Debug)]
pub(super) enum Halt {
    /// The host has no more.
    OutOfMemory,
    /// The kernel refused.
    Refused(io::Error),
    /// [`Watch::stop`] said so.
    Stopped,
}

/// It came to a halt.
#[derive(Debug)]
pub(super) struct Halted {
    pub(super) done_bytes: u64,
    pub(super) why: Halt,
}

/// A piece of one region: guest-physical address, address in this process, length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    guest_address: u64,
    host_address: u64,
    bytes: u64,
}

fn chunks(regions: &[RamRegion], page_bytes: u64) -> Vec<Chunk> {
    let step = CHUNK_BYTES.max(page_bytes);
    let of_region = |region: &RamRegion| {
        let RamRegion { guest_address, host_address, size_bytes } = *region;
        (0..size_bytes.div_ceil(step)).map(move |number| {
            let offset = number * step;
            Chunk {
                guest_address: guest_address + offset,
                host_address: host_address + offset,
                bytes: step.min(size_bytes - offset),
            }
        })
    };
    regions.iter().flat_map(of_region).collect()
}

/// Takes all of `regions` of `ram` from the host, which must be as fresh as it was mapped. With ordinary pages the host keeps
/// a little for itself.
pub(super) fn prefault(
    ram: &Ram,
    regions: &[RamRegion],
    page_bytes: u64,
    host: &Host,
    watch: Watch<'_>,
) -> Result<(), Halted> {
    let chunks = chunks(regions, page_bytes);
    let total: u64 = chunks.iter().map(|chunk| chunk.bytes).sum();
    let ordinary = page_bytes < CHUNK_BYTES && page_bytes == super::config::HugePages::None.bytes();
    let (next, done, stopped) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let halt: Mutex<Option<Halt>> = Mutex::new(None);
    let stop = |why: Halt| {
        stopped.store(true, Ordering::Relaxed);
        halt.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    };
    let work = || {
        while !stopped.load(Ordering::Relaxed) {
            let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let room = if ordinary { host.available_bytes() } else { None };
            if room.is_some_and(|room| room < chunk.bytes.saturating_add(MARGIN_BYTES)) {
                return stop(Halt::OutOfMemory);
            }
            match take(ram, *chunk, page_bytes) {
                Ok(()) => drop(done.fetch_add(chunk.bytes, Ordering::Relaxed)),
                Err(error) if is_exhaustion(&error) => {
                    done.fetch_add(taken(ram, *chunk, page_bytes), Ordering::Relaxed);
                    return stop(Halt::OutOfMemory);
                }
                Err(error) => return stop(Halt::Refused(error)),
            }
        }
    };
    let threads =
        available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS).min(chunks.len().max(1));
    let watcher = std::thread::current();
    let at_work = || {
        work();
        watcher.unpark();
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(at_work)).collect();
        let mut last = workers.iter();
        let mut waiting = last.next();
        while let Some(worker) = waiting {
            if worker.is_finished() {
                waiting = last.next();
                continue;
            }
            (watch.progress)(done.load(Ordering::Relaxed), total);
            if (watch.stop)() {
                stop(Halt::Stopped);
            }
            std::thread::park_timeout(PERIOD);
        }
    });
    (watch.progress)(done.load(Ordering::Relaxed), total);
    let done_bytes = done.into_inner();
    match halt.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(why) => Err(Halted { done_bytes, why }),
    }
}

/// How much of a chunk could be taken, page by page, before one could not.
fn taken(ram: &Ram, chunk: Chunk, page_bytes: u64) -> u64 {
    let pages = (0..chunk.bytes / page_bytes).map(|page| Chunk {
        guest_address: chunk.guest_address + page * page_bytes,
        host_address: chunk.host_address + page * page_bytes,
        bytes: page_bytes,
    });
    pages.take_while(|page| take(ram, *page, page_bytes).is_ok()).count() as u64 * page_bytes
}

/// `EFAULT` is what a fault that would end in SIGBUS becomes here (Linux: mm/madvise.c, faultin_page_range).
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EFAULT | libc::ENOSPC))
}

fn take(ram: &Ram, chunk: Chunk, page_bytes: u64) -> io::Result<()> {
    match ram::populate(chunk.host_address, chunk.bytes) {
        // A kernel before 5.14: a byte of each page is written, as it is.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => touch(ram, chunk, page_bytes),
        outcome => outcome,
    }
}

fn touch(ram: &Ram, chunk: Chunk, page_bytes: u64) -> io::Result<()> {
    let step = usize::try_from(page_bytes).map_err(io::Error::other)?;
    (chunk.guest_address..chunk.guest_address + chunk.bytes)
        .step_by(step)
        .try_for_each(|address| ram.write_slice(&[0], GuestAddress(address)).map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::layout;
    use crate::vmm::memory::GuestMemory;

    const QUIET: Watch<'static> = Watch { progress: &|_, _| (), stop: &|| false };

    #[test]
    fn chunks_cover_every_region_once() {
        let region = |guest_address, size_bytes| RamRegion {
            guest_address,
            host_address: guest_address + 7,
            size_bytes,
        };
        let regions = [region(0, CHUNK_BYTES * 2 + 4096), region(1 << 32, 4096)];
        let chunks = chunks(&regions, 4096);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.bytes).collect::<Vec<_>>(),
            [CHUNK_BYTES, CHUNK_BYTES, 4096, 4096]
        );
        assert_eq!(chunks[2].guest_address, CHUNK_BYTES * 2);
        assert_eq!(chunks[3].host_address, (1 << 32) + 7);
    }

    #[test]
    fn all_of_it_is_there_and_progress_ends_at_the_whole() {
        let memory = GuestMemory::new(96 << 20).unwrap();
        let regions: Vec<RamRegion> = memory.regions().collect();
        let told = std::cell::Cell::new((0, 0));
        let watch = Watch { progress: &|done, total| told.set((done, total)), stop: &|| false };
        prefault(memory.ram(), &regions, 4096, &Host::live(), watch).unwrap();
        assert_eq!(told.get(), (96 << 20, 96 << 20));
        let pages = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let at = format!("{:x}-", regions[0].host_address);
        let part = pages.split_once(&at).unwrap().1;
        let resident = part.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        assert_eq!(resident.trim(), "98304 kB");
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error_and_stopping_stops() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let nowhere =
            [RamRegion { guest_address: layout::HIGH_RAM, host_address: 0x1000, size_bytes: 0x1000 }];
        let halted = prefault(memory.ram(), &nowhere, 4096, &Host::live(), QUIET).unwrap_err();
        assert!(matches!(halted, Halted { done_bytes: 0, why: Halt::OutOfMemory }), "{halted:?}");
    }

    #[test]
    fn without_the_kernels_help_pages_are_touched() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let region = memory.regions().next().unwrap();
        let chunk = Chunk { guest_address: 0, host_address: region.host_address, bytes: 1 << 20 };
        touch(memory.ram(), chunk, 4096).unwrap();
        assert!(touch(memory.ram(), Chunk { guest_address: 1 << 20, ..chunk }, 4096).is_err());
    }
}
