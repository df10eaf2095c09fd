//! Container, groups and DMA mappings.
#![expect(unsafe_code, reason = "DMA mapping, the borrowed descriptor of the vfio-ioctls container")]

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vfio_bindings::bindings::vfio::{
    VFIO_GROUP_FLAGS_VIABLE, VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_TYPE1v2_IOMMU,
};
use vfio_ioctls::{VfioContainer, VfioError};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::Device;
use super::ioctl::{self, Call};
use crate::sys::kvm::VfioDevice;

/// Why a group or a device could not be taken, by the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// /dev/vfio/N could not be opened.
    #[error("cannot open the group file")]
    OpenGroup(#[source] io::Error),
    /// VFIO_GROUP_GET_STATUS failed.
    #[error("cannot read the group's status")]
    Status(#[source] io::Error),
    /// A member of the group is bound to a driver that may do DMA on the host's behalf.
    #[error("the group is not viable")]
    NotViable,
    /// VFIO_GROUP_SET_CONTAINER failed.
    #[error("cannot attach the group to the container")]
    SetContainer(#[source] io::Error),
    /// VFIO_SET_IOMMU failed.
    #[error("cannot switch the container to the IOMMU")]
    SetIommu(#[source] io::Error),
    /// KVM did not take the group.
    #[error("cannot tell KVM about the group")]
    Kvm(#[source] io::Error),
    /// VFIO_GROUP_GET_DEVICE_FD failed.
    #[error("cannot open the device in its group")]
    OpenDevice(#[source] io::Error),
    /// A VFIO_DEVICE_GET_..INFO call failed.
    #[error("cannot read the device's regions and interrupts")]
    DeviceInfo(#[source] io::Error),
}

/// One I/O address space, shared by all groups that are attached to it.
pub struct Container {
    inner: Arc<VfioContainer>,
    kvm: Option<Arc<VfioDevice>>,
    /// Attached groups by number. Held while a group is attached, so that exactly the first one sets the IOMMU.
    groups: Mutex<HashMap<u32, Weak<Group>>>,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Container")
    }
}

impl Container {
    /// Opens /dev/vfio/vfio. With `kvm`, KVM's VFIO device, KVM learns of each group (cache coherence of DMA depends on
    /// it; Linux: Documentation/virt/kvm/devices/vfio.rst).
    ///
    /// # Errors
    /// `OpenContainer` with the reason, or `VfioApiVersion`/`VfioExtension` on a kernel without type 1 v2 IOMMU support.
    pub fn new(kvm: Option<Arc<VfioDevice>>) -> Result<Arc<Self>, VfioError> {
        let inner = Arc::new(VfioContainer::new(None)?);
        Ok(Arc::new(Self { inner, kvm, groups: Mutex::default() }))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: `inner` owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }

    /// Attaches group `id`, or finds it attached already.
    ///
    /// # Errors
    /// [`AttachError`]; the container is as before then.
    pub fn attach(self: &Arc<Self>, id: u32) -> Result<Arc<Group>, AttachError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, group| group.strong_count() > 0);
        if let Some(group) = groups.get(&id).and_then(Weak::upgrade) {
            return Ok(group);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/vfio/{id}"))
            .map_err(AttachError::OpenGroup)?;
        let mut status = [0; 2];
        ioctl::with_words(&file, Call::GROUP_GET_STATUS, &mut status).map_err(AttachError::Status)?;
        let [_, flags] = status;
        if flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(AttachError::NotViable);
        }
        ioctl::set_container(&file, self.descriptor()).map_err(AttachError::SetContainer)?;
        // From here on dropping the group detaches it.
        let mut group = Group { file, container: Arc::clone(self), in_kvm: false };
        if groups.is_empty() {
            ioctl::with_value(self.descriptor(), Call::CONTAINER_SET_IOMMU, VFIO_TYPE1v2_IOMMU)
                .map_err(AttachError::SetIommu)?;
        }
        if let Some(kvm) = &self.kvm {
            kvm.add_group(group.file.as_fd()).map_err(AttachError::Kvm)?;
            group.in_kvm = true;
        }
        let group = Arc::new(group);
        groups.insert(id, Arc::downgrade(&group));
        Ok(group)
    }

    /// The I/O virtual addresses that devices of this container can reach, ascending; `None` if the kernel does not say.
    /// Known once a group is attached.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn iova_ranges(&self) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
        let answer = ioctl::query(self.descriptor(), Call::CONTAINER_IOMMU_GET_INFO, 6, None)?;
        Ok(parse_iova_ranges(&answer))
    }

    /// Maps the region of `ram` that begins at guest-physical address `iova`, there, for DMA in both directions. The memory
    /// stays allocated and pinned until the mapping is dropped.
    ///
    /// # Errors
    /// `InvalidInput` if no region begins there; otherwise what the kernel answered: `OutOfMemory` where RLIMIT_MEMLOCK is
    /// too low.
    pub fn map(&self, ram: &Arc<GuestMemoryMmap<()>>, iova: u64) -> io::Result<DmaMapping> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let region = ram.find_region(GuestAddress(iova)).filter(|region| region.start_addr().0 == iova);
        let region = region.ok_or_else(invalid)?;
        let size = usize::try_from(region.len()).map_err(|_| invalid())?;
        // SAFETY: the range is a whole region of guest RAM, which this process touches only through volatile and
        // raw-pointer accesses of vm-memory, and the mapping keeps it alive until it is unmapped.
        unsafe { self.inner.vfio_dma_map(iova, size, region.as_ptr()) }.map_err(io_error)?;
        let container = Arc::clone(&self.inner);
        Ok(DmaMapping { container, ram: ManuallyDrop::new(Arc::clone(ram)), iova, size })
    }
}

/// The kernel's reason inside an error of vfio-ioctls.
fn io_error(error: VfioError) -> io::Error {
    match error {
        VfioError::IommuDmaMap(errno) | VfioError::IommuDmaUnmap(errno) => errno.into(),
        other => io::Error::other(other),
    }
}

/// The IOVA range capability in an answer to VFIO_IOMMU_GET_INFO.
fn parse_iova_ranges(answer: &[u8]) -> Option<Vec<RangeInclusive<u64>>> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at.checked_add(8)?)?.try_into().ok()?));
    if u32_at(4)? & VFIO_IOMMU_INFO_CAPS == 0 {
        return None;
    }
    let mut at = u32_at(16)? as usize;
    // Each capability has at least 8 bytes, so a list longer than this loops.
    for _ in 0..answer.len() / 8 {
        if at == 0 {
            break;
        }
        if u32::from(u16_at(at)?) == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE {
            let count = u32_at(at + 8)? as usize;
            return (0..count)
                .map(|i| {
                    let entry = at.checked_add(16)?.checked_add(i.checked_mul(16)?)?;
                    Some(u64_at(entry)?..=u64_at(entry + 8)?)
                })
                .collect();
        }
        at = u32_at(at + 4)? as usize;
    }
    None
}

