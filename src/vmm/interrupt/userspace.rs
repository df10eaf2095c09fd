//! The interrupt chips that user space holds: the 8259 pair, in split mode the I/O APIC as well.
//!
//! [`Chips`] joins the models ([`pic`], [`ioapic`]) with what surrounds them: devices' lines come in, messages go to the
//! local APICs in the kernel, the pair's output goes to the first vCPU's thread, and the end of an interrupt lets a
//! passed-through device interrupt again. Registers are in [`ports`](super::ports).

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sys::event;
use crate::vmm::Unsupported;
use crate::vmm::interrupt::ioapic::{self, Ioapic};
use crate::vmm::interrupt::irqchip::{IOAPIC_INPUTS, TIMER_GSI, TIMER_INPUT};
use crate::vmm::interrupt::pic::{self, ChipSelect, PicPair, Register};
use crate::vmm::interrupt::routes::Routing;
use crate::vmm::interrupt::{Connection, MsiMessage};

/// Stack of a thread that passes a device's interrupts on.
const STACK_BYTES: usize = 64 << 10;

/// Who drives one GSI: its level is high while anybody does.
#[derive(Debug, Default)]
struct Wire {
    /// Our own devices together.
    devices: bool,
    /// Kernel producers.
    connections: Vec<Connected>,
}

/// A kernel producer on a wire: high from its trigger to the guest's end of the interrupt.
#[derive(Debug)]
struct Connected {
    id: u64,
    high: bool,
    resample: EventFd,
}

impl Wire {
    fn is_high(&self) -> bool {
        self.devices || self.connections.iter().any(|connection| connection.high)
    }
}

/// The local APICs, as an I/O APIC sees them.
pub(super) trait LocalApics: Send + Sync {
    /// Delivers `message`; whether one took it.
    fn take(&self, message: MsiMessage) -> bool;

    /// From now on I/O APIC input `input` is level-triggered and sends `message`, so that the end of its interrupt is to be
    /// told ([`Chips::end_of_interrupt`]); or it is not.
    fn tell_of_ends(&self, input: u8, message: Option<MsiMessage>);
}

impl LocalApics for Routing {
    fn take(&self, message: MsiMessage) -> bool {
        // A message that the kernel does not take is one that no local APIC took.
        self.signal(message).unwrap_or(false)
    }

    fn tell_of_ends(&self, input: u8, message: Option<MsiMessage>) {
        if let Err(error) = self.set_input(input.into(), message) {
            tracing::debug!(input, %error, "the kernel does not know of a level-triggered input");
        }
    }
}

/// The I/O APIC and its way to the local APICs.
struct Messages {
    ioapic: Ioapic,
    local_apics: Arc<dyn LocalApics>,
}

struct State {
    pair: PicPair,
    messages: Option<Messages>,
    wires: [Wire; IOAPIC_INPUTS as usize],
    last_id: u64,
}

/// The chips of one machine.
pub struct Chips {
    level_triggered: pic::Inputs,
    /// Order: behind a line's and before message routing's; the kernel is called under it, so that levels and messages
    /// arrive in order.
    state: Mutex<State>,
    /// The pair's output, so that a vCPU sees it without the lock.
    asking: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Chips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chips").field("asking", &self.asking).finish_non_exhaustive()
    }
}

/// The I/O APIC input of `gsi`.
fn ioapic_input(gsi: u32) -> Option<u8> {
    match gsi {
        TIMER_GSI => u8::try_from(TIMER_INPUT).ok(),
        TIMER_INPUT => None,
        _ => u8::try_from(gsi).ok(),
    }
}

/// The GSI of I/O APIC input `input`.
fn gsi_of(input: u8) -> u32 {
    if u32::from(input) == TIMER_INPUT { TIMER_GSI } else { input.into() }
}

impl State {
    /// Tells the chips the level of `gsi`.
    fn propagate(&mut self, gsi: u32) {
        let Some(high) = self.wire(gsi).map(|wire| wire.is_high()) else { return };
        if let Ok(input) = u8::try_from(gsi) {
            self.pair.set_input(input, high);
        }
        if let (Some(Messages { ioapic, local_apics }), Some(input)) = (&mut self.messages, ioapic_input(gsi))
        {
            ioapic.set_input(input, high, &mut |message| local_apics.take(message));
        }
    }

