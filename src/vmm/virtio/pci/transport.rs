//! The registers of a virtio function and the rules between them (VIRTIO 1.3, 2.1, 3.1 and 4.1.4.3).
//!
//! The device status goes one way: ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK; a bit whose predecessor is missing is not
//! taken over. Features are open until FEATURES_OK, a queue's registers until it is enabled, queues can be enabled until
//! DRIVER_OK. Nothing but a reset opens them again. A reset never blocks the vCPU behind a request in flight: the status
//! reads non-zero until the workers have ended, as 2.4.1 lets drivers expect.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory as _, Permissions};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::spec::virtio::{Status, feature, ring};
use crate::vmm::memory::GuestMemory;
use crate::vmm::rate_limit::RateLimit;
use crate::vmm::virtio::interrupt::VirtioInterrupt;
use crate::vmm::virtio::queue::Virtqueue;
use crate::vmm::virtio::worker::{Ended, Worker};
use crate::vmm::virtio::{Activation, QueueGroup, VirtioDevice};

/// How long the write that begins a reset waits for workers: enough for idle ones.
const RESET_PATIENCE: Duration = Duration::from_millis(20);
/// How long a driver that does not wait for its reset is made to wait. Its write is dropped after that.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// A worker that was asked whether it has ended.
const NO_PATIENCE: Duration = Duration::ZERO;

/// Guests can fail as often as they like: the log must stay readable.
static FAILURES: RateLimit = RateLimit::new();

/// One queue as the driver sets it up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct QueueRegisters {
    pub(super) max_size: u16,
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl QueueRegisters {
    /// A new size; one that is no power of two or too large is ignored (4.1.4.3.2).
    pub(super) fn resize(&mut self, size: u16) {
        if size.is_power_of_two() && size <= self.max_size {
            self.size = size;
        }
    }

    /// A queue on these rings, if all of them are aligned and lie in RAM.
    fn build(&self, memory: &GuestMemory, features: u64) -> Option<Queue> {
        let in_ram = |address: u64, bytes: usize, access: Permissions, align: u64| {
            address.is_multiple_of(align) && memory.ram().check_range(GuestAddress(address), bytes, access)
        };
        let rings =
            in_ram(self.descriptors, ring::desc_bytes(self.size), Permissions::Read, ring::DESC_ALIGN)
                && in_ram(
                    self.available,
                    ring::avail_bytes(self.size),
                    Permissions::ReadWrite,
                    ring::AVAIL_ALIGN,
                )
                && in_ram(self.used, ring::used_bytes(self.size), Permissions::ReadWrite, ring::USED_ALIGN);
        // The ring library takes an available ring at 0 for one that was not set up
        if !rings || self.available == 0 {
            return None;
        }
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.available)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.used)).ok()?;
        queue.set_event_idx(features & feature::EVENT_IDX != 0);
        queue.set_ready(true);
        Some(queue)
    }
}

/// Everything that the driver can write, and the workers.
#[derive(Debug)]
pub(super) struct State {
    status: Status,
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    pub(super) driver_features: u64,
    pub(super) queue_select: u16,
    pub(super) queues: Vec<QueueRegisters>,
    workers: Vec<Worker>,
    /// Groups without a worker: the function is paused or being reset.
    parked: Vec<QueueGroup>,
    resetting: bool,
    paused: bool,
}

impl State {
    fn new(max_sizes: &[u16]) -> Self {
        let queue =
            |max_size: &u16| QueueRegisters { max_size: *max_size, size: *max_size, ..Default::default() };
        Self {
            status: Status::empty(),
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            queue_select: 0,
            queues: max_sizes.iter().map(queue).collect(),
            workers: Vec::new(),
            parked: Vec::new(),
            resetting: false,
            paused: false,
        }
    }

    /// Takes over 32 accepted feature bits while they are open.
    pub(super) fn accept_features(&mut self, bits: u32) {
        if self.status.contains(Status::FEATURES_OK) {
            return;
        }
        let (mask, bits) = match self.driver_feature_select {
            0 => (u64::from(u32::MAX), u64::from(bits)),
            1 => (!u64::from(u32::MAX), u64::from(bits) << 32),
            _ => return,
        };
        self.driver_features = (self.driver_features & !mask) | bits;
    }

    /// The selected queue, while its registers are open.
    pub(super) fn open_queue(&mut self) -> Option<&mut QueueRegisters> {
        let live = self.status.contains(Status::DRIVER_OK);
        let queue = self.queues.get_mut(usize::from(self.queue_select))?;
        (!live && !queue.enabled).then_some(queue)
    }

    /// Enables the selected queue, while its registers are open and features are agreed upon.
    pub(super) fn enable_queue(&mut self) {
        if self.status.contains(Status::FEATURES_OK)
            && let Some(queue) = self.open_queue()
        {
            queue.enabled = true;
        }
    }
}

/// The registers of one function, shared by the structures in its BAR.
pub(super) struct Transport {
    label: Arc<str>,
    device: Arc<dyn VirtioDevice>,
    memory: Arc<GuestMemory>,
    interrupt: Arc<VirtioInterrupt>,
    kicks: Vec<Arc<EventFd>>,
    offered: u64,
    /// Taken after the function's configuration space and before the device's own lock and the MSI-X table. Workers never
    /// take it, so they can be waited for under it.
    state: Mutex<State>,
}

