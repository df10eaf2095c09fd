//! One opened device: regions, register access, interrupts, reset.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::uio::{pread, pwrite};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};
use vmm_sys_util::eventfd::EventFd;

use super::Group;
use super::ioctl::{self, Call};
use crate::sys::mmap::Mapping;

/// What a device can do, from VFIO_DEVICE_GET_INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// It is a PCI function.
    pub pci: bool,
    /// The kernel knows a way to reset it alone.
    pub reset: bool,
    /// Number of regions; the first nine of a PCI function are BAR 0 to 5, ROM, configuration space and VGA.
    pub regions: u32,
    /// Number of interrupt kinds.
    pub interrupts: u32,
}

/// One region: a BAR or the configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegionInfo {
    /// Length in bytes; 0 if the region does not exist.
    pub size: u64,
    /// Offset on the device's descriptor.
    pub offset: u64,
    /// Can be read.
    pub readable: bool,
    /// Can be written.
    pub writable: bool,
    /// Parts that can be mapped, as offset and length in bytes: all of the region, some areas of it, or nothing.
    pub mappable: Vec<(u64, u64)>,
}

/// A kind of interrupt of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interrupt {
    /// The wire. Masked by the kernel each time it fires.
    Intx,
    /// Message signalled interrupts.
    Msi,
    /// MSI-X.
    MsiX,
    /// The device reported an uncorrectable error.
    Error,
    /// The host asks for the device.
    Request,
}

impl Interrupt {
    fn index(self) -> u32 {
        match self {
            Self::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::MsiX => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }
}

/// How many interrupts of one kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterruptInfo {
    /// Vectors.
    pub count: u32,
    /// Vectors can be added while others are in use.
    pub resizable: bool,
}

/// An opened device. Closing it makes the kernel reset it, as soon as no [`Mapping`] of its regions is left.
#[derive(Debug)]
pub struct Device {
    /// Closed before the group is given back.
    file: File,
    info: DeviceInfo,
    _group: Arc<Group>,
}

impl Device {
    pub(super) fn new(file: File, group: Arc<Group>) -> io::Result<Self> {
        let mut words = [0; 6];
        ioctl::with_words(&file, Call::DEVICE_GET_INFO, &mut words)?;
        let [_, flags, regions, interrupts, ..] = words;
        let info = DeviceInfo {
            pci: flags & VFIO_DEVICE_FLAGS_PCI != 0,
            reset: flags & VFIO_DEVICE_FLAGS_RESET != 0,
            regions,
            interrupts,
        };
        Ok(Self { file, info, _group: group })
    }

    /// What the device can do.
    #[must_use]
    pub fn info(&self) -> DeviceInfo {
        self.info
    }

    /// Region `index`; one that the device does not have is of size 0.
    ///
    /// # Errors
    /// What the kernel answered, for an index that it does not know.
    pub fn region(&self, index: u32) -> io::Result<RegionInfo> {
        let answer = ioctl::query(&self.file, Call::DEVICE_GET_REGION_INFO, 8, Some(index))?;
        parse_region(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads `data.len()` bytes at `offset` of the descriptor. The kernel turns naturally aligned lengths of 1, 2, 4 and
    /// 8 into one access of the device.
    ///
    /// # Errors
    /// What the kernel answered; `UnexpectedEof` for a short read.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let length = data.len();
        let done = pread(&self.file, data, offset)?;
        if done == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes `data` at `offset` of the descriptor, like [`Self::read`].
    ///
    /// # Errors
    /// What the kernel answered; `WriteZero` for a short write.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let done = pwrite(&self.file, data, offset)?;
        if done == data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Maps `length` bytes at `offset` of the descriptor.
    ///
    /// # Errors
    /// What mmap(2) answered.
    pub fn map(&self, offset: u64, length: usize, writable: bool) -> io::Result<Mapping> {
        Mapping::new(&self.file, offset, length, writable)
    }

    /// How many interrupts of `kind` there are; none if the device does not have the kind.
    #[must_use]
    pub fn interrupt_info(&self, kind: Interrupt) -> InterruptInfo {
        let mut words = [0, 0, kind.index(), 0];
        match ioctl::with_words(&self.file, Call::DEVICE_GET_IRQ_INFO, &mut words) {
            Ok(()) => {
                let [_, flags, _, count] = words;
                InterruptInfo { count, resizable: flags & VFIO_IRQ_INFO_NORESIZE == 0 }
            }
            Err(_) => InterruptInfo::default(),
        }
    }

    fn set_interrupts(
        &self,
        kind: Interrupt,
        start: u32,
        action: u32,
        events: Option<&[Option<&EventFd>]>,
    ) -> io::Result<()> {
        let (data, count) = match events {
            Some(events) => (VFIO_IRQ_SET_DATA_EVENTFD, events.len()),
            None => (VFIO_IRQ_SET_DATA_NONE, usize::from(action != VFIO_IRQ_SET_ACTION_TRIGGER)),
        };
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut words = vec![0, data | action, kind.index(), start, count];
        let descriptor = |event: &Option<&EventFd>| event.map_or(-1, AsRawFd::as_raw_fd).cast_unsigned();
        words.extend(events.unwrap_or_default().iter().map(descriptor));
        ioctl::with_words(&self.file, Call::DEVICE_SET_IRQS, &mut words)
    }

    /// Lets interrupts of `kind` from vector `start` on signal `events`; `None` takes a vector's eventfd away. The first
    /// call enables the kind in the device, for `start + events.len()` vectors.
    ///
    /// # Errors
    /// What the kernel answered: `EINVAL` while another kind is enabled or, if the kind is not resizable, for a vector
    /// beyond the first call's.
    pub fn set_triggers(&self, kind: Interrupt, start: u32, events: &[Option<&EventFd>]) -> io::Result<()> {
        self.set_interrupts(kind, start, VFIO_IRQ_SET_ACTION_TRIGGER, Some(events))
    }

    /// Disables `kind` and forgets its eventfds.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn disable(&self, kind: Interrupt) -> io::Result<()> {
        self.set_interrupts(kind, 0, VFIO_IRQ_SET_ACTION_TRIGGER, None)
    }

    /// Lets each signal of `event` unmask INTx; `None` takes it away. INTx must be enabled.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn set_intx_unmask_event(&self, event: Option<&EventFd>) -> io::Result<()> {
        self.set_interrupts(Interrupt::Intx, 0, VFIO_IRQ_SET_ACTION_UNMASK, Some(&[event]))
    }

