//! The I/O address space that all passed-through functions of a machine share: guest RAM, at guest-physical addresses.
//!
//! It is a [`DmaListener`]: RAM is mapped when the first function is opened and unmapped before the last one is closed, so a function that comes
//! back later finds its memory again.

use std::any::Any;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::spec::pci::PciAddress;
use crate::spec::units::ByteSize;
use crate::sys::kvm::VfioDevice;
use crate::sys::rlimit;
use crate::sys::vfio::{self as sys, AttachError, Device};
use crate::vmm::memory::dma::{DmaError, DmaListener, DmaMap};
use crate::vmm::memory::{GuestMemory, Ram, RamRegion};
use crate::vmm::vfio::error::VfioError;
use crate::vmm::vfio::preflight::{Candidate, Host};

/// The I/O address space of one machine.
#[derive(Debug)]
pub struct Container {
    inner: Arc<sys::Container>,
    memory: Arc<GuestMemory>,
    host: Host,
    /// Held while a function is opened or closed; nothing else is locked under it.
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    devices: usize,
    /// Present while there are devices.
    ram: Option<DmaMap>,
}

/// Keeps guest RAM mapped for one open device. Drop it before the device, and after the device was quiesced.
#[derive(Debug)]
pub(super) struct DmaAccess(Arc<Container>);

impl Drop for DmaAccess {
    fn drop(&mut self) {
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.devices = users.devices.saturating_sub(1);
        if users.devices == 0 {
            users.ram = None;
        }
    }
}

impl Container {
    /// Opens VFIO for a machine with `memory`. `kvm` is the machine's KVM-VFIO device
    /// ([`Vm::vfio_device`](crate::vmm::kvm::Vm::vfio_device)), without which DMA is not cache coherent on some hosts.
    ///
    /// # Errors
    /// [`VfioError::Container`].
    pub fn new(kvm: Option<Arc<VfioDevice>>, memory: Arc<GuestMemory>) -> Result<Arc<Self>, VfioError> {
        let inner = sys::Container::new(kvm).map_err(VfioError::Container)?;
        Ok(Arc::new(Self { inner, memory, host: Host::live(), users: Mutex::default() }))
    }

    /// Opens the host function at `address` and gives it access to guest RAM.
    pub(super) fn open(self: &Arc<Self>, address: PciAddress) -> Result<(DmaAccess, Device), VfioError> {
        let candidate = self.host.candidate(address)?;
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let group = self.inner.attach(candidate.group).map_err(|e| explain(&self.host, &candidate, e))?;
        let device = group.open(&address.to_string()).map_err(|e| explain(&self.host, &candidate, e))?;
        self.check_reach(address)?;
        if users.ram.is_none() {
            users.ram = Some(self.map_ram(address)?);
        }
        users.devices += 1;
        drop(users);
        Ok((DmaAccess(Arc::clone(self)), device))
    }

    /// Checks that the IOMMU can map every piece of RAM where the guest has it. Done for each device, since each group
    /// that joins narrows the ranges.
    fn check_reach(&self, address: PciAddress) -> Result<(), VfioError> {
        let ranges = self.inner.iova_ranges().map_err(|source| VfioError::Device {
            address,
            action: "ask its IOMMU for the addresses that it can map",
            source,
        })?;
        let Some(reachable) = ranges else {
            return Ok(());
        };
        match unreachable_ram(&self.memory, &reachable) {
            None => Ok(()),
            Some(ram) => Err(VfioError::Unreachable { address, ram, reachable }),
        }
    }

    fn map_ram(&self, address: PciAddress) -> Result<DmaMap, VfioError> {
        // What `lock` holds counts once more.
        let needed = self.memory.size_bytes() + self.memory.locked_bytes();
        let limit = rlimit::raise_memlock(needed).unwrap_or(u64::MAX);
        self.memory.map_for_dma(self).map_err(|source: DmaError| {
            if source.source.kind() == io::ErrorKind::OutOfMemory && limit < needed {
                let (needed, limit) = (ByteSize::from_bytes(needed), ByteSize::from_bytes(limit));
                VfioError::LockedMemory { needed, limit, source }
            } else {
                VfioError::Map { address, source }
            }
        })
    }
}

