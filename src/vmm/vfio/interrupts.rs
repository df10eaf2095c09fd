//! The interrupts of a host function: which kind is enabled in the device, and which eventfds its vectors signal.
//!
//! VFIO enables one kind at a time. [`Interrupts`] carries out what the guest asked for through the emulated MSI and MSI-X
//! registers ([`VectorUser`]) and falls back to INTx when neither is enabled; each change of kind disables the old one
//! first, so nothing is left behind however often a guest switches.
//!
//! MSI-X vectors are given to the device as the guest opens them. Where the kernel can add vectors (since Linux 6.5) each
//! gets its own call; elsewhere the set is enabled again with room for twice as many. Interrupts that come in between
//! would be lost, so every vector is signalled once after that: a spurious message is harmless, a lost one is not.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::vfio::Interrupt;
use crate::vmm::interrupt::{Connection, InterruptLine};
use crate::vmm::pci::vector::VectorUser;
use crate::vmm::vfio::device::HostFunction;

/// INTx in force: dropped in the order of the fields' use in [`State::disable`].
struct Intx {
    connection: Connection,
    /// Kept open while VFIO and the interrupt controller hold them.
    _trigger: EventFd,
    _resample: EventFd,
}

/// What is enabled in the device.
#[derive(Default)]
enum Enabled {
    #[default]
    Nothing,
    Intx(Intx),
    Msi,
    /// Each vector's eventfd, as far as the device has vectors allotted.
    MsiX(Vec<Option<EventFd>>),
}

struct State {
    enabled: Enabled,
    /// INTx may be used; it cannot where the function has no pin or the controller does not take it.
    intx_usable: bool,
}

/// The interrupts of one function.
pub(super) struct Interrupts {
    label: String,
    host: Arc<dyn HostFunction>,
    line: InterruptLine,
    /// Order: after the MSI and MSI-X tables' state and before the interrupt controller's; VFIO is called under it.
    state: Mutex<State>,
}

