//! The router between the pins of PCI functions and the interrupt controllers: eight requests, PIRQA# to PIRQH#, each wired
//! to an input of the I/O APIC and, where its register says so, to one of the PIC pair as well (Intel ICH9 datasheet,
//! 316972, 5.9 and PIRQ\[n\]_ROUT in 13.1).
//!
//! [`Router`] is the [`LineController`] of functions' lines; an input there is a request, 0 to 7. Its registers are the LPC
//! bridge's, which tells of changes. What a passed-through function does goes through the kernel to one input: the PIC's
//! while there is one, else the I/O APIC's.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::vmm::Unsupported;
use crate::vmm::interrupt::{Connection, InterruptLine, LineController};
use crate::vmm::rate_limit::RateLimit;

/// How many requests there are.
pub const REQUESTS: u8 = 8;
/// The registers of all of them, from PIRQA# on.
pub type Registers = [u8; REQUESTS as usize];

/// Bit of a register whose request reaches no input of the PIC; otherwise bits 3:0 name one.
pub const NOT_ROUTED: u8 = 1 << 7;
const INPUT: u8 = 0xF;
/// Inputs of the PIC that a register can name: those that can be level-triggered.
const ROUTABLE: u16 = 0xDEF8;
/// The I/O APIC's input of PIRQA#; the others' follow.
const FIRST_INPUT: u32 = 16;

/// Inputs of the PIC that firmware takes for PCI: no ISA device of a PC has them, and ACPI's own interrupt is another one.
pub const PIC_INPUTS: [u8; 3] = [5, 10, 11];
/// How firmware leaves the registers.
pub const ROUTED: Registers = [5, 10, 11, 5, 10, 11, 5, 10];

/// The request that pin `pin` (0 is INTA#) of device `device` on bus 0 makes: neighbours' are apart.
#[must_use]
pub const fn request(device: u8, pin: u8) -> u8 {
    (device % REQUESTS + pin % REQUESTS) % REQUESTS
}

/// The I/O APIC's input of `request`.
#[must_use]
pub const fn io_apic_input(request: u8) -> u32 {
    FIRST_INPUT + (request % REQUESTS) as u32
}

/// The PIC's input that a register names.
fn pic_input(register: u8) -> Option<u8> {
    let input = register & INPUT;
    (register & NOT_ROUTED == 0 && ROUTABLE >> input & 1 != 0).then_some(input)
}

/// A kernel producer of a request.
struct Producer {
    id: u64,
    trigger: EventFd,
    resample: EventFd,
    connection: Option<Connection>,
}

struct Request {
    high: bool,
    io_apic: InterruptLine,
    pic: Option<InterruptLine>,
    producers: Vec<Producer>,
}

impl Request {
    /// The one input that kernel producers go to.
    fn line(&self) -> &InterruptLine {
        self.pic.as_ref().unwrap_or(&self.io_apic)
    }

    /// Routes it to an input of the PIC, or to none; whether all of its producers went along.
    fn route(&mut self, pic: Option<InterruptLine>) -> bool {
        if let Some(pic) = &pic {
            pic.set_level(self.high);
        }
        // The line that was there lets its input go.
        self.pic = pic;
        let line = self.pic.as_ref().unwrap_or(&self.io_apic);
        for producer in &mut self.producers {
            producer.connection = None;
            producer.connection = line.connect(&producer.trigger, &producer.resample).ok();
            // An interrupt that the former input had is forgotten: the producer is to look again, as after any end of one.
            drop(producer.resample.write(1));
        }
        self.producers.iter().all(|producer| producer.connection.is_some())
    }
}

struct State {
    requests: Vec<Request>,
    last_id: u64,
}

struct Wiring {
    /// The controllers' inputs, by GSI.
    inputs: Vec<InterruptLine>,
    /// Order: after the line of a function and before those of the inputs, which are set and connected under it, so that no
    /// level is lost while a request moves.
    state: Mutex<State>,
    lost: RateLimit,
}

impl Wiring {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the router of one machine. Clones share it.
#[derive(Clone)]
pub struct Router(Arc<Wiring>);

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}

impl Router {
    /// A router in front of `inputs`, one for each GSI of the I/O APIC, which reaches none of the PIC yet.
    ///
    /// # Panics
    /// Unless there are 24 inputs.
    #[must_use]
    pub fn new(inputs: Vec<InterruptLine>) -> Self {
        let input = |gsi: u32| inputs.iter().find(|input| input.gsi() == gsi);
        let request = |number| Request {
            high: false,
            io_apic: input(io_apic_input(number)).expect("the I/O APIC has this input").share(),
            pic: None,
            producers: Vec::new(),
        };
        let state = State { requests: (0..REQUESTS).map(request).collect(), last_id: 0 };
        Self(Arc::new(Wiring { inputs, state: Mutex::new(state), lost: RateLimit::new() }))
    }

    /// Routes requests as `registers` tells, which is called under the router's lock: of two vCPUs that write at the same time
    /// the last one is followed.
    pub fn follow(&self, registers: impl FnOnce() -> Registers) {
        let wiring = &self.0;
        let mut state = wiring.lock();
        for (request, register) in state.requests.iter_mut().zip(registers()) {
            let gsi = pic_input(register).map(u32::from);
            if gsi == request.pic.as_ref().map(InterruptLine::gsi) {
                continue;
            }
            let input = wiring.inputs.iter().find(|input| Some(input.gsi()) == gsi);
            if !request.route(input.map(InterruptLine::share))
                && let Some(held_back) = wiring.lost.allow()
            {
                tracing::error!(gsi = request.line().gsi(), held_back, "functions lost their interrupt line");
            }
        }
    }

    /// The PIC's input that `request` reaches.
    #[must_use]
    pub fn pic_input(&self, request: u8) -> Option<u32> {
        let state = self.0.lock();
        state.requests.get(usize::from(request))?.pic.as_ref().map(InterruptLine::gsi)
    }
}

impl LineController for Router {
    fn set_level(&self, request: u32, high: bool) -> io::Result<()> {
        let mut state = self.0.lock();
        let request = usize::try_from(request).ok().and_then(|index| state.requests.get_mut(index));
        let request = request.ok_or(io::ErrorKind::InvalidInput)?;
        request.high = high;
        request.io_apic.set_level(high);
        if let Some(pic) = &request.pic {
            pic.set_level(high);
        }
        Ok(())
    }

    fn connect(
        &self,
        request: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Connection, Unsupported> {
        let index = usize::try_from(request).map_err(|_| Unsupported)?;
        let clone = |event: &EventFd| event.try_clone().map_err(|_| Unsupported);
        let (own_trigger, own_resample) = (clone(trigger)?, clone(resample)?);
        let mut state = self.0.lock();
        let id = state.last_id + 1;
        state.last_id = id;
        let request = state.requests.get_mut(index).ok_or(Unsupported)?;
        let connection = Some(request.line().connect(trigger, resample)?);
        request.producers.push(Producer { id, trigger: own_trigger, resample: own_resample, connection });
        drop(state);
        let wiring = Arc::clone(&self.0);
        Ok(Connection::new(move || {
            if let Some(request) = wiring.lock().requests.get_mut(index) {
                request.producers.retain(|producer| producer.id != id);
            }
        }))
    }
}

#[cfg(test)]
mod tests;
