//! A level-triggered interrupt line, shared by wired OR.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::vmm::Unsupported;
use crate::vmm::interrupt::irqchip::IOAPIC_INPUTS;
use crate::vmm::interrupt::pirq::{self, Router};

/// What drives the inputs of an interrupt controller, addressed by GSI (ACPI 6.5, 5.2.13).
pub trait LineController: Send + Sync {
    /// Sets the level of input `gsi` as seen from all userspace devices together.
    ///
    /// # Errors
    /// What the kernel answered.
    fn set_level(&self, gsi: u32, high: bool) -> io::Result<()>;

    /// Lets a kernel producer raise `gsi` through `trigger`; at the guest's EOI the controller lowers the input and
    /// signals `resample` (Linux: Documentation/virt/kvm/api.rst, KVM_IRQFD_FLAG_RESAMPLE).
    ///
    /// # Errors
    /// [`Unsupported`] where the controller has no such mode; the caller must then poll `trigger` itself.
    fn connect(&self, gsi: u32, trigger: &EventFd, resample: &EventFd) -> Result<Connection, Unsupported>;
}

/// Keeps a [`LineController::connect`] in force; dropping it takes the connection away.
pub struct Connection(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Connection {
    /// A connection that `disconnect` ends.
    #[must_use]
    pub fn new(disconnect: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(disconnect)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(disconnect) = self.0.take() {
            disconnect();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// The wire of one GSI: high while any handle asserts it.
struct Wire {
    gsi: u32,
    controller: Arc<dyn LineController>,
    /// Handles that assert the line now. Innermost lock: nothing but the controller is called under it, so that two
    /// devices' edges reach the controller in the order in which they were counted.
    asserted: Mutex<u32>,
}

/// One device's handle to an interrupt line. Clone it with [`Self::share`] for another device on the same line.
pub struct InterruptLine {
    wire: Arc<Wire>,
    level: Mutex<bool>,
}

impl InterruptLine {
    /// A line at input `gsi` of `controller`, low.
    #[must_use]
    pub fn new(gsi: u32, controller: Arc<dyn LineController>) -> Self {
        Self { wire: Arc::new(Wire { gsi, controller, asserted: Mutex::new(0) }), level: Mutex::new(false) }
    }

    /// Another device's handle to the same wire; the wire is high while any handle asserts it.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { wire: Arc::clone(&self.wire), level: Mutex::new(false) }
    }

    /// The controller input.
    #[must_use]
    pub fn gsi(&self) -> u32 {
        self.wire.gsi
    }

    /// Asserts or de-asserts this device's part of the line. Setting the level that it has does nothing.
    pub fn set_level(&self, high: bool) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if *level == high {
            return;
        }
        *level = high;
        let mut asserted = self.wire.asserted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *asserted;
        *asserted = if high { before + 1 } else { before.saturating_sub(1) };
        if (before == 0) != (*asserted == 0)
            && let Err(error) = self.wire.controller.set_level(self.wire.gsi, high)
        {
            tracing::error!(gsi = self.wire.gsi, %error, "interrupt line");
        }
    }

    /// See [`LineController::connect`].
    ///
    /// # Errors
    /// [`Unsupported`] where the controller cannot.
    pub fn connect(&self, trigger: &EventFd, resample: &EventFd) -> Result<Connection, Unsupported> {
        self.wire.controller.connect(self.wire.gsi, trigger, resample)
    }
}

impl Drop for InterruptLine {
    fn drop(&mut self) {
        self.set_level(false);
    }
}

impl fmt::Debug for InterruptLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptLine(gsi {})", self.wire.gsi)
    }
}

/// One wire for each input of the I/O APIC and for each request of PCI's router; devices on the same one share it.
#[derive(Debug)]
pub struct Lines {
    inputs: Vec<InterruptLine>,
    requests: Vec<InterruptLine>,
    router: Router,
}

impl Lines {
    /// The inputs of `controller`.
    #[must_use]
    pub fn new(controller: &Arc<dyn LineController>) -> Self {
        let wires = |count, controller: &Arc<dyn LineController>| {
            (0..count).map(|number| InterruptLine::new(number, Arc::clone(controller))).collect::<Vec<_>>()
        };
        let inputs = wires(IOAPIC_INPUTS, controller);
        let router = Router::new(inputs.iter().map(InterruptLine::share).collect());
        let requests = wires(pirq::REQUESTS.into(), &(Arc::new(router.clone()) as _));
        Self { inputs, requests, router }
    }

    /// What leads PCI's requests to inputs.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// A new handle to input `gsi`.
    ///
    /// # Panics
    /// If `gsi` is not below [`IOAPIC_INPUTS`].
    #[must_use]
    pub fn line(&self, gsi: u32) -> InterruptLine {
        let index = usize::try_from(gsi).unwrap_or(usize::MAX);
        self.inputs.get(index).expect("the GSI is one that the machine gave out").share()
    }

    /// A new handle to the request of INTA# of device `device` on bus 0 and of what is behind it.
    ///
    /// # Panics
    /// Never: there is a wire for each request.
    #[must_use]
    pub fn intx(&self, device: u8) -> InterruptLine {
        let index = usize::from(pirq::request(device, 0));
        self.requests.get(index).expect("there is a wire for each request").share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u32, bool)>>);

    impl LineController for Recorder {
        fn set_level(&self, gsi: u32, high: bool) -> io::Result<()> {
            self.0.lock().unwrap().push((gsi, high));
            Ok(())
        }
        fn connect(&self, _: u32, _: &EventFd, _: &EventFd) -> Result<Connection, Unsupported> {
            Err(Unsupported)
        }
    }

    #[test]
    fn a_shared_line_stays_high_until_the_last_device_lets_go() {
        let controller = Arc::new(Recorder::default());
        let first = InterruptLine::new(16, Arc::clone(&controller) as Arc<dyn LineController>);
        let second = first.share();
        first.set_level(true);
        second.set_level(true);
        second.set_level(true);
        first.set_level(false);
        assert_eq!(*controller.0.lock().unwrap(), [(16, true)]);
        drop(second);
        assert_eq!(*controller.0.lock().unwrap(), [(16, true), (16, false)]);
    }
}
