//! Paravirtual devices (VIRTIO 1.3).
//!
//! Control plane and data plane are apart. A [`VirtioDevice`] says what it is and hands out its [`QueueHandler`]s when the
//! driver is ready; [`pci`] is the transport that the guest sees, with all register state and its rules; [`worker`] owns
//! threads and polling. Device code owns no thread and no epoll, and sees queues only as checked chains ([`queue`]).

pub mod devices;
pub mod interrupt;
pub mod pci;
pub mod queue;
pub mod worker;

#[cfg(test)]
pub(crate) mod testing;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::spec::virtio::DeviceType;
use crate::vmm::Lifecycle;
use crate::vmm::memory::GuestMemory;
use crate::vmm::virtio::interrupt::VirtioInterrupt;
use crate::vmm::virtio::queue::{QueueError, Virtqueue};

/// A virtio device without its transport: the control plane.
///
/// All methods come from vCPU threads or the control thread, one at a time. `reset` of [`Lifecycle`] is called after the
/// transport stopped all workers.
pub trait VirtioDevice: Lifecycle + Send + Sync {
    /// Name for messages: `virtio-block(disk.img)`.
    fn label(&self) -> &str;

    /// What the guest finds.
    fn device_type(&self) -> DeviceType;

    /// Feature bits of the device type. The transport adds those of rings and of the transport itself.
    fn features(&self) -> u64;

    /// Most entries of each queue, powers of two. The length is the number of queues.
    fn queue_max_sizes(&self) -> &[u16];

    /// Fills `data` from the device-specific configuration at byte `offset`; bytes behind its end read as zero, which is what
    /// `data` holds before.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// A write to the device-specific configuration. Most devices have nothing that can be written.
    fn write_config(&self, _offset: usize, _data: &[u8]) {}

    /// The driver is ready: hand out the handlers and the queues that each one serves. May happen again after a reset.
    /// Queues that the driver did not enable are missing from [`Activation::queues`].
    ///
    /// # Errors
    /// What the host refused; the device needs a reset then.
    fn activate(&self, activation: Activation) -> Result<Vec<QueueGroup>, ActivateError>;

    /// The driver reset the device: the groups come back, workers stopped. Groups whose worker failed are missing.
    fn deactivate(&self, _groups: Vec<QueueGroup>) {}
}

/// What a device gets when its driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// Guest RAM.
    pub memory: Arc<GuestMemory>,
    /// Features on which device and driver agreed.
    pub features: u64,
    /// The enabled queues in ascending order of their index; each knows its doorbell.
    pub queues: Vec<Virtqueue>,
    /// For configuration changes, and for vhost's interrupts.
    pub interrupt: Arc<VirtioInterrupt>,
}

/// Why a device cannot start to work: the host said no.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ActivateError {
    /// What was tried.
    pub what: &'static str,
    /// The host's answer.
    #[source]
    pub source: std::io::Error,
}

/// A handler and the queues that it serves on one worker.
pub struct QueueGroup {
    /// The data plane of these queues.
    pub handler: Box<dyn QueueHandler>,
    /// The queues.
    pub queues: Vec<Virtqueue>,
}

impl std::fmt::Debug for QueueGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueGroup").field("queues", &self.queues).finish_non_exhaustive()
    }
}

/// The data plane of some queues. Runs on one worker thread, so it needs no locks of its own.
///
/// Interrupts, kick suppression and the bound on the work of one wake-up are the worker's and the queue's business: a
/// handler takes chains until [`Virtqueue::pop`] returns `None` and pushes them back. An error, or a panic, stops the
/// worker and marks the device as broken until the driver resets it; the machine goes on.
pub trait QueueHandler: Send {
    /// The driver made chains available in `queue`, or the worker just started.
    ///
    /// # Errors
    /// [`QueueError`]: the queue cannot be used any more.
    fn process_queue(&mut self, queue: &mut Virtqueue) -> Result<(), QueueError>;

    /// Host descriptors that wake the handler. They are watched edge-triggered: read until they would block.
    fn event_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// The descriptor at position `event` of [`Self::event_fds`] became ready.
    ///
    /// # Errors
    /// [`QueueError`]: the queue cannot be used any more.
    fn process_event(&mut self, _event: usize, _queues: &mut [Virtqueue]) -> Result<(), QueueError> {
        Ok(())
    }
}
