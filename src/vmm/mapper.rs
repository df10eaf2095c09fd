//! What the PCI root asks of the hypervisor: make host memory or an eventfd answer at a guest address.
//!
//! A trait, so that the root can be tested without KVM; [`Vm`](crate::vmm::kvm::Vm) is the implementation.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::sys::mmap::Mapping;

/// Which of the two address spaces of a PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressSpace {
    /// Memory.
    Memory,
    /// Port I/O.
    Port,
}

/// Places things at guest addresses without an exit to userspace.
pub trait Mapper: Send + Sync {
    /// Lets the guest reach the first `size_bytes` of `memory` at guest-physical `address`, readable and writable. Both
    /// are multiples of the page size.
    ///
    /// # Errors
    /// What the kernel answered: an overlap, or no slot left.
    fn map(&self, address: u64, memory: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped>;

    /// Lets the guest read the first `size_bytes` of `memory` at guest-physical `address`; its writes exit. Both are multiples
    /// of the page size.
    ///
    /// # Errors
    /// As [`Self::map`].
    fn map_read_only(&self, address: u64, memory: &Arc<Mapping>, size_bytes: u64) -> io::Result<Mapped>;

    /// Lets any guest write at `address`, of whatever width and value, signal `event`.
    ///
    /// # Errors
    /// What the kernel answered: `EEXIST` where another eventfd waits at the address.
    fn notify(&self, space: AddressSpace, address: u64, event: &Arc<EventFd>) -> io::Result<Mapped>;
}

/// Keeps a placement in force; dropping it takes the placement away before `drop` returns.
pub struct Mapped(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl Mapped {
    /// A placement that ends when `guard` is dropped.
    #[must_use]
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mapped")
    }
}
