//! Counters that KVM keeps of a machine and of each vCPU, as it tells them through a file of their own.
//!
//! Linux: Documentation/virt/kvm/api.rst, 4.133 KVM_GET_STATS_FD: a header, descriptors with names, and 64-bit values.
#![expect(unsafe_code, reason = "ioctl(2) that makes a descriptor")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::{
    KVM_STATS_TYPE_LINEAR_HIST, KVM_STATS_TYPE_LOG_HIST, KVM_STATS_TYPE_MASK, KVMIO, kvm_stats_desc,
    kvm_stats_header,
};
use kvm_ioctls::{VcpuFd, VmFd};

/// Number of KVM_GET_STATS_FD (Linux: include/uapi/linux/kvm.h).
const GET_STATS_FD: u32 = 0xCE;
/// Most that is read of names and values: a hundred times what any kernel has.
const MOST_BYTES: usize = 1 << 20;

/// A counter, and what it counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// KVM's name for it.
    pub name: String,
    /// One value; of a histogram one for each bucket.
    pub values: Vec<u64>,
    /// Whether the values are a histogram's.
    pub is_histogram: bool,
}

/// The counters of a machine or of a vCPU. Outlives both.
#[derive(Debug)]
pub struct Counters {
    file: File,
    layout: Vec<Place>,
    data_offset: u64,
}

/// Where a counter lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    offset: usize,
    count: usize,
    is_histogram: bool,
}

impl Counters {
    /// Those of the machine.
    ///
    /// # Errors
    /// `ENOTTY` or `EINVAL` from a kernel before 5.14, or from a KVM in software.
    pub fn of_vm(vm: &VmFd) -> io::Result<Self> {
        Self::open(vm)
    }

    /// Those of a vCPU.
    ///
    /// # Errors
    /// As [`Self::of_vm`].
    pub fn of_vcpu(vcpu: &VcpuFd) -> io::Result<Self> {
        Self::open(vcpu)
    }

    fn open(of: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: the call takes no argument and touches no memory of ours.
        let fd = unsafe { libc::ioctl(of.as_raw_fd(), nix::request_code_none!(KVMIO, GET_STATS_FD)) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor for us, and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut header = [0; size_of::<kvm_stats_header>()];
        file.read_exact_at(&mut header, 0)?;
        let header = Header::parse(&header).ok_or(io::ErrorKind::InvalidData)?;
        let mut descriptors = vec![0; header.descriptors_bytes().ok_or(io::ErrorKind::InvalidData)?];
        file.read_exact_at(&mut descriptors, header.descriptors_offset.into())?;
        Ok(Self { file, layout: places(&descriptors, &header), data_offset: header.data_offset.into() })
    }

    /// What they are now.
    ///
    /// # Errors
    /// What read(2) answered.
    pub fn read(&self) -> io::Result<Vec<Counter>> {
        let end = self.layout.iter().map(|place| place.offset + place.count * 8).max().unwrap_or(0);
        if end > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; end];
        self.file.read_exact_at(&mut data, self.data_offset)?;
        Ok(self.layout.iter().map(|place| place.take(&data)).collect())
    }
}

impl Place {
    fn take(&self, data: &[u8]) -> Counter {
        let bytes = data.get(self.offset..).unwrap_or_default();
        let words = bytes.chunks_exact(8).take(self.count);
        let values = words.map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect();
        Counter { name: self.name.clone(), values, is_histogram: self.is_histogram }
    }
}

/// What of the header matters.
#[derive(Debug, Clone, Copy)]
struct Header {
    name_bytes: u32,
    count: u32,
    descriptors_offset: u32,
    data_offset: u32,
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        use std::mem::offset_of;
        Some(Self {
            name_bytes: u32_at(bytes, offset_of!(kvm_stats_header, name_size))?,
            count: u32_at(bytes, offset_of!(kvm_stats_header, num_desc))?,
            descriptors_offset: u32_at(bytes, offset_of!(kvm_stats_header, desc_offset))?,
            data_offset: u32_at(bytes, offset_of!(kvm_stats_header, data_offset))?,
        })
    }

    /// Bytes of a descriptor, its name included.
    fn descriptor_bytes(&self) -> Option<usize> {
        usize::try_from(self.name_bytes).ok()?.checked_add(size_of::<kvm_stats_desc>())
    }

    fn descriptors_bytes(&self) -> Option<usize> {
        let bytes = self.descriptor_bytes()?.checked_mul(usize::try_from(self.count).ok()?)?;
        (bytes <= MOST_BYTES).then_some(bytes)
    }
}

fn places(descriptors: &[u8], header: &Header) -> Vec<Place> {
    let Some(size) = header.descriptor_bytes() else { return Vec::new() };
    descriptors.chunks_exact(size).filter_map(place).collect()
}

fn place(descriptor: &[u8]) -> Option<Place> {
    use std::mem::offset_of;
    let kind = u32_at(descriptor, offset_of!(kvm_stats_desc, flags))? & KVM_STATS_TYPE_MASK;
    let name = descriptor.get(size_of::<kvm_stats_desc>()..)?.split(|byte| *byte == 0).next()?;
    Some(Place {
        name: String::from_utf8_lossy(name).into_owned(),
        offset: usize::try_from(u32_at(descriptor, offset_of!(kvm_stats_desc, offset))?).ok()?,
        count: u16_at(descriptor, offset_of!(kvm_stats_desc, size))?.into(),
        is_histogram: matches!(kind, KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_TYPE_LOG_HIST),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(flags: u32, size: u16, offset: u32, name: &str) -> Vec<u8> {
        let mut bytes = flags.to_ne_bytes().to_vec();
        bytes.extend(0i16.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(16 + 48, 0);
        bytes
    }

    #[test]
    fn counters_and_histograms_are_found_by_their_descriptors() {
        let header = Header { name_bytes: 48, count: 2, descriptors_offset: 0, data_offset: 0 };
        let bytes =
            [descriptor(0, 1, 8, "io_exits"), descriptor(4, 2, 16, "halt_poll_success_hist")].concat();
        let data: Vec<u8> = [1u64, 2, 3, 4].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let counters: Vec<Counter> = places(&bytes, &header).iter().map(|place| place.take(&data)).collect();
        let named = |name: &str, values: Vec<u64>, is_histogram| Counter {
            name: name.to_owned(),
            values,
            is_histogram,
        };
        assert_eq!(
            counters,
            [named("io_exits", vec![2], false), named("halt_poll_success_hist", vec![3, 4], true)]
        );
    }

    #[test]
    fn headers_that_promise_too_much_and_short_data_do_no_harm() {
        let header = Header { name_bytes: u32::MAX, count: u32::MAX, descriptors_offset: 0, data_offset: 0 };
        assert_eq!(header.descriptors_bytes(), None);
        let place = Place { name: String::new(), offset: 64, count: 3, is_histogram: false };
        assert_eq!(place.take(&[0; 70]).values, [0u64; 0]);
        assert_eq!(Header::parse(&[0; 10]).map(|header| header.count), None);
    }
}
