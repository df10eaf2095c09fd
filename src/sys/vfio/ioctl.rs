//! The ioctl calls themselves.
//!
//! Nearly every VFIO structure is a row of 32-bit fields that begins with its own size, `argsz`, beyond which the kernel
//! never reads or writes. They are passed as slices of `u32`, so that one checked call serves them all.
#![expect(unsafe_code, reason = "ioctl(2)")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

/// Number of a VFIO call, counted from `VFIO_BASE`. The numbers 12 and up mean different calls on a device and on a
/// container, so each constant names the descriptor that it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call(u32);

impl Call {
    pub(super) const CONTAINER_SET_IOMMU: Self = Self(2);
    pub(super) const CONTAINER_IOMMU_GET_INFO: Self = Self(12);
    pub(super) const GROUP_GET_STATUS: Self = Self(3);
    pub(super) const GROUP_SET_CONTAINER: Self = Self(4);
    pub(super) const GROUP_UNSET_CONTAINER: Self = Self(5);
    pub(super) const GROUP_GET_DEVICE_FD: Self = Self(6);
    pub(super) const DEVICE_GET_INFO: Self = Self(7);
    pub(super) const DEVICE_GET_REGION_INFO: Self = Self(8);
    pub(super) const DEVICE_GET_IRQ_INFO: Self = Self(9);
    pub(super) const DEVICE_SET_IRQS: Self = Self(10);
    pub(super) const DEVICE_RESET: Self = Self(11);
    pub(super) const DEVICE_GET_PCI_HOT_RESET_INFO: Self = Self(12);

    fn request(self) -> libc::c_ulong {
        nix::request_code_none!(VFIO_TYPE, VFIO_BASE + self.0)
    }
}

/// A call whose argument is a number, or none (0).
pub(super) fn with_value(fd: impl AsFd, call: Call, value: u32) -> io::Result<()> {
    // SAFETY: the calls used with this function take their argument by value and touch no memory of ours.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), call.request(), u64::from(value)) };
    Errno::result(result)?;
    Ok(())
}

/// A call whose argument is a structure that begins with `argsz`, which is filled in here.
pub(super) fn with_words(fd: impl AsFd, call: Call, words: &mut [u32]) -> io::Result<()> {
    let size = u32::try_from(size_of_val(words)).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let Some(argsz) = words.first_mut() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    *argsz = size;
    // SAFETY: the kernel reads and writes at most `argsz` bytes, the length of the slice, and any bytes are valid u32.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), call.request(), words.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(())
}

/// A query whose answer may be longer than its `fixed` words, about the object `index` where there are several: repeated
/// once with the size that the kernel asked for. Returns the answer as bytes.
pub(super) fn query(fd: impl AsFd, call: Call, fixed: usize, index: Option<u32>) -> io::Result<Vec<u8>> {
    /// More than any answer; guards the allocation.
    const LIMIT_BYTES: usize = 1 << 20;
    let ask = |length: usize| {
        let mut words = vec![0u32; length];
        if let (Some(index), Some(word)) = (index, words.get_mut(2)) {
            *word = index;
        }
        let result = with_words(&fd, call, &mut words);
        let wanted = words.first().map_or(0, |argsz| *argsz as usize);
        (result, wanted, words)
    };
    let (mut result, wanted, mut words) = ask(fixed);
    if wanted > fixed * 4 && wanted <= LIMIT_BYTES {
        (result, _, words) = ask(wanted.div_ceil(4));
    }
    result?;
    Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect())
}

/// Attaches `group` to `container`.
pub(super) fn set_container(group: &File, container: BorrowedFd<'_>) -> io::Result<()> {
    let descriptor = container.as_raw_fd();
    // SAFETY: the kernel reads one `int` from the pointer, which is live during the call.
    let result =
        unsafe { libc::ioctl(group.as_raw_fd(), Call::GROUP_SET_CONTAINER.request(), &raw const descriptor) };
    Errno::result(result)?;
    Ok(())
}

/// Opens the device called `name` (a PCI address) of `group`.
pub(super) fn device_fd(group: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: the kernel reads a NUL-terminated string from the pointer, which is live during the call.
    let result =
        unsafe { libc::ioctl(group.as_raw_fd(), Call::GROUP_GET_DEVICE_FD.request(), name.as_ptr()) };
    let descriptor = Errno::result(result)?;
    // SAFETY: on success the kernel returns a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