impl DmaListener for Container {
    fn map(&self, ram: &Arc<Ram>, region: RamRegion) -> io::Result<Box<dyn Any + Send>> {
        Ok(Box::new(self.inner.map(ram, region.guest_address)?))
    }
}

/// Turns the kernel's refusal into its cause.
fn explain(host: &Host, candidate: &Candidate, error: AttachError) -> VfioError {
    let &Candidate { address, group } = candidate;
    let kind = |source: &io::Error| source.kind();
    match error {
        AttachError::NotViable => VfioError::NotViable { address, group, members: host.hindrances(group) },
        AttachError::OpenGroup(e) if kind(&e) == io::ErrorKind::ResourceBusy => {
            VfioError::Busy { address, group, pids: host.holders(group) }
        }
        AttachError::OpenGroup(source) if kind(&source) == io::ErrorKind::PermissionDenied => {
            let path = PathBuf::from(format!("/dev/vfio/{group}"));
            VfioError::Permission { address, path, source }
        }
        AttachError::SetIommu(ref e) | AttachError::SetContainer(ref e)
            if kind(e) == io::ErrorKind::PermissionDenied || kind(e) == io::ErrorKind::InvalidInput =>
        {
            let regions = host.direct_regions(group);
            if !regions.is_empty() {
                VfioError::DirectMapped { address, regions }
            } else if kind(e) == io::ErrorKind::PermissionDenied {
                VfioError::NoInterruptRemapping { address }
            } else {
                VfioError::Attach { address, group, source: error }
            }
        }
        source => VfioError::Attach { address, group, source },
    }
}

/// The first region of RAM that does not lie in one of `ranges`.
fn unreachable_ram(memory: &GuestMemory, ranges: &[RangeInclusive<u64>]) -> Option<RangeInclusive<u64>> {
    memory
        .regions()
        .map(|region| {
            let last = region.guest_address.saturating_add(region.size_bytes.saturating_sub(1));
            region.guest_address..=last
        })
        .find(|ram| !ranges.iter().any(|range| range.start() <= ram.start() && ram.end() <= range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::layout;

    #[test]
    fn ram_must_lie_within_one_range_of_the_iommu() {
        let memory = GuestMemory::new(layout::LOW_RAM_LIMIT + 0x10_0000).unwrap();
        let vtd = [0..=0xFEDF_FFFF, 0xFEF0_0000..=0x7F_FFFF_FFFF];
        assert_eq!(unreachable_ram(&memory, &vtd), None);
        let holed = [0..=0x9FFF, 0x10_0000..=0x7F_FFFF_FFFF];
        assert_eq!(unreachable_ram(&memory, &holed), Some(0..=layout::LOW_RAM_LIMIT - 1));
        let narrow = [0..=0xFEDF_FFFF];
        assert_eq!(unreachable_ram(&memory, &narrow), Some(layout::HIGH_RAM..=layout::HIGH_RAM + 0xF_FFFF));
    }

    fn explained(host: &Host, error: AttachError) -> VfioError {
        explain(host, &Candidate { address: "02:00.0".parse().unwrap(), group: 5 }, error)
    }

    #[test]
    fn the_kernels_refusals_become_causes() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let error = |code: i32| io::Error::from_raw_os_error(code);
        let (eperm, eacces, ebusy, einval) = (1, 13, 16, 22);
        let variant =
            |error| format!("{:?}", explained(&host, error)).split([' ', '(']).next().unwrap().to_owned();
        assert_eq!(variant(AttachError::NotViable), "NotViable");
        assert_eq!(variant(AttachError::OpenGroup(error(ebusy))), "Busy");
        assert_eq!(variant(AttachError::OpenGroup(error(eacces))), "Permission");
        assert_eq!(variant(AttachError::OpenGroup(error(2))), "Attach");
        assert_eq!(variant(AttachError::SetIommu(error(eperm))), "NoInterruptRemapping");
        assert_eq!(variant(AttachError::SetContainer(error(einval))), "Attach");
        let group = root.path().join("sys/kernel/iommu_groups/5");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("reserved_regions"), "0x1000 0x1fff direct\n").unwrap();
        assert_eq!(variant(AttachError::SetIommu(error(eperm))), "DirectMapped");
        assert_eq!(variant(AttachError::SetContainer(error(einval))), "DirectMapped");
        assert_eq!(variant(AttachError::SetIommu(error(12))), "Attach");
    }
}