impl Interrupts {
    pub(super) fn new(label: String, host: Arc<dyn HostFunction>, line: InterruptLine) -> Arc<Self> {
        let state = Mutex::new(State { enabled: Enabled::Nothing, intx_usable: false });
        Arc::new(Self { label, host, line, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(function = self.label, %error, "cannot {what}");
        }
    }

    /// Says that the function has an INTx pin, and enables it. False if it cannot be delivered to the guest.
    pub(super) fn offer_intx(&self) -> bool {
        let mut state = self.lock();
        state.intx_usable = true;
        self.fall_back(&mut state);
        state.intx_usable
    }

    /// Enables INTx if nothing else is enabled and the function has it.
    pub(super) fn use_intx(&self) {
        self.fall_back(&mut self.lock());
    }

    fn fall_back(&self, state: &mut State) {
        if !state.intx_usable || !matches!(state.enabled, Enabled::Nothing) {
            return;
        }
        match self.enable_intx() {
            Ok(intx) => state.enabled = Enabled::Intx(intx),
            Err(error) => {
                tracing::warn!(function = self.label, %error, "no INTx for the guest");
                state.intx_usable = false;
            }
        }
    }

    /// The order matters: the line is masked while it is connected, so that the controller knows of the first interrupt and
    /// its EOI unmasks the line again (Linux: Documentation/virt/kvm/api.rst, KVM_IRQFD_FLAG_RESAMPLE).
    fn enable_intx(&self) -> io::Result<Intx> {
        let trigger = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let resample = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        self.host.set_triggers(Interrupt::Intx, 0, &[Some(&trigger)])?;
        let connect = || {
            self.host.mask_intx()?;
            let connection = self.line.connect(&trigger, &resample).map_err(io::Error::other)?;
            self.host.set_intx_unmask_event(Some(&resample))?;
            self.host.unmask_intx()?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(Intx { connection, _trigger: trigger, _resample: resample }),
            Err(error) => {
                self.warn("disable INTx again", self.host.disable(Interrupt::Intx));
                Err(error)
            }
        }
    }

    /// Disables whatever is enabled.
    pub(super) fn disable(&self) {
        self.disable_locked(&mut self.lock());
    }

    fn disable_locked(&self, state: &mut State) {
        match std::mem::take(&mut state.enabled) {
            Enabled::Nothing => {}
            Enabled::Intx(intx) => {
                self.warn("mask INTx", self.host.mask_intx());
                self.warn("take the unmask event away", self.host.set_intx_unmask_event(None));
                drop(intx.connection);
                self.warn("disable INTx", self.host.disable(Interrupt::Intx));
            }
            Enabled::Msi => self.warn("disable MSI", self.host.disable(Interrupt::Msi)),
            Enabled::MsiX(_) => self.warn("disable MSI-X", self.host.disable(Interrupt::MsiX)),
        }
    }

    /// The guest enabled MSI-X, perhaps with all vectors masked: the device must stop using INTx all the same.
    pub(super) fn enter_msix(&self) {
        let mut state = self.lock();
        self.enter_msix_locked(&mut state);
    }

    fn enter_msix_locked(&self, state: &mut State) {
        if matches!(state.enabled, Enabled::MsiX(_)) {
            return;
        }
        self.disable_locked(state);
        self.warn("enable MSI-X", self.host.set_triggers(Interrupt::MsiX, 0, &[None]));
        state.enabled = Enabled::MsiX(vec![None]);
    }

    fn connect_msix(&self, vectors: &[(u16, &EventFd)]) {
        let mut state = self.lock();
        self.enter_msix_locked(&mut state);
        let Enabled::MsiX(events) = &mut state.enabled else { return };
        let info = self.host.interrupt_info(Interrupt::MsiX);
        let allotted = events.len();
        let needed =
            vectors.iter().map(|(vector, _)| usize::from(*vector) + 1).max().unwrap_or(0).max(allotted);
        let grow = needed > allotted && !info.resizable;
        let room =
            if grow { needed.next_power_of_two().min(info.count as usize).max(needed) } else { needed };
        events.resize_with(room, || None);
        for (vector, event) in vectors {
            match event.try_clone() {
                Ok(event) => {
                    if let Some(slot) = events.get_mut(usize::from(*vector)) {
                        *slot = Some(event);
                    }
                }
                Err(error) => self.warn("keep an MSI-X vector's eventfd", Err(error)),
            }
        }
        if grow {
            self.replace_msix(events, needed);
            return;
        }
        for (vector, event) in vectors {
            let result = self.host.set_triggers(Interrupt::MsiX, u32::from(*vector), &[Some(event)]);
            self.warn("connect an MSI-X vector", result);
        }
    }

    /// Enables MSI-X again with vectors for all of `events`, or for the first `needed` of them where the host has no more.
    fn replace_msix(&self, events: &mut Vec<Option<EventFd>>, needed: usize) {
        self.warn("disable MSI-X", self.host.disable(Interrupt::MsiX));
        let enable = |events: &[Option<EventFd>]| {
            let borrowed: Vec<Option<&EventFd>> = events.iter().map(Option::as_ref).collect();
            self.host.set_triggers(Interrupt::MsiX, 0, &borrowed)
        };
        let mut result = enable(events);
        if result.is_err() && needed < events.len() {
            events.truncate(needed);
            result = enable(events);
        }
        self.warn("enable MSI-X with more vectors", result);
        for event in events.iter().flatten() {
            self.warn("signal a vector", event.write(1));
        }
    }

    fn connect_msi(&self, vectors: &[(u16, &EventFd)]) {
        let mut state = self.lock();
        self.disable_locked(&mut state);
        let count = vectors.iter().map(|(vector, _)| usize::from(*vector) + 1).max().unwrap_or(1);
        let mut events = vec![None; count];
        for (vector, event) in vectors {
            if let Some(slot) = events.get_mut(usize::from(*vector)) {
                *slot = Some(*event);
            }
        }
        match self.host.set_triggers(Interrupt::Msi, 0, &events) {
            Ok(()) => state.enabled = Enabled::Msi,
            Err(error) => self.warn("enable MSI", Err(error)),
        }
    }

    fn leave(&self, kind: Interrupt) {
        let mut state = self.lock();
        let ours = match state.enabled {
            Enabled::Msi => kind == Interrupt::Msi,
            Enabled::MsiX(_) => kind == Interrupt::MsiX,
            Enabled::Nothing | Enabled::Intx(_) => false,
        };
        if ours {
            self.disable_locked(&mut state);
        }
    }
}

/// The MSI capability's connection to the device.
pub(super) struct MsiUser(pub(super) Arc<Interrupts>);

impl VectorUser for MsiUser {
    fn connect(&self, vectors: &[(u16, &EventFd)]) {
        self.0.connect_msi(vectors);
    }
    fn disconnect(&self) {
        self.0.leave(Interrupt::Msi);
    }
}

/// The MSI-X table's connection to the device.
pub(super) struct MsixUser(pub(super) Arc<Interrupts>);

impl VectorUser for MsixUser {
    fn connect(&self, vectors: &[(u16, &EventFd)]) {
        self.0.connect_msix(vectors);
    }
    fn disconnect(&self) {
        self.0.leave(Interrupt::MsiX);
    }
}