    fn wire(&mut self, gsi: u32) -> Option<&mut Wire> {
        self.wires.get_mut(usize::try_from(gsi).ok()?)
    }

    /// The guest ended the interrupt of `gsi`: kernel producers let go, and may interrupt again.
    fn release(&mut self, gsi: u32) {
        let Some(wire) = self.wire(gsi) else { return };
        let mut released = Vec::new();
        for connection in wire.connections.iter_mut().filter(|connection| connection.high) {
            connection.high = false;
            released.push(connection.id);
        }
        if released.is_empty() {
            return;
        }
        self.propagate(gsi);
        let connections = self.wire(gsi).into_iter().flat_map(|wire| &wire.connections);
        for connection in connections.filter(|connection| released.contains(&connection.id)) {
            // Fails only if the counter is full, and then it is signalled anyway.
            drop(connection.resample.write(1));
        }
    }

    fn release_all(&mut self, ended: pic::Inputs) {
        for gsi in (0..u32::from(pic::INPUTS)).filter(|gsi| ended >> gsi & 1 != 0) {
            self.release(gsi);
        }
    }
}

impl Chips {
    fn new(level_triggered: pic::Inputs, messages: Option<Messages>) -> Arc<Self> {
        let pair = PicPair::new(level_triggered);
        let wires = std::array::from_fn(|_| Wire::default());
        let state = Mutex::new(State { pair, messages, wires, last_id: 0 });
        Arc::new(Self { level_triggered, state, asking: AtomicBool::new(false), wake: OnceLock::new() })
    }

    /// The pair alone, with `level_triggered` inputs as firmware leaves them.
    pub(super) fn pair(level_triggered: pic::Inputs) -> Arc<Self> {
        Self::new(level_triggered, None)
    }

    /// Like [`Self::pair`], and an I/O APIC that sends to `local_apics`.
    pub(super) fn split(level_triggered: pic::Inputs, local_apics: Arc<dyn LocalApics>) -> Arc<Self> {
        Self::new(level_triggered, Some(Messages { ioapic: Ioapic::default(), local_apics }))
    }

    /// Calls `wake` each time that the pair begins to ask for the processor, from any thread. The first one stays.
    pub fn on_asking(&self, wake: impl Fn() + Send + Sync + 'static) {
        drop(self.wake.set(Box::new(wake)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the chips and lets the processor know if they ask for it by then.
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        let asks = state.pair.output();
        let asked = self.asking.swap(asks, Ordering::SeqCst);
        drop(state);
        if asks
            && !asked
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
        result
    }

    /// Whether the pair asks for the processor.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.asking.load(Ordering::SeqCst)
    }

    /// The processor's acknowledge cycle: the vector of the interrupt that it takes now.
    #[must_use]
    pub fn acknowledge(&self) -> u8 {
        self.with(|state| {
            let acknowledged = state.pair.acknowledge();
            state.release_all(acknowledged.ended);
            acknowledged.vector
        })
    }

    /// A local APIC, or the guest itself, tells of the end of `vector`.
    pub fn end_of_interrupt(&self, vector: u8) {
        self.with(|state| {
            let inputs = state.messages.as_ref().map(|messages| messages.ioapic.inputs_of(vector));
            for input in inputs.unwrap_or_default() {
                state.release(gsi_of(input));
                if let Some(Messages { ioapic, local_apics }) = &mut state.messages {
                    ioapic.end(input, &mut |message| local_apics.take(message));
                }
            }
        });
    }

    /// Back to power-on. Devices keep their levels.
    pub(super) fn reset(&self) {
        self.with(|state| {
            state.pair = PicPair::new(self.level_triggered);
            if let Some(Messages { ioapic, local_apics }) = &mut state.messages {
                ioapic.reset();
                for input in 0..ioapic::INPUTS {
                    local_apics.tell_of_ends(input, None);
                }
            }
            for gsi in 0..IOAPIC_INPUTS {
                // An interrupt that nobody will end any more.
                state.release(gsi);
                state.propagate(gsi);
            }
        });
    }

    pub(super) fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
        self.with(|state| {
            state.wire(gsi).ok_or(io::ErrorKind::InvalidInput)?.devices = high;
            state.propagate(gsi);
            Ok(())
        })
    }

