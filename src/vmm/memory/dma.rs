//! Who reaches guest RAM by guest-physical address without this process: the IOMMU on behalf of passed-through functions, and
//! whoever else runs a device of the machine (vhost in the kernel, vhost-user in another process).
//!
//! Each is a [`DmaListener`], told of every region of RAM before its device may use it.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::{GuestMemory, Ram, RamRegion};

/// Makes RAM reachable for devices outside of this process.
pub trait DmaListener {
    /// `region` of `ram` becomes reachable at its guest-physical address, readable and writable, until the answer is dropped;
    /// the answer keeps what it needs of `ram` alive as long as a device can reach it. Called by the thread that opens the
    /// device, once for each region, in ascending order.
    ///
    /// # Errors
    /// What the kernel answered; [`io::ErrorKind::OutOfMemory`] where RLIMIT_MEMLOCK is too low.
    fn map(&self, ram: &Arc<Ram>, region: RamRegion) -> io::Result<Box<dyn Any + Send>>;
}

/// A region of guest RAM did not become reachable. Nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
#[error("cannot map {} bytes of guest RAM at {:#x} for DMA", region.size_bytes, region.guest_address)]
pub struct DmaError {
    /// The region.
    pub region: RamRegion,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Keeps all RAM reachable for one listener.
#[must_use]
pub struct DmaMap(Vec<Box<dyn Any + Send>>);

impl fmt::Debug for DmaMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DmaMap").field(&self.0.len()).finish()
    }
}

impl Drop for DmaMap {
    fn drop(&mut self) {
        // The reverse of how it was mapped.
        while self.0.pop().is_some() {}
    }
}

impl GuestMemory {
    /// Makes all RAM reachable for the devices of `listener`, until the answer is dropped.
    ///
    /// # Errors
    /// [`DmaError`] names the region that was refused.
    pub fn map_for_dma(&self, listener: &dyn DmaListener) -> Result<DmaMap, DmaError> {
        let mut map = DmaMap(Vec::new());
        for region in self.regions() {
            let mapped = listener.map(&self.ram, region).map_err(|source| DmaError { region, source })?;
            map.0.push(mapped);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::vmm::layout;

    /// Writes down what it is told, and refuses from a number of regions on.
    #[derive(Default)]
    struct Log {
        lines: Arc<Mutex<Vec<String>>>,
        limit: usize,
    }

    struct Guard(Arc<Mutex<Vec<String>>>, u64);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(format!("-{:#x}", self.1));
        }
    }

    impl DmaListener for Log {
        fn map(&self, _: &Arc<Ram>, region: RamRegion) -> io::Result<Box<dyn Any + Send>> {
            let mut lines = self.lines.lock().unwrap();
            if lines.len() == self.limit {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            lines.push(format!("+{:#x}", region.guest_address));
            Ok(Box::new(Guard(Arc::clone(&self.lines), region.guest_address)))
        }
    }

    #[test]
    fn every_region_is_told_once_and_taken_back_in_reverse() {
        let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x1000).unwrap();
        let listener = Log { limit: 9, ..Log::default() };
        let map = memory.map_for_dma(&listener).unwrap();
        assert_eq!(*listener.lines.lock().unwrap(), ["+0x0", "+0x100000000"]);
        drop(map);
        assert_eq!(*listener.lines.lock().unwrap(), ["+0x0", "+0x100000000", "-0x100000000", "-0x0"]);
    }

    #[test]
    fn a_region_that_is_refused_is_named_and_nothing_stays_mapped() {
        let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x1000).unwrap();
        let listener = Log { limit: 1, ..Log::default() };
        let error = memory.map_for_dma(&listener).unwrap_err();
        assert_eq!(error.to_string(), "cannot map 4096 bytes of guest RAM at 0x100000000 for DMA");
        assert_eq!(*listener.lines.lock().unwrap(), ["+0x0", "-0x0"]);
    }
}