    /// Masks INTx.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn mask_intx(&self) -> io::Result<()> {
        self.set_interrupts(Interrupt::Intx, 0, VFIO_IRQ_SET_ACTION_MASK, None)
    }

    /// Unmasks INTx; it fires again at once if the device still asserts it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn unmask_intx(&self) -> io::Result<()> {
        self.set_interrupts(Interrupt::Intx, 0, VFIO_IRQ_SET_ACTION_UNMASK, None)
    }

    /// Resets the device by the best method that the kernel knows, and that touches no other device. The configuration
    /// space is as before afterwards.
    ///
    /// # Errors
    /// What the kernel answered; `EINVAL` without a method ([`DeviceInfo::reset`]), `EAGAIN` while the device is locked.
    pub fn reset(&self) -> io::Result<()> {
        ioctl::with_value(&self.file, Call::DEVICE_RESET, 0)
    }

    /// The functions that a reset of the device's bus or slot would hit, as domain and requester ID, itself included.
    ///
    /// # Errors
    /// What the kernel answered: `ENODEV` where neither slot nor bus can be reset, `ENOSPC` for thousands of functions.
    pub fn reset_neighbours(&self) -> io::Result<Vec<(u32, u16)>> {
        /// A bus has 256 functions; a bridge among them adds the buses behind it.
        const MOST: usize = 2048;
        let answer = ioctl::query(&self.file, Call::DEVICE_GET_PCI_HOT_RESET_INFO, 3 + 2 * MOST, None)?;
        Ok(parse_neighbours(&answer))
    }
}

fn parse_region(answer: &[u8]) -> Option<RegionInfo> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at.checked_add(8)?)?.try_into().ok()?));
    let flags = u32_at(4)?;
    let size = u64_at(16)?;
    let mut region = RegionInfo {
        size,
        offset: u64_at(24)?,
        readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
        writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
        mappable: Vec::new(),
    };
    if flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        return Some(region);
    }
    region.mappable.push((0, size));
    let mut at = if flags & VFIO_REGION_INFO_FLAG_CAPS == 0 { 0 } else { u32_at(12)? as usize };
    // Each capability has at least 8 bytes, so a list longer than this loops.
    for _ in 0..answer.len() / 8 {
        if at == 0 {
            break;
        }
        if u32::from(u16_at(at)?) == VFIO_REGION_INFO_CAP_SPARSE_MMAP {
            let count = u32_at(at + 8)? as usize;
            let area = |i: usize| {
                let entry = at.checked_add(16)?.checked_add(i.checked_mul(16)?)?;
                Some((u64_at(entry)?, u64_at(entry + 8)?))
            };
            region.mappable = (0..count).map(area).collect::<Option<_>>()?;
        }
        at = u32_at(at + 4)? as usize;
    }
    Some(region)
}

fn parse_neighbours(answer: &[u8]) -> Vec<(u32, u16)> {
    let count = answer.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize;
    let entries = answer.get(12..).unwrap_or_default().chunks_exact(8).take(count);
    entries
        .filter_map(|entry| match *entry {
            [_, _, _, _, s0, s1, bus, devfn] => {
                Some((u32::from(u16::from_ne_bytes([s0, s1])), u16::from_be_bytes([bus, devfn])))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_region_is_mappable_as_a_whole_in_areas_or_not_at_all() {
        let whole = answer(&[32, 7, 0, 0, 0x4000, 0, 0, 1]);
        let region = parse_region(&whole).unwrap();
        assert_eq!((region.offset, region.mappable), (1 << 32, vec![(0, 0x4000)]));
        let sparse = answer(&[72, 0xF, 0, 32, 0x4000, 0, 0, 0, 1 << 16 | 1, 0, 1, 0, 0x1000, 0, 0x2000, 0]);
        assert_eq!(parse_region(&sparse).unwrap().mappable, [(0x1000, 0x2000)]);
        let trapped = answer(&[32, 3, 0, 0, 0x100, 0, 0, 0]);
        assert_eq!(parse_region(&trapped).unwrap().mappable, []);
    }

    #[test]
    fn damaged_region_answers_end() {
        assert_eq!(parse_region(&[]), None);
        let looped = answer(&[40, 0xF, 0, 32, 0x4000, 0, 0, 0, 3, 32]);
        assert_eq!(parse_region(&looped).unwrap().mappable, [(0, 0x4000)]);
        let short = answer(&[48, 0xF, 0, 32, 0x4000, 0, 0, 0, 1, 0, u32::MAX, 0]);
        assert_eq!(parse_region(&short), None);
    }

    #[test]
    fn neighbours_are_read_up_to_the_end_of_the_answer() {
        let bytes = answer(&[28, 0, 9, 5, u32::from_ne_bytes([0, 0, 1, 0x80]), 6, 0]);
        assert_eq!(parse_neighbours(&bytes), [(0, 0x0180), (0, 0)]);
    }
}