    /// Lets a kernel producer drive `gsi`, by a thread that waits for its trigger: there is no irqfd that resamples unless
    /// all chips are in the kernel (Linux: arch/x86/kvm/irq.c, `kvm_arch_irqfd_allowed`).
    pub(super) fn connect(
        self: &Arc<Self>,
        gsi: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Connection, Unsupported> {
        let clone = |event: &EventFd| event.try_clone().map_err(|_| Unsupported);
        let (trigger, resample) = (clone(trigger)?, clone(resample)?);
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|_| Unsupported)?);
        let mut state = self.lock();
        let id = state.last_id + 1;
        state.last_id = id;
        state.wire(gsi).ok_or(Unsupported)?.connections.push(Connected { id, high: false, resample });
        drop(state);
        let passing = thread::Builder::new().name(format!("intx-{gsi}")).stack_size(STACK_BYTES).spawn({
            let (chips, stop) = (Arc::clone(self), Arc::clone(&stop));
            move || {
                while event::wait_unless(&trigger, &stop).is_ok_and(|triggered| triggered) {
                    drop(trigger.read());
                    chips.trigger(gsi, id);
                }
            }
        });
        let Ok(passing) = passing else {
            self.disconnect(gsi, id);
            return Err(Unsupported);
        };
        let chips = Arc::clone(self);
        Ok(Connection::new(move || {
            drop(stop.write(1));
            // A panic there was reported when it happened.
            drop(passing.join());
            chips.disconnect(gsi, id);
        }))
    }

    /// The kernel producer `id` of `gsi` interrupts.
    fn trigger(&self, gsi: u32, id: u64) {
        self.with(|state| {
            let Some(wire) = state.wire(gsi) else { return };
            for connection in wire.connections.iter_mut().filter(|connection| connection.id == id) {
                connection.high = true;
            }
            state.propagate(gsi);
        });
    }

    fn disconnect(&self, gsi: u32, id: u64) {
        self.with(|state| {
            if let Some(wire) = state.wire(gsi) {
                wire.connections.retain(|connection| connection.id != id);
            }
            state.propagate(gsi);
        });
    }

    /// Reads a register of the pair.
    pub(super) fn read_pic(&self, select: ChipSelect, register: Register) -> u8 {
        self.with(|state| {
            let (value, ended) = state.pair.read(select, register);
            state.release_all(ended);
            value
        })
    }

    /// Writes a register of the pair.
    pub(super) fn write_pic(&self, select: ChipSelect, register: Register, value: u8) {
        self.with(|state| {
            let ended = state.pair.write(select, register, value);
            state.release_all(ended);
        });
    }

    /// Reads an edge/level register.
    pub(super) fn read_elcr(&self, select: ChipSelect) -> u8 {
        self.lock().pair.elcr(select)
    }

    /// Writes an edge/level register.
    pub(super) fn write_elcr(&self, select: ChipSelect, value: u8) {
        self.with(|state| state.pair.set_elcr(select, value));
    }

    /// Whether there is an I/O APIC.
    #[must_use]
    pub fn has_ioapic(&self) -> bool {
        self.lock().messages.is_some()
    }

    /// Reads the I/O APIC register at `offset` of its window.
    pub(super) fn read_ioapic(&self, offset: u64) -> Option<u32> {
        self.lock().messages.as_ref()?.ioapic.read(offset)
    }

    /// Writes the I/O APIC register at `offset` of its window.
    pub(super) fn write_ioapic(&self, offset: u64, value: u32) {
        if offset == ioapic::END {
            let [vector, ..] = value.to_le_bytes();
            return self.end_of_interrupt(vector);
        }
        self.with(|state| {
            let Some(Messages { ioapic, local_apics }) = &mut state.messages else { return };
            let Some(input) = ioapic.write(offset, value) else { return };
            // The kernel knows of the input before it can send: else nobody would tell of the end.
            local_apics.tell_of_ends(input, ioapic.wants_end(input));
            ioapic.serve(input, &mut |message| local_apics.take(message));
        });
    }
}

#[cfg(test)]
mod tests;
