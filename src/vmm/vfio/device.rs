//! A host function as the rest of this room sees it: regions, interrupts and reset, whatever opened it.
//!
//! Everything above this trait is tested against a device made of software. The one implementation for real devices is the
//! group and container variant of VFIO; one for /dev/vfio/devices and iommufd would stand beside it.

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::spec::pci::PciAddress;
use crate::sys::mmap::Mapping;
use crate::sys::vfio::{Device, Interrupt, InterruptInfo, RegionInfo};
use crate::vmm::vfio::container::DmaAccess;
use crate::vmm::vfio::error::VfioError;

/// Region index of the configuration space; BAR n is region n (Linux: include/uapi/linux/vfio.h).
pub(super) const CONFIG_REGION: usize = 7;
const REGIONS: usize = CONFIG_REGION + 1;

/// An opened host function. Calls come from any thread; the kernel serialises what must be.
pub(super) trait HostFunction: Send + Sync {
    /// Whether [`Self::reset`] can work.
    fn resettable(&self) -> bool;
    /// Region `index`; one of size 0 if there is none.
    fn region(&self, index: usize) -> RegionInfo;
    /// Reads registers of region `index`; naturally aligned lengths of 1, 2, 4 and 8 are one access of the device.
    fn read(&self, index: usize, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Writes registers of region `index`, like [`Self::read`].
    fn write(&self, index: usize, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Maps part of region `index`; `offset` and `length` are multiples of the page size within a mappable part.
    fn map(&self, index: usize, offset: u64, length: usize) -> io::Result<Mapping>;
    /// Vectors of `kind`.
    fn interrupt_info(&self, kind: Interrupt) -> InterruptInfo;
    /// See [`Device::set_triggers`].
    fn set_triggers(&self, kind: Interrupt, start: u32, events: &[Option<&EventFd>]) -> io::Result<()>;
    /// See [`Device::disable`].
    fn disable(&self, kind: Interrupt) -> io::Result<()>;
    /// See [`Device::set_intx_unmask_event`].
    fn set_intx_unmask_event(&self, event: Option<&EventFd>) -> io::Result<()>;
    /// See [`Device::mask_intx`].
    fn mask_intx(&self) -> io::Result<()>;
    /// See [`Device::unmask_intx`].
    fn unmask_intx(&self) -> io::Result<()>;
    /// See [`Device::reset`].
    fn reset(&self) -> io::Result<()>;
    /// The other functions that a reset of the whole bus would hit; empty if that is not known.
    fn reset_neighbours(&self) -> Vec<PciAddress>;
}

/// A function opened through its group.
#[derive(Debug)]
pub(super) struct GroupDevice {
    /// Dropped first: RAM is unmapped before the device is closed.
    _dma: DmaAccess,
    device: Device,
    address: PciAddress,
    regions: [RegionInfo; REGIONS],
}

impl GroupDevice {
    pub(super) fn new(address: PciAddress, dma: DmaAccess, device: Device) -> Result<Self, VfioError> {
        if !device.info().pci {
            return Err(VfioError::Unsuitable { address, reason: "is no PCI function to VFIO" });
        }
        let error = |source| VfioError::Device { address, action: "read its regions", source };
        let mut regions: [RegionInfo; REGIONS] = Default::default();
        for (index, region) in (0..).zip(&mut regions) {
            *region = device.region(index).map_err(error)?;
        }
        Ok(Self { _dma: dma, device, address, regions })
    }

    /// Where bytes `offset..offset + length` of region `index` lie on the descriptor.
    fn place(&self, index: usize, offset: u64, length: usize) -> io::Result<u64> {
        let region = self.regions.get(index).ok_or(io::ErrorKind::InvalidInput)?;
        let end = offset.checked_add(length as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if end > region.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        region.offset.checked_add(offset).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl HostFunction for GroupDevice {
    fn resettable(&self) -> bool {
        self.device.info().reset
    }
    fn region(&self, index: usize) -> RegionInfo {
        self.regions.get(index).cloned().unwrap_or_default()
    }
    fn read(&self, index: usize, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.device.read(self.place(index, offset, data.len())?, data)
    }
    fn write(&self, index: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.device.write(self.place(index, offset, data.len())?, data)
    }
    fn map(&self, index: usize, offset: u64, length: usize) -> io::Result<Mapping> {
        let writable = self.region(index).writable;
        self.device.map(self.place(index, offset, length)?, length, writable)
    }
    fn interrupt_info(&self, kind: Interrupt) -> InterruptInfo {
        self.device.interrupt_info(kind)
    }
    fn set_triggers(&self, kind: Interrupt, start: u32, events: &[Option<&EventFd>]) -> io::Result<()> {
        self.device.set_triggers(kind, start, events)
    }
    fn disable(&self, kind: Interrupt) -> io::Result<()> {
        self.device.disable(kind)
    }
    fn set_intx_unmask_event(&self, event: Option<&EventFd>) -> io::Result<()> {
        self.device.set_intx_unmask_event(event)
    }
    fn mask_intx(&self) -> io::Result<()> {
        self.device.mask_intx()
    }
    fn unmask_intx(&self) -> io::Result<()> {
        self.device.unmask_intx()
    }
    fn reset(&self) -> io::Result<()> {
        self.device.reset()
    }
    fn reset_neighbours(&self) -> Vec<PciAddress> {
        let neighbours = self.device.reset_neighbours().unwrap_or_default();
        let addresses = neighbours.into_iter().map(|(domain, id)| PciAddress::from_requester_id(domain, id));
        addresses.filter(|address| *address != self.address).collect()
    }
}