impl Transport {
    pub(super) fn new(
        device: Arc<dyn VirtioDevice>,
        memory: Arc<GuestMemory>,
        interrupt: Arc<VirtioInterrupt>,
    ) -> io::Result<Arc<Self>> {
        let sizes = device.queue_max_sizes();
        let kick = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new);
        let kicks = sizes.iter().map(kick).collect::<io::Result<Vec<_>>>()?;
        let transport_features = feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;
        Ok(Arc::new(Self {
            label: device.label().into(),
            offered: device.features() | transport_features,
            state: Mutex::new(State::new(sizes)),
            device,
            memory,
            interrupt,
            kicks,
        }))
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    pub(super) fn interrupt(&self) -> &VirtioInterrupt {
        &self.interrupt
    }

    pub(super) fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status register. Polling it carries a reset forward.
    pub(super) fn status(&self, state: &mut State) -> Status {
        if state.resetting {
            self.collect(state, Some(NO_PATIENCE));
        }
        let mut status = state.status;
        status.set(Status::DEVICE_NEEDS_RESET, self.interrupt.needs_reset());
        status
    }

    /// Makes sure that no reset is under way before a register is written; false if one still is.
    pub(super) fn settle(&self, state: &mut State) -> bool {
        if state.resetting {
            self.collect(state, Some(SETTLE_PATIENCE));
        }
        !state.resetting
    }

    /// A write to the status register: zero resets, bits are taken over in their order.
    pub(super) fn write_status(&self, state: &mut State, value: u8) {
        if value == 0 {
            self.begin_reset(state, Some(RESET_PATIENCE));
            return;
        }
        let wanted = Status::from_bits_truncate(value);
        let steps = [
            (Status::ACKNOWLEDGE, Status::empty()),
            (Status::DRIVER, Status::ACKNOWLEDGE),
            (Status::FEATURES_OK, Status::DRIVER),
            (Status::DRIVER_OK, Status::FEATURES_OK),
        ];
        for (bit, before) in steps {
            if !wanted.contains(bit) || state.status.contains(bit) || !state.status.contains(before) {
                continue;
            }
            if bit == Status::FEATURES_OK && !self.acceptable(state.driver_features) {
                continue;
            }
            state.status |= bit;
            if bit == Status::DRIVER_OK {
                self.activate(state);
            }
        }
        state.status |= wanted & Status::FAILED;
    }

    fn acceptable(&self, features: u64) -> bool {
        features & !self.offered == 0 && features & feature::VERSION_1 != 0
    }

    /// The driver is ready: hands the enabled queues to the device and starts its workers.
    fn activate(&self, state: &mut State) {
        let mut queues = Vec::new();
        for ((registers, kick), index) in state.queues.iter().zip(&self.kicks).zip(0u16..) {
            if !registers.enabled {
                continue;
            }
            let Some(queue) = registers.build(&self.memory, state.driver_features) else {
                self.fail(&format!("the rings of queue {index} are not in RAM"));
                return;
            };
            let (memory, interrupt) = (Arc::clone(&self.memory), Arc::clone(&self.interrupt));
            queues.push(Virtqueue::new(index, queue, memory, Arc::clone(kick), interrupt));
        }
        let activation = Activation {
            memory: Arc::clone(&self.memory),
            features: state.driver_features,
            queues,
            interrupt: Arc::clone(&self.interrupt),
        };
        match self.device.activate(activation) {
            Ok(groups) => state.parked = groups,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                self.fail(&format!("{error}: {cause}"));
            }
        }
        if !state.paused {
            self.start(state);
        }
    }

    fn start(&self, state: &mut State) {
        let name = self.label.split('(').next().unwrap_or("virtio");
        for (index, group) in std::mem::take(&mut state.parked).into_iter().enumerate() {
            let name = format!("{name}-{index}");
            match Worker::spawn(&name, Arc::clone(&self.label), group, Arc::clone(&self.interrupt)) {
                Ok(worker) => state.workers.push(worker),
                Err(error) => self.fail(&format!("cannot start a worker: {error}")),
            }
        }
    }

    fn fail(&self, reason: &str) {
        if self.interrupt.fail()
            && let Some(suppressed) = FAILURES.allow()
        {
            tracing::warn!(device = &*self.label, suppressed, "device stopped until its reset: {reason}");
        }
    }

    fn begin_reset(&self, state: &mut State, patience: Option<Duration>) {
        state.resetting = true;
        for worker in &state.workers {
            worker.request_stop();
        }
        self.collect(state, patience);
    }

    /// Takes back the groups of workers that have ended; completes the reset when none is left.
    fn collect(&self, state: &mut State, patience: Option<Duration>) {
        for worker in std::mem::take(&mut state.workers) {
            match worker.finish(patience) {
                Ended::Done(group) => state.parked.extend(group),
                Ended::Busy(worker) => state.workers.push(worker),
            }
        }
        if !state.workers.is_empty() {
            return;
        }
        self.device.deactivate(std::mem::take(&mut state.parked));
        self.device.reset();
        let paused = state.paused;
        *state = State::new(self.device.queue_max_sizes());
        state.paused = paused;
        self.interrupt.reset();
        for kick in &self.kicks {
            let _ = kick.read();
        }
    }

    /// Back to the state after power-on; waits for requests in flight.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        self.begin_reset(&mut state, None);
    }

    /// Stops all workers; waits for requests in flight.
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        if state.resetting {
            self.collect(&mut state, None);
        }
        state.paused = true;
        for worker in &state.workers {
            worker.request_stop();
        }
        for worker in std::mem::take(&mut state.workers) {
            if let Ended::Done(group) = worker.finish(None) {
                state.parked.extend(group);
            }
        }
    }

    /// Starts the workers again.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.paused) {
            self.start(&mut state);
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("label", &self.label).finish_non_exhaustive()
    }
}
