//! VFIO: safe calls to the kernel's user-space driver framework, group and container variant.
//!
//! `vfio-ioctls` opens the container and maps DMA; group, device, interrupt and reset calls are our own, because its
//! device type drops the reason of a failure (reset, register access, group attach), sets interrupts from vector 0 only,
//! and reads sysfs again with `unwrap` when it is dropped. Linux: include/uapi/linux/vfio.h,
//! Documentation/driver-api/vfio.rst.

mod container;
mod device;
mod ioctl;

pub use container::{AttachError, Container, DmaMapping, Group};
pub use device::{Device, DeviceInfo, Interrupt, InterruptInfo, RegionInfo};
