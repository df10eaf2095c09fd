//! Message signalled interrupts: a write of `data` to `address` (PCI 3.0, 6.8; Intel SDM vol. 3, 11.11).

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::vmm::Unsupported;

/// The message that a function sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MsiMessage {
    /// Message address, 64 bits.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// Where messages go: the machine's interrupt controller.
pub trait MsiSink: Send + Sync {
    /// Delivers `message` once.
    ///
    /// # Errors
    /// What the kernel answered; a message that addresses no local APIC is no error.
    fn signal(&self, message: MsiMessage) -> io::Result<()>;

    /// A new route that kernel producers (VFIO, vhost, irqfd) can trigger through an eventfd. It starts masked.
    ///
    /// # Errors
    /// [`Unsupported`] where there are no routes (userspace local APIC) or none is left; a function whose routes are
    /// unsupported hides its MSI and MSI-X capabilities.
    fn route(&self) -> Result<Box<dyn MsiRoute>, Unsupported>;
}

/// One vector's way into the guest: an eventfd that delivers a message while unmasked and collects while masked.
/// Dropping it gives the route back.
pub trait MsiRoute: Send + Sync {
    /// The eventfd; each write to it is one interrupt. The same for the life of the route, never shared.
    fn event(&self) -> &EventFd;

    /// Says what is likely to be the message of the next [`Self::unmask`]: where several routes are opened together, the first
    /// one then tells the kernel of all. Changes nothing that a guest could see.
    fn stage(&self, message: MsiMessage);

    /// Delivers `message` from now on, beginning with what was collected while masked. Calling it again with another
    /// message moves the vector.
    ///
    /// # Errors
    /// What the kernel answered; the route is masked then.
    fn unmask(&self, message: MsiMessage) -> io::Result<()>;

    /// Stops delivery; later writes to the eventfd are collected.
    fn mask(&self);

    /// Whether an interrupt was collected while masked (the vector's pending bit). Always false while unmasked.
    fn pending(&self) -> bool;
}