/// A group in its container. Dropped after its last device: it leaves KVM and the container then.
#[derive(Debug)]
pub struct Group {
    file: File,
    container: Arc<Container>,
    in_kvm: bool,
}

impl Group {
    /// Opens the device of this group that is called `name`, a PCI address. The kernel resets it.
    ///
    /// # Errors
    /// [`AttachError::OpenDevice`] or [`AttachError::DeviceInfo`].
    pub fn open(self: &Arc<Self>, name: &str) -> Result<Device, AttachError> {
        let name = CString::new(name).map_err(|e| AttachError::OpenDevice(io::Error::other(e)))?;
        let file = ioctl::device_fd(&self.file, &name).map_err(AttachError::OpenDevice)?;
        Device::new(file, Arc::clone(self)).map_err(AttachError::DeviceInfo)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.in_kvm
            && let Some(kvm) = &self.container.kvm
            && let Err(error) = kvm.remove_group(self.file.as_fd())
        {
            tracing::error!(%error, "KVM keeps a VFIO group");
        }
        if let Err(error) = ioctl::with_value(&self.file, Call::GROUP_UNSET_CONTAINER, 0) {
            // Closing the descriptors detaches as well, once the last mapping of a device region is gone.
            tracing::warn!(%error, "a VFIO group stays attached until this process ends");
        }
    }
}

/// A region of guest RAM that devices may read and write. Dropping it takes the mapping away; should the kernel refuse, the
/// RAM is never freed, because a device could still write to it.
pub struct DmaMapping {
    container: Arc<VfioContainer>,
    ram: ManuallyDrop<Arc<GuestMemoryMmap<()>>>,
    iova: u64,
    size: usize,
}

impl std::fmt::Debug for DmaMapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DmaMapping")
            .field("iova", &self.iova)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        let Self { iova, size, .. } = *self;
        match self.container.vfio_dma_unmap(iova, size) {
            // SAFETY: dropped only here, once, and never used afterwards.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.ram) },
            Err(error) => tracing::error!(%error, iova, size, "DMA stays mapped; the memory is kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn iova_ranges_are_found_behind_another_capability() {
        let info = [80, 3, 0, 0, 24, 0];
        let other = [2, 40, 0, 0];
        let ranges = [1, 0, 2, 0, 0, 0, 0xFEDF_FFFF, 0, 0xFEF0_0000, 0, 0xFFFF_FFFF, 0x7F];
        let bytes = answer(&[&info[..], &other, &ranges].concat());
        assert_eq!(parse_iova_ranges(&bytes).unwrap(), [0..=0xFEDF_FFFF, 0xFEF0_0000..=0x7F_FFFF_FFFF]);
    }

    #[test]
    fn damaged_answers_give_nothing_and_end() {
        let looped = answer(&[40, 2, 0, 0, 24, 0, 9, 24, 0, 0]);
        assert_eq!(parse_iova_ranges(&looped), None);
        let short = answer(&[40, 2, 0, 0, 24, 0, 1, 0, u32::MAX, 0]);
        assert_eq!(parse_iova_ranges(&short), None);
        assert_eq!(parse_iova_ranges(&answer(&[24, 0, 0, 0, 24, 0])), None);
        assert_eq!(parse_iova_ranges(&[]), None);
    }
}
